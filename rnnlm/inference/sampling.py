"""Drawing symbols from a model, one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import islice, pairwise
from typing import Any

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..backend.seeds import Purpose, generator
from ..backend.workers import available_cores, forked, shared_zeros
from ..models.base import LanguageModel
from .filters import FILTERS

SMALLEST = 1e-200  # sum of exponentials that still has all its digits
UNIFORMS = 256  # random numbers drawn at a time
AT_ONCE = 8  # symbols drawn before they are yielded; a few milliseconds at most
DRAWN = 1 << 11  # symbols of all texts that workers draw before they meet
FEWEST_TEXTS = 8  # of a worker
FEWEST = 1 << 13  # symbols of all texts: for fewer, workers cost more than they save


def generate(
    model: LanguageModel,
    params: Any,
    prime: Sequence[int] | Array,
    length: int,
    *,
    filters: Mapping[str, float] | None = None,
    seed: int = 0,
    num_samples: int = 1,
    first: Array | None = None,
    position: tuple[int, ...] = (),
    end: int | None = None,
    begin: int = 0,
) -> Iterator[Array]:
    """Yield the ids (num_samples,) of `length` symbols that follow `prime`, step by step.

    A text ends with the symbol `end`, where there is one: what follows it means nothing, and when all
    texts have ended no more is drawn.

    `filters` maps names of `FILTERS` to values, applied in that table's order. Without a prime the
    first character of each sample is drawn from the probabilities `first` (V,), from the zero state.
    Sample i, counted from `begin`, has a generator of random numbers of its own, which depends on seed,
    position and i.

    Many texts are drawn by workers, one for each core, where the process may fork: the same ids.
    """
    draw_some = partial(
        _drawn,
        model,
        params,
        prime,
        length,
        filters=filters,
        seed=seed,
        first=first,
        position=position,
        end=end,
    )
    workers = min(available_cores(), num_samples // FEWEST_TEXTS)
    if workers > 1 and num_samples * (length + len(prime)) >= FEWEST:
        return _spread(draw_some, num_samples, begin, end, workers)
    return draw_some(num_samples=num_samples, begin=begin)


def _spread(
    draw_some: Callable[..., Iterator[Array]], n: int, begin: int, end: int | None, workers: int
) -> Iterator[Array]:
    """What `draw_some` yields for n texts: by workers, some texts each, where the process may fork."""
    R = blas.rows_at_once()
    borders = [R * (n * k // (workers * R)) for k in range(workers)] + [n]
    shares = [
        draw_some(num_samples=stop - start, begin=begin + start)
        for start, stop in pairwise(borders)
    ]
    most = max(AT_ONCE, DRAWN // n)
    drawn, counts = shared_zeros((most, n), np.intp), shared_zeros((workers,), np.intp)

    def some(worker: int) -> None:
        own = slice(*borders[worker : worker + 2])
        count = 0
        for count, ids in enumerate(islice(shares[worker], most), 1):
            drawn[count - 1, own] = ids
        counts[worker] = count
        if end is not None:
            drawn[count:, own] = end

    pool = forked(workers, [some])
    if pool is None:
        yield from draw_some(num_samples=n, begin=begin)
        return
    with closing(pool):
        while True:
            pool.run(some)
            count = int(counts.max())
            yield from drawn[:count].copy()
            if count < most:
                return


def _drawn(
    model: LanguageModel,
    params: Any,
    prime: Sequence[int] | Array,
    length: int,
    *,
    filters: Mapping[str, float] | None,
    seed: int,
    num_samples: int,
    first: Array | None,
    position: tuple[int, ...],
    end: int | None,
    begin: int,
) -> Iterator[Array]:
    """As `generate`, in this process."""
    n = num_samples
    chosen = [(FILTERS[name], filters[name]) for name in FILTERS if filters and name in filters]
    generators = [generator(seed, Purpose.SAMPLE, *position, begin + i) for i in range(n)]
    uniforms = islice(_uniforms(generators), length)
    growing = np.ones(n, np.bool_)
    ids: Array | None = None
    logits: Array | None = None
    with blas.one_thread(), np.errstate(all="ignore"):
        texts = model.begin(params, n)
        for symbol in prime:
            logits = texts.step([int(symbol)] * n)
        if logits is None and length:
            assert first is not None
            ids = draw(np.log(np.tile(first, (n, 1))), next(uniforms))
    if ids is not None:
        yield ids

    while few := list(islice(uniforms, AT_ONCE)):
        drawn = []
        with blas.one_thread(), np.errstate(all="ignore"):
            for u in few:
                if ids is not None:
                    logits = texts.step(ids)
                assert logits is not None
                if chosen:
                    _make_finite(logits)
                for function, value in chosen:
                    function(logits, value)
                ids = draw(logits, u)
                drawn.append(ids)
                if end is not None:
                    growing &= ids != end
                    if not growing.any():
                        break
        yield from drawn
        if not growing.any():
            return


def texts(steps: Iterable[Array], n: int, end: int | None) -> list[list[int]]:
    """The ids of each of n texts, without `end`, from the steps of `generate`."""
    found: list[list[int]] = [[] for _ in range(n)]
    for column, ids in zip(np.array([*steps]).reshape(-1, n).T.tolist(), found, strict=True):
        ids += column[: column.index(end)] if end in column else column
    return found


def _uniforms(generators: list[np.random.Generator]) -> Iterator[Array]:
    """Numbers (N,) in [0, 1), one from each generator."""
    while True:
        yield from np.stack([rng.random(UNIFORMS) for rng in generators], axis=1)


def _make_finite(logits: Array) -> None:
    """Replace logits beyond the range of floats, which very large weights make, by its ends."""
    np.nan_to_num(logits, copy=False, nan=np.finfo(logits.dtype).min)


def draw(logits: Array, uniforms: Array) -> Array:
    """Ids (N,), one for each row of logits (N, V), drawn from its softmax with uniforms (N,) in [0, 1).

    An id is the first whose cumulative probability exceeds the uniform number. Sums are in float64.
    Where exp leaves the range of floats, the row's largest logit is subtracted first.
    """
    p = logits.astype(np.float64)
    np.exp(p, p)
    cumulative = np.add.accumulate(p, 1, None, p)
    for k, total in enumerate(cumulative[:, -1].tolist()):
        if not SMALLEST < total < math.inf:
            row = np.nan_to_num(logits[k].astype(np.float64), nan=-np.inf)
            np.add.accumulate(np.exp(row - row.max()), out=cumulative[k])
    bound = uniforms * cumulative[:, -1]
    if len(p) == 1:
        ids: Array = cumulative[0].searchsorted(bound, "right")
    else:
        ids = (cumulative <= bound[:, None]).sum(axis=1)
    if logits.shape[1] in ids.tolist():  # rounded up to the end: the last that can be drawn
        ids = np.minimum(ids, (cumulative < cumulative[:, -1:]).sum(axis=1))
    return ids
