"""Drawing text from a model, one character at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from . import blas
from .model import Model, StepWeights
from .params import Array, Parameters
from .seeds import Purpose, stream
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
        dtype = params.flat.dtype
        ws = Workspace(dtype)
        self._n, self._K, self._R = n, K, R
        weights = StepWeights(model, params, rows=R, backward=False)
        G = len(model.cell.gates)
        self._embedding = params["embedding"] if model.embedding_size else None
        self._ids = np.zeros((K, R), np.intp)
        self._layers = []
        for copies in weights.layers:
            p = {
                name: a[:, :, None] if name.endswith(".tiles") else a for name, a in copies.items()
            }
            own = Workspace(dtype)
            z = own("z", G + model.cell.saved, K, R, H)
            states = np.zeros((2, len(model.cell.states), K, R, H), dtype)
            self._layers.append((p, z, z[:G], states, model.cell.stepper(p, (K, R), H, own)))
        self._Wy, self._by = params["Wy"], params["by"]
        self._logits = ws("logits", K, R, V)
        self._turn = 0

    def step(self, ids: Sequence[int] | Array) -> Array:
        """Feed one character id per sequence; the logits (N, V) of the next, valid until the next."""
        self._ids.reshape(-1)[: self._n] = ids
        turn, self._turn = self._turn, 1 - self._turn
        X: Array | None = None
        if self._embedding is not None:
            X = self._embedding[self._ids]
        for p, z, gates, states, step in self._layers:
            if X is None:
                np.take(p["table"], self._ids, axis=1, out=gates, mode="clip")
            else:
                np.matmul(X, p["Wx"][:, None], gates)
                np.add(gates, p["b"][:, None, None], gates)
            s_prev, s = states[turn], states[1 - turn]
            step(z, s_prev, s)
            X = s[0]
        assert X is not None
        np.matmul(X, self._Wy, self._logits)
        np.add(self._logits, self._by, self._logits)
        return self._logits.reshape(-1, self._logits.shape[-1])[: self._n]


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
    with blas.one_thread():
        stepper = Stepper(model, params, n)
        logits: Array | None = None
        for symbol in prime:
            logits = stepper.step([int(symbol)] * n)
    for start in range(0, length, UNIFORMS):
        uniforms = np.stack([rng.random(UNIFORMS) for rng in streams], axis=1)
        for u in uniforms[: length - start]:
            if logits is None:
                assert first is not None
                with np.errstate(divide="ignore"):
                    ids = draw(np.log(np.tile(first, (n, 1))), u)
            else:
                for function, value in chosen:
                    function(logits, value)
                ids = draw(logits, u)
            yield ids
            with blas.one_thread():
                logits = stepper.step(ids)


def draw(logits: Array, uniforms: Array) -> Array:
    """One id a row, distributed as softmax(logits (N, V)), from uniforms (N,) in [0, 1)."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
    cumulative = np.cumsum(p, axis=1)
    ids: Array = (cumulative <= uniforms[:, None] * cumulative[:, -1:]).sum(axis=1)
    last: Array = np.count_nonzero(cumulative < cumulative[:, -1:], axis=1)
    return np.minimum(ids, last, out=ids)
