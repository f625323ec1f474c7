"""Models that count: the probability of a symbol after the n - 1 before it, from how often it came.

What a model stores is the same for every smoothing: for every n-gram (h, w) that was seen, a context h
and the symbol w after it, its probability; and for every context a backoff weight. Then

    p(w | h) = P(h, w)                     where (h, w) was seen,
               backoff(h) · p(w | h')      else, h' being h without its oldest symbol,

down to the empty context, below which every symbol has 1/V. A context that was never seen has the
backoff weight 1.

There are no dictionaries: contexts are a trie in sorted arrays, from the newest symbol to the oldest.
Level k holds the contexts of k symbols and the n-grams of k + 1. A context of level k has the key
parent · V + its oldest symbol, where the parent is the place of h' among the contexts of level k - 1;
an n-gram has the key context · V + w. So a whole text goes down the trie by binary search.

Where a text begins there is nothing before: its first symbol is not predicted, and the contexts of the
next ones are as short as what has been read of it. Such an n-gram counts on its own level and below,
and so a model of order n predicts from short contexts there, by the estimates of their level.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..config.kinds import Integer, Number, Text, option
from ..errors import ConfigError, DataError
from ..text.batches import Batch
from .counting import Counted, count_levels, text_lengths
from .smoothing import SMOOTHINGS, Counts, Discounts

Params = dict[str, Array]

HIGHEST = 20  # order
IMPORTED = "imported"  # no smoothing: the probabilities were read from a file


# What is stored


@dataclass(frozen=True)
class Level:
    """The contexts of k symbols and the n-grams of k + 1, with their keys in ascending order."""

    contexts: Array  # (C,) int64; the only one of level 0 has the key 0
    backoff: Array  # (C,) float64
    ngrams: Array  # (M,) int64
    probability: Array  # (M,) float64


def to_params(
    levels: Sequence[Level],
    alone: bool = False,
    discounts: Array | None = None,
    fallback: Array | None = None,
) -> Params:
    """The arrays of a model, as a checkpoint stores them.

    `alone`: a level takes nothing from those below it, but 1/V. `discounts` (order, 3), of n-grams
    seen once, twice and more often; `fallback` (order,): these are not from counts, as those allowed
    none.
    """
    order = len(levels)
    params: Params = {
        "order": np.array(order, np.int64),
        "alone": np.array(alone, np.uint8),
        "discounts": np.zeros((order, 3)) if discounts is None else discounts,
        "fallback": np.zeros(order, np.uint8) if fallback is None else fallback,
    }
    for k, level in enumerate(levels):
        params |= {f"levels.{k}.{name}": array for name, array in vars(level).items()}
    return params


def to_levels(params: Mapping[str, Array]) -> list[Level]:
    """The inverse of `to_params`."""
    return [
        Level(**{name: params[f"levels.{k}.{name}"] for name in Level.__annotations__})
        for k in range(int(params["order"]))
    ]


def find(keys: Array, wanted: Array) -> tuple[Array, Array]:
    """The places of the wanted in the sorted keys, and whether they are there."""
    places = keys.searchsorted(wanted)
    if not len(keys):
        return places, np.zeros(len(wanted), np.bool_)
    return places, keys.take(places, mode="clip") == wanted


# The model


@dataclass(frozen=True)
class NGram:
    """An n-gram model of `order` n: n - 1 symbols of context. Its numbers are `params`.

    Without an order `fit` finds one on a validation text. `k` is what additive smoothing adds to every
    count.
    """

    vocabulary_size: int
    order: int | None = option(
        None,
        "symbols of an n-gram, its context and one more; `auto`: chosen on validation",
        Integer(low=1, high=HIGHEST, null="auto"),
    )
    smoothing: str = option(
        "kneser_ney",
        "`kneser_ney` (modified, interpolated), `witten_bell`, `additive`, or `none`; `imported`: read "
        "from a file",
        Text(one_of=(*SMOOTHINGS, IMPORTED)),
    )
    k: float = option(
        1.0, "what `additive` smoothing adds to every count", Number(above=0, high=1e9)
    )

    def describe(self, params: Mapping[str, Array] | None = None) -> str:
        """The model in one line; with its numbers, what they tell."""
        order = self.order if params is None else int(params["order"])
        name = f"{order}-gram" if order else "n-gram, its order found on validation"
        options = f" with k = {self.k:g}" if self.smoothing == "additive" else ""
        line = f"{name}, smoothing {self.smoothing}{options}"
        if params is None:
            return line
        seen = sum(len(level.ngrams) for level in to_levels(params))
        line += f": {seen:,} n-grams"
        if fallback := [f"{k + 1}" for k in np.flatnonzero(params["fallback"])]:
            line += f"; order {', '.join(fallback)}: default discounts"
        return line

    # Estimation

    def fit(
        self,
        ids: Array,
        validation: Array | None = None,
        *,
        fresh: Array | None = None,
        validation_fresh: Array | None = None,
    ) -> Params:
        """Count a text `ids` (n,): each symbol but the first, after those before it.

        Without an order, orders are tried upwards until the loss of the text `validation` rises, to
        HIGHEST. `fresh` (n,) marks where texts begin, as in a `Batch`: symbol t is still predicted as
        what ends the text before (the newline between two lines is both), and no context reaches back
        beyond it.
        Raises ConfigError for a smoothing that estimates nothing, DataError where there is nothing to
        count or memory does not suffice.
        """
        if self.smoothing not in SMOOTHINGS:
            raise ConfigError(
                f"model.smoothing: {self.smoothing} is of models that were read from a file; to count, "
                f"use one of {', '.join(SMOOTHINGS)}"
            )
        if self.smoothing != "additive" and self.k != NGram.k:
            raise ConfigError(
                f"model.k: what additive smoothing adds; {self.smoothing} adds nothing: leave it out"
            )
        if self.order is None and (validation is None or len(validation) < 2):
            raise DataError(
                "model.order: auto is found on a validation text, and there is none: set the order, or "
                "data.val_fraction"
            )
        ids, begins = self.checked_text(ids, fresh)
        smoothing = SMOOTHINGS[self.smoothing]
        walk = None
        if self.order is None and validation is not None:
            text, other = self.checked_text(validation, validation_fresh)
            at = np.arange(len(text) - 1)
            walk = _Walk(text, at, 1, text_lengths(other, len(at)), text[1:], self, smoothing.alone)
        finished: list[tuple[Level, Discounts]] = []  # as the levels above them want them
        below: Counted | None = None
        best: tuple[float, tuple[Level, Discounts]] | None = None
        for k, counted in enumerate(count_levels(ids, begins, self.vocabulary_size)):
            if below is not None:
                counts = below.continuations(counted) if smoothing.continuations else below.counts
                finished.append(self._estimate(below, counts, finished))
            below = counted
            if self.order is not None and k + 1 < self.order:
                continue
            top = self._estimate(counted, counted.counts, finished)
            if walk is None:
                return self._params([*finished, top])
            if k:
                walk.probability = walk.predict(finished[-1][0])
                walk.descend(counted.contexts)
            loss = float(surprisal(walk.predict(top[0])).sum())
            if best is not None and not loss < best[0]:
                return self._params([*finished[:-1], best[1]])
            if k + 1 == HIGHEST:
                return self._params([*finished, top])
            best = loss, top
        raise AssertionError

    def checked_text(self, ids: Array, fresh: Array | None) -> tuple[Array, Array]:
        """A text's ids, checked, and where texts begin in it but for its last symbol."""
        ids = np.asarray(ids)
        if len(ids) < 2:
            raise DataError(f"{len(ids)} symbols: nothing to count; more text is needed")
        if ids.min() < 0 or ids.max() >= self.vocabulary_size:
            raise DataError(f"the text has ids that are not from 0 to {self.vocabulary_size - 1}")
        if ids.dtype.kind != "u" or ids.dtype.itemsize == 8:  # so that sums stay whole numbers
            ids = ids.astype(np.int64, copy=False)
        begins = np.zeros(1, np.int64)
        if fresh is not None:
            begins = np.append(begins, 1 + np.flatnonzero(fresh[1:-1]))
        return ids, begins

    def _estimate(
        self, counted: Counted, counts: Array, below: Sequence[tuple[Level, Discounts]]
    ) -> tuple[Level, Discounts]:
        """The probabilities of a level, from counts of its n-grams and the level below."""
        smoothing, V = SMOOTHINGS[self.smoothing], self.vocabulary_size
        context = counted.ngrams // V
        n = Counts(counts, context, len(counted.contexts), V)
        options = {"k": self.k} if self.smoothing == "additive" else {}
        estimate = smoothing.estimate(n, **options)
        lower: Any = 1 / V
        if below and not smoothing.alone:
            lower = below[-1][0].probability[counted.shorter]
        probability = estimate.backoff[context]
        probability *= lower
        probability += estimate.share
        np.minimum(probability, 1, out=probability)  # a sum can round up
        level = Level(counted.contexts, estimate.backoff, counted.ngrams, probability)
        return level, estimate.discounts

    def _params(self, levels: Sequence[tuple[Level, Discounts]]) -> Params:
        return to_params(
            [level for level, _ in levels],
            SMOOTHINGS[self.smoothing].alone,
            np.array([discounts.values for _, discounts in levels]),
            np.array([discounts.fallback for _, discounts in levels], np.uint8),
        )

    def restore(self, arrays: Mapping[str, Array]) -> Params:
        """The arrays of a model, read from a file: checked, since anybody can write one.

        Raises ValueError unless they are ones that `fit` could have made, but for how much probability
        is given out.
        """
        V = self.vocabulary_size
        order = _whole(arrays, "order", ())
        n = int(order)
        if not 1 <= n <= HIGHEST or self.order not in (None, n):
            raise ValueError(f"order is {n}")
        alone = _whole(arrays, "alone", ())
        fallback = _whole(arrays, "fallback", (n,))
        discounts = _numbers(arrays, "discounts", (n, 3))
        levels: list[Level] = []
        for k in range(n):
            prefix, parents = f"levels.{k}.", len(levels[-1].contexts) if levels else 0
            contexts = _keys(arrays, prefix + "contexts", parents * V if k else 1)
            if not k and len(contexts) != 1:
                raise ValueError("levels.0.contexts has not one key")
            ngrams = _keys(arrays, prefix + "ngrams", len(contexts) * V)
            backoff = _numbers(arrays, prefix + "backoff", contexts.shape)
            probability = _numbers(arrays, prefix + "probability", ngrams.shape)
            if probability.size and probability.max() > 1:
                raise ValueError(f"{prefix}probability is above 1")
            levels.append(Level(contexts, backoff, ngrams, probability))
        params = to_params(levels, bool(alone), discounts, (fallback != 0).astype(np.uint8))
        if strange := set(arrays) - set(params):
            raise ValueError(f"{min(strange)} is not an array of this model")
        return params

    # Prediction

    def context_lengths(self, params: Mapping[str, Array]) -> int:
        """The order: contexts have up to one symbol less."""
        return int(params["order"])

    def begin(self, params: Mapping[str, Array], n: int) -> Steps:
        return Steps(self, params, n)

    def read(self, params: Mapping[str, Array], streams: int) -> Reading:
        return Reading(self, params, streams)


