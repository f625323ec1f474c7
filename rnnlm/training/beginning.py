"""Weights to begin with from another run: symbols are matched by themselves, never by their ids."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..arrays import Array
from ..backend.params import Parameters
from ..models.base import TrainableModel
from ..runs.checkpoint import Checkpoint
from ..text.corpus import Corpus
from ..text.vocabulary import SHOWN, Vocabulary
from ..wording import counted


def first_weights(model: TrainableModel, start: Checkpoint, corpus: Corpus) -> Parameters:
    """The weights of a checkpoint for `model`, whose symbols are those of a corpus."""
    old = _ids_there(start.vocabulary, corpus.vocabulary)
    if start.vocabulary == corpus.vocabulary:
        return Parameters(model.shapes, flat=start.params.flat.copy())
    # One more of each: a symbol that only the validation text has is still possible
    frequency = _shares(corpus.train_counts + 1)
    frequency[old >= 0] = _shares(start.counts + 1)[old[old >= 0]]
    return model.with_symbols(start.params, old, np.log(frequency))


def origin(start: Checkpoint) -> dict[str, str]:
    """What a run records of the checkpoint that it begins with."""
    return {"checkpoint": str(start.path), "params_sha256": start.params_sha256}


def about_beginning(start: Checkpoint, corpus: Corpus) -> Iterator[str]:
    """Lines that say what is kept of a checkpoint, and how many symbols are new or left out."""
    mine = corpus.vocabulary
    new = mine.symbols[_ids_there(start.vocabulary, mine) < 0].tolist()
    kept = counted(len(mine) - len(new), "symbol")
    yield f"begins with the weights of {start.path or 'a checkpoint'}: {kept} kept"
    if new:
        named = ", ".join(mine.spell(symbol) for symbol in new[:SHOWN])
        more = f" and {counted(len(new) - SHOWN, 'other')}" if len(new) > SHOWN else ""
        yield f"symbols added ({len(new):,}): {named}{more}"
    if corpus.left_out:
        yield f"left out: {counted(corpus.left_out, mine.noun)} of the text, unknown to the checkpoint"


def _ids_there(theirs: Vocabulary, mine: Vocabulary) -> Array:
    """The id (V,) that each of my symbols has in another vocabulary of the level; -1 for new ones.

    A symbol that stands for unknown ones there is not taken for them.
    """
    ids = theirs.lookup(mine.symbols)
    ids[theirs.symbols[ids] != mine.symbols] = -1
    return ids


def _shares(counts: Array) -> Array:
    shares: Array = counts / counts.sum()
    return shares
