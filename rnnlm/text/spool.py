"""The symbols of a text that is being read, in a temporary file."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..arrays import Array
from ..storage.npy import read_ids, smallest
from .vocabulary import Numbering, Vocabulary


class Spool:
    """The symbols of the text in a temporary file, under provisional ids.

    Ids are stored in the smallest type that fits so far, so the file has at most three parts.
    """

    def __init__(self, number: Numbering, file: Any, only: Vocabulary | None = None) -> None:
        self._number, self._file = number, file
        self._only = only  # symbols outside it are left out
        self.left_out = 0
        self._parts: list[tuple[np.dtype[Any], int]] = []  # type and length, in order
        self._counts = np.zeros(0, np.int64)  # provisional id -> how often

    @property
    def symbols(self) -> Array:
        """Provisional id -> symbol."""
        return self._number.symbols

    @property
    def counts(self) -> Array:
        """Provisional id -> how often it occurs."""
        n = self.symbols.size
        return np.pad(self._counts[:n], (0, max(0, n - self._counts.size)))

    def extend(self, blocks: Iterable[str | bytes]) -> tuple[int, int]:
        """Append text. Returns where it starts and stops in the spool."""
        start = int(self._counts.sum())
        for block in blocks:
            self._append(self._number(block))
        self._append(self._number.rest())
        return start, int(self._counts.sum())

    def _append(self, ids: Array) -> None:
        if self._only is not None and ids.size:
            known = ids[(self._only.lookup(self.symbols) >= 0)[ids]]
            self.left_out += ids.size - known.size
            ids = known
        if not ids.size:
            return
        counts = count_ids(ids)
        if counts.size > self._counts.size:
            counts, self._counts = self._counts, counts
        self._counts[: counts.size] += counts
        dtype, length = smallest(self._counts.size), ids.size
        if self._parts and self._parts[-1][0] == dtype:
            length += self._parts.pop()[1]
        self._parts.append((dtype, length))
        self._file.write(ids.astype(dtype, copy=False).data)

    def blocks(self, start: int, stop: int) -> Iterator[Array]:
        """The provisional ids from `start` to `stop`, a block at a time."""
        first, offset = 0, 0  # of the part, in ids and in bytes
        for dtype, length in self._parts:
            low, high = max(start - first, 0), min(stop - first, length)
            self._file.seek(offset + low * dtype.itemsize)
            yield from read_ids(self._file, dtype, high - low)
            first, offset = first + length, offset + length * dtype.itemsize

    def gather(self, places: Array) -> Array:
        """The provisional ids at any places (n,), when all text is there."""
        self._file.flush()
        gathered = np.empty(places.size, smallest(self.symbols.size))
        first, offset = 0, 0
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for dtype, length in self._parts:
                part = np.frombuffer(mapped, dtype, length, offset)
                inside = (places >= first) & (places < first + length)
                gathered[inside] = part[places[inside] - first]
                del part  # or the mapping could not be closed
                first, offset = first + length, offset + length * dtype.itemsize
        return gathered


def count_ids(ids: Array, size: int = 0) -> Array:
    """How often each id occurs, int64; for at least `size` ids, or 256 where they are bytes."""
    if ids.dtype != np.uint8:
        return np.bincount(ids, minlength=size)
    # Bytes are counted in pairs, which takes half as long
    pairs = np.bincount(ids[: ids.size & -2].view("u2"), minlength=1 << 16).reshape(256, 256)
    counts: Array = pairs.sum(axis=0) + pairs.sum(axis=1)
    counts[ids[ids.size & -2 :]] += 1
    return counts