def _array(
    arrays: Mapping[str, Array], name: str, kinds: str, shape: tuple[int, ...] | None
) -> Array:
    if name not in arrays:
        raise ValueError(f"{name} is missing")
    a = arrays[name]
    if a.dtype.kind not in kinds or (a.shape != shape if shape is not None else a.ndim != 1):
        raise ValueError(f"{name} is {a.dtype.name} {a.shape}")
    return a


def _whole(arrays: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    return _array(arrays, name, "iu", shape)


def _numbers(arrays: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    """Finite numbers from 0 on."""
    a = _array(arrays, name, "f", shape).astype(np.float64, copy=False)
    if not (np.isfinite(a).all() and (a >= 0).all()):
        raise ValueError(f"{name} is not finite and from 0 on")
    return a


def _keys(arrays: Mapping[str, Array], name: str, limit: int) -> Array:
    """Different keys below `limit`, in ascending order."""
    a = _array(arrays, name, "iu", None)
    if (a[1:] <= a[:-1]).any() or (a.size and not (a[0] >= 0 and int(a[-1]) < min(limit, 2**63))):
        raise ValueError(f"{name} is not sorted, or out of range")
    return a.astype(np.int64, copy=False)


# Reading: many texts at once


class _Walk:
    """Many predictions at once, that go down the trie level by level.

    `text` holds the symbols that were read, `at` (R,) where the newest one before each target is, and
    the one before any is `stride` places before it. `length` (R,) says how many there are in its text.
    """

    def __init__(
        self,
        text: Array,
        at: Array,
        stride: int,
        length: Array,
        targets: Array,
        model: NGram,
        alone: bool,
    ) -> None:
        self._text, self._at, self._stride, self._length = text, at, stride, length
        self._targets = targets.astype(np.int64, copy=False)
        self._V, self._alone = model.vocabulary_size, alone
        self._k = 0
        self._rows = np.arange(len(at))  # whose contexts of k symbols are known
        self._nodes = np.zeros(len(at), np.int64)  # and their places
        self.context = np.zeros(len(at), np.int8)  # k of the longest that is known
        self.probability = np.full(len(at), 1 / self._V)  # by the levels below this one

    def descend(self, contexts: Array) -> None:
        """Go on to the next level, which has these contexts."""
        self._k += 1
        enough = self._length[self._rows] >= self._k
        rows = self._rows[enough]
        older = self._text[self._at[rows] - (self._k - 1) * self._stride]
        places, known = find(contexts, self._nodes[enough] * self._V + older)
        self._rows, self._nodes = rows[known], places[known]
        self.context[self._rows] = self._k

    def predict(self, level: Level) -> Array:
        """The probabilities (R,) of the targets by this level and those below."""
        p = self.probability.copy()
        if self._alone:
            p[self._length >= self._k] = 1 / self._V
        rows, nodes = self._rows, self._nodes
        places, seen = find(level.ngrams, nodes * self._V + self._targets[rows])
        p[rows] *= level.backoff[nodes]
        p[rows[seen]] = level.probability[places[seen]]
        return p


def surprisal(p: Array) -> Array:
    """-ln p in nats; infinite for 0."""
    with np.errstate(divide="ignore"):
        return 0.0 - np.log(p)


class Reading:
    """Streams of text that are read window by window; a stream's state are its last symbols."""

    def __init__(self, model: NGram, params: Mapping[str, Array], streams: int) -> None:
        self._model, self._levels, self._alone = model, to_levels(params), bool(params["alone"])
        self._past = np.zeros((len(self._levels) - 1, streams), np.int64)
        self._length = np.zeros(streams, np.int64)  # how many of them are of the same text
        self.context = np.zeros((0, streams), np.int8)

    def __call__(self, batch: Batch, losses: Array | None = None) -> float:
        (T, B), K = batch.ids.shape, len(self._past)
        text = np.concatenate([self._past, batch.ids], dtype=np.int64, casting="unsafe")
        step = np.arange(T)[:, None]
        begin = np.tile(-self._length, (T, 1))
        if batch.fresh is not None:
            np.copyto(begin, step, where=batch.fresh.astype(np.bool_, copy=False))
            np.maximum.accumulate(begin, axis=0, out=begin)
        length = np.minimum(step + 1 - begin, K)
        if T:
            self._past, self._length = text[T:], length[-1]

        counted = batch.targets >= 0
        rows = np.flatnonzero(counted)
        walk = _Walk(
            text.reshape(-1),
            rows + K * B,
            B,
            length.reshape(-1)[rows],
            batch.targets.reshape(-1)[rows],
            self._model,
            self._alone,
        )
        for k, level in enumerate(self._levels):
            if k:
                walk.descend(level.contexts)
            walk.probability = walk.predict(level)
        nats = surprisal(walk.probability)
        self.context = np.zeros((T, B), np.int8)
        self.context[counted] = walk.context
        if losses is not None:
            losses.fill(0)
            losses[counted] = nats
        return float(nats.sum())


# Stepping: the whole distribution, a symbol at a time


class Steps:
    """N texts that advance together, one symbol a step; each is worked on by itself."""

    def __init__(self, model: NGram, params: Mapping[str, Array], n: int) -> None:
        self._V, self._alone = model.vocabulary_size, bool(params["alone"])
        self._levels = to_levels(params)
        # where the n-grams of each context begin
        self._first = [
            level.ngrams.searchsorted(np.arange(len(level.contexts) + 1) * self._V)
            for level in self._levels
        ]
        self._past = [deque[int](maxlen=len(self._levels) - 1) for _ in range(n)]  # newest first
        self._logits = np.empty((n, self._V))
        self.context = np.zeros(n, np.int8)

    def step(self, ids: Array | Sequence[int]) -> Array:
        texts = zip(self._past, ids, self._logits, strict=True)
        for i, (past, symbol, row) in enumerate(texts):
            past.appendleft(int(symbol))
            self.context[i] = self._predict(past, row)
        with np.errstate(divide="ignore"):
            np.log(self._logits, self._logits)
        return self._logits

    def _predict(self, past: deque[int], row: Array) -> int:
        """Fill `row` (V,) with probabilities, from the longest known context, whose length is returned,
        to the shortest.
        """
        V, node = self._V, 0
        path = [(0, 0)]
        for k, symbol in enumerate(past, 1):
            contexts, key = self._levels[k].contexts, node * V + symbol
            node = int(contexts.searchsorted(key))
            if node == len(contexts) or contexts[node] != key:
                break
            path.append((k, node))
        longest = path[-1][0]
        if self._alone:
            path = path[len(past) :]
        weight = 1.0  # of the level: the product of the backoff weights above it
        parts = []
        for k, node in reversed(path):
            level, first = self._levels[k], self._first[k]
            seen = slice(first[node], first[node + 1])
            parts.append((level.ngrams[seen] - node * V, level.probability[seen] * weight))
            weight *= level.backoff[node]
        row.fill(weight / V)
        for symbols, probabilities in reversed(parts):
            row[symbols] = probabilities
        return longest
