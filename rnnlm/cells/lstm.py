"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..params import Array, Shape
from ..tiles import tiled
from ..workspace import Workspace
from .steps import Step, blocks_back, steps_back


@dataclass(frozen=True)
class LSTM:
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000.

    Forward, for one step (⊙ is the element-wise product, σ the logistic function):

        I, F, O = σ(z_i), σ(z_f), σ(z_o);  G = tanh(z_g)     with z_k = X Wx_k + H' Wh_k + b_k
        C = F ⊙ C' + I ⊙ G
        H = O ⊙ tanh(C)

    Backward, where dH and dC already hold what comes from the next step:

        dC  <- dC + dH ⊙ O ⊙ (1 - tanh²(C))
        dz_i = dC ⊙ G  ⊙ I ⊙ (1 - I)        dz_o = dH ⊙ tanh(C) ⊙ O ⊙ (1 - O)
        dz_f = dC ⊙ C' ⊙ F ⊙ (1 - F)        dz_g = dC ⊙ I ⊙ (1 - G²)
        dC' = dC ⊙ F;    dH' = Σ_k dz_k Wh_kᵀ;    dWh_k = Σ_t H'ᵀ dz_k
    """

    gates: ClassVar[tuple[str, ...]] = ("i", "f", "o", "g")
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    scale: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5, 1.0)
    saved: ClassVar[int] = 0

    def shapes(self, hidden_size: int) -> dict[str, Shape]:
        return {"Wh": (4, hidden_size, hidden_size)}

    def init_bias(self, b: Array) -> None:
        # A forget gate that starts open lets gradients through from the first step
        # (Jozefowicz, Zaremba and Sutskever 2015, section 4.1).
        b[1] = 1.0

    def stepper(self, p: Mapping[str, Array], rows: Shape, H: int, ws: Workspace) -> Step:
        Wh = p["Wh.tiles"]
        hW = ws("cell.hW", 4, *rows, H)
        hW_tiles = tiled(hW, Wh)
        a = ws("cell.a", *rows, H)

        def step(z_t: Array, s_prev: Array, s_t: Array) -> None:
            h_prev, c_prev = s_prev
            h, c = s_t
            i, f, o, g = z_t
            ifo = z_t[:3]
            np.matmul(h_prev, Wh, hW_tiles)
            np.add(z_t, hW, z_t)
            # I, F, O = (1 + tanh(z / 2)) / 2;  G = tanh(z)
            np.tanh(z_t, z_t)
            np.multiply(ifo, 0.5, ifo)
            np.add(ifo, 0.5, ifo)
            # C = F ⊙ C' + I ⊙ G
            np.multiply(f, c_prev, c)
            np.multiply(i, g, a)
            np.add(c, a, c)
            # H = O ⊙ tanh(C)
            np.tanh(c, a)
            np.multiply(o, a, h)

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
        G, T, B, H = z.shape
        h, c = s
        dh_next, dc = ds
        WhT = p["WhT.tiles"]
        dzW = ws("cell.hW", G, B, H)
        dzW_tiles = tiled(dzW, WhT)
        a = ws("cell.a", B, H)
        for block in blocks_back(T, B * H):
            i, f, o, g = z[:, block]
            F, Q, tmp = (ws(name, *f.shape) for name in ("cell.F", "cell.Q", "cell.tmp"))
            # Everything that does not depend on dH or dC, for many steps at once: each gate becomes
            # the factor that dH or dC is multiplied with, and
            # Q = O ⊙ (1 - tanh²(C));  o <- tanh(C) ⊙ O ⊙ (1 - O)
            np.tanh(c[1:][block], tmp)
            np.multiply(o, tmp, F)
            np.multiply(F, tmp, Q)
            np.subtract(o, Q, Q)
            np.multiply(F, o, o)
            np.subtract(F, o, o)
            # f <- C' ⊙ F ⊙ (1 - F), while F itself is kept
            np.copyto(F, f)
            np.multiply(F, F, f)
            np.subtract(F, f, f)
            np.multiply(f, c[:-1][block], f)
            # g <- I ⊙ (1 - G²);  i <- G ⊙ I ⊙ (1 - I)
            np.multiply(i, g, tmp)
            np.multiply(tmp, g, g)
            np.subtract(i, g, g)
            np.multiply(tmp, i, i)
            np.subtract(tmp, i, i)
            dz = z[:, block].swapaxes(0, 1)
            for dz_t, dif, do, dg, F_t, Q_t, dh_t in steps_back(
                dz, dz[:, :2], o, g, F, Q, dh[block]
            ):
                np.add(dh_next, dh_t, dh_next)
                np.multiply(dh_next, do, do)
                # dC <- dC + dH ⊙ Q
                np.multiply(dh_next, Q_t, a)
                np.add(dc, a, dc)
                np.multiply(dif, dc, dif)
                np.multiply(dg, dc, dg)
                np.multiply(dc, F_t, dc)
                # dH' = Σ_k dz_k Wh_kᵀ
                np.matmul(dz_t[:, None], WhT, dzW_tiles)
                np.add.reduce(dzW, axis=0, out=dh_next)
        np.matmul(h[:-1].reshape(T * B, H).T, z.reshape(G, T * B, H), d["Wh"])
