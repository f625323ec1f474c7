"""Checkpoints and vocabularies, by what a user names."""

from __future__ import annotations

from pathlib import Path

from ..errors import CheckpointError
from ..runs.checkpoint import Checkpoint, Glance, glance
from ..runs.finding import find_checkpoint
from ..runs.run_data import is_prepared
from ..storage.atomic import as_path
from ..text.corpus import Corpus
from ..text.vocabulary import Vocabulary


def load(path: str | Path | None = None) -> Checkpoint:
    """Load a checkpoint: a file, a run folder's best (else last), or the newest run under ./runs.

    Raises CheckpointError when there is none or it is damaged. Where the newest run is damaged, no
    older one is taken in its place.
    """
    if path is not None:
        return Checkpoint.load(find_checkpoint(as_path(path, CheckpointError)))
    newest = find_checkpoint(None)
    try:
        return Checkpoint.load(newest)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; of the newest run: name another, or remove it") from None


def look(path: str | Path | None = None) -> Glance:
    """What the checkpoint that `load` would load says of its run; its parameters are not read.

    Raises CheckpointError when there is none or it is damaged.
    """
    return glance(find_checkpoint(None if path is None else as_path(path, CheckpointError)))


def find_vocabulary(path: str | Path) -> Vocabulary:
    """The vocabulary of a checkpoint, a run folder or a prepared folder.

    Raises CheckpointError or DataError where the path is none of these, or damaged.
    """
    path = as_path(path, CheckpointError)
    if is_prepared(path):
        return Corpus.open(path).vocabulary
    return load(path).vocabulary
