"""Drawing text from a model, one character at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from . import blas
from .model import Model, StepWeights
from .params import Array, Parameters
from .seeds import Purpose, stream
from .tiles import tiled
from .workspace import Workspace

# Filters change logits (N, V) in place before a character is drawn; a logit of -inf is never drawn.


def temperature(logits: Array, value: float) -> None:
    """Divide by the temperature: below 1 sharpens, above 1 flattens. 0 leaves only the largest."""
    if value > 0:
        # relative to the largest, so that a tiny temperature cannot overflow to +inf
        np.subtract(logits, logits.max(axis=1, keepdims=True), logits)
        with np.errstate(over="ignore"):
            np.divide(logits, value, logits)
    else:
        best = logits.argmax(axis=1)  # the first of equals
        logits.fill(-np.inf)
        logits[np.arange(len(logits)), best] = 0


def top_k(logits: Array, k: int) -> None:
    """Keep the k largest (and what equals the k-th)."""
    if k < logits.shape[1]:
        kth = np.partition(logits, -k, axis=1)[:, -k, None]
        logits[logits < kth] = -np.inf


def top_p(logits: Array, p: float) -> None:
    """Keep the smallest set of most probable characters whose probabilities reach p
    (nucleus sampling: Holtzman et al. 2020, section 3.1).
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    ranked = np.exp(np.take_along_axis(logits, order, 1) - logits.max(axis=1, keepdims=True))
    before = np.cumsum(ranked, axis=1) - ranked
    dropped = before >= p * ranked.sum(axis=1, keepdims=True)
    dropped[:, 0] = False
    np.put_along_axis(dropped, order, dropped.copy(), 1)
    logits[dropped] = -np.inf


FILTERS: dict[str, Callable[..., None]] = {
    "temperature": temperature,
    "top_k": top_k,
    "top_p": top_p,
}

UNIFORMS = 256  # random numbers drawn at a time


class Stepper:
    """N sequences that advance together, one character a step, from the zero state.

    The arithmetic of a row does not depend on how many there are: products run over blocks of a fixed
    number of rows (`blas.rows_at_once`), so sample i has the same bits alone and among others.
    """

    def __init__(self, model: Model, params: Parameters, n: int) -> None:
        R = blas.rows_at_once()
        K, H, V = -(-n // R), model.hidden_size, model.vocabulary_size
        G, S = len(model.cell.gates), len(model.cell.states)
        dtype = params.flat.dtype
        self._embedding = params["embedding"] if model.embedding_size else None
        self._Wy, self._by = params["Wy"], params["by"]
        self._ids = np.zeros((K, R), np.intp)
        self._own_ids = self._ids.reshape(-1)[:n]
        self._logits = np.empty((K, R, V), dtype)
        self._own_logits = self._logits.reshape(K * R, V)[:n]
        # Each layer's state alternates between two places; everything is laid out once, here
        self._turn = 0
        self._layers = []
        weights = StepWeights(model, params, rows=R, backward=False, stepwise=True)
        for copies in weights.layers:
            p = {k: a[:, :, None] if k.endswith(".tiles") else a for k, a in copies.items()}
            z = np.empty((G + model.cell.saved, K, R, H), dtype)
            states = np.zeros((2, S, K, R, H), dtype)
            step = model.cell.stepper(p, (K, R), H, Workspace(dtype))
            if "table" in p:
                project = partial(self._gather, p["table"], z[:G])
            else:
                bias, Wx = p["b"][:, None, None], p["Wx.tiles"]
                project = partial(self._project, Wx, bias, z[:G], tiled(z[:G], Wx))
            turns = [(z, states[t], states[1 - t], states[1 - t, 0]) for t in (0, 1)]
            self._layers.append((project, step, turns))

    def _gather(self, table: Array, z: Array, _X: Array | None) -> None:
        np.take(table, self._ids, axis=1, out=z, mode="clip")

    def _project(self, Wx: Array, b: Array, z: Array, z_tiles: Array, X: Array | None) -> None:
        assert X is not None
        np.matmul(X, Wx, z_tiles)
        np.add(z, b, z)

    def step(self, ids: Sequence[int] | Array) -> Array:
        """Feed one character id per sequence; the logits (N, V) of the next, valid until the next."""
        self._own_ids[:] = ids
        turn, self._turn = self._turn, 1 - self._turn
        X: Array | None = None if self._embedding is None else self._embedding[self._ids]
        for project, step, turns in self._layers:
            z, s_prev, s, h = turns[turn]
            project(X)
            step(z, s_prev, s)
            X = h
        np.matmul(h, self._Wy, self._logits)
        np.add(self._logits, self._by, self._logits)
        return self._own_logits


def generate(
    model: Model,
    params: Parameters,
    prime: Sequence[int] | Array,
    length: int,
    *,
    filters: Mapping[str, float] | None = None,
    seed: int = 0,
    num_samples: int = 1,
    first: Array | None = None,
    position: tuple[int, ...] = (),
) -> Iterator[Array]:
    """Yield the ids (num_samples,) of `length` characters that follow `prime`, step by step.

    `filters` maps names of `FILTERS` to values, applied in that table's order. Without a prime the
    first character of each sample is drawn from the probabilities `first` (V,), from the zero state.
    Sample i draws from its own stream of random numbers, a function of seed, position and i.
    """
    n = num_samples
    streams = [stream(seed, Purpose.SAMPLE, *position, i) for i in range(n)]
    chosen = [(FILTERS[name], filters[name]) for name in FILTERS if filters and name in filters]
    logits: Array | None = None
    with blas.one_thread(), np.errstate(all="ignore"):
        stepper = Stepper(model, params, n)
        for symbol in prime:
            logits = stepper.step([int(symbol)] * n)
    ids: Array | None = None
    for start in range(0, length, UNIFORMS):
        uniforms = np.stack([rng.random(UNIFORMS) for rng in streams], axis=1)
        for u in uniforms[: length - start]:
            with blas.one_thread(), np.errstate(all="ignore"):
                if ids is not None:
                    logits = stepper.step(ids)
                if logits is None:
                    assert first is not None
                    ids = draw(np.log(np.tile(first, (n, 1))), u)
                else:
                    _make_finite(logits)
                    for function, value in chosen:
                        function(logits, value)
                    ids = draw(logits, u)
            yield ids


def _make_finite(logits: Array) -> None:
    """Logits beyond the range of floats (weights can be that large) become the largest there are."""
    if not np.isfinite(np.add.reduce(logits, axis=None)):
        np.nan_to_num(logits, copy=False, nan=np.finfo(logits.dtype).min)


def draw(logits: Array, uniforms: Array) -> Array:
    """One id a row, distributed as softmax(logits (N, V)), from uniforms (N,) in [0, 1).

    The id is the first whose cumulative probability exceeds the uniform; sums in float64.
    """
    p = np.subtract(logits, np.maximum.reduce(logits, axis=1, keepdims=True), dtype=np.float64)
    np.exp(p, p)
    cumulative = np.add.accumulate(p, axis=1, out=p)
    total = cumulative[:, -1]
    bound = uniforms * total
    if len(bound) == 1:
        ids: Array = cumulative[0].searchsorted(bound, "right")
    else:
        ids = (cumulative <= bound[:, None]).sum(axis=1)
    if (bound >= total).any():  # rounded up to the end: the last that can be drawn
        ids = np.minimum(ids, (cumulative < total[:, None]).sum(axis=1))
    return ids
