"""Slow, obvious implementations that the fast ones are held against, and the problems they share."""

# ruff: noqa: E741 (I and O are gates)

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import pairwise, product
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from rnnlm.arrays import Array
from rnnlm.backend.params import Parameters
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import CELLS, Cell
from rnnlm.config.kinds import options
from rnnlm.models import MODELS
from rnnlm.models.base import Masks
from rnnlm.models.declared import Declared
from rnnlm.models.recurrent import Recurrent
from rnnlm.text.batches import Batch

# Every cell with every value of its options


def _values(make: Callable[..., Cell], name: str) -> tuple[Any, ...]:
    """The values of a cell's option, which its type says: on and off, or one of several words."""
    kind = get_type_hints(make)[name]
    assert kind is bool or get_origin(kind) is Literal, (
        f"what to test option {name} of {make} with?"
    )
    return (False, True) if kind is bool else get_args(kind)


def all_cells() -> list[Cell]:
    """An instance of every registered cell for every combination of its options' values."""
    return [
        make(**dict(zip(options(make), values, strict=True)))
        for make in CELLS.values()
        for values in product(*(_values(make, name) for name in options(make)))
    ]


def name_of(cell: Cell) -> str:
    """The name that a cell is registered under."""
    (name,) = (name for name, make in CELLS.items() if make is type(cell))
    return name


def cell_keys(cell: Cell) -> list[str]:
    """The overrides of a config that choose a cell with its options."""
    chosen = {"cell": name_of(cell), **vars(cell)}
    return [f"model.{key}={str(value).lower()}" for key, value in chosen.items()]


# Models of other kinds that gradient descent trains


@dataclass(frozen=True)
class Other:
    """A kind of model other than a stack of cells, where tests choose between cells."""

    kind: str


def all_others() -> list[Other]:
    """Every registered kind that gradient descent trains, but the stack of cells."""
    return [
        Other(kind)
        for kind, make in MODELS.items()
        if make is not Recurrent and issubclass(make, Declared)
    ]


def build(
    of: Cell | Other,
    V: int,
    H: int,
    layers: int,
    embedding: int | None,
    rate: float,
    tie: bool = False,
    **options: Any,
) -> Any:
    """A model of that cell or kind: the options that kinds share have the same names."""
    if not isinstance(of, Other):
        return Recurrent(V, of, H, layers, embedding, rate, tie, **options)
    sizes = {"hidden_size": H, "num_layers": layers, "dropout": rate}
    return MODELS[of.kind](V, **sizes, **({"embedding_size": embedding} if embedding else {}))


# One step of each cell: x (B, D), state (one (B, H) for each of the cell's states) -> new state


def sigmoid(a: Array) -> Array:
    """The logistic function as the textbook writes it."""
    return 1 / (1 + np.exp(-a))


PHI: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "relu": lambda a: np.where(a > 0, a, 0.0),
    "identity": lambda a: a,
}


def rnn_step(cell: Any, p: dict[str, Array], x: Array, state: list[Array]) -> list[Array]:
    """One step of the simple recurrent network."""
    (h,) = state
    return [PHI[cell.activation](x @ p["Wx"][0] + h @ p["Wh"][0] + p["b"][0])]


def gru_step(cell: Any, p: dict[str, Array], x: Array, state: list[Array]) -> list[Array]:
    """One step of the GRU: Z keeps the old state, the reset comes before or after the product."""
    (h,) = state
    R = sigmoid(x @ p["Wx"][0] + h @ p["Wh"][0] + p["b"][0])
    Z = sigmoid(x @ p["Wx"][1] + h @ p["Wh"][1] + p["b"][1])
    M = R * (h @ p["Wh"][2] + p["bh"]) if cell.reset_after else (R * h) @ p["Wh"][2]
    N = np.tanh(x @ p["Wx"][2] + p["b"][2] + M)
    return [Z * h + (1 - Z) * N]


