"""The simple recurrent network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..params import Array, Shape
from ..tape import Tape
from ..tiles import tiled
from ..workspace import Workspace
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


# φ(z) and φ'(z); every φ' here is a function of H = φ(z) alone, so z need not be kept.
ACTIVATIONS: dict[str, tuple[Callable[[Array, Array], object], Callable[[Array, Array], None]]] = {
    "tanh": (np.tanh, _dtanh),
    "relu": (_relu, _drelu),
    "identity": (_identity, _didentity),
}


@dataclass(frozen=True)
class RNN:
    """Elman 1990 ("Finding structure in time"): H = φ(X Wx + H' Wh + b).

    Backward, where dH already holds what comes from the next step:

        dz = dH ⊙ φ'(z);    dH' = dz Whᵀ;    dWh = Σ_t H'ᵀ dz
    """

    activation: str = "tanh"

    gates: ClassVar[tuple[str, ...]] = ("h",)
    states: ClassVar[tuple[str, ...]] = ("h",)
    scale: ClassVar[tuple[float, ...]] = (1.0,)
    saved: ClassVar[int] = 0

    def shapes(self, hidden_size: int) -> dict[str, Shape]:
        return {"Wh": (1, hidden_size, hidden_size)}

    def init_bias(self, b: Array) -> None:
        del b  # stays zero

    def step(
        self, run: Tape, p: Mapping[str, Array], z: Array, s_prev: Array, s: Array, ws: Workspace
    ) -> None:
        phi, _ = ACTIVATIONS[self.activation]
        Wh, hW = p["Wh.tiles"], ws("cell.hW", *z.shape)
        # H = φ(z + H' Wh)
        run(np.matmul, s_prev[0], Wh, tiled(hW, Wh))
        run(np.add, z, hW, z)
        run(phi, z, s)

    def backward(
        self,
        run: Tape,
        p: Mapping[str, Array],
        z: Array,
        s: Array,
        dh: Array,
        ds: Array,
        ws: Workspace,
    ) -> None:
        _, T, B, H = z.shape
        _, dphi = ACTIVATIONS[self.activation]
        WhT = p["WhT.tiles"]
        dh_next_tiles = tiled(ds, WhT)
        for block in blocks_back(T, B * H):
            dz = z[:, block]
            run(dphi, s[:, 1:][:, block], dz)
            for dz_t, dh_t in steps_back(dz.swapaxes(0, 1), dh[block]):
                # dz = (dH + dH_next) ⊙ φ'(z);  dH' = dz Whᵀ
                run(np.add, ds, dh_t, ds)
                run(np.multiply, dz_t, ds, dz_t)
                run(np.matmul, dz_t[:, None], WhT, dh_next_tiles)

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s: Array) -> None:
        np.matmul(flat_rows(s[0, :-1]).T, flat_rows(z), d["Wh"])
