"""Which lines a training text has, so that those that a model only repeats can be left out."""

from __future__ import annotations

import numpy as np

from ..arrays import Array
from ..text.batches import line_ends


class KnownLines:
    """The lines of `ids` (n,), as sorted hashes of 8 bytes, so that hardly one is taken for another."""

    def __init__(self, ids: Array, newline: int) -> None:
        self._dtype, begin = ids.dtype, 0
        ends = line_ends(ids, newline)
        self._hashes = np.empty(len(ends), np.int64)
        for k, end in enumerate(ends):
            self._hashes[k] = self._hash(ids[begin : end - 1])
            begin = end
        self._hashes.sort()

    def _hash(self, line: Array) -> int:
        return hash(line.astype(self._dtype, copy=False).tobytes())

    def __contains__(self, line: Array) -> bool:
        """Whether the ids (n,) of a line, without its newline, are one of these lines."""
        wanted = self._hash(line)
        place = int(self._hashes.searchsorted(wanted))
        return place < len(self._hashes) and int(self._hashes[place]) == wanted