def lstm_step(cell: Any, p: dict[str, Array], x: Array, state: list[Array]) -> list[Array]:
    """One step of the LSTM."""
    h, c = state
    I = sigmoid(x @ p["Wx"][0] + h @ p["Wh"][0] + p["b"][0])
    F = sigmoid(x @ p["Wx"][1] + h @ p["Wh"][1] + p["b"][1])
    O = sigmoid(x @ p["Wx"][2] + h @ p["Wh"][2] + p["b"][2])
    G = np.tanh(x @ p["Wx"][3] + h @ p["Wh"][3] + p["b"][3])
    C = F * c + I * G
    return [O * np.tanh(C), C]


def sru_step(cell: Any, p: dict[str, Array], x: Array, state: list[Array]) -> list[Array]:
    """One step of the SRU: the highway takes the input as it is where it has a projection of no own."""
    _, c = state
    F = sigmoid(x @ p["Wx"][0] + p["v"][0] * c + p["b"][0])
    R = sigmoid(x @ p["Wx"][1] + p["v"][1] * c + p["b"][1])
    U = x @ p["Wx"][2] + p["b"][2]
    C = F * c + (1 - F) * U
    through = x @ p["Wx"][3] + p["b"][3] if len(p["Wx"]) > 3 else x
    return [R * PHI[cell.activation](C) + (1 - R) * np.sqrt(3) * through, C]


STEPS = {"rnn": rnn_step, "gru": gru_step, "lstm": lstm_step, "sru": sru_step}


def cell_forward(cell: Cell, p: dict[str, Array], X: Array, state: Array) -> Array:
    """The states s (S, T+1, B, H) that a cell goes through over inputs X (T, B, D)."""
    name = name_of(cell)
    assert name in STEPS, f"{name} has no step in tests/support/oracles.py to be tested against"
    states = [list(state)]
    for x in X:
        states.append(STEPS[name](cell, p, x, states[-1]))
    return np.array(states).swapaxes(0, 1)


def lstm_reference(
    p: Mapping[str, Array], X: Array, state: Array, dY: Array, dstate: Array
) -> tuple[Array, dict[str, Array]]:
    """An LSTM over a window, forward and back: the equations of rnnlm/cells/lstm.py in their order.

    X (T, B, D) are the inputs; state (2, B, H) holds H and C before the first step. dY (T, B, H) and
    dstate (2, B, H) are the gradients of the outputs H of all steps, and of the last H and C. Returns H
    and C before the first and after every step (2, T+1, B, H), and the gradients of p, X and state.
    """
    gates = range(4)  # i, f, o, g
    Wx, Wh, b = p["Wx"], p["Wh"], p["b"]
    H, C, activations = [state[0]], [state[1]], []
    for t in range(len(X)):
        z = [X[t] @ Wx[k] + H[t] @ Wh[k] + b[k] for k in gates]  # (1)
        I, F, O, G = sigmoid(z[0]), sigmoid(z[1]), sigmoid(z[2]), np.tanh(z[3])  # (2)
        C.append(F * C[t] + I * G)  # (3)
        H.append(O * np.tanh(C[t + 1]))  # (4)
        activations.append((I, F, O, G))
    d = {"Wx": np.zeros_like(Wx), "Wh": np.zeros_like(Wh), "b": np.zeros_like(b)}
    dX = np.zeros_like(X)
    dH, dC = dstate
    for t in reversed(range(len(X))):
        I, F, O, G = activations[t]
        dH = dH + dY[t]
        dO = dH * np.tanh(C[t + 1])  # (4)
        dC = dC + dH * O * (1 - np.tanh(C[t + 1]) ** 2)
        dI, dF, dG = dC * G, dC * C[t], dC * I  # (3)
        dC = dC * F
        dz = [dI * I * (1 - I), dF * F * (1 - F), dO * O * (1 - O), dG * (1 - G**2)]  # (2)
        dH = np.zeros_like(dH)
        for k in gates:  # (1)
            dH += dz[k] @ Wh[k].T
            dX[t] += dz[k] @ Wx[k].T
            d["Wh"][k] += H[t].T @ dz[k]
            d["Wx"][k] += X[t].T @ dz[k]
            d["b"][k] += dz[k].sum(axis=0)
    return np.array([H, C]), d | {"X": dX, "state": np.array([dH, dC])}


# The whole model


