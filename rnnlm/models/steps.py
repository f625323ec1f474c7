"""Single steps of texts through recurrent layers: what sampling needs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Array, Shape
from ..backend import blas
from ..backend.pair import Pair, pays
from ..backend.params import Parameters
from ..backend.tape import Tape
from ..backend.workspace import Workspace
from .weights import Weights

if TYPE_CHECKING:
    from .recurrent import Recurrent


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
        w = Weights(model, params, R, backward=False, blocks=K)
        pair = Pair() if K == 1 and pays(w.packed_bytes) else None
        ws = Workspace(params.flat.dtype, empty=pair.empty if pair else np.empty)
        ids = ws("ids", K, R, dtype=np.intp)
        ids.fill(0)
        logits = ws("logits", K, R, V)
        seen = ws("seen", K, R, model.output_size if model.skip else 0)
        self._ids, self._logits = ids.reshape(-1)[:n], logits.reshape(K * R, V)[:n]
        # The state alternates between two places in memory: even and odd steps have a tape each
        states = ws("s", model.num_layers, S, 2, K, R, H)
        states.fill(0)
        self._tapes: list[Tape] = [Tape(), Tape()]
        of_layer = [ws] * model.num_layers
        if pair:
            self._tapes = pair.tapes()
            # Products of all layers may be computed before the step: each has its own memory for them
            of_layer = [Workspace(ws.dtype, empty=pair.empty) for _ in of_layer]
            weakref.finalize(self, pair.close)
        for run, s in zip(self._tapes, (states, states[:, :, ::-1]), strict=True):
            X = model.record_inputs(run, w, ids, ws)
            for layer, p in enumerate(w.layers):
                z = ws(f"z.{layer}", C, 1, K, R, H)
                own = of_layer[layer]
                model.record_layer(run, p, X, ids, z, s[layer], s[layer, :, :1], None, own)
                y = s[layer, 0, 1]
                if model.residual and layer:
                    y = ws(f"y.{layer}", K, R, H)
                    run(np.add, s[layer, 0, 1], X, y)
                if model.skip:
                    run(np.copyto, seen[..., layer * H : (layer + 1) * H], y)
                X = y
            if model.skip:
                X = seen
            record_output(run, X, ids, logits, ws)

    def step(self, ids: Array | Sequence[int]) -> Array:
        self._ids[:] = ids
        self._tapes[0].replay()
        self._tapes.reverse()
        return self._logits


def repeated(a: Array, shape: Shape) -> Array:
    """`a` repeated to a shape: adding the copy takes a quarter of the time of broadcasting."""
    return np.broadcast_to(a, shape).copy()
