"""Counting the n-grams of a text, level by level; `ngram` says what levels and keys are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..backend.memory import available_memory, readable
from ..errors import DataError

TEXT_BYTES = 20  # of memory for each symbol of the text, while it is counted,
EVENT_BYTES = 40  # and beside these while a level is
NGRAM_BYTES = 100  # for each n-gram of a level and its context, while it is estimated


@dataclass(frozen=True)
class Counted:
    """The n-grams of one level, with their keys in ascending order."""

    contexts: Array  # (C,) keys
    ngrams: Array  # (M,) keys
    counts: Array  # (M,)
    shorter: Array  # (M,) the place of (h', w) among the n-grams one level below
    beginning: Array  # places of the n-grams at the beginnings of texts, one for each time

    def continuations(self, above: Counted) -> Array:
        """How many different symbols came before each n-gram; (M,).

        Nothing comes before the beginning of a text, so there every time counts as a symbol of its
        own. (So do KenLM and SRILM count the n-grams that begin with <s>.)
        """
        # N₁₊(· h w) = |{x: c(x h w) > 0}|
        size = len(self.ngrams)
        return np.bincount(above.shorter, minlength=size) + np.bincount(
            self.beginning, minlength=size
        )


def count_levels(ids: Array, begins: Array, V: int) -> Iterator[Counted]:
    """The n-grams of order 1, 2, 3, ... of a text `ids` (n,), level by level.

    `begins` are the positions where a text begins, the first one 0. What the next level needs is, for
    each symbol that is predicted, the place of its context. Raises DataError where memory does not
    suffice.
    """
    m = len(ids) - 1
    _require((TEXT_BYTES + EVENT_BYTES) * m, 0, m)
    history, targets = ids[:-1], ids[1:]
    length = text_lengths(begins, m)
    at = np.arange(m)  # the steps that have a context of k symbols,
    place = np.zeros(m, np.int64)  # and its place among the contexts of level k
    contexts, below = np.zeros(1, np.int64), np.zeros(0, np.int64)
    for k in itertools.count():
        _require(EVENT_BYTES * len(at), k, m)
        if k:
            long_enough = length[at] >= k
            if not long_enough.all():
                at, place = at[long_enough], place[long_enough]
            del long_enough
            place *= V
            place += history[at - (k - 1)]
            contexts = ranked(place, len(contexts) * V)
        keys = place * V
        keys += targets[at]
        beginning = keys[length[at] == k]
        keys.sort()
        new = _changes(keys)
        M = int(np.count_nonzero(new))
        _require(NGRAM_BYTES * M, k, m)
        first = np.flatnonzero(new)
        ngrams = keys[first]
        counts = np.diff(first, append=len(keys))
        del keys, new, first
        if k:
            context, symbol = np.divmod(ngrams, V)
            shorter = below.searchsorted((contexts // V)[context] * V + symbol)
            del context, symbol
        else:
            shorter = np.zeros(M, np.int64)
        yield Counted(contexts, ngrams, counts, shorter, ngrams.searchsorted(beginning))
        below = ngrams


def _require(needed: int, k: int, m: int) -> None:
    """Raise DataError unless there are so many bytes."""
    have = available_memory()
    if have is not None and needed > have:
        advice = f"model.order at most {k}" if k else "a shorter text"
        raise DataError(
            f"n-grams of order {k + 1} in {m:,} symbols need about {readable(needed)} to be counted, "
            f"and {readable(have)} are free: {advice}"
        )


def text_lengths(begins: Array, m: int) -> Array:
    """(m,) how many symbols of its own text were read when each of m steps predicts."""
    dtype = np.int32 if m < 2**31 else np.int64
    length: Array = np.arange(1, m + 1, dtype=dtype)
    length -= np.repeat(begins.astype(dtype), np.diff(begins, append=m))
    return length


def _changes(keys: Array) -> Array:
    """Where sorted keys differ from the one before, and at the first."""
    new = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=new[1:])
    return new


def ranked(keys: Array, limit: int) -> Array:
    """The different keys below `limit`, sorted; in place each key becomes its place among them.

    Keys that leave room are sorted together with where they stood, which is several times as fast as
    sorting places by their keys.
    """
    bits = len(keys).bit_length()
    if limit.bit_length() + bits < 64:
        keys <<= bits
        keys |= np.arange(len(keys))
        keys.sort()
        order = keys & ((1 << bits) - 1)
        keys >>= bits
        ordered = keys
    else:
        order = np.argsort(keys)
        ordered = keys[order]
    new = _changes(ordered)
    different = ordered[new]
    ranks = np.cumsum(new)
    ranks -= 1
    keys[order] = ranks
    return different