def cross_entropy(logits: Array, targets: Array) -> Array:
    """-ln softmax(logits)[target] for every row, straight from the definition.

    Where the target is below 0, which does not count: 0.
    """
    losses = []
    for row, target in zip(logits, targets, strict=True):
        p = np.exp(row) / np.sum(np.exp(row))
        losses.append(-np.log(p[target]) if target >= 0 else 0.0)
    return np.array(losses)


def one_hot(ids: Array, V: int) -> Array:
    """Rows of zeros with a single 1."""
    return np.array([[float(i == v) for v in range(V)] for i in ids.reshape(-1)])


def output_matrix(p: Mapping[str, Array]) -> Array:
    """Wy (H, V); in a tied model column y is the embedding of symbol y, as the state sees it."""
    if "Wy" in p:
        return p["Wy"]
    columns = [p["Wo"] @ e if "Wo" in p else e for e in p["embedding"]]
    return np.array(columns).T


def model_losses(
    cell: Cell,
    p: dict[str, Array],
    ids: Array,
    targets: Array,
    state: Array,
    masks: Sequence[Array] | None = None,
    symbols: Array | float = 1.0,
    inputs: Array | float = 1.0,
    skip: bool = False,
    residual: bool = False,
) -> tuple[Array, Array]:
    """The loss of every character (T·B,) and the final state, from parameters by name.

    `masks` are the dropout masks (T·B, H) of each layer, `symbols` that of the one-hot rows (T·B, V),
    `inputs` that of what the first layer reads (T·B, D). `skip`: the softmax sees all layers;
    `residual`: layers add their input. `.sum()` and `.mean()` of the losses are the
    two reductions in use.
    """
    (T, B), V = ids.shape, p["by"].size
    X = one_hot(ids, V) * symbols
    if "embedding" in p:
        X = X @ p["embedding"]
    X = X * inputs
    final, seen = [], []
    for layer in range(len(state)):
        prefix = f"layers.{layer}."
        own = {name.removeprefix(prefix): p[name] for name in p if name.startswith(prefix)}
        s = cell_forward(cell, own, X.reshape(T, B, -1), state[layer])
        final.append(s[:, T])
        Y = s[0, 1:].reshape(T * B, -1)
        X = Y + X if residual and layer else Y
        if masks is not None:
            X = X * masks[layer]
        seen.append(X)
    if skip:
        X = np.concatenate(seen, axis=1)
    return cross_entropy(X @ output_matrix(p) + p["by"], targets.reshape(-1)), np.array(final)


def texts(batch: Batch, state: Array) -> Iterator[tuple[int, slice, Array]]:
    """The parts of a batch that belong to one text each, stream by stream, in order.

    Yields the stream, its steps, and the state (L, S, 1, H) before them: `state` at the beginning of
    the window, unless a text begins there, and zeros where one begins.
    """
    T, B = batch.ids.shape
    for b in range(B):
        begins = [t for t in range(T) if batch.fresh is not None and batch.fresh[t, b]]
        for start, stop in pairwise(sorted({0, *begins, T})):
            before = state[:, :, b : b + 1]
            yield b, slice(start, stop), before * 0 if start in begins else before


def batch_losses(
    cell: Cell,
    p: dict[str, Array],
    batch: Batch,
    state: Array,
    masks: Sequence[Array] | None = None,
) -> tuple[Array, Array]:
    """The loss of every symbol (T, B) and the final state, each text of a batch by itself."""
    losses, final = np.full(batch.ids.shape, np.nan), np.full_like(state, np.nan)
    for b, steps, before in texts(batch, state):
        own = None if masks is None else [m.reshape(*batch.ids.shape, -1)[steps, b] for m in masks]
        ids, targets = batch.ids[steps, b : b + 1], batch.targets[steps, b : b + 1]
        losses[steps, b], final[:, :, b : b + 1] = model_losses(cell, p, ids, targets, before, own)
    return losses, final


# What the tests compute with


