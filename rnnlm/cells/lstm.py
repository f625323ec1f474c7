"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..params import Array, Shape
from ..tape import Tape
from ..tiles import tiled
from ..workspace import Workspace
from .steps import blocks_back, flat_rows, steps_back


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

    def step(
        self, run: Tape, p: Mapping[str, Array], z: Array, s_prev: Array, s: Array, ws: Workspace
    ) -> None:
        Wh = p["Wh.tiles"]
        hW, a = ws("cell.hW", *z.shape), ws("cell.a", *s.shape[1:])
        (h_prev, c_prev), (h, c) = s_prev, s
        i, f, o, g = z
        ifo = z[:3]
        run(np.matmul, h_prev, Wh, tiled(hW, Wh))
        run(np.add, z, hW, z)
        # I, F, O = (1 + tanh(z / 2)) / 2;  G = tanh(z)
        run(np.tanh, z, z)
        run(np.multiply, ifo, 0.5, ifo)
        run(np.add, ifo, 0.5, ifo)
        # C = F ⊙ C' + I ⊙ G
        run(np.multiply, f, c_prev, c)
        run(np.multiply, i, g, a)
        run(np.add, c, a, c)
        # H = O ⊙ tanh(C)
        run(np.tanh, c, a)
        run(np.multiply, o, a, h)

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
        G, T, B, H = z.shape
        _, c = s
        dh_next, dc = ds
        WhT = p["WhT.tiles"]
        dzW, a = ws("cell.hW", G, B, H), ws("cell.a", B, H)
        for block in blocks_back(T, B * H):
            i, f, o, g = z[:, block]
            F, Q, tmp = (ws(name, *f.shape) for name in ("cell.F", "cell.Q", "cell.tmp"))
            # Everything that does not depend on dH or dC, for many steps at once: each gate becomes
            # the factor that dH or dC is multiplied with, and
            # Q = O ⊙ (1 - tanh²(C));  o <- tanh(C) ⊙ O ⊙ (1 - O)
            run(np.tanh, c[1:][block], tmp)
            run(np.multiply, o, tmp, F)
            run(np.multiply, F, tmp, Q)
            run(np.subtract, o, Q, Q)
            run(np.multiply, F, o, o)
            run(np.subtract, F, o, o)
            # f <- C' ⊙ F ⊙ (1 - F), while F itself is kept
            run(np.copyto, F, f)
            run(np.multiply, F, F, f)
            run(np.subtract, F, f, f)
            run(np.multiply, f, c[:-1][block], f)
            # g <- I ⊙ (1 - G²);  i <- G ⊙ I ⊙ (1 - I)
            run(np.multiply, i, g, tmp)
            run(np.multiply, tmp, g, g)
            run(np.subtract, i, g, g)
            run(np.multiply, tmp, i, i)
            run(np.subtract, tmp, i, i)
            dz = z[:, block].swapaxes(0, 1)
            for dz_t, F_t, Q_t, dh_t in steps_back(dz, F, Q, dh[block]):
                dif, do, dg = dz_t[:2], dz_t[2], dz_t[3]
                run(np.add, dh_next, dh_t, dh_next)
                run(np.multiply, dh_next, do, do)
                # dC <- dC + dH ⊙ Q
                run(np.multiply, dh_next, Q_t, a)
                run(np.add, dc, a, dc)
                run(np.multiply, dif, dc, dif)
                run(np.multiply, dg, dc, dg)
                run(np.multiply, dc, F_t, dc)
                # dH' = Σ_k dz_k Wh_kᵀ
                run(np.matmul, dz_t[:, None], WhT, tiled(dzW, WhT))
                run(np.add.reduce, dzW, 0, None, dh_next)

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s: Array) -> None:
        np.matmul(flat_rows(s[0, :-1]).T, flat_rows(z), d["Wh"])
