"""A stack of recurrent layers between one-hot (or embedded) ids and a softmax."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape
from ..backend import blas
from ..backend.initial import between_table_and_output, glorot_uniform, unit_variance, zeros
from ..backend.params import Parameter, Parameters
from ..backend.tape import Tape, Unrecorded
from ..backend.tiles import PackedMatrix
from ..backend.workspace import LONGEST_TAPE, Workspace
from ..cells import LSTM, Cell
from ..cells.steps import flat_rows
from ..config.kinds import Chosen, Flag, Integer, Number, option
from ..errors import ConfigError
from ..text.batches import Batch
from .base import Masks
from .declared import Declared, Reading
from .layers import (
    OutputGradients,
    dropout,
    dropout_backward,
    logits_rows,
    one_hot_projection_backward,
    projection,
    projection_backward,
    softmax_cross_entropy,
)

TAPE_BYTES = 7000  # of recorded calls, forward and backward, for each step and layer; measured


@dataclass(frozen=True)
class Recurrent(Declared):
    """The architecture. It holds no numbers: parameters and state are passed in every call.

    Each layer projects its input X (one-hot ids or an embedding in layer 0, else the output of the
    layer below) and runs the cell over the steps. The logits are H Wy + by, with H of the top layer.
    A tied model has one matrix for input and output: p(y) ∝ exp(e_y · o + by_y), with e_y the embedding
    of symbol y, and o = H, or H Wo where their sizes differ (Press and Wolf 2017, arXiv:1608.05859).
    The gradients of both uses add up.

    Dropout is applied to the output of each layer (between layers and before the softmax), not to the
    recurrence (Zaremba, Sutskever and Vinyals 2014, arXiv:1409.2329).
    """

    vocabulary_size: int
    cell: Cell = option(
        LSTM(),
        "the recurrence of each layer: a `name`, or `name` and its options",
        Chosen(table="cell", default="lstm"),
    )
    hidden_size: int = option(128, "hidden units of each layer", Integer(low=1, high=1 << 16))
    num_layers: int = option(2, "hidden layers", Integer(low=1, high=1000))
    embedding_size: int | None = option(
        None,
        "null: one-hot input; a number: a learned embedding",
        Integer(low=1, high=1 << 16, null="null"),
    )
    dropout: float = option(
        0.0, "rate, between layers and before the output", Number(low=0, below=1)
    )
    tie: bool = option(False, "whether the embedding is the output matrix too", Flag())

    def __post_init__(self) -> None:
        if self.tie and self.embedding_size is None:
            raise ConfigError("model.tie: there is no embedding to tie: set model.embedding_size")

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter under its name, in storage order.

        All biases start at 0, unless the cell sets others.
        """
        G, V, H, E = (
            len(self.cell.gates),
            self.vocabulary_size,
            self.hidden_size,
            self.embedding_size,
        )
        first = between_table_and_output if self.tie else unit_variance
        found = {} if E is None else {"embedding": Parameter((V, E), first)}
        for layer in range(self.num_layers):
            one_hot = layer == 0 and E is None
            own = {
                "Wx": Parameter(
                    (G, H if layer else E or V, H), unit_variance if one_hot else glorot_uniform
                ),
                "b": Parameter((G, H), lambda b, _: self.cell.init_bias(b)),
                **self.cell.parameters(H),
            }
            found |= {f"layers.{layer}.{name}": parameter for name, parameter in own.items()}
        if not self.tie:
            found["Wy"] = Parameter((H, V), glorot_uniform)
        elif E is not None and E != H:
            found["Wo"] = Parameter((H, E), glorot_uniform)
        return found | {"by": Parameter((V,), zeros)}

    def describe(self, params: Any = None) -> str:
        """The model in one line; the parameters tell nothing beside."""
        tied = "tied " if self.tie else ""
        inputs = (
            f"{tied}embedding of {self.embedding_size}" if self.embedding_size else "one-hot input"
        )
        chosen = "".join(f", {name} {value}" for name, value in vars(self.cell).items())
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return (
            f"{type(self.cell).__name__}{chosen}, {self.num_layers} x {self.hidden_size}, "
            f"{inputs}{dropout}: {self.num_parameters:,} parameters"
        )

    @property
    def symbol_axes(self) -> dict[str, int]:
        table = "layers.0.Wx" if self.embedding_size is None else "embedding"
        return {table: -2, "by": -1} | ({} if self.tie else {"Wy": -1})

    def state_shape(self, B: int) -> Shape:
        """(L, S, B, H)."""
        return (self.num_layers, len(self.cell.states), B, self.hidden_size)

    def zero_state(self, B: int, dtype: DTypeLike = np.float32) -> Array:
        """The state before the first symbol: zeros."""
        return np.zeros(self.state_shape(B), dtype)

    def activation_count(self, T: int, B: int, fresh: bool = False) -> int:
        """How many numbers are kept for a window of T steps and B streams.

        For each layer and step: B·H for each gate (overwritten by its gradient), for each array that
        the cell saves and for each of its states. This is 6 B·H for the LSTM, 5 for the GRU, 2 for the
        RNN; with dropout 2 B·H more. Where texts begin inside the window (`fresh`), each state is kept
        once more, with zeros there, and every step and stream has a factor. For all layers together:
        one gradient of the hidden states, the rows of one gate sorted by symbol, an embedding and its
        gradient, a block of logits; in a tied model one gradient of the table, and o and its gradient.
        """
        H, R = self.hidden_size, T * B
        states = len(self.cell.states) * (2 if fresh else 1)
        per_layer = len(self.cell.gates) + self.cell.saved + states + (2 if self.dropout else 0)
        E, V = self.embedding_size or 0, self.vocabulary_size
        shared = 2 * H + 2 * E + (1 if fresh else 0) + (2 * E if self.tie and E != H else 0)
        table = V * E if self.tie else 0
        logits = logits_rows(R, V) * V if R else 0
        return R * (self.num_layers * per_layer * H + shared) + logits + table

    def window_bytes(self, T: int, B: int, fresh: bool = False) -> int:
        """About how many bytes a window takes in training: activations and recorded calls.

        Where texts begin inside some windows (`fresh`), calls are recorded with and without them.
        """
        calls = self.num_layers * min(T, LONGEST_TAPE) * TAPE_BYTES
        return 4 * self.activation_count(T, B, fresh) + (2 if fresh else 1) * calls

    # The wiring: recorded calls, the same for windows and for single steps

    def record_inputs(self, run: Tape, w: Weights, ids: Array, ws: Workspace) -> Array | None:
        """The rows of the embedding for the ids; None for one-hot input."""
        if self.embedding_size is None:
            return None
        X = ws("model.embedded", *ids.shape, self.embedding_size)
        run(w.params["embedding"].take, ids, 0, X, "clip")
        return X

    def record_layer(
        self,
        run: Tape,
        p: Mapping[str, Any],
        X: Array | None,
        ids: Array,
        z: Array,
        s: Array,
        s_prev: Array,
        keep: Array | None,
        ws: Workspace,
    ) -> None:
        """Record a layer: the projection of its input, the rows X or one-hot ids, and the cell's steps.

        z (G+saved, T, B, H) becomes the activations, s (S, T+1, B, H) the states. s_prev (S, T, B, H)
        are the states that the steps begin from: a view of s, or, with `keep` (T, B, 1), memory of its
        own, which becomes s times `keep`.
        """
        G, (_, T, B, *rest) = len(self.cell.gates), z.shape
        gates = z[:G].reshape(G, T * B, *rest)
        projection(run, p, X, ids, gates)
        for t in range(T):
            if keep is not None:
                run(np.multiply, s[:, t], keep[t], s_prev[:, t])
            self.cell.step(run, p, z[:, t], s_prev[:, t], s[:, t + 1], ws)

    def output_matrices(self, params: Parameters) -> tuple[Array | None, Array]:
        """Wo (H, E), where there is one, and the matrix (D, V) of the logits: Wy, or the transposed
        embedding.
        """
        return (params.get("Wo"), params["embedding"].T) if self.tie else (None, params["Wy"])

    def output_matrix(self, params: Parameters) -> Array:
        """Both output matrices as one (H, V)."""
        Wo, Wy = self.output_matrices(params)
        return Wy if Wo is None else Wo @ Wy

    def recurrent_matrices(self, params: Parameters) -> list[dict[str, Array]]:
        """For each layer, the square parameters (H, H) of the cell, one for each gate, by name."""
        H = self.hidden_size
        square = [n for n, p in self.cell.parameters(H).items() if p.shape[1:] == (H, H)]
        return [
            {
                f"{name} {gate}": matrix
                for name in square
                for gate, matrix in zip(
                    self.cell.gates, params[f"layers.{layer}.{name}"], strict=True
                )
            }
            for layer in range(self.num_layers)
        ]

    def activations(
        self, w: Weights, batch: Batch, state: Array, ws: Workspace
    ) -> list[dict[str, Array]]:
        """For each layer, what its sigmoid gates and its output h are over a window, by name: each
        (T, B, H). `state` becomes the final state.
        """
        (T, B), H = batch.ids.shape, self.hidden_size
        sigmoid = [k for k, scale in enumerate(self.cell.scale) if scale == 0.5]
        return [
            {self.cell.gates[k]: trace.z[k].copy() for k in sigmoid}
            | {"h": trace.output.reshape(T, B, H).copy()}
            for trace in self.forward(w, batch, state, ws)
        ]

    # Windows

    def inputs(self, w: Weights, batch: Batch, ws: Workspace) -> tuple[Array, Array | None]:
        """The ids of a batch as rows (T·B,), and their embeddings; None for one-hot input."""
        ids = ws("model.ids", batch.ids.size, dtype=np.intp)
        np.copyto(ids, batch.ids.reshape(-1))
        return ids, self.record_inputs(Unrecorded(), w, ids, ws)

    def weights(
        self,
        params: Parameters,
        rows: int,
        backward: bool = True,
        empty: Callable[[Shape, np.dtype[Any]], Array] = np.empty,
    ) -> Weights:
        """The parameters prepared for windows of `rows` streams; see `Weights`."""
        return Weights(self, params, rows, backward=backward, empty=empty)

    def forward(
        self, w: Weights, batch: Batch, state: Array, ws: Workspace, masks: Masks | None = None
    ) -> list[LayerTrace]:
        """Run the layers over a batch from `state` (L, S, B, H), which becomes the final state.

        Returns a trace for each layer; the `output` of the last is the input of the softmax. `masks`
        gives the generator of each layer's dropout mask; without it there is no dropout.
        """
        (T, B), H = batch.ids.shape, self.hidden_size
        G, S = len(self.cell.gates), len(self.cell.states)
        ids, X = self.inputs(w, batch, ws)
        keep = keep_factors(batch, ws)
        traces = []
        for layer, p in enumerate(w.layers):
            z = _window(ws, f"model.z.{layer}", G + self.cell.saved, T, B, H)
            s = ws(f"model.s.{layer}", S, T + 1, B, H)
            s_prev = s[:, :-1] if keep is None else ws(f"model.s_prev.{layer}", S, T, B, H)
            s[:, 0] = state[layer]
            if batch.fresh is not None:
                s[:, 0, batch.fresh[0]] = 0
            below = ids if X is None else X
            memory = (z, s, s_prev, below, *([] if keep is None else [keep]))
            run = ws.tape(f"model.forward.{layer}", T, *memory, weights=w.number)
            if not run.is_recorded:
                self.record_layer(run, p, X, ids, z, s, s_prev, keep, ws)
            run.replay()
            state[layer] = s[:, T]
            output, mask = s[0, 1:].reshape(T * B, H), None
            if self.dropout and masks is not None:
                mask = ws(f"model.mask.{layer}", T * B, H)
                dropped = ws(f"model.dropped.{layer}", T * B, H)
                dropout(output, self.dropout, masks(layer), mask, dropped)
                output = dropped
            traces.append(LayerTrace(X, z, s, s_prev, mask, output))
            X = output
        return traces

    def loss(
        self,
        w: Weights,
        batch: Batch,
        state: Array,
        ws: Workspace,
        losses: Array | None = None,
    ) -> float:
        """Σ -ln p(target), in nats, over the targets that count; `state` becomes the final state.

        `losses` (T, B), where given, receives the loss of each target.
        """
        top = self.forward(w, batch, state, ws)[-1].output
        Wo, Wy = self.output_matrices(w.params)
        return softmax_cross_entropy(
            top if Wo is None else np.matmul(top, Wo, ws("model.o", len(top), Wo.shape[1])),
            Wy,
            w.params["by"],
            batch.targets.reshape(-1),
            ws,
            losses=None if losses is None else losses.reshape(-1),
        )

    def loss_and_grad(
        self,
        w: Weights,
        batch: Batch,
        state: Array,
        d: Parameters,
        ws: Workspace,
        scale: float,
        masks: Masks | None = None,
        dstate: Array | None = None,
        flow: Array | None = None,
        dh: Array | None = None,
        dinput: Array | None = None,
    ) -> float:
        """The loss as in `loss`, and in `d` the gradient of scale · loss for every parameter.

        Backpropagation through time over the window (Werbos 1990), truncated at its first step:
        `state` is treated as a constant. `dstate` (L, S, B, H), where given, is the gradient of the
        final state and becomes the gradient of the initial state. `flow` (T, B), where given, has a
        factor for the gradient that flows from each step to the step before, in all layers. `dh`
        (L, T, B, H), where given, receives the gradient of every layer's output h at every step;
        `dinput` (T, B) the norm of the gradient of the input, an embedding or a one-hot vector.
        """
        (T, B), H = batch.ids.shape, self.hidden_size
        traces = self.forward(w, batch, state, ws, masks)
        dX = ws("model.dX", T * B, H)
        top, do, (Wo, Wy) = traces[-1].output, dX, self.output_matrices(w.params)
        o = top
        if Wo is not None:
            o, do = (ws(name, T * B, Wo.shape[1]) for name in ("model.o", "model.do"))
            np.matmul(top, Wo, o)
        dWy = ws("model.dWy", *Wy.T.shape).T if self.tie else d["Wy"]
        loss = softmax_cross_entropy(
            o,
            Wy,
            w.params["by"],
            batch.targets.reshape(T * B),
            ws,
            OutputGradients(do, dWy, d["by"], scale),
        )
        if Wo is not None:
            np.matmul(top.T, do, d["Wo"])
            np.matmul(do, Wo.T, dX)
        self.backward(w, batch, traces, dX, d, ws, dstate, flow, dh, dinput)
        if self.tie:
            np.add(d["embedding"], dWy.T, d["embedding"])
        return loss

    def backward(
        self,
        w: Weights,
        batch: Batch,
        traces: list[LayerTrace],
        dX: Array,
        d: Parameters,
        ws: Workspace,
        dstate: Array | None = None,
        flow: Array | None = None,
        dh: Array | None = None,
        dinput: Array | None = None,
    ) -> None:
        """The gradients `d` of all parameters but those of the softmax.

        dX (T·B, H) is the gradient of the top layer's output, and becomes that of each layer's output
        in turn. Without layers it is the gradient of the embedded input. The others are as in
        `loss_and_grad`.
        """
        (T, B), H = batch.ids.shape, self.hidden_size
        ids, keep = batch.ids.reshape(T * B), keep_factors(batch, ws)
        if flow is not None:
            keep = _flow(flow, keep, ws)
        ds = ws("model.ds", len(self.cell.states), B, H)
        for layer in reversed(range(self.num_layers)):
            trace, own = traces[layer], d.group(f"layers.{layer}.")
            z, s, s_prev = trace.z, trace.s, trace.s_prev
            if trace.mask is not None:
                dropout_backward(trace.mask, dX)
            ds[:] = 0 if dstate is None else dstate[layer]
            memory = (z, s, s_prev, dX, ds, *([] if keep is None else [keep]))
            if dh is not None:  # what comes from above; what comes from the next step is added
                dh[layer] = dX.reshape(T, B, H)
                memory += (dh[layer],)
            run = ws.tape(f"model.backward.{layer}", T, *memory, weights=w.number)
            if not run.is_recorded:
                dy = dX.reshape(T, B, H)
                for t in self.cell.backward(run, w.layers[layer], z, s_prev, s[:, 1:], dy, ds, ws):
                    if keep is not None:
                        run(np.multiply, ds, keep[t], ds)
                    if dh is not None and t:
                        run(np.add, dh[layer, t - 1], ds[0], dh[layer, t - 1])
            run.replay()
            self.cell.weight_gradients(own, z, s_prev)
            if dstate is not None:
                if batch.fresh is not None:
                    ds[:, batch.fresh[0]] = 0
                dstate[layer] = ds
            dz = flat_rows(z[: len(self.cell.gates)])
            if layer == 0 and trace.X is not None:
                dX = ws("model.dembedded", *trace.X.shape)
            projection_backward(trace.X, ids, w.params[f"layers.{layer}.Wx"], dz, own, dX, ws)
        if dinput is not None:  # dz is that of layer 0
            one_hot = self.embedding_size is None
            dX = (
                sum(a @ W.T for a, W in zip(dz, w.params["layers.0.Wx"], strict=True))
                if one_hot
                else dX
            )
            dinput[:] = np.linalg.norm(dX, axis=-1).reshape(T, B)
        if self.embedding_size is not None:
            one_hot_projection_backward(ids, dX[None], d["embedding"][None], ws)

    def read(self, params: Parameters, streams: int) -> Reading:
        """A reader of `streams` streams, from the zero state."""
        return Reading(self, params, streams)

    # Single steps

    def begin(self, params: Parameters, n: int) -> Steps:
        """N texts before their first symbol."""
        return Steps(self, params, n, partial(self._record_output, params))

    def _record_output(
        self, params: Parameters, run: Tape, X: Array, ids: Array, logits: Array, ws: Workspace
    ) -> None:
        Wo, Wy = self.output_matrices(params)
        if Wo is not None:
            o = ws("o", *X.shape[:-1], Wo.shape[1])
            run(np.matmul, X, Wo, o)
            X = o
        run(np.matmul, X, Wy, logits)
        run(np.add, logits, repeated(params["by"], logits.shape), logits)


