"""The simple recurrent network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..arrays import Array
from ..backend.initial import orthogonal
from ..backend.params import Parameter
from ..backend.tape import Tape
from ..backend.workspace import Workspace
from .contract import Cell, Weights
from .steps import blocks_back, flat_rows, steps_back


def _identity(x: Array, out: Array) -> None:
    if x is not out:
        np.copyto(out, x)


def _relu(x: Array, out: Array) -> None:
    np.maximum(x, 0, out=out)


def _dtanh(h: Array, out: Array) -> None:
    # 1 - H²
    np.multiply(h, h, out)
    np.subtract(1, out, out)


def _drelu(h: Array, out: Array) -> None:
    np.sign(h, out)  # H > 0 exactly where z > 0; at 0 the derivative is taken as 0


def _didentity(h: Array, out: Array) -> None:
    out.fill(1)


# φ(z), and φ'(z) as a function of H = φ(z): z itself is then not needed any more.
ACTIVATIONS: dict[str, tuple[Callable[[Array, Array], object], Callable[[Array, Array], None]]] = {
    "tanh": (np.tanh, _dtanh),
    "relu": (_relu, _drelu),
    "identity": (_identity, _didentity),
}


@dataclass(frozen=True)
class RNN(Cell):
    """Elman 1990 ("Finding structure in time").

    Forward, one step:

        (1)  z = X Wx + H' Wh + b
        (2)  H = φ(z)

    Backward, from dH, the gradient of the output plus that from the next step:

        (2)  dz = dH ⊙ φ'(z)
        (1)  dH' = dz Whᵀ;   dWh = Σ_t H'ᵀ dz

    One step in plain NumPy: `rnn_step` in tests/support/oracles.py.
    """

    activation: Literal["tanh", "relu", "identity"] = "tanh"

    gates: ClassVar[tuple[str, ...]] = ("h",)
    states: ClassVar[tuple[str, ...]] = ("h",)
    scale: ClassVar[tuple[float, ...]] = (1.0,)
    saved: ClassVar[int] = 0

    @property
    def bounded(self) -> bool:
        return self.activation == "tanh"

    def parameters(self, hidden_size: int) -> dict[str, Parameter]:
        return {"Wh": Parameter((1, hidden_size, hidden_size), orthogonal, packed=True)}

    def step(self, run: Tape, p: Weights, z: Array, s_prev: Array, s: Array, ws: Workspace) -> None:
        phi, _ = ACTIVATIONS[self.activation]
        hW = ws("cell.hW", *z.shape)
        # (1) z = X Wx + b + H' Wh
        run.matmul(s_prev[0], p["Wh"], hW)
        run(np.add, z, hW, z)
        # (2) H = φ(z)
        run(phi, z, s)

    def backward(
        self,
        run: Tape,
        p: Weights,
        z: Array,
        s_prev: Array,
        s: Array,
        dh: Array,
        ds: Array,
        ws: Workspace,
    ) -> Iterator[int]:
        _, T, B, H = z.shape
        _, dphi = ACTIVATIONS[self.activation]
        for block in blocks_back(T, B * H):
            # First what does not depend on dH, for many steps in one call:  z <- φ'(z)
            run(dphi, s[:, block], z[:, block])
            for t, dz_t, dh_t in steps_back(block, z[:, block], dh[block]):
                # dH: the gradient of the output plus that from the next step
                run(np.add, ds, dh_t, ds)
                # (2) dz = dH ⊙ φ'(z)
                run(np.multiply, dz_t, ds, dz_t)
                # (1) dH' = dz Whᵀ
                run.matmul(dz_t, p["WhT"], ds)
                yield t

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s_prev: Array) -> None:
        # (1) dWh = Σ_t H'ᵀ dz, one product for all steps and streams
        np.matmul(flat_rows(s_prev[0]).T, flat_rows(z), d["Wh"])
