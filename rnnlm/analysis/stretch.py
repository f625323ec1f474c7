"""The stretch of text that is looked at: the beginning of a split, or of a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import DataError
from ..runs.checkpoint import Checkpoint
from ..runs.run_data import recorded_data
from ..text.format import TextFormat
from ..text.sources import Reader
from ..text.vocabulary import Unknown
from ..wording import counted

LETTERS = 8  # of a file that are read for each symbol; words have several


@dataclass(frozen=True)
class Stretch:
    """Symbols that a model reads, `ids` (n,) in the order in which it reads them.

    `source` says in words which they are, and of how much.
    """

    format: TextFormat
    ids: Array
    source: str

    @property
    def order(self) -> Array:
        """(n,): where in `ids` the symbols of the text stand, from its first to its last."""
        order = np.arange(len(self.ids))
        rules = self.format.rules
        if rules.reverse:
            ends = rules.of_lines and self.ids[-1] == self.format.newline
            turned = order[: len(order) - bool(ends)]
            turned[:] = turned[::-1].copy()
        return order

    @cached_property
    def pieces(self) -> list[str]:
        """The text that each symbol (n,) completes, in the order of the text; perhaps an empty one."""
        decoder = self.format.vocabulary.decoder()
        pieces = [decoder(int(i)) for i in self.ids[self.order]]
        pieces[-1] += decoder.flush()
        return pieces

    @property
    def texts(self) -> tuple[Array, Array]:
        """Where each text begins in `ids` and how long it is: every line, or one text for all."""
        n = len(self.ids)
        if not self.format.rules.of_lines:
            return np.zeros(1, np.intp), np.array([n])
        ends = 1 + np.flatnonzero(self.ids == self.format.newline)
        borders = np.unique(np.concatenate([[0], ends, [n]]))
        return borders[:-1], np.diff(borders)

    @property
    def read(self) -> tuple[Array, Array]:
        """All that a model reads (m,), a newline first where there is one, and before which of it the
        state is zero (m,).
        """
        newline = self.format.newline
        read = np.append([] if newline is None else [newline], self.ids).astype(np.intp)
        fresh = np.zeros(len(read), np.bool_)
        if self.format.rules.of_lines:
            fresh |= read == newline
        fresh[:1] = True
        return read, fresh

    @property
    def fed(self) -> tuple[Array, Array, int]:
        """The same without the last symbol: what is read to predict the others. And how many are not
        predicted: 1 where there is no newline that could begin a text, else 0.
        """
        read, fresh = self.read
        return read[:-1], fresh[:-1], len(self.ids) - len(read) + 1


def of_split(checkpoint: Checkpoint, most: int) -> Stretch:
    """The first `most` symbols, at most, of the test text of the data that a run recorded; of its
    validation text where that has none.

    Raises DataError where there is neither, or the data is not found.
    """
    corpus = recorded_data(checkpoint, instead="text")
    for split, name in (("test", "the test text"), ("val", "the validation text")):
        if len(ids := corpus[split]) > 1:
            return _beginning(checkpoint.format, ids, most, name, len(ids))
    raise DataError("the run has neither a test text nor a validation text: name a file: --text")


def of_file(checkpoint: Checkpoint, path: Path, most: int, unknown: Unknown = "error") -> Stretch:
    """The same of the text in a file, which is read only so far.

    Raises DataError for a file that cannot be read, symbols outside the vocabulary, and fewer than two.
    """
    text_format = checkpoint.format
    reader, parts, size, cut = Reader(text_format.rules, None), [], 0, False
    for block in reader.blocks([str(path)]):
        if cut := size > LETTERS * most:
            break
        parts.append(block)
        size += len(block)
    nothing: Any = b"" if text_format.rules.encoding is None else ""
    text = nothing.join(parts)
    ids = text_format.in_reading_order(text_format.ids(text, unknown))
    if len(ids) < 2:
        raise DataError(
            f"{path}: {counted(len(ids), text_format.noun)}, too few: name another text"
        )
    first = text_format.in_reading_order(ids[:most])
    name = str(path)
    if len(ids) < text_format.length(text):
        name += ", without those outside the vocabulary"
    return _beginning(text_format, first, most, name, None if cut else len(ids))


def _beginning(
    text_format: TextFormat, ids: Array, most: int, name: str, total: int | None
) -> Stretch:
    """The first symbols of ids (n,), at most so many; of lines whole ones, unless the first is long.

    `total` is how many symbols there are; None: nobody counted.
    """
    first = np.asarray(text_format.beginning(ids, most) if len(ids) > most else ids, np.intp)
    first = first if len(first) else np.asarray(ids[:most], np.intp)
    noun, n = text_format.noun, len(first)
    if n == total:
        return Stretch(text_format, first, f"all {counted(n, noun)} of {name}")
    of = "" if total is None else f" of {total:,}"
    which = "last" if text_format.rules.reverse else "first"
    return Stretch(text_format, first, f"the {which} {n:,}{of} {noun}s of {name}")
