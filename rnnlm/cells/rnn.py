"""The simple recurrent network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..params import Array, Shape
from ..tiles import tiled
from ..workspace import Workspace
from .steps import Step, blocks_back, steps_back


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

    def stepper(self, p: Mapping[str, Array], rows: Shape, H: int, ws: Workspace) -> Step:
        Wh = p["Wh.tiles"]
        hW = ws("cell.hW", 1, *rows, H)
        hW_tiles = tiled(hW, Wh)
        phi, _ = ACTIVATIONS[self.activation]

        def step(z_t: Array, s_prev: Array, s_t: Array) -> None:
            # H = φ(z + H' Wh)
            np.matmul(s_prev[0], Wh, hW_tiles)
            np.add(z_t, hW, z_t)
            phi(z_t, s_t)

        return step

    def backward(
        self,
        p: Mapping[str, Array],
        d: Mapping[str, Array],
        z: Array,
        s: Array,
        dh: Array,
        ds: Array,
        ws: Workspace,
    ) -> None:
        _, T, B, H = z.shape
        (h,), (dh_next,) = s, ds
        WhT = p["WhT.tiles"][0]
        dh_next_tiles = tiled(dh_next[None], WhT[None])[0]
        _, dphi = ACTIVATIONS[self.activation]
        for block in blocks_back(T, B * H):
            dz = z[0, block]
            dphi(h[1:][block], dz)
            for dz_t, dh_t in steps_back(dz, dh[block]):
                # dz = (dH + dH_next) ⊙ φ'(z);  dH' = dz Whᵀ
                np.add(dh_next, dh_t, dh_next)
                np.multiply(dz_t, dh_next, dz_t)
                np.matmul(dz_t, WhT, dh_next_tiles)
        np.matmul(h[:-1].reshape(T * B, H).T, z[0].reshape(T * B, H), d["Wh"][0])
