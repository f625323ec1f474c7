"""A feed-forward network over the last symbols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape
from ..backend import blas
from ..backend.initial import glorot_uniform, unit_variance, zeros
from ..backend.params import Parameter, Parameters
from ..backend.tape import Tape
from ..backend.tiles import PackedMatrix
from ..backend.workspace import Workspace
from ..cells.rnn import ACTIVATIONS
from ..config.kinds import Integer, Number, Text, option
from ..text.batches import Batch
from .base import Masks
from .declared import Declared
from .layers import (
    OutputGradients,
    dense_projection,
    dropout,
    dropout_backward,
    logits_rows,
    one_hot_projection_backward,
    softmax_cross_entropy,
    sum_rows,
)

ROWS = 1024  # of a batch in one block: products are large, and long windows take no more memory
NOTHING = -1  # stands in a window, instead of an id, before the beginning of a text


@dataclass(frozen=True)
class Window(Declared):
    """Bengio, Ducharme, Vincent and Jauvin 2003 (JMLR 3, section 2, equation 1, without its direct
    connections from X to the output).

    Forward, for every step t. c is `context`, e_i row i of the embedding E, which is for the symbol i;
    where the text begins less than c symbols before, zeros stand in X. H_0 = X, and layers count from 1
    to L (in the names of parameters from 0):

        (1)  X = [e of symbol t-c+1, ..., e of symbol t-1, e of symbol t]
        (2)  z_l = H_{l-1} W_l + b_l
        (3)  H_l = φ(z_l)
        (4)  p = softmax(H_L Wy + by)

    Backward, from the loss -ln p[target]. Each line belongs to the line above with its number:

        (4)  dlogits = p - onehot(target);   dH_L = dlogits Wyᵀ;   dWy = Σ_t H_Lᵀ dlogits;
             dby = Σ_t dlogits
        (3)  dz_l = dH_l ⊙ φ'(z_l)
        (2)  dH_{l-1} = dz_l W_lᵀ;   dW_l = Σ_t H_{l-1}ᵀ dz_l;   db_l = Σ_t dz_l
        (1)  dE_i = Σ of all parts of dX that belong to a symbol i in X

    No step needs another, so the rows of all steps and streams are in one product, block by block.
    Zeros before a text are as good as a learned row for "nothing": that row could be subtracted from
    every e_i, and what is then missing in z_1 is the same for all windows, as b_1 is.

    Dropout is applied to the output of each layer. The state (B, c-1) are the ids before the next
    symbol, -1 where there are none, as floating-point numbers: float32 has all integers up to 2²⁴.

    The same in plain NumPy, window by window: `window_loss` in tests/models/test_window.py.
    """

    vocabulary_size: int
    context: int = option(
        8, "symbols of the window, from which the next one is predicted", Integer(low=1, high=1000)
    )
    embedding_size: int = option(
        64, "a learned embedding of every symbol", Integer(low=1, high=1 << 16)
    )
    hidden_size: int = option(128, "hidden units of each layer", Integer(low=1, high=1 << 16))
    num_layers: int = option(2, "hidden layers", Integer(low=1, high=1000))
    activation: str = option(
        "tanh", "of its hidden units: `tanh` or `relu`", Text(one_of=("tanh", "relu"))
    )
    dropout: float = option(
        0.0, "rate, between layers and before the output", Number(low=0, below=1)
    )

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All biases start at 0."""
        V, E, H = self.vocabulary_size, self.embedding_size, self.hidden_size
        found = {"embedding": Parameter((V, E), unit_variance)}
        for layer in range(self.num_layers):
            below = H if layer else self.context * E
            found[f"layers.{layer}.W"] = Parameter((below, H), glorot_uniform)
            found[f"layers.{layer}.b"] = Parameter((H,), zeros)
        return found | {"Wy": Parameter((H, V), glorot_uniform), "by": Parameter((V,), zeros)}

    @property
    def symbol_axes(self) -> dict[str, int]:
        return {"embedding": -2, "Wy": -1, "by": -1}

    def describe(self, params: Any = None) -> str:
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return (
            f"window of {self.context}, embedding of {self.embedding_size}, {self.num_layers} x "
            f"{self.hidden_size} {self.activation}{dropout}: {self.num_parameters:,} parameters"
        )

    def state_shape(self, B: int) -> Shape:
        """(B, c-1)."""
        return (B, self.context - 1)

    def zero_state(self, B: int, dtype: DTypeLike = np.float32) -> Array:
        """The state before the first symbol: -1 everywhere, for there is nothing."""
        return np.full(self.state_shape(B), NOTHING, dtype)

    def weights(
        self,
        params: Parameters,
        rows: int,
        backward: bool = True,
        empty: Callable[[Shape, np.dtype[Any]], Array] = np.empty,
    ) -> Weights:
        """The parameters themselves: products of many rows need no copies."""
        return Weights(params)

    def window_bytes(self, T: int, B: int, fresh: bool = False) -> int:
        """For each row of a block: X, its gradient, the embeddings of X by symbol; the activations,
        with dropout twice more; two gradients of activations; the logits. A second block adds a
        gradient.
        """
        c, H, V, L = self.context, self.hidden_size, self.vocabulary_size, self.num_layers
        R, before = T * B, (c - 1) * B
        n = min(R, ROWS)
        per_row = (2 * c + 2) * self.embedding_size + H * (L * (3 if self.dropout else 1) + 2)
        numbers = n * per_row + logits_rows(n, V) * V if n else 0
        numbers += 2 * before * self.embedding_size + (self.num_parameters if n < R else 0)
        ids = 8 * (R + before) + 8 * (c + 4) * n + (8 * R if fresh else 0)
        return 4 * numbers + ids

    # Windows

    def forward(
        self, w: Weights, block: Block, ws: Workspace, masks: Sequence[np.random.Generator] = ()
    ) -> list[LayerTrace]:
        """The layers over a block of rows; the `output` of the last is the input of the softmax.

        `masks` are the generators of the layers' dropout masks; without them there is no dropout.
        """
        n, p = len(block.ids), w.params
        phi, _ = ACTIVATIONS[self.activation]
        # (1) X = [e of symbol t-c+1, ..., e of symbol t], zeros before the text
        X = ws("window.X", n, self.context, self.embedding_size)
        p["embedding"].take(block.ids, 0, X, "clip")
        if block.nothing is not None:
            X[block.nothing] = 0
        below, traces = X.reshape(n, -1), []
        for layer in range(self.num_layers):
            H = ws(f"window.H.{layer}", n, self.hidden_size)
            # (2) z = H' W + b, with H' of the layer below
            np.matmul(below, p[f"layers.{layer}.W"], H)
            np.add(H, p[f"layers.{layer}.b"], H)
            # (3) H = φ(z)
            phi(H, H)
            output, mask = H, None
            if masks:
                mask, output = (ws(f"window.{a}.{layer}", n, H.shape[1]) for a in ("mask", "out"))
                dropout(H, self.dropout, masks[layer], mask, output)
            traces.append(LayerTrace(below, H, mask, output))
            below = output
        return traces

    def backward(
        self,
        w: Weights,
        block: Block,
        traces: Sequence[LayerTrace],
        dH: Array,
        d: Parameters,
        ws: Workspace,
    ) -> None:
        """The gradients of all parameters below the softmax, from `dH`, that of the last output."""
        n, c, E = len(block.ids), self.context, self.embedding_size
        _, dphi = ACTIVATIONS[self.activation]
        for layer in reversed(range(self.num_layers)):
            trace, W = traces[layer], w.params[f"layers.{layer}.W"]
            if trace.mask is not None:
                dropout_backward(trace.mask, dH)
            # (3) dz = dH ⊙ φ'(z), in the memory of H
            dz = trace.H
            dphi(trace.H, dz)
            np.multiply(dz, dH, dz)
            # (2) dW = Σ_t H'ᵀ dz;  db = Σ_t dz
            np.matmul(trace.below.T, dz, d[f"layers.{layer}.W"])
            sum_rows(dz[None], d[f"layers.{layer}.b"][None], ws)
            # (2) dH' = dz Wᵀ
            dH = dH if layer else ws("window.dX", n, c * E)
            np.matmul(dz, W.T, dH)
        # (1) dE_i = Σ of all parts of dX that belong to a symbol i: first those of one place in the
        # text, which c windows see one after another, then those of places with the same symbol
        dX = dH.reshape(n, c, E)
        if block.nothing is not None:
            dX[block.nothing] = 0
        places = ws("window.places", len(block.text), E)
        places.fill(0)
        for k in range(c):
            of_windows = places[k * block.B : k * block.B + n]
            np.add(of_windows, dX[:, k], of_windows)
        text = ws("window.text_back", len(places), dtype=np.intp)
        np.maximum(block.text, 0, out=text)
        one_hot_projection_backward(text, places[None], d["embedding"][None], ws)

    def loss(
        self, w: Weights, batch: Batch, state: Array, ws: Workspace, losses: Array | None = None
    ) -> float:
        total = 0.0
        for block in blocks(batch, state, self.context, self.vocabulary_size, ws):
            total += softmax_cross_entropy(
                self.forward(w, block, ws)[-1].output,
                w.params["Wy"],
                w.params["by"],
                batch.targets.reshape(-1)[block.rows],
                ws,
                losses=None if losses is None else losses.reshape(-1)[block.rows],
            )
        return total

    def loss_and_grad(
        self,
        w: Weights,
        batch: Batch,
        state: Array,
        d: Parameters,
        ws: Workspace,
        scale: float,
        masks: Masks | None = None,
    ) -> float:
        total, into = 0.0, d
        drawn = [masks(layer) for layer in range(self.num_layers)] if masks and self.dropout else []
        for block in blocks(batch, state, self.context, self.vocabulary_size, ws):
            if block.rows.start:
                into = Parameters(d.shapes, flat=ws("window.part", d.flat.size))
            traces = self.forward(w, block, ws, drawn)
            dH = ws("window.dH", len(block.ids), self.hidden_size)
            # (4) dH = dlogits Wyᵀ;  dWy = Σ_t Hᵀ dlogits;  dby = Σ_t dlogits
            total += softmax_cross_entropy(
                traces[-1].output,
                w.params["Wy"],
                w.params["by"],
                batch.targets.reshape(-1)[block.rows],
                ws,
                OutputGradients(dH, into["Wy"], into["by"], scale),
            )
            self.backward(w, block, traces, dH, into, ws)
            if block.rows.start:
                np.add(d.flat, into.flat, d.flat)
        return total

    # Single steps

    def begin(self, params: Parameters, n: int) -> Steps:
        return Steps(self, params, n)


