"""Which symbols each split has, in which order, and the splits as files of ids."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, Protocol

import numpy as np

from ..arrays import Array
from ..backend.seeds import Purpose, generator
from ..errors import DataError
from ..storage.npy import npy_header, smallest
from ..watching import report
from ..wording import shown
from .corpus import Corpus, Split
from .spool import Spool, count_ids
from .vocabulary import Vocabulary

LINES = 1 << 12  # that are put in order at a time: each may be on a page of its own
BLOCK = 1 << 18  # symbols of them, or of a prepared text


class Part(Protocol):
    """The symbols of a split, in their order, under provisional ids."""

    def __len__(self) -> int: ...

    def blocks(self) -> Iterator[Array]:
        """The provisional ids, a block at a time."""


@dataclass(frozen=True)
class Range:
    """The symbols from `start` to `stop`."""

    spool: Spool
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def blocks(self) -> Iterator[Array]:
        return self.spool.blocks(self.start, self.stop)


@dataclass(frozen=True)
class Kept:
    """A split of a prepared text without the symbols that are not in `kept` (V,)."""

    corpus: Corpus
    split: str
    kept: Array

    def __len__(self) -> int:
        return int(self.corpus.splits[self.split].counts[self.kept].sum())

    def blocks(self) -> Iterator[Array]:
        ids = self.corpus[self.split]
        for at in range(0, len(ids), BLOCK):
            block = ids[at : at + BLOCK]
            yield block[self.kept[block]]


@dataclass(frozen=True)
class LinesInOrder:
    """Whole lines of a text in an order of their own: line i ends at `ends[i]`, the first one begins at
    `start`.
    """

    spool: Spool
    start: int
    ends: Array  # (L,)
    order: Array  # (n,) of the L lines

    def __len__(self) -> int:
        return sum(int(lengths.sum()) for _, lengths in self._lines())

    def _lines(self) -> Iterator[tuple[Array, Array]]:
        """Where lines start, and their lengths, some at a time."""
        for k in range(0, len(self.order), LINES):
            line = self.order[k : k + LINES].astype(np.int64)
            starts = np.where(line > 0, self.ends[line - 1], self.start)
            yield starts, self.ends[line] - starts

    def blocks(self) -> Iterator[Array]:
        for starts, lengths in self._lines():
            stops = np.cumsum(lengths)
            for first in range(0, int(stops[-1]), BLOCK):
                place = np.arange(first, min(first + BLOCK, int(stops[-1])))
                line = stops.searchsorted(place, "right")
                yield self.spool.gather(place + (starts + lengths - stops)[line])


def stream_parts(text: Range, shares: Mapping[str, Fraction]) -> dict[str, Part]:
    """The training text, and the shares after it."""
    tails = cut_off(len(text), shares)
    return {
        name: Range(text.spool, text.start + start, text.start + stop)
        for name, (start, stop) in tails.items()
    }


def line_parts(
    text: Range, newline: int, shares: Mapping[str, Fraction], shuffle: bool
) -> dict[str, Part]:
    """The training text, and the shares after it, in whole lines; the text ends with a newline."""
    ends, L, at = np.empty(text.spool.counts[newline], np.int64), 0, text.start
    for block in text.blocks():
        found = np.flatnonzero(block == newline)
        ends[L : L + found.size] = at + 1 + found
        L, at = L + found.size, at + block.size
    ends = ends[:L]
    if L == 1 and any(shares.values()):
        raise DataError(
            "the text has one line, and so none for validation or test: use unit stream, or 0 for both "
            "fractions"
        )
    tails = cut_off(L, shares)
    if not shuffle:
        borders = np.append(text.start, ends)
        return {
            name: Range(text.spool, *borders[list(tail)].tolist()) for name, tail in tails.items()
        }
    order = np.arange(L, dtype=smallest(L))
    generator(0, Purpose.SPLITS).shuffle(order)
    return {
        name: LinesInOrder(text.spool, text.start, ends, order[slice(*tail)])
        for name, tail in tails.items()
    }


def shares_of(fractions: Mapping[str, float]) -> dict[str, Fraction]:
    """Fractions as the decimals that were given: 0.29 of 100 is 29, not floor(28.999999999999996)."""
    try:
        shares = {name: Fraction(str(fraction)) for name, fraction in fractions.items()}
        if min(shares.values(), default=0) >= 0 and sum(shares.values()) < 1:
            return shares
    except (ValueError, ZeroDivisionError):  # not a finite number
        pass
    named = " and ".join(f"{name}_fraction {shown(value)}" for name, value in fractions.items())
    raise DataError(f"{named}: use 0 or more, and less than 1 together, to leave training text")


def cut_off(total: int, shares: Mapping[str, Fraction]) -> dict[str, tuple[int, int]]:
    """Start and stop of the training text, and of the shares after it, among `total` symbols."""
    ranges, stop = {}, total
    for name in reversed(list(shares)):
        start = stop - math.floor(total * shares[name])
        ranges[name], stop = (start, stop), start
    return {**ranges, "train": (0, stop)}


def unknown_symbols(
    vocabulary: Vocabulary, symbols: Array, ids: Array, parts: Mapping[str, Part]
) -> DataError:
    """The error that names the symbols without an id, in the first text that has any."""
    for name, part in parts.items():
        counts, firsts = np.zeros(ids.size, np.int64), np.full(ids.size, len(part))
        at = 0
        for block in part.blocks():
            outside = np.flatnonzero(ids[block] < 0)
            found, first, count = np.unique(block[outside], return_index=True, return_counts=True)
            counts[found] += count
            firsts[found] = np.minimum(firsts[found], at + outside[first])
            at += block.size
        found = np.flatnonzero(counts)
        if found.size:
            where = f"the {name} text"
            break
    advice = "leave them out: --unknown skip, or add them: --extend-vocab"
    return vocabulary.unknown(symbols[found], counts[found], firsts[found], where, advice)


def write_ids(file: IO[bytes], part: Part, ids: Array, V: int) -> Split:
    """Write a split as .npy; `ids` maps provisional ids to those of the vocabulary."""
    ids = ids.astype(smallest(V))
    digest, counts, length = hashlib.sha256(), np.zeros(V, np.int64), len(part)
    file.write(npy_header(ids.dtype, length))
    for block in part.blocks():
        final = np.take(ids, block)
        file.write(final.data)
        digest.update(final.data)
        counts += count_ids(final, V)[:V]
        report("writing", int(counts.sum()), length)
    return Split(length, digest.hexdigest(), counts)
