"""The language model: a stack of recurrent layers between one-hot (or embedded) ids and a softmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from . import blas
from .cells import CELLS, Cell
from .cells.steps import flat_rows
from .config import ModelConfig
from .layers import (
    OutputGradients,
    dense_projection,
    dense_projection_backward,
    dropout,
    dropout_backward,
    logits_rows,
    one_hot_projection,
    one_hot_projection_backward,
    softmax_cross_entropy,
)
from .params import Array, Parameters, Shape, count
from .registry import options
from .tiles import fill_tiles, tiles_shape
from .workspace import Workspace

MaskStream = Callable[[int], np.random.Generator]  # layer -> the generator of its dropout mask


@dataclass(frozen=True)
class Model:
    """The architecture. It holds no numbers: parameters and state go in and come out.

    Layer l projects its input X (one-hot ids or an embedding for l = 0, else the hidden states below)
    and runs the cell over it; the logits are H_top @ Wy + by. Dropout acts on each layer's output
    (between layers and before the softmax), never on the recurrence (Zaremba, Sutskever and Vinyals
    2014, arXiv:1409.2329).
    """

    cell: Cell
    vocabulary_size: int
    hidden_size: int
    num_layers: int
    embedding_size: int | None = None
    dropout: float = 0.0
    shapes: dict[str, Shape] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        G, V, H, E = (
            len(self.cell.gates),
            self.vocabulary_size,
            self.hidden_size,
            self.embedding_size,
        )
        shapes: dict[str, Shape] = {} if E is None else {"embedding": (V, E)}
        for layer in range(self.num_layers):
            D = H if layer else (E or V)
            own = {"Wx": (G, D, H), "b": (G, H), **self.cell.shapes(H)}
            shapes |= {f"layers.{layer}.{name}": shape for name, shape in own.items()}
        object.__setattr__(self, "shapes", shapes | {"Wy": (H, V), "by": (V,)})

    @property
    def num_parameters(self) -> int:
        return count(self.shapes)

    def init(self, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Parameters:
        """Fresh parameters.

        `Wh`: an orthogonal matrix per gate (Saxe, McClelland and Ganguli 2014), which neither grows
        nor shrinks the state. `Wx`, `Wy`: uniform with limit √(6 / (inputs + outputs)) (Glorot and
        Bengio 2010, equation 16). The one-hot table and the embedding: uniform with variance 1,
        since a one-hot row has a single 1 and its symbol should weigh as much as the whole state;
        with Glorot's limit, LSTM 2 x 128 is 0.16 nats behind after 1,000 steps on tiny Shakespeare.
        Biases 0, the LSTM's forget gate 1 (with 0 it is 0.01 nats ahead there).
        """
        params = Parameters(self.shapes, dtype)
        with blas.one_thread():
            self._fill(params, rng)
        return params

    def _fill(self, params: Parameters, rng: np.random.Generator) -> None:
        for name, array in params.items():
            kind = name.rsplit(".", 1)[-1]
            if kind == "b":
                self.cell.init_bias(array)
            elif kind == "Wh":
                for gate in array:
                    q, r = np.linalg.qr(rng.standard_normal(gate.shape))
                    gate[:] = q * np.sign(np.diag(r))
            elif array.ndim > 1:
                table = name == ("layers.0.Wx" if self.embedding_size is None else "embedding")
                inputs, outputs = array.shape[-2:]
                limit = math.sqrt(3 if table else 6 / (inputs + outputs))
                array[:] = rng.uniform(-limit, limit, array.shape)

    def zero_state(self, B: int, dtype: DTypeLike = np.float32) -> Array:
        """The state before the first character: zeros (L, S, B, H)."""
        return np.zeros((self.num_layers, len(self.cell.states), B, self.hidden_size), dtype)

    def activation_count(self, T: int, B: int) -> int:
        """How many numbers a window of T steps and B streams keeps from forward to backward pass.

        Per layer and step: B·H for each gate (overwritten by its gradient), for each array that the
        cell saves and for each of its states: 6 B·H for the LSTM, 5 for the GRU, 2 for the RNN; twice
        B·H more with dropout. Beside the layers: one gradient of the hidden states, the rows of one
        gate sorted by symbol, an embedding and its gradient, a block of logits.
        """
        H, R = self.hidden_size, T * B
        per_layer = len(self.cell.gates) + self.cell.saved + len(self.cell.states)
        per_layer += 2 if self.dropout else 0
        shared = 2 * H + 2 * (self.embedding_size or 0)
        logits = logits_rows(R, self.vocabulary_size) * self.vocabulary_size if R else 0
        return R * (self.num_layers * per_layer * H + shared) + logits

    def forward(
        self,
        w: StepWeights,
        ids: Array,
        state: Array,
        ws: Workspace,
        masks: MaskStream | None = None,
    ) -> list[LayerTrace]:
        """Run the layers over ids (T, B) from `state` (L, S, B, H), which becomes the final state.

        Returns a trace per layer; the last one's `output` is the input of the softmax. `masks` gives
        the generator of each layer's dropout mask; without it nothing is dropped.
        """
        (T, B), H = ids.shape, self.hidden_size
        G, S = len(self.cell.gates), len(self.cell.states)
        flat = ids.reshape(T * B)
        X: Array | None = None
        if self.embedding_size is not None:
            X = ws("model.embedded", T * B, self.embedding_size)
            np.take(w.params["embedding"], flat, axis=0, out=X, mode="clip")
        traces = []
        for layer, p in enumerate(w.layers):
            z = _window(ws, f"model.z.{layer}", G + self.cell.saved, T, B, H)
            s = ws(f"model.s.{layer}", S, T + 1, B, H)
            gates = flat_rows(z[:G])
            if X is None:
                one_hot_projection(flat, p["table"], gates)
            else:
                dense_projection(X, p["Wx"], p["b"], gates)
            s[:, 0] = state[layer]
            run = ws.tape(f"model.forward.{layer}", T, z, s, p["Wh.tiles"])
            if not run:
                for t in range(T):
                    self.cell.step(run, p, z[:, t], s[:, t], s[:, t + 1], ws)
            run.play()
            state[layer] = s[:, T]
            output, mask = s[0, 1:].reshape(T * B, H), None
            if self.dropout and masks is not None:
                mask = ws(f"model.mask.{layer}", T * B, H)
                dropped = ws(f"model.dropped.{layer}", T * B, H)
                dropout(output, self.dropout, masks(layer), mask, dropped)
                output = dropped
            traces.append(LayerTrace(X, z, gates, s, mask, output))
            X = output
        return traces

    def loss(
        self, w: StepWeights, ids: Array, targets: Array, state: Array, ws: Workspace
    ) -> float:
        """Σ -ln p(target), in nats, over ids and targets (T, B); `state` is carried on in place."""
        top = self.forward(w, ids, state, ws)[-1].output
        return softmax_cross_entropy(top, w.params["Wy"], w.params["by"], targets.reshape(-1), ws)

    def loss_and_grad(
        self,
        w: StepWeights,
        ids: Array,
        targets: Array,
        state: Array,
        d: Parameters,
        ws: Workspace,
        scale: float,
        masks: MaskStream | None = None,
        dstate: Array | None = None,
    ) -> float:
        """The loss as in `loss`, and in `d` the gradient of scale · loss for every parameter.

        Backpropagation through time over the window (Werbos 1990), truncated at its first step:
        `state` counts as a constant. `dstate` (L, S, B, H), where given, is the gradient of the final
        state and becomes that of the initial one.
        """
        (T, B), H = ids.shape, self.hidden_size
        flat = ids.reshape(T * B)
        traces = self.forward(w, ids, state, ws, masks)
        dX = ws("model.dX", T * B, H)  # of each layer's output in turn, from the top down
        loss = softmax_cross_entropy(
            traces[-1].output,
            w.params["Wy"],
            w.params["by"],
            targets.reshape(T * B),
            ws,
            OutputGradients(dX, d["Wy"], d["by"], scale),
        )
        ds = ws("model.ds", len(self.cell.states), B, H)
        for layer in reversed(range(self.num_layers)):
            trace, own = traces[layer], d.group(f"layers.{layer}.")
            if trace.mask is not None:
                dropout_backward(trace.mask, dX)
            ds[:] = 0 if dstate is None else dstate[layer]
            p, z, s = w.layers[layer], trace.z, trace.s
            run = ws.tape(f"model.backward.{layer}", T, z, s, dX, ds, p["WhT.tiles"])
            if not run:
                self.cell.backward(run, p, z, s, dX.reshape(T, B, H), ds, ws)
            run.play()
            self.cell.weight_gradients(own, z, s)
            if dstate is not None:
                dstate[layer] = ds
            dz = trace.gates
            if trace.X is None:
                one_hot_projection_backward(flat, dz, own["Wx"], ws)
                # each row of dz is in one symbol's sum, so these add up to Σ_rows dz
                np.add.reduce(own["Wx"], axis=1, out=own["b"])
                continue
            dX = dX if layer else ws("model.dembedded", *trace.X.shape)
            Wx = w.params[f"layers.{layer}.Wx"]
            dense_projection_backward(trace.X, Wx, dz, own["Wx"], own["b"], dX, ws)
        if self.embedding_size is not None:
            one_hot_projection_backward(flat, dX[None], d["embedding"][None], ws)
        return loss


def _window(ws: Workspace, name: str, *shape: int) -> Array:
    """An array (C, T, B, H), what belongs together close in memory: where a step is a single row, the
    C parts of a step, so that NumPy takes them in one piece, else the rows of a part for products.
    """
    C, T, B, H = shape
    return ws(name, T, C, B, H).swapaxes(0, 1) if B == 1 else ws(name, *shape)


@dataclass(frozen=True)
class LayerTrace:
    """What a layer's forward pass leaves for its backward pass; all views into the workspace."""

    X: Array | None  # (T·B, D) input; None for one-hot input
    z: Array  # (G+saved, T, B, H)
    gates: Array  # (G, T·B, H), the first G blocks of z
    s: Array  # (S, T+1, B, H)
    mask: Array | None  # (T·B, H)
    output: Array  # (T·B, H)