@dataclass(frozen=True)
class Weights:
    """The parameters; no copies of them are to be made."""

    params: Parameters
    tasks: Sequence[Callable[[], None]] = ()
    drops: Sequence[Callable[[np.random.Generator], None]] = ()


@dataclass(frozen=True)
class LayerTrace:
    """What a layer's backward pass needs from its forward pass: views into the workspace."""

    below: Array  # (n, D) input
    H: Array  # (n, H)
    mask: Array | None  # (n, H)
    output: Array  # (n, H): H, with dropout where there is a mask


@dataclass(frozen=True)
class Block:
    """Some rows of a batch; row t·B + b is step t of stream b."""

    rows: slice
    ids: Array  # (n, c) what each row sees, the oldest symbol first; -1: nothing
    nothing: Array | None  # (n, c) where it sees nothing; None: nowhere
    text: Array  # (n + (c-1)·B,) the ids in the order of the text: ids[r, k] is text[r + k·B]
    B: int


def blocks(batch: Batch, state: Array, c: int, V: int, ws: Workspace) -> Iterator[Block]:
    """The rows of a batch in blocks, each valid until the next; c is the length of a window.

    `state` (B, c-1), the ids before the batch, becomes that after it.
    """
    T, B = batch.ids.shape
    text = ws("window.text", T + c - 1, B, dtype=np.intp)
    # The state can come from a checkpoint, which anybody can have written
    np.copyto(text[: c - 1], np.clip(state.T, NOTHING, V - 1), casting="unsafe")
    text[c - 1 :] = batch.ids
    state[...] = text[T:].T
    age = _age(batch, c, ws)
    back = np.arange(c - 1, -1, -1)  # how many steps before its row a symbol of a window stands
    if age is not None:
        state[age[-1][:, None] < back[1:]] = NOTHING
    for start in range(0, T * B, ROWS):
        rows = slice(start, min(start + ROWS, T * B))
        n = rows.stop - start
        seen = text.reshape(-1)[start : rows.stop + (c - 1) * B]
        ids = ws("window.ids", n, c, dtype=np.intp)
        for k in range(c):
            ids[:, k] = seen[k * B : k * B + n]
        nothing = ws("window.nothing", n, c, dtype=np.bool_)
        if age is not None:
            np.less(age.reshape(-1)[rows, None], back, nothing)
            ids[nothing] = NOTHING
        np.less(ids, 0, nothing)
        yield Block(rows, ids, nothing if nothing.any() else None, seen, B)


