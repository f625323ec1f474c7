"""A network whose recurrence goes through its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..arrays import Array, Shape
from ..backend import blas
from ..backend.initial import glorot_uniform, unit_variance, zeros
from ..backend.params import Parameter, Parameters
from ..backend.tape import Tape, Unrecorded
from ..backend.workspace import LONGEST_TAPE, Workspace
from ..cells import LSTM, Cell
from ..cells.rnn import ACTIVATIONS
from ..cells.steps import flat_rows
from ..config.kinds import Chosen, Integer, Number, Text, option
from ..text.batches import Batch
from .base import Masks
from .declared import Declared
from .layers import (
    LOGITS_BLOCK,
    OutputGradients,
    dropout_mask,
    projection,
    projection_backward,
    softmax_cross_entropy,
    sum_rows,
)
from .recurrent import TAPE_BYTES, LayerTrace, Recurrent, keep_factors
from .steps import Steps
from .weights import layer_copies

PACKED = ["Wh", "Wy"]  # the parameters of the Jordan layer that every step multiplies


@dataclass(frozen=True)
class Jordan(Declared):
    """Jordan 1986 ("Serial order: a parallel distributed processing approach"), with a softmax.

    Forward, one step. X is the input: one-hot ids, an embedding, or the output of the recurrent layers
    below. C is the context, S what is carried to the next step, α the `decay`, φ the `activation`:

        (1)  C = S'                     with feedback `output`
             C = α S' + onehot(x)       with feedback `target`
        (2)  z = X Wx + C Wh + b
        (3)  H = φ(z)
        (4)  Y = softmax(H Wy + by)
        (5)  S = α C + Y                with feedback `output`
             S = C                      with feedback `target`

    So C = α C' + Y', with the probabilities Y' that the step before gave, or with the symbol x that
    came in their place: the target of the step before is the input of this one (teacher forcing).
    S is 0 before a text. With `target` and α = 0, C is the input once more, and without layers below
    nothing but the last symbol is known.

    Backward, from the loss -ln Y[target] and, with `output`, from dS, which comes from the next step.
    Each line belongs to the line above with its number:

        (5)  dY = dS;   dC = α dS                                           with `output`
        (4)  dlogits = Y - onehot(target) + Y ⊙ (dY - Σ_v dY_v Y_v);   dH = dlogits Wyᵀ;
             dWy = Σ_t Hᵀ dlogits;   dby = Σ_t dlogits
        (3)  dz = dH ⊙ φ'(z)
        (2)  dC += dz Whᵀ;   dX = dz Wxᵀ;   dWh = Σ_t Cᵀ dz;   dWx = Σ_t Xᵀ dz;   db = Σ_t dz
        (1)  dS' = dC                                                       with `output`

    With `target` no parameter is in S: nothing flows back through time, dY = 0, and all steps of a
    window are computed at once. Dropout is applied to the outputs of all layers, H among them, so what
    is fed back is predicted with dropout too.

    The state (B, V + L·S·H) of a text is S, then the states of the L layers below.

    The same in plain NumPy, step by step: `jordan_loss` in tests/models/test_jordan.py.
    """

    vocabulary_size: int
    cell: Cell = option(
        LSTM(),
        "the recurrence of each layer: a `name`, or `name` and its options",
        Chosen(table="cell", default="lstm"),
    )
    hidden_size: int = option(128, "hidden units of each layer", Integer(low=1, high=1 << 16))
    num_layers: int = option(1, "hidden layers", Integer(low=1, high=1000))
    embedding_size: int | None = option(
        None,
        "null: one-hot input; a number: a learned embedding",
        Integer(low=1, high=1 << 16, null="null"),
    )
    dropout: float = option(
        0.0, "rate, between layers and before the output", Number(low=0, below=1)
    )
    feedback: str = option(
        "output",
        "what a Jordan network is fed: `output`, the probabilities it gave, or `target`, the symbol "
        "that came",
        Text(one_of=("output", "target")),
    )
    decay: float = option(
        0.0, "share of a Jordan network's context that is kept at each step", Number(low=0, below=1)
    )
    activation: str = option(
        "tanh", "of its hidden units: `tanh` or `relu`", Text(one_of=("tanh", "relu"))
    )

    @cached_property
    def below(self) -> Recurrent:
        """The layers below the Jordan layer, perhaps none, and the input."""
        return Recurrent(
            self.vocabulary_size,
            self.cell,
            self.hidden_size,
            self.num_layers - 1,
            self.embedding_size,
            self.dropout,
        )

    @property
    def top(self) -> str:
        """What the names of the Jordan layer's parameters begin with."""
        return f"layers.{self.num_layers - 1}."

    @property
    def is_one_hot(self) -> bool:
        """Whether the Jordan layer reads one-hot ids."""
        return self.num_layers == 1 and self.embedding_size is None

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All biases start at 0, unless the cell sets others.

        The context of a plain network is as large as a one-hot row or smaller, so Wh starts as a
        one-hot table does.
        """
        V, H = self.vocabulary_size, self.hidden_size
        found = self.below.parameters
        output = {name: found.pop(name) for name in ("Wy", "by")}
        D = V if self.is_one_hot else self.embedding_size if self.num_layers == 1 else H
        assert D is not None
        own = {
            "Wx": Parameter((1, D, H), unit_variance if self.is_one_hot else glorot_uniform),
            "b": Parameter((1, H), zeros),
            "Wh": Parameter((1, V, H), unit_variance),
        }
        return found | {self.top + name: parameter for name, parameter in own.items()} | output

    @property
    def symbol_axes(self) -> dict[str, int]:
        """New symbols take a share of what is fed back. So with feedback `output` the ratios of the
        others' probabilities are kept at the first step of a text, and nearly at later ones.
        """
        return {self.top + "Wh": -2, **self.below.symbol_axes}

    def describe(self, params: Any = None) -> str:
        inputs = f"embedding of {self.embedding_size}" if self.embedding_size else "one-hot input"
        layers = f"1 x {self.hidden_size} {self.activation}"
        if self.num_layers > 1:
            layers += (
                f" above {type(self.cell).__name__} {self.num_layers - 1} x {self.hidden_size}"
            )
        decay = f", decay {self.decay:g}" if self.decay else ""
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return (
            f"Jordan network, feedback of the {self.feedback}{decay}, {layers}, {inputs}{dropout}: "
            f"{self.num_parameters:,} parameters"
        )

    def state_shape(self, B: int) -> Shape:
        """(B, V + L·S·H)."""
        L, S, _, H = self.below.state_shape(B)
        return (B, self.vocabulary_size + L * S * H)

    def parts(self, state: Array) -> tuple[Array, Array]:
        """Views of a state: S (B, V), and the states (L, S, B, H) of the layers below."""
        L, S, B, H = self.below.state_shape(len(state))
        V = self.vocabulary_size
        return state[:, :V], state[:, V:].reshape(B, L, S, H).transpose(1, 2, 0, 3)

    def window_bytes(self, T: int, B: int, fresh: bool = False) -> int:
        """Beside what the layers below take and a block of logits, for each row: z and H, with dropout
        twice more, with layers below dX; S over the whole vocabulary. With feedback `target`, two more
        rows of hidden units (C Wh and dH); with `output`, the logits, Y where there is a decay, and C
        where texts begin inside.
        """
        R, H, V = T * B, self.hidden_size, self.vocabulary_size
        of_target = self.feedback == "target"
        over_units = 2 + 2 * bool(self.dropout) + 2 * of_target + (self.num_layers > 1)
        over_symbols = 1 if of_target else 2 + bool(self.decay) + fresh
        calls = self.calls_bytes(T, fresh) - self.below.calls_bytes(T, fresh)
        numbers = R * (over_units * H + over_symbols * V) + 3 * B * (H + V)
        return 4 * numbers + calls + self.below.window_bytes(T, B, fresh)

    def calls_bytes(self, T: int, fresh: bool = False) -> int:
        of_target = self.feedback == "target"
        own = 0 if of_target else min(T, LONGEST_TAPE) * TAPE_BYTES * (2 if fresh else 1)
        return own + self.below.calls_bytes(T, fresh)

    @property
    def masked_weights(self) -> int:
        return self.below.masked_weights

    # Windows

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
    ) -> Trace:
        """Run all layers over a batch from `state`, which becomes the final state.

        With feedback `target`, (4) is left out: no step needs it of another.
        """
        (T, B), H, V = batch.ids.shape, self.hidden_size, self.vocabulary_size
        carried, of_below = self.parts(state)
        layers: list[LayerTrace] = []
        X: Array | None
        if self.below.num_layers:
            layers = self.below.forward(w.below, batch, of_below, ws, masks)
            ids, X = batch.ids.reshape(T * B), layers[-1].output
        else:
            ids, X = self.below.inputs(w.below, batch, ws)
        s, z, h = ws("jordan.s", T + 1, B, V), ws("jordan.z", T, 1, B, H), ws("jordan.h", T, B, H)
        s[0] = carried
        if batch.fresh is not None:
            s[0, batch.fresh[0]] = 0
        keep, mask, output = keep_factors(batch, ws), None, h
        if self.dropout and masks is not None:
            mask, output = ws("jordan.mask", T, B, H), ws("jordan.dropped", T, B, H)
            dropout_mask(self.dropout, masks(self.num_layers - 1), mask)
        if self.feedback == "target":
            trace = Trace(layers, ids, X, keep, s, s[1:], z, h, mask, output)
            self._all_steps(w, trace, ws)
        else:
            c = s[:-1] if keep is None else ws("jordan.c", T, B, V)
            outputs = Outputs(
                ws("jordan.logits", T, B, V),
                ws("jordan.y", T, B, V) if self.decay else s[1:],
                ws("jordan.peak", T, B, 1),
                ws("jordan.total", T, B, 1),
            )
            trace = Trace(layers, ids, X, keep, s, c, z, h, mask, output, outputs)
            memory = [s, c, z, h, output, *vars(outputs).values(), ids if X is None else X]
            memory += [a for a in (keep, mask) if a is not None]
            run = ws.tape("jordan.forward", T, *memory, weights=w.number)
            if not run.is_recorded:
                self.record_steps(run, w, trace, outputs, ws)
            run.replay()
        carried[...] = s[T]
        return trace

    def _all_steps(self, w: Weights, trace: Trace, ws: Workspace) -> None:
        """(1) to (3) of a window with feedback `target`."""
        s, mask, (T, _, B, H) = trace.s, trace.mask, trace.z.shape
        z = trace.z.reshape(1, T * B, H)
        phi, _ = ACTIVATIONS[self.activation]
        # (1) C = α S' + onehot(x), with zeros for S' where a text begins;  (5) S = C
        c = flat_rows(trace.c)
        c.fill(0)
        c[np.arange(T * B), trace.ids] = 1
        if self.decay:
            before = ws("jordan.before", *s.shape[1:])
            for t in range(T):
                np.multiply(s[t], self.decay, before)
                if trace.keep is not None:
                    np.multiply(before, trace.keep[t], before)
                np.add(s[t + 1], before, s[t + 1])
        # (2) z = X Wx + b + C Wh
        cW = ws("jordan.cW", T * B, H)
        projection(Unrecorded(), w.top, trace.X, trace.ids, z)
        np.matmul(c, w.params[self.top + "Wh"][0], cW)
        np.add(z, cW, z)
        # (3) H = φ(z)
        phi(z[0], flat_rows(trace.h))
        if mask is not None:
            np.multiply(trace.h, mask, trace.output)

    def record_steps(
        self, run: Tape, w: Weights, trace: Trace, outputs: Outputs, ws: Workspace
    ) -> None:
        """Record a window with feedback `output`."""
        s, c, z, keep, mask = trace.s, trace.c, trace.z, trace.keep, trace.mask
        projection(run, w.top, trace.X, trace.ids, z.reshape(1, -1, z.shape[-1]))
        for t, step in enumerate(outputs.steps()):
            # (1) C = S', zeros where a text begins
            if keep is not None:
                run(np.multiply, s[t], keep[t], c[t])
            self.record_hidden(run, w.top, c[t], z[t], trace.h[t], ws)
            if mask is not None:
                run(np.multiply, trace.h[t], mask[t], trace.output[t])
            self.record_logits(run, w.top, trace.output[t], step.logits)
            self.record_softmax(run, step)
            self.record_context(run, c[t], step.y, s[t + 1])

    def record_hidden(
        self, run: Tape, p: dict[str, Any], c: Array, z: Array, h: Array, ws: Workspace
    ) -> None:
        """Record (2) and (3) of a step; z (1, B, H) holds the projection of its input."""
        phi, _ = ACTIVATIONS[self.activation]
        # (2) z = X Wx + b + C Wh
        cW = ws("jordan.cW", *z.shape)
        run.matmul(c, p["Wh"], cW)
        run(np.add, z, cW, z)
        # (3) H = φ(z)
        run(phi, z[0], h)

    def record_logits(self, run: Tape, p: dict[str, Any], h: Array, logits: Array) -> None:
        # (4) logits = H Wy + by
        run.matmul(h, p["Wy"], logits[None])
        run(np.add, logits, p["by"][..., : logits.shape[-2], :], logits)

    def record_softmax(self, run: Tape, step: Outputs) -> None:
        # (4) Y = softmax(logits); the largest is subtracted first, so logits of any size are safe
        run(np.maximum.reduce, step.logits, -1, None, step.peak, True)
        run(np.subtract, step.logits, step.peak, step.y)
        run(np.exp, step.y, step.y)
        run(np.add.reduce, step.y, -1, None, step.total, True)
        run(np.divide, step.y, step.total, step.y)

    def record_context(self, run: Tape, c: Array, y: Array, s: Array) -> None:
        # (5) S = α C + Y; without α, s and y are the same memory
        if self.decay:
            run(np.multiply, c, self.decay, s)
            run(np.add, s, y, s)

    def loss(
        self, w: Weights, batch: Batch, state: Array, ws: Workspace, losses: Array | None = None
    ) -> float:
        """A window is computed in parts: a large vocabulary takes no more memory than a small one."""
        T, B = batch.ids.shape
        length, sums = max(1, LOGITS_BLOCK // (B * self.vocabulary_size)), 0.0
        for start in range(0, T, length):
            steps = slice(start, start + length)
            fresh = None if batch.fresh is None else batch.fresh[steps]
            part = Batch(batch.ids[steps], batch.targets[steps], fresh)
            trace = self.forward(w, part, state, ws)
            into = None if losses is None else losses[steps].reshape(-1)
            if trace.outputs is None:
                targets, (Wy, by) = part.targets.reshape(-1), (w.params["Wy"], w.params["by"])
                sums += softmax_cross_entropy(
                    flat_rows(trace.output), Wy, by, targets, ws, losses=into
                )
            else:
                sums += trace.outputs.cross_entropy(part.targets.reshape(-1), into)
        return sums

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
    ) -> float:
        """Backpropagation through time over the window (Werbos 1990), truncated at its first step:
        `state` is treated as a constant. `dstate` (B, V + L·S·H), where given, is the gradient of the
        final state and becomes that of the initial state.
        """
        (T, B), H = batch.ids.shape, self.hidden_size
        trace = self.forward(w, batch, state, ws, masks)
        dcarried, of_below = (None, None) if dstate is None else self.parts(dstate)
        backward = self._all_steps_back if trace.outputs is None else self._steps_back
        loss = backward(w, trace, batch.targets.reshape(-1), d, ws, scale, dcarried)
        if dcarried is not None and batch.fresh is not None:
            dcarried[batch.fresh[0]] = 0
        # (2) dWh = Σ_t Cᵀ dz;  dX = dz Wxᵀ;  dWx = Σ_t Xᵀ dz;  db = Σ_t dz
        own, dz, X = d.group(self.top), trace.z.reshape(1, T * B, H), trace.X
        np.matmul(flat_rows(trace.c).T, dz, own["Wh"])
        name = "model.dX" if trace.layers else "model.dembedded"
        dX = ws(name, *(0, 0) if X is None else X.shape)
        projection_backward(X, trace.ids, w.params[self.top + "Wx"], dz, own, dX, ws)
        if X is not None:
            self.below.backward(w.below, batch, trace.layers, dX, d, ws, of_below)
        return loss

    def _all_steps_back(
        self,
        w: Weights,
        trace: Trace,
        targets: Array,
        d: Parameters,
        ws: Workspace,
        scale: float,
        dcarried: Array | None,
    ) -> float:
        """The way back through (4) and (3) with feedback `target`; `trace.z` becomes dz."""
        z, (T, _, B, H) = trace.z, trace.z.shape
        dh = ws("jordan.dh", T, 1, B, H)
        # (4) dH = dlogits Wyᵀ;  dWy = Σ_t Hᵀ dlogits;  dby = Σ_t dlogits
        loss = softmax_cross_entropy(
            flat_rows(trace.output),
            w.params["Wy"],
            w.params["by"],
            targets,
            ws,
            OutputGradients(dh.reshape(T * B, H), d["Wy"], d["by"], scale),
        )
        if trace.mask is not None:
            np.multiply(dh, trace.mask[:, None], dh)
        # (3) dz = dH ⊙ φ'(z)
        _, dphi = ACTIVATIONS[self.activation]
        dphi(trace.h[:, None], z)
        np.multiply(z, dh, z)
        if dcarried is not None:
            for t in reversed(range(T)):
                # (5) dC = dS;  (2) dC += dz Whᵀ;  (1) dS' = α dC
                dcarried += z[t, 0] @ w.params[self.top + "Wh"][0].T
                dcarried *= self.decay if trace.keep is None else self.decay * trace.keep[t]
        return loss

    def _steps_back(
        self,
        w: Weights,
        trace: Trace,
        targets: Array,
        d: Parameters,
        ws: Workspace,
        scale: float,
        dcarried: Array | None,
    ) -> float:
        """The way back through (5) to (2) with feedback `output`; `trace.z` becomes dz."""
        outputs, s, z = trace.outputs, trace.s, trace.z
        assert outputs is not None
        loss = outputs.cross_entropy(targets)
        # First what does not depend on dS, for all steps in one call
        # (4) dlogits = Y - onehot(target), in the memory of the logits, + ...
        dlogits = flat_rows(outputs.logits)
        ignored = np.flatnonzero(targets < 0)
        np.multiply(flat_rows(outputs.y), scale, dlogits)
        dlogits[np.arange(targets.size), np.maximum(targets, 0)] -= scale
        dlogits[ignored] = 0
        # (3) z <- φ'(z)
        _, dphi = ACTIVATIONS[self.activation]
        dphi(trace.h[:, None], z)
        ds = ws("jordan.ds", *s.shape[1:])
        ds[...] = 0 if dcarried is None else dcarried
        memory = [s, z, outputs.logits, outputs.y, ds]
        memory += [a for a in (trace.keep, trace.mask) if a is not None]
        run = ws.tape("jordan.backward", len(z), *memory, weights=w.number)
        if not run.is_recorded:
            self.record_steps_back(run, w.top, trace, outputs, ds, ws)
        run.replay()
        if dcarried is not None:
            dcarried[...] = ds
        # (4) dWy = Σ_t Hᵀ dlogits;  dby = Σ_t dlogits
        np.matmul(flat_rows(trace.output).T, dlogits, d["Wy"])
        sum_rows(dlogits[None], d["by"][None], ws)
        return loss

    def record_steps_back(
        self,
        run: Tape,
        p: dict[str, Any],
        trace: Trace,
        outputs: Outputs,
        ds: Array,
        ws: Workspace,
    ) -> None:
        """Record the way back through the steps of a window, from the gradient ds of the last S."""
        z, keep, mask, (T, _, B, H) = trace.z, trace.keep, trace.mask, trace.z.shape
        a, dot, dh = ws("jordan.a", *ds.shape), ws("jordan.dot", B, 1), ws("jordan.dh", 1, B, H)
        for t in reversed(range(T)):
            y, dlogits = outputs.y[t], outputs.logits[t]
            # (5) dY = dS;  (4) dlogits += Y ⊙ (dY - Σ_v dY_v Y_v)
            run(np.multiply, ds, y, a)
            run(np.add.reduce, a, -1, None, dot, True)
            run(np.subtract, ds, dot, a)
            run(np.multiply, a, y, a)
            run(np.add, dlogits, a, dlogits)
            # (4) dH = dlogits Wyᵀ
            run.matmul(dlogits, p["WyT"], dh)
            if mask is not None:
                run(np.multiply, dh, mask[t], dh)
            # (3) dz = dH ⊙ φ'(z)
            run(np.multiply, z[t], dh, z[t])
            # (5) dC = α dS;  (2) dC += dz Whᵀ;  (1) dS' = dC
            if self.decay:
                run.matmul(z[t], p["WhT"], a[None])
                run(np.multiply, ds, self.decay, ds)
                run(np.add, ds, a, ds)
            else:
                run.matmul(z[t], p["WhT"], ds[None])
            if keep is not None:
                run(np.multiply, ds, keep[t], ds)

    # Single steps

    def begin(self, params: Parameters, n: int) -> Steps:
        R = blas.rows_at_once()
        K, V = -(-n // R), self.vocabulary_size

        def new(shape: Shape) -> Array:
            return np.zeros(shape, params.flat.dtype)

        p, tasks = self.copies(params, R, K, False, new)
        for task in tasks:
            task()
        s = new((K, R, V))

        def record(run: Tape, X: Array | None, ids: Array, logits: Array, ws: Workspace) -> None:
            z, h = ws("jordan.z", 1, K, R, self.hidden_size), ws("jordan.h", K, R, self.hidden_size)
            projection(run, p, X, ids, z)
            if self.feedback == "target":
                # (1) C = α S' + onehot(x)
                run(np.multiply, s, self.decay, s)
                run(_add_one_hot, ids, s)
            self.record_hidden(run, p, s, z, h, ws)
            self.record_logits(run, p, h, logits)
            if self.feedback == "output":
                y = ws("jordan.y", K, R, V) if self.decay else s
                total, peak = ws("jordan.total", K, R, 1), ws("jordan.peak", K, R, 1)
                self.record_softmax(run, Outputs(logits, y, peak, total))
                self.record_context(run, s, y, s)

        return Steps(self.below, params, n, record)

    def copies(
        self,
        params: Parameters,
        rows: int,
        blocks: int | None,
        backward: bool,
        new: Callable[[Shape], Array],
    ) -> tuple[dict[str, Any], list[Callable[[], None]]]:
        """The copies of the Jordan layer's parameters, and the calls that make them anew; see
        `weights.Weights`. `by` is repeated for every row.
        """
        own = params.group(self.top) | {"Wy": params["Wy"][None]}
        copies, tasks = layer_copies(
            own, PACKED, (1.0,), self.is_one_hot, rows, blocks, backward, new
        )
        by = new((*([blocks] if blocks else []), rows, self.vocabulary_size))
        return copies | {"by": by}, [*tasks, partial(np.copyto, by, params["by"])]


def _add_one_hot(ids: Array, c: Array) -> None:
    rows = c.reshape(ids.size, -1)
    rows[np.arange(ids.size), ids.reshape(-1)] += 1


class Weights:
    """The parameters, with the copies of them that the products use.

    `below` are the weights of the layers below, `top` the copies for the Jordan layer.
    """

    def __init__(
        self,
        model: Jordan,
        params: Parameters,
        rows: int,
        backward: bool,
        empty: Callable[[Shape, np.dtype[Any]], Array],
    ) -> None:
        self.params = params
        self.below = model.below.weights(params, rows, backward, empty)
        self.number = self.below.number
        self.top, tasks = model.copies(
            params, rows, None, backward, lambda shape: empty(shape, params.flat.dtype)
        )
        self.tasks: Sequence[Callable[[], None]] = [*self.below.tasks, *tasks]
        self.drops = self.below.drops
        self.refresh()

    def refresh(self) -> None:
        """Make all copies anew from the parameters."""
        with np.errstate(all="ignore"):  # an overflow shows in the loss
            for task in self.tasks:
                task()


@dataclass(frozen=True)
class Outputs:
    """The softmax of the steps of a window, or of one step: y = exp(logits - peak) / total."""

    logits: Array  # (T, B, V)
    y: Array  # (T, B, V)
    peak: Array  # (T, B, 1)
    total: Array  # (T, B, 1)

    def steps(self) -> Iterator[Outputs]:
        """Each step by itself."""
        return map(Outputs, self.logits, self.y, self.peak, self.total)

    def cross_entropy(self, targets: Array, losses: Array | None = None) -> float:
        """Σ -ln y[target] over the targets (T·B,) that count; `losses` receives that of each."""
        at_target = (np.arange(targets.size), np.maximum(targets, 0))
        # -ln y = ln Σ exp(logits - peak) - (logit - peak)
        shifted = flat_rows(self.logits)[at_target] - self.peak.reshape(-1)
        nats = np.log(self.total.reshape(-1), dtype=np.float64) - shifted
        nats[targets < 0] = 0
        if losses is not None:
            losses[...] = nats
        return float(np.add.reduce(nats))


@dataclass(frozen=True)
class Trace:
    """What the backward pass needs from the forward pass: views into the workspace."""

    layers: list[LayerTrace]  # below
    ids: Array  # (T·B,)
    X: Array | None  # (T·B, D) input; None for one-hot input
    keep: Array | None  # (T, B, 1)
    s: Array  # (T+1, B, V): S before the first and after every step
    c: Array  # (T, B, V)
    z: Array  # (T, 1, B, H)
    h: Array  # (T, B, H)
    mask: Array | None  # (T, B, H)
    output: Array  # (T, B, H): h, with dropout where there is a mask
    outputs: Outputs | None = None  # with feedback `output`
