"""A stack of recurrent layers between one-hot (or embedded) ids and a softmax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..arrays import Array, Shape
from ..backend.initial import between_table_and_output, glorot_uniform, unit_variance, zeros
from ..backend.params import Parameter, Parameters, count
from ..backend.tape import Tape, Unrecorded
from ..backend.workspace import LONGEST_TAPE, Workspace
from ..cells import LSTM, Cell
from ..cells.steps import flat_rows
from ..config.kinds import Chosen, Flag, Integer, Number, option
from ..errors import ConfigError
from ..text.batches import Batch
from .base import Masks
from .declared import Declared
from .initialisation import Initialisation, Orthogonal
from .layers import (
    OutputGradients,
    Place,
    dropout_backward,
    logits_rows,
    one_hot_projection_backward,
    projection,
    projection_backward,
    softmax_cross_entropy,
    square_penalty,
)
from .segments import SegmentsReading
from .steps import Steps, repeated
from .weights import Weights

TAPE_BYTES = 7000  # of recorded calls, forward and backward, for each step and layer; measured


@dataclass(frozen=True)
class Recurrent(Declared):
    """The architecture. It holds no numbers: parameters and state are passed in every call.

    Each layer projects its input X (one-hot ids or an embedding in layer 0, else the output of the
    layer below) and runs the cell over the steps. Its output is Y = H; with `residual`, in each layer
    above the first, Y = H + X (He et al. 2016, arXiv:1512.03385, equation 1). The logits are O Wy + by,
    with O = Y of the top layer; with `skip`, O has Y of all layers side by side (Graves 2013,
    arXiv:1308.0850, section 2, where the input is led past layers, too).

    A tied model has one matrix for input and output: p(y) ∝ exp(e_y · o + by_y), with e_y the embedding
    of symbol y, and o = O, or O Wo where their sizes differ (Press and Wolf 2017, arXiv:1608.05859).
    The gradients of both uses add up.

    Dropout is applied to what the layers read and to the output of each (between layers and before the
    softmax), not to the recurrence (Zaremba, Sutskever and Vinyals 2014, arXiv:1409.2329). Where masks
    are `locked`, all steps of a window have the same (Gal and Ghahramani 2016,
    arXiv:1512.05287). `embedding_dropout` drops symbols for a whole window, each stream its own (there,
    section 4.2). An element of a one-hot input is a symbol, too: `input_dropout` drops it at a step
    or, locked, for the window; the layer then reads zeros.

    `weight_dropout` is DropConnect on the recurrent matrices (Merity, Keskar and Socher 2018,
    arXiv:1708.02182, section 2): a step of training has one mask of each, M, for all streams and all
    steps of the window. Products use Wh ⊙ M, so dWh = (Σ_t H'ᵀ dz) ⊙ M.

    Training may add penalties to the mean loss (Merity, McCann and Socher 2017, arXiv:1708.01009):
    with Y_t the output of the top layer before dropout, and M_t the mask of dropout,

        activation_penalty · mean((Y_t ⊙ M_t)²) + change_penalty · mean((Y_t - Y_{t-1})²)

    Both are means over the targets that count and over hidden units; the second has 0 for the first
    step of a window and of a text. The loss that is reported is without them.
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
    output_dropout: float | None = option(
        None,
        "rate before the output alone; null: as `dropout`",
        Number(low=0, below=1, null="null"),
    )
    input_dropout: float = option(
        0.0, "rate of elements of the embedding, or of one-hot input", Number(low=0, below=1)
    )
    embedding_dropout: float = option(
        0.0, "rate of symbols that are not read in a window", Number(low=0, below=1)
    )
    locked: bool = option(False, "whether dropout is the same at all steps of a window", Flag())

    weight_dropout: float = option(
        0.0, "rate of recurrent weights, once for each step of training", Number(low=0, below=1)
    )
    activation_penalty: float = option(
        0.0, "factor of the mean square of the top layer's output", Number(low=0, high=1e6)
    )
    change_penalty: float = option(
        0.0, "factor of the mean square of its change from step to step", Number(low=0, high=1e6)
    )
    skip: bool = option(False, "whether the softmax sees the outputs of all layers", Flag())
    residual: bool = option(
        False, "whether each layer above the first adds its input to its output", Flag()
    )
    initialisation: Initialisation = option(
        Orthogonal(),
        "how weights begin: `orthogonal`, `identity`, `glorot`, `uniform` or `chrono`, and `gain`",
        Chosen(table="initialisation", default="orthogonal"),
    )

    def __post_init__(self) -> None:
        if self.tie and self.embedding_size is None:
            raise ConfigError("model.tie: there is no embedding to tie: set model.embedding_size")
        if self.weight_dropout and not self.packed:
            raise ConfigError(
                "model.weight_dropout: the cell has no recurrent matrices: leave it at 0"
            )

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All biases start at 0, unless the cell or the `initialisation` sets others."""
        V, H, E = self.vocabulary_size, self.hidden_size, self.embedding_size
        first = between_table_and_output if self.tie else unit_variance
        found = {} if E is None else {"embedding": Parameter((V, E), first)}
        for layer in range(self.num_layers):
            one_hot = layer == 0 and E is None
            D = H if layer else E or V
            G = len(self.cell.gates) - (self.cell.direct if D == H and not one_hot else 0)
            own = {
                "Wx": Parameter((G, D, H), unit_variance if one_hot else glorot_uniform),
                "b": Parameter((G, H), lambda b, _: self.cell.init_bias(b)),
                **self.cell.parameters(H),
            }
            found |= {f"layers.{layer}.{name}": parameter for name, parameter in own.items()}
        if not self.tie:
            found["Wy"] = Parameter((self.output_size, V), glorot_uniform)
        elif E is not None and self.output_size != E:
            found["Wo"] = Parameter((self.output_size, E), glorot_uniform)
        found["by"] = Parameter((V,), zeros)
        chosen = {name: self.initialisation(name, p, self.cell, H) for name, p in found.items()}
        if self.initialisation != Orthogonal() and chosen == found:
            raise ConfigError(
                "model.initialisation: the cell has no recurrent matrices: leave the key out"
            )
        return chosen

    @property
    def output_size(self) -> int:
        """How many numbers the softmax sees."""
        return self.hidden_size * (self.num_layers if self.skip else 1)

    def describe(self, params: Any = None) -> str:
        tied = "tied " if self.tie else ""
        inputs = (
            f"{tied}embedding of {self.embedding_size}" if self.embedding_size else "one-hot input"
        )
        chosen = "".join(f", {name} {value}" for name, value in vars(self.cell).items())
        return (
            f"{type(self.cell).__name__}{chosen}, {self.num_layers} x {self.hidden_size}"
            f"{', residual' * self.residual}{', skip' * self.skip}, {inputs}"
            f"{self._regularisation()}: {self.num_parameters:,} parameters"
        )

    def _regularisation(self) -> str:
        """What is on of it, for `describe`."""
        output = (
            "" if self.output_dropout is None else f" and {self.output_dropout:g} at the output"
        )
        rates = {
            "dropout": f"{self.dropout:g}{output}" if self.dropout or output else "",
            "input dropout": self.input_dropout,
            "embedding dropout": self.embedding_dropout,
            "weight dropout": self.weight_dropout,
            "activation penalty": self.activation_penalty,
            "change penalty": self.change_penalty,
        }
        said = [f"{what} {value}" for what, value in rates.items() if value]
        return "".join(f", {words}" for words in [*said, *["locked"] * self.locked])

    @cached_property
    def packed(self) -> dict[str, Shape]:
        """The cell's packed parameters, which every step multiplies by: (G, H, H), by name."""
        declared = self.cell.parameters(self.hidden_size)
        return {name: p.shape for name, p in declared.items() if p.packed}

    @cached_property
    def places(self) -> list[Place]:
        """Where dropout is applied: to the output of each layer, the input, the symbols read."""
        rates = [self.dropout] * self.num_layers
        if self.output_dropout is not None:
            rates[-1:] = [self.output_dropout]
        symbols = Place(self.embedding_dropout, self.vocabulary_size, locked=True, by_symbol=True)
        # Of the elements of a one-hot row one counts
        inputs = Place(self.input_dropout, self.embedding_size or 1, self.locked)
        if self.embedding_size is None and self.locked:
            inputs = replace(symbols, rate=self.input_dropout)
        return [*(Place(rate, self.hidden_size, self.locked) for rate in rates), inputs, symbols]

    @property
    def symbol_axes(self) -> dict[str, int]:
        table = "layers.0.Wx" if self.embedding_size is None else "embedding"
        return {table: -2, "by": -1} | ({} if self.tie else {"Wy": -1})

    def state_shape(self, B: int) -> Shape:
        """(L, S, B, H)."""
        return (self.num_layers, len(self.cell.states), B, self.hidden_size)

    def activation_count(self, T: int, B: int, fresh: bool = False) -> int:
        """How many numbers are kept for a window of T steps and B streams.

        For each layer and step: B·H for each gate (overwritten by its gradient), for each array that
        the cell saves and for each of its states. This is 6 B·H for the LSTM and the SRU, 5 for the
        GRU, 2 for the RNN; with dropout B·H more, and the mask. Where texts begin inside the window
        (`fresh`), each state is kept once more, with zeros there, and every step and stream has a
        factor. For all layers together: one gradient of the hidden states, the rows of one gate sorted
        by symbol, an embedding and its gradient, masks of the input and their product, a block of
        logits; in a tied model one gradient of the table, and o and its gradient; the gradient of a
        penalty, for changes two and the changes. With `skip`, O and its gradient; with `residual`, the
        outputs of all layers but the first and one more gradient.
        """
        H, R = self.hidden_size, T * B
        states = len(self.cell.states) * (2 if fresh else 1)
        per_layer = len(self.cell.gates) + self.cell.saved + states
        *outputs, of_input, of_symbols = self.places
        dropped = sum(place.count(T, B) for place in self.places)
        dropped += R * H * sum(place.rate > 0 for place in outputs)
        E, V = self.embedding_size or 0, self.vocabulary_size
        dropped += R * max(E, 1) if of_input.rate or of_symbols.rate else 0
        D = self.output_size
        shared = 2 * H + 2 * E + (1 if fresh else 0) + (2 * E if self.tie and E != D else 0)
        shared += 2 * D if self.skip else 0
        shared += self.num_layers * H if self.residual and self.num_layers > 1 else 0
        table = V * E if self.tie else 0
        logits = logits_rows(R, V) * V if R else 0
        penalties = (3 * R - B if self.change_penalty else R if self.activation_penalty else 0) * H
        others = logits + table + dropped + penalties
        return R * (self.num_layers * per_layer * H + shared) + others

    def window_bytes(self, T: int, B: int, fresh: bool = False) -> int:
        """Activations and recorded calls. Where texts begin inside some windows (`fresh`), calls are
        recorded with and without them.
        """
        return 4 * self.activation_count(T, B, fresh) + self.calls_bytes(T, fresh)

    def calls_bytes(self, T: int, fresh: bool = False) -> int:
        return (2 if fresh else 1) * self.num_layers * min(T, LONGEST_TAPE) * TAPE_BYTES

    @property
    def masked_weights(self) -> int:
        return self.num_layers * count(self.packed) if self.weight_dropout else 0

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
        factors: Array | None = None,
    ) -> None:
        """Record a layer: the projection of its input, the rows X or one-hot ids, and the cell's steps.
        One-hot rows are multiplied by `factors` (T·B, 1), where given.

        z (G+saved, T, B, H) becomes the activations, s (S, T+1, B, H) the states. s_prev (S, T, B, H)
        are the states that the steps begin from: a view of s, or, with `keep` (T, B, 1), memory of its
        own, which becomes s times `keep`.
        """
        G, (_, T, B, *rest) = len(p["b"]), z.shape
        projection(run, p, X, ids, z[:G].reshape(G, T * B, *rest), factors)
        for k in range(G, len(self.cell.gates)):
            assert X is not None
            run(np.multiply, X.reshape(z[k].shape), self.cell.scale[k], z[k])
        carried = slice(self.cell.carried, None)
        for t in self.cell.forward(run, p, z, s_prev, s[:, 1:], ws):
            if keep is not None:
                run(np.multiply, s[carried, t], keep[t], s_prev[carried, t])

    def output_matrices(self, params: Parameters) -> tuple[Array | None, Array]:
        """Wo (O, E), where there is one, and the matrix (D, V) of the logits: Wy, or the transposed
        embedding. O is `output_size`.
        """
        return (params.get("Wo"), params["embedding"].T) if self.tie else (None, params["Wy"])

    def output_matrix(self, params: Parameters) -> Array:
        """Both output matrices as one (O, V)."""
        Wo, Wy = self.output_matrices(params)
        return Wy if Wo is None else Wo @ Wy

    @property
    def bounded(self) -> bool:
        return self.cell.bounded

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
        sigmoid = [k for k, scale in enumerate(self.cell.scale) if scale == 0.5]
        return [
            {self.cell.gates[k]: trace.z[k].copy() for k in sigmoid} | {"h": trace.s[0, 1:].copy()}
            for trace in self.forward(w, batch, state, ws)
        ]

    # Windows

    def inputs(self, w: Weights, batch: Batch, ws: Workspace) -> tuple[Array, Array | None]:
        """The ids of a batch as rows (T·B,), and their embeddings; None for one-hot input."""
        ids = ws("model.ids", batch.ids.size, dtype=np.intp)
        np.copyto(ids, batch.ids.reshape(-1))
        return ids, self.record_inputs(Unrecorded(), w, ids, ws)

    def mask(self, number: int, ids: Array, masks: Masks | None, ws: Workspace) -> Array | None:
        """The mask of one of `places` for a window of ids (T, B); None where nothing is dropped."""
        place = self.places[number]
        if masks is None or not place.rate:
            return None
        return place.mask(ids, masks(number), f"model.mask.{number}", ws)

    def input_factors(self, ids: Array, masks: Masks | None, ws: Workspace) -> Array | None:
        """What the rows of the input are multiplied by: (T·B, E), or (T·B, 1) for one-hot input."""
        L = self.num_layers
        found = [m for k in (L, L + 1) if (m := self.mask(k, ids, masks, ws)) is not None]
        if not found:
            return None
        factors = ws("model.factors", *ids.shape, self.embedding_size or 1)
        factors.fill(1)
        for mask in found:
            np.multiply(factors, mask, factors)
        return flat_rows(factors)

    def weights(
        self,
        params: Parameters,
        rows: int,
        backward: bool = True,
        empty: Callable[[Shape, np.dtype[Any]], Array] = np.empty,
    ) -> Weights:
        return Weights(self, params, rows, backward=backward, empty=empty)

    def forward(
        self, w: Weights, batch: Batch, state: Array, ws: Workspace, masks: Masks | None = None
    ) -> list[LayerTrace]:
        """Run the layers over a batch from `state` (L, S, B, H), which becomes the final state.

        Returns a trace for each layer; `seen` makes the input of the softmax of them. `masks`
        gives the generator of the mask of each of `places`; without it there is no dropout.
        """
        (T, B), H = batch.ids.shape, self.hidden_size
        G, S = len(self.cell.gates), len(self.cell.states)
        ids, X = self.inputs(w, batch, ws)
        factors = self.input_factors(batch.ids, masks, ws)
        if factors is not None and X is not None:
            np.multiply(X, factors, X)
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
            rows = factors if X is None else None
            memory = (z, s, s_prev, below, *(a for a in (keep, rows) if a is not None))
            run = ws.tape(f"model.forward.{layer}", T, *memory, weights=w.number)
            if not run.is_recorded:
                self.record_layer(run, p, X, ids, z, s, s_prev, keep, ws, rows)
            run.replay()
            state[layer] = s[:, T]
            y = s[0, 1:]
            if self.residual and layer and X is not None:
                y = np.add(y, X.reshape(T, B, H), ws(f"model.y.{layer}", T, B, H))
            output = y
            mask = self.mask(layer, batch.ids, masks, ws)
            if mask is not None:
                output = np.multiply(y, mask, ws(f"model.dropped.{layer}", T, B, H))
            traces.append(LayerTrace(X, z, s, s_prev, y, mask, flat_rows(output), factors))
            X, factors = traces[-1].output, None
        return traces

    def seen(self, traces: list[LayerTrace], ws: Workspace) -> Array:
        """What the softmax sees: O (T·B, output_size)."""
        outputs = [trace.output for trace in traces]
        if not self.skip:
            return outputs[-1]
        into = ws("model.O", len(outputs[-1]), self.output_size)
        return np.concatenate(outputs, axis=1, out=into)

    def loss(
        self,
        w: Weights,
        batch: Batch,
        state: Array,
        ws: Workspace,
        losses: Array | None = None,
    ) -> float:
        return self.loss_of(w, self.forward(w, batch, state, ws), batch, ws, losses)

    def loss_of(
        self,
        w: Weights,
        traces: list[LayerTrace],
        batch: Batch,
        ws: Workspace,
        losses: Array | None = None,
    ) -> float:
        """As `loss`, after `forward`."""
        top, (Wo, Wy) = self.seen(traces, ws), self.output_matrices(w.params)
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
        penalties: list[float] | None = None,
        dinput: Array | None = None,
    ) -> float:
        """Backpropagation through time over the window (Werbos 1990), truncated at its first step:
        `state` is treated as a constant. With `masks`, `d` is the gradient of the penalties, too.
        """
        (T, B), H = batch.ids.shape, self.hidden_size
        traces = self.forward(w, batch, state, ws, masks)
        top, dX = self.seen(traces, ws), ws("model.dX", T * B, H)
        dO = ws("model.dO", T * B, self.output_size) if self.skip else dX
        o, do, (Wo, Wy) = top, dO, self.output_matrices(w.params)
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
            np.matmul(do, Wo.T, dO)
        if self.skip:
            np.copyto(dX, dO[:, -H:])
        dy = None
        if masks is not None:
            added, dy = self.penalize(batch, traces[-1], dX, ws, scale)
            if penalties is not None:
                penalties += added
        self.backward(w, batch, traces, dX, d, ws, dstate, flow, dh, dy, dO, dinput)
        if self.tie:
            np.add(d["embedding"], dWy.T, d["embedding"])
        return loss

    def penalize(
        self, batch: Batch, top: LayerTrace, dX: Array, ws: Workspace, scale: float
    ) -> tuple[list[float], Array | None]:
        """The penalties. The gradient of the first is added to dX (T·B, H), that of the top layer's
        output; that of the second, with respect to the output before dropout (T, B, H), is returned.
        """
        added, dy, of_mean = [], None, scale / self.hidden_size
        counted = batch.targets >= 0
        if self.activation_penalty:
            output = top.output.reshape(top.y.shape)
            total, g = square_penalty(output, counted, self.activation_penalty * of_mean, ws)
            np.add(dX, flat_rows(g), dX)
            added.append(total)
        if self.change_penalty:
            if batch.fresh is not None:
                counted &= ~batch.fresh
            T, *rest = top.y.shape
            change = np.subtract(top.y[1:], top.y[:-1], ws("model.change", T - 1, *rest))
            total, g = square_penalty(change, counted[1:], self.change_penalty * of_mean, ws)
            dy = ws("model.dy", *top.y.shape)
            dy[:1] = 0
            dy[1:] = g
            np.subtract(dy[:-1], g, dy[:-1])
            added.append(total)
        return added, dy

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
        dy: Array | None = None,
        dO: Array | None = None,
        dinput: Array | None = None,
    ) -> None:
        """The gradients `d` of all parameters but those of the softmax.

        dX (T·B, H) is the gradient of the top layer's output, and becomes that of each layer's output
        in turn. Without layers it is the gradient of the embedded input. `dy` (T, B, H), where given,
        is a further gradient of the top layer's output, before dropout. With `skip`, dO (T·B, L·H) is
        the gradient of what the softmax sees. The others are as in `loss_and_grad`.
        """
        (T, B), H = batch.ids.shape, self.hidden_size
        ids, keep = batch.ids.reshape(T * B), keep_factors(batch, ws)
        if flow is not None:
            keep = _flow(flow, keep, ws)
        ds = ws("model.ds", len(self.cell.states), B, H)
        spare = ws("model.spare", T * B, H) if self.residual and self.num_layers > 1 else dX
        for layer in reversed(range(self.num_layers)):
            trace, own = traces[layer], d.group(f"layers.{layer}.")
            z, s, s_prev = trace.z, trace.s, trace.s_prev
            if self.skip and dO is not None and layer < self.num_layers - 1:
                np.add(dX, dO[:, layer * H : (layer + 1) * H], dX)
            if trace.mask is not None:
                dropout_backward(trace.mask, dX.reshape(T, B, H))
            if dy is not None:
                np.add(dX, flat_rows(dy), dX)
                dy = None
            ds[:] = 0 if dstate is None else dstate[layer]
            memory = (z, s, s_prev, dX, ds, *([] if keep is None else [keep]))
            if dh is not None:  # what comes from above; what comes from the next step is added
                dh[layer] = dX.reshape(T, B, H)
                memory += (dh[layer],)
            run = ws.tape(f"model.backward.{layer}", T, *memory, weights=w.number)
            if not run.is_recorded:
                dY, p = dX.reshape(T, B, H), w.layers[layer]
                for t in self.cell.backward(run, p, z, s_prev, s[:, 1:], dY, ds, ws):
                    if keep is not None:
                        run(np.multiply, ds, keep[t], ds)
                    if dh is not None and t:
                        from_next = ds[self.cell.carried]
                        run(np.add, dh[layer, t - 1], from_next, dh[layer, t - 1])
            run.replay()
            self.cell.weight_gradients(own, z, s_prev)
            for name, mask in w.masks[layer].items():
                np.multiply(own[name], mask, own[name])
            if dstate is not None:
                if batch.fresh is not None:
                    ds[:, batch.fresh[0]] = 0
                dstate[layer] = ds
            G, dY, Wx = len(own["b"]), dX, w.params[f"layers.{layer}.Wx"]
            if layer == 0 and trace.X is not None:
                dX = ws("model.dembedded", *trace.X.shape)
            elif layer and self.residual:
                dX, spare = spare, dX
            dz = flat_rows(z[:G])
            projection_backward(trace.X, ids, Wx, dz, own, dX, ws, trace.factors)
            for k in range(G, len(self.cell.gates)):
                np.add(dX, flat_rows(z[k]), dX)
            if layer and self.residual:
                np.add(dX, dY, dX)
            if trace.X is not None and trace.factors is not None:
                np.multiply(dX, trace.factors, dX)
        if dinput is not None:  # dz and Wx are those of layer 0
            one_hot = self.embedding_size is None
            dx = sum(a @ W.T for a, W in zip(dz, Wx, strict=True)) if one_hot else dX
            dinput[:] = np.linalg.norm(dx, axis=-1).reshape(T, B)
        if self.embedding_size is not None:
            one_hot_projection_backward(ids, dX[None], d["embedding"][None], ws)

    def read(self, params: Parameters, streams: int) -> SegmentsReading:
        return SegmentsReading(self, params, streams)

    # Single steps

    def begin(self, params: Parameters, n: int) -> Steps:
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

    X: Array | None  # (T·B, D) input, with dropout; None for one-hot input
    z: Array  # (G+saved, T, B, H)
    s: Array  # (S, T+1, B, H)
    s_prev: Array  # (S, T, B, H): s[:, :-1], zeroed where a text begins
    y: Array  # (T, B, H): output before dropout
    mask: Array | None  # (T, B, H), or (1, B, H) where masks are locked
    output: Array  # (T·B, H)
    factors: Array | None = None  # of dropout on the input (T·B, D), or (T·B, 1) for one-hot input