def _age(batch: Batch, c: int, ws: Workspace) -> Array | None:
    """How many steps before each step (T, B) its text began, or c and more where it began before the
    batch. None where no text begins in the batch.
    """
    if batch.fresh is None or not batch.fresh.any():
        return None
    steps = np.arange(len(batch.fresh))[:, None]
    age = ws("window.age", *batch.fresh.shape, dtype=np.intp)
    age.fill(-c)
    np.copyto(age, steps, where=batch.fresh)
    np.maximum.accumulate(age, 0, out=age)
    return np.subtract(steps, age, age)


class Steps:
    """N texts, side by side, that grow by one symbol in each step.

    Products run over blocks of a fixed number of rows (`blas.rows_at_once`). So the bits of a text do
    not depend on the number of texts.
    """

    def __init__(self, model: Window, params: Parameters, n: int) -> None:
        R = blas.rows_at_once()
        K, c, E, V = -(-n // R), model.context, model.embedding_size, model.vocabulary_size
        ws = Workspace(params.flat.dtype)
        rows = ws("rows", K, R, c, dtype=np.intp)  # of the table: 0 is nothing, then the symbols
        rows.fill(0)
        table = np.concatenate([np.zeros((1, E), ws.dtype), params["embedding"]])
        self._rows, self._tape = rows.reshape(-1, c)[:n], Tape()
        run, phi = self._tape, ACTIVATIONS[model.activation][0]
        X = ws("X", K, R, c * E)
        run(table.take, rows, 0, X.reshape(K, R, c, E), "clip")
        for layer in range(model.num_layers):
            W, b = (params[f"layers.{layer}.{name}"] for name in "Wb")
            packed = PackedMatrix.empty((1, *W.shape), R, lambda shape: np.empty(shape, ws.dtype))
            packed.fill(0, W)
            H = ws(f"H.{layer}", 1, K, R, b.size)
            dense_projection(run, X, packed, np.broadcast_to(b, H.shape).copy(), H)
            run(phi, H, H)
            X = H[0]
        logits = ws("logits", K, R, V)
        run(np.matmul, X, params["Wy"], logits)
        run(np.add, logits, np.broadcast_to(params["by"], logits.shape).copy(), logits)
        self._logits = logits.reshape(-1, V)[:n]

    def step(self, ids: Array | Sequence[int]) -> Array:
        self._rows[:, :-1] = self._rows[:, 1:]
        self._rows[:, -1] = ids
        self._rows[:, -1] += 1
        self._tape.replay()
        return self._logits