@dataclass
class Problem:
    """A model with random parameters, one window of random text and a random state before it."""

    model: Any  # Recurrent, or of another kind
    params: Parameters
    batch: Batch  # T steps of B streams
    state: Array  # (L, S, B, H), or what that kind has

    @classmethod
    def of(
        cls,
        cell: Cell | Other,
        *,
        layers: int = 1,
        embedding: int | None = None,
        dropout: float = 0.0,
        tie: bool = False,
        T: int = 5,
        B: int = 3,
        H: int = 6,
        V: int = 7,
        dtype: Any = np.float64,
        seed: int = 0,
        **options: Any,
    ) -> Problem:
        rng = np.random.default_rng(seed)
        model = build(cell, V, H, layers, embedding, dropout, tie, **options)
        params = model.init(rng, np.float64)
        params.flat += rng.normal(0, 0.7 / np.sqrt(H), params.flat.size)  # so that no bias is zero
        ids, targets = rng.integers(V, size=(2, T, B))
        if isinstance(cell, Other):  # the state after some text
            state = model.zero_state(B)
            before = Batch(*rng.integers(V, size=(2, T, B)))
            model.loss(model.weights(params, B), before, state, Workspace(np.float64))
        else:
            state = 0.5 * rng.standard_normal(model.state_shape(B))
        params = Parameters(params.shapes, dtype, params.flat.astype(dtype))
        return cls(model, params, Batch(ids, targets), state.astype(dtype))

    def weights(self) -> Any:
        return self.model.weights(self.params, rows=self.batch.ids.shape[1])

    def workspace(self) -> Workspace:
        return Workspace(self.params.flat.dtype)

    def loss(self, masks: Masks | None = None, dstate: Array | None = None) -> float:
        """The summed loss, going forward only; `dstate` adds ⟨dstate, final state⟩ to it."""
        w, ws, state = self.weights(), self.workspace(), self.state.copy()
        traces = self.model.forward(w, self.batch, state, ws, masks)
        every = traces if getattr(self.model, "skip", False) else traces[-1:]
        top = np.concatenate([trace.output for trace in every], axis=1)
        logits = top @ output_matrix(self.params) + self.params["by"]
        losses = cross_entropy(logits, self.batch.targets.ravel())
        return float(losses.sum() + (0 if dstate is None else np.vdot(dstate, state)))

    def gradients(
        self,
        ws: Workspace | None = None,
        masks: Masks | None = None,
        dstate: Array | None = None,
    ) -> Result:
        """Forward and backward with gradients of the summed loss, none of them where it was asked."""
        d, state = self.params.like(), self.state.copy()
        d.flat.fill(np.nan)
        dstate = np.zeros_like(state) if dstate is None else dstate.copy()
        takes_dstate = "dstate" in signature(self.model.loss_and_grad).parameters
        loss = self.model.loss_and_grad(
            self.weights(),
            self.batch,
            state,
            d,
            ws or self.workspace(),
            1.0,
            masks,
            *([dstate] if takes_dstate else []),
        )
        return Result(loss, d, state, dstate)


@dataclass
class Result:
    """What one forward and backward pass gives."""

    loss: float
    d: Parameters
    state: Array  # final
    dstate: Array  # gradient of the initial state

    def assert_same_bits(self, other: Result) -> None:
        """Everything is equal to the last bit."""
        assert self.loss == other.loss
        np.testing.assert_array_equal(self.d.flat, other.d.flat)
        np.testing.assert_array_equal(self.state, other.state)
        np.testing.assert_array_equal(self.dstate, other.dstate)


def assert_is_gradient(
    dx: Array, loss: Callable[[], float], x: Array, name: str, epsilon: float = 1e-5
) -> None:
    """dx is the gradient of loss() with respect to x, along one random direction and nowhere zero.

    Central differences: two forward calls, whatever the size of x, which is changed and put back.
    """
    v = np.random.default_rng(99).standard_normal(x.shape)
    before = x.copy()
    x[...] = before + epsilon * v
    above = loss()
    x[...] = before - epsilon * v
    below = loss()
    x[...] = before
    numeric, analytic = (above - below) / (2 * epsilon), float(np.vdot(dx, v))
    size = float(np.linalg.norm(dx))
    assert size > 1e-3, f"{name}: the gradient is zero (norm {size}; differences give {numeric})"
    assert abs(numeric - analytic) < 1e-7 * max(1.0, size), (
        f"{name}: differences give {numeric!r}, the backward pass {analytic!r}"
    )