def _window(ws: Workspace, name: str, *shape: int) -> Array:
    """An array (C, T, B, H) in the order of memory that is fastest.

    Products are fastest with all rows of a gate together: C first. With one stream (B = 1),
    element-wise calls take most of the time; they are fastest with the C parts of a step together:
    T first.
    """
    C, T, B, H = shape
    return ws(name, T, C, B, H).swapaxes(0, 1) if B == 1 else ws(name, *shape)


def keep_factors(batch: Batch, ws: Workspace) -> Array | None:
    """Factors (T, B, 1) for the state: 0 where a text begins inside the window, else 1. None where no
    text begins inside.

    Infinity times 0 is NaN, not 0. That changes no result of use: a state that is not finite makes the
    gradients not finite too, and the update is refused.
    """
    if batch.fresh is None or not batch.fresh[1:].any():
        return None
    keep = ws("model.keep", *batch.fresh.shape, 1)
    np.subtract(1, batch.fresh[:, :, None], out=keep, dtype=keep.dtype, casting="unsafe")
    return keep


def _flow(flow: Array, keep: Array | None, ws: Workspace) -> Array:
    """Factors (T, B, 1) for the gradient of the state: `flow` (T, B), and 0 where `keep` has 0."""
    factors = ws("model.flow", *flow.shape, 1)
    factors[:, :, 0] = flow
    return factors if keep is None else np.multiply(factors, keep, factors)


