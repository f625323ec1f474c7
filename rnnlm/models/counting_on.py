"""An n-gram that also counts what it reads.

Each symbol is predicted as by a model fitted again on the training text and all symbols before it, with
the discounts of training.

Nothing is fitted again. A count at a step is the count in the training text and how often the n-gram
was touched by the steps before, and that is a sum over earlier steps of the same n-gram. So all steps
of a text are worked on at once, level by level, and are yet exact at every symbol.

A step touches its n-gram (h, w) on all levels that have a context for it. With continuation counts
(see `Counted.continuations`) it does so on the highest of these levels, and on a level below only
where (h, w) is new on the level above.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from ..arrays import Array
from ..backend.memory import available_memory, readable
from ..errors import ConfigError, DataError
from ..text.batches import Batch
from .counting import Counted, count_levels, ranked, text_lengths
from .ngram import NGram, find, surprisal
from .smoothing import SMOOTHINGS

STEP_BYTES = 240  # of memory for each symbol of the text; measured


@dataclass(frozen=True)
class Reserve:
    """What a context keeps of its counts for the level below.

    p(w | h) = (c - r(c)) / n + (R / n) p(w | h') with R = Σ_w r(c(h, w)) and n = Σ_w c(h, w); where it
    is `on_top`: c / (n + R + k) + (R + k) / (n + R + k) p(w | h').
    """

    by_count: tuple[float, float, float] = (0, 0, 0)  # r of 1, 2 and more
    on_top: bool = False
    constant: float = 0.0  # k

    def probability(self, c: Array, n: Array, reserved: Array, lower: Array) -> Array:
        """p(w | h) from c(h, w), n, R and p(w | h'), all (m,); where n is 0, p(w | h')."""
        own = c if self.on_top else c - self.of(c)
        left = reserved + self.constant
        total = n + left if self.on_top else n
        with np.errstate(divide="ignore", invalid="ignore"):
            p = (own + left * lower) / total
        return np.minimum(np.where(total > 0, p, lower), 1)

    def of(self, counts: Array) -> Array:
        """r(c) of each count."""
        return np.array((0.0, *self.by_count))[np.minimum(counts, 3)]


RESERVES: dict[str, Callable[[NGram, Array], Reserve]] = {
    "kneser_ney": lambda _, discounts: Reserve(tuple(discounts.tolist())),
    "witten_bell": lambda *_: Reserve((1, 1, 1), on_top=True),
    "additive": lambda model, _: Reserve(on_top=True, constant=model.k * model.vocabulary_size),
    "none": lambda *_: Reserve(),
}


@dataclass(frozen=True)
class Steps:
    """The m steps of a text that have a context on one level."""

    steps: Array  # (m,) their numbers
    context: Array  # (m,) the context's number among those of the text,
    known: Array  # (m,) and its place among those of the training text; -1: it has none
    ngram: Array  # (m,) the same of the n-gram
    known_ngram: Array  # (m,)

    @property
    def new(self) -> Array:
        """(m,) whether the n-gram was neither in the training text nor at a step before."""
        first = np.zeros(len(self.ngram), np.bool_)
        first[np.unique(self.ngram, return_index=True)[1]] = True
        return first & (self.known_ngram < 0)


def count_on(
    model: NGram, params: Mapping[str, Array], training: tuple[Array, Array | None], text: Batch
) -> tuple[Array, Array]:
    """-ln p of each target of a whole text (T, 1), in nats, and how long a context was seen before it.

    `training` are the ids and marks that the model was fitted on. Raises DataError where it was not,
    and where memory does not suffice; ConfigError for a model that was not counted.
    """
    if model.smoothing not in SMOOTHINGS:
        raise ConfigError("an n-gram that was read from a file has no counts to add to")
    needed, have = STEP_BYTES * len(text.ids), available_memory()
    if have is not None and needed > have:
        raise DataError(
            f"to count {len(text.ids):,} symbols as they are read needs {readable(needed)}, and "
            f"{readable(have)} are free: use a shorter text"
        )
    smoothing, reserve = SMOOTHINGS[model.smoothing], RESERVES[model.smoothing]
    order, V = int(params["order"]), model.vocabulary_size
    steps = np.flatnonzero(text.targets >= 0)
    history, targets = text.ids[:, 0], text.targets[steps, 0]
    begins = np.flatnonzero(text.fresh) if text.fresh is not None else np.zeros(1, np.int64)
    length = text_lengths(begins, len(history))[steps]
    p, context = np.full(len(steps), 1 / V), np.zeros(len(steps), np.int8)
    ids, training_begins = model.checked_text(*training)
    counted_levels = islice(count_levels(ids, training_begins, V), order)
    below: tuple[Counted, Steps] | None = None
    walk = _Walk(history, steps, length, targets, V)

    def finish(k: int, level: tuple[Counted, Steps], counts: Array, touched: Array) -> None:
        counted, at = level
        lower = np.full(len(at.steps), 1 / V) if smoothing.alone else p[at.steps]
        rule = reserve(model, params["discounts"][k])
        values, seen = _probabilities(rule, counted, counts, at, touched, lower, V)
        p[at.steps] = values
        context[at.steps[seen]] = k

    for k, counted in enumerate(counted_levels):
        if not np.array_equal(counted.ngrams, params[f"levels.{k}.ngrams"]):
            raise DataError(
                "the n-gram was counted on another training text: its counts are not known"
            )
        at = walk.descend(counted)
        if below is not None:
            touched, counts = np.ones(len(below[1].steps), np.bool_), below[0].counts
            if smoothing.continuations:
                counts = below[0].continuations(counted)
                touched[length[below[1].steps] >= k] = at.new
            finish(k - 1, below, counts, touched)
        below = counted, at
    assert below is not None
    finish(order - 1, below, below[0].counts, np.ones(len(below[1].steps), np.bool_))
    nats, contexts = np.zeros(len(history)), np.zeros(len(history), np.int8)
    nats[steps], contexts[steps] = surprisal(p), context
    return nats, contexts


class _Walk:
    """The steps of a text go down the trie of the training text and that of their own."""

    def __init__(self, history: Array, at: Array, length: Array, targets: Array, V: int) -> None:
        self._history, self._at, self._length, self._targets = history, at, length, targets
        self._V, self._k = V, 0
        self._steps, self._contexts = np.arange(len(at)), 1
        self._place, self._known = np.zeros((2, len(at)), np.int64)

    def descend(self, counted: Counted) -> Steps:
        """The steps of the next level, whose n-grams in the training text are given."""
        V = self._V
        if self._k:
            enough = self._length[self._steps] >= self._k
            self._steps = self._steps[enough]
            older = self._history[self._at[self._steps] - (self._k - 1)]
            self._place = self._place[enough] * V + older
            self._contexts = len(ranked(self._place, self._contexts * V))
            self._known = _found(counted.contexts, self._known[enough] * V + older)
        self._k += 1
        targets = self._targets[self._steps]
        ngram = self._place * V + targets
        ranked(ngram, self._contexts * V)
        known_ngram = _found(counted.ngrams, self._known * V + targets)
        return Steps(self._steps, self._place, self._known, ngram, known_ngram)


def _found(keys: Array, wanted: Array) -> Array:
    """The places of the wanted in the sorted keys; -1 where they are not there, as none below 0 is."""
    places, there = find(keys, wanted)
    return np.where(there, places, -1)


def _probabilities(
    rule: Reserve,
    counted: Counted,
    counts: Array,
    at: Steps,
    touched: Array,
    lower: Array,
    V: int,
) -> tuple[Array, Array]:
    """The probability of the target at each of the m steps of a level, and whether its context was
    seen before; `counts` (M,) are those of the training text, `lower` (m,) the level below.
    """
    own, size = counted.ngrams // V, len(counted.contexts)
    in_context = Earlier(at.context)
    c = _at(counts, at.known_ngram) + Earlier(at.ngram).sum(touched)
    n = _at(np.bincount(own, counts, size), at.known) + in_context.sum(touched)
    reserved = _at(np.bincount(own, rule.of(counts), size), at.known)
    for old, step in enumerate(np.diff((0.0, *rule.by_count))):
        if step:  # r(c + 1) - r(c)
            reserved += step * in_context.sum(touched & (c == old))
    return rule.probability(c, n, reserved, lower), n > 0


def _at(values: Array, places: Array) -> Array:
    """The values at places, 0 where a place is -1."""
    return np.append(values, 0)[places]


class Earlier:
    """Of each of m steps, those of its group that come before it."""

    def __init__(self, group: Array) -> None:
        self._order = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[self._order], prepend=-1))
        self._start = np.repeat(starts, np.diff(starts, append=len(group)))

    def sum(self, marked: Array) -> Array:
        """How many of them are marked: (m,) from (m,)."""
        # Whole numbers, so that nothing is rounded by what comes later
        ordered = marked[self._order]
        sums = np.cumsum(ordered) - ordered
        out = np.empty_like(sums)
        out[self._order] = sums - sums[self._start]
        return out


class CountingReader:
    """Reads a text, window by window, of which all steps were worked on at once."""

    def __init__(self, nats: Array, context: Array) -> None:
        self._nats, self._context, self._read = nats, context, 0
        self.context = np.zeros((0, 1), np.int8)

    def __call__(self, batch: Batch, losses: Array | None = None) -> float:
        steps = slice(self._read, self._read + len(batch.ids))
        self._read = steps.stop
        nats = self._nats[steps, None]
        self.context = self._context[steps, None]
        if losses is not None:
            losses[:] = nats
        return float(nats.sum())