class StepWeights:
    """The parameters together with the copies that the products want, refreshed after each update.

    Per layer: `table` (G, V, H) = Wx + b for one-hot input, else `Wx` and `b`, scaled as the cell
    wants its pre-activations; `Wh.tiles` scaled likewise and, for training, `WhT.tiles`, cut for
    products of `rows` rows. `stepwise` cuts `Wx` as well, as `Wx.tiles`: sampling projects a step at a
    time. Making the copies costs one pass over the weights, once a step. `empty` makes their memory.
    """

    def __init__(
        self,
        model: Model,
        params: Parameters,
        rows: int,
        backward: bool = True,
        stepwise: bool = False,
        empty: Callable[[Shape, np.dtype[Any]], Array] = np.empty,
    ) -> None:
        self.params = params
        self.layers: list[dict[str, Array]] = []
        self.tasks: list[Callable[[], None]] = []  # independent; together they refresh

        def new(shape: Shape) -> Array:
            return empty(shape, params.flat.dtype)

        for layer in range(model.num_layers):
            own = params.group(f"layers.{layer}.")
            one_hot = layer == 0 and model.embedding_size is None
            Wx, tiles = own["Wx"].shape, tiles_shape(rows, own["Wh"])
            copies = {"Wh.tiles": new(tiles)}
            if backward:
                copies["WhT.tiles"] = new(tiles)
            if one_hot:
                # one row a step: gates side by side, as in the activations
                G, V, H = Wx
                copies["table"] = new((V, G, H)).swapaxes(0, 1) if rows == 1 else new(Wx)
            else:
                cut = (
                    {"Wx.tiles": new(tiles_shape(rows, own["Wx"]))} if stepwise else {"Wx": new(Wx)}
                )
                copies |= cut | {"b": new(own["b"].shape)}
            for k, scale in enumerate(model.cell.scale):
                self.tasks.append(partial(_refresh_gate, own, copies, k, scale))
            self.layers.append(own | copies)
        self.refresh()

    def refresh(self) -> None:
        """Make all copies anew from the parameters."""
        with np.errstate(all="ignore"):  # weights at the end of the range; the loss will tell
            for task in self.tasks:
                task()