@dataclass(frozen=True)
class LayerTrace:
    """What a layer's backward pass needs from its forward pass: views into the workspace."""

    X: Array | None  # (T·B, D) input; None for one-hot input
    z: Array  # (G+saved, T, B, H)
    s: Array  # (S, T+1, B, H)
    s_prev: Array  # (S, T, B, H): s[:, :-1], zeroed where a text begins
    mask: Array | None  # (T·B, H)
    output: Array  # (T·B, H)


class Steps:
    """N texts, side by side, that grow by one symbol in each step, from the zero state.

    Products run over blocks of a fixed number of rows (`blas.rows_at_once`). So the bits of a text do
    not depend on the number of texts.

    `record_output(run, X, ids, logits, ws)` records what makes the logits (K, R, V) of the output X
    (K, R, D) of the layers of `model`, or where it has none, of its input: X or, for one-hot input,
    None and the ids (K, R).
    """

    def __init__(
        self, model: Recurrent, params: Parameters, n: int, record_output: Callable[..., None]
    ) -> None:
        R = blas.rows_at_once()
        K, H, V = -(-n // R), model.hidden_size, model.vocabulary_size
        C, S = len(model.cell.gates) + model.cell.saved, len(model.cell.states)
        ws = Workspace(params.flat.dtype)
        ids = ws("ids", K, R, dtype=np.intp)
        ids.fill(0)
        logits = ws("logits", K, R, V)
        self._ids, self._logits = ids.reshape(-1)[:n], logits.reshape(K * R, V)[:n]
        w = Weights(model, params, R, backward=False, blocks=K)
        # The state alternates between two places in memory: even and odd steps have a tape each
        states = ws("s", model.num_layers, S, 2, K, R, H)
        states.fill(0)
        self._tapes = [Tape(), Tape()]
        for run, s in zip(self._tapes, (states, states[:, :, ::-1]), strict=True):
            X = model.record_inputs(run, w, ids, ws)
            for layer, p in enumerate(w.layers):
                z = ws(f"z.{layer}", C, 1, K, R, H)
                model.record_layer(run, p, X, ids, z, s[layer], s[layer, :, :1], None, ws)
                X = s[layer, 0, 1]
            record_output(run, X, ids, logits, ws)

    def step(self, ids: Array | Sequence[int]) -> Array:
        """Feed one id per text; the logits (N, V) of the next symbol, valid until the next step."""
        self._ids[:] = ids
        self._tapes[0].replay()
        self._tapes.reverse()
        return self._logits


def repeated(a: Array, shape: Shape) -> Array:
    """`a` repeated to a shape: adding the copy takes a quarter of the time of broadcasting."""
    return np.broadcast_to(a, shape).copy()


class Weights:
    """The parameters, and copies of them that the products use. Every update refreshes the copies.

    The copies of each layer, multiplied by the cell's `scale`: `table` (G, V, H) = Wx + b for one-hot
    input, else `Wx` and `b`; the cell's packed parameters, cut for products of `rows` rows. For the
    backward pass the packed parameters are there transposed too (without `scale`), under their name +
    "T". With `blocks`, the copies are for single steps of `blocks` times `rows` texts: `Wx` is cut for
    `rows` rows too, and `b` is repeated for every text.

    `empty` allocates the copies; `number` is different for every object.
    """

    _numbers = itertools.count(1)

    def __init__(
        self,
        model: Recurrent,
        params: Parameters,
        rows: int,
        backward: bool = True,
        blocks: int | None = None,
        empty: Callable[[Shape, np.dtype[Any]], Array] = np.empty,
    ) -> None:
        self.params = params
        self.number = next(self._numbers)
        self.layers: list[dict[str, Any]] = []
        self.tasks: list[Callable[[], None]] = []  # together they refresh the copies, in any order

        def new(shape: Shape) -> Array:
            return empty(shape, params.flat.dtype)

        declared = model.cell.parameters(model.hidden_size)
        packed = [name for name, parameter in declared.items() if parameter.packed]
        for layer in range(model.num_layers):
            one_hot = layer == 0 and model.embedding_size is None
            own = params.group(f"layers.{layer}.")
            copies, tasks = layer_copies(
                own, packed, model.cell.scale, one_hot, rows, blocks, backward, new
            )
            self.layers.append(own | copies)
            self.tasks += tasks
        self.refresh()

    def refresh(self) -> None:
        """Make all copies anew from the parameters."""
        with np.errstate(all="ignore"):  # an overflow shows in the loss
            for task in self.tasks:
                task()


def layer_copies(
    own: dict[str, Array],
    packed: list[str],
    scale: Sequence[float],
    one_hot: bool,
    rows: int,
    blocks: int | None,
    backward: bool,
    new: Callable[[Shape], Array],
) -> tuple[dict[str, Any], list[Callable[[], None]]]:
    """The copies of a layer's parameters `own`, in memory that `new` allocates, and the calls that
    make them anew; see `Weights`. Those in `packed` are multiplied at every step.
    """
    G, D, H = own["Wx"].shape
    copies: dict[str, Any] = {}
    for name in packed:
        K, N = own[name].shape[1:]
        copies[name] = PackedMatrix.empty((G, K, N), rows, new)
        if backward:
            copies[name + "T"] = PackedMatrix.empty((G, N, K), rows, new)
    if one_hot:
        # With one row a step, the gates of a symbol are together, as in `_window`
        one_row = rows == 1 and blocks is None
        copies["table"] = new((D, G, H)).swapaxes(0, 1) if one_row else new((G, D, H))
    else:
        copies["Wx"] = PackedMatrix.empty((G, D, H), rows if blocks else None, new)
        copies["b"] = new((G, blocks, rows, H) if blocks else (G, 1, H))
    return copies, [partial(_refresh_gate, own, copies, packed, k, f) for k, f in enumerate(scale)]


def _refresh_gate(
    own: dict[str, Array], copies: dict[str, Any], packed: list[str], k: int, scale: float
) -> None:
    for name in packed:
        copies[name].fill(k, own[name][k], scale)
        if name + "T" in copies:
            copies[name + "T"].fill(k, own[name][k].T)
    factor = own["b"].dtype.type(scale)
    if "table" in copies:
        np.add(own["Wx"][k], own["b"][k], copies["table"][k])
        np.multiply(copies["table"][k], factor, copies["table"][k])
    else:
        np.multiply(own["b"][k], factor, copies["b"][k])
        copies["Wx"].fill(k, own["Wx"][k], scale)