def _refresh_gate(own: dict[str, Array], copies: dict[str, Array], k: int, scale: float) -> None:
    factor = own["Wh"].dtype.type(scale)
    fill_tiles(copies["Wh.tiles"][k], own["Wh"][k], scale)
    if "WhT.tiles" in copies:
        fill_tiles(copies["WhT.tiles"][k], own["Wh"][k].T)
    if "table" in copies:
        np.add(own["Wx"][k], own["b"][k], copies["table"][k])
        np.multiply(copies["table"][k], factor, copies["table"][k])
        return
    np.multiply(own["b"][k], factor, copies["b"][k])
    if "Wx.tiles" in copies:
        fill_tiles(copies["Wx.tiles"][k], own["Wx"][k], scale)
    else:
        np.multiply(own["Wx"][k], factor, copies["Wx"][k])


def build_model(config: ModelConfig, vocabulary_size: int) -> Model:
    """The model that a configuration describes."""
    names = options(CELLS[config.cell])
    cell = CELLS[config.cell](**{name: getattr(config, name) for name in names})
    return Model(
        cell,
        vocabulary_size,
        config.hidden_size,
        config.num_layers,
        config.embedding_size,
        config.dropout,
    )


def model_line(model: Model) -> str:
    """A model in one line."""
    inputs = f"embedding of {model.embedding_size}" if model.embedding_size else "one-hot input"
    options = "".join(f", {name} {value}" for name, value in vars(model.cell).items())
    dropout = f", dropout {model.dropout:g}" if model.dropout else ""
    return (
        f"model: {type(model.cell).__name__}{options}, {model.num_layers} x {model.hidden_size}, "
        f"{inputs}{dropout}: {model.num_parameters:,} parameters"
    )
