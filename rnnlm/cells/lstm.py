"""Long short-term memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Array
from ..backend.initial import orthogonal
from ..backend.params import Parameter
from ..backend.tape import Tape
from ..backend.workspace import Workspace
from .contract import Cell, Weights
from .steps import blocks_back, flat_rows, steps_back


@dataclass(frozen=True)
class LSTM(Cell):
    """Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000.

    Forward, one step (⊙ is the element-wise product, σ the logistic function, k one of i, f, o, g):

        (1)  z_k = X Wx_k + H' Wh_k + b_k
        (2)  I, F, O = σ(z_i), σ(z_f), σ(z_o);   G = tanh(z_g)
        (3)  C = F ⊙ C' + I ⊙ G
        (4)  H = O ⊙ tanh(C)

    Backward, from dH, the gradient of the output plus that from the next step, and dC, that from the
    next step. Each line belongs to the line above with its number:

        (4)  dO = dH ⊙ tanh(C);   dC <- dC + dH ⊙ O ⊙ (1 - tanh²(C))
        (3)  dI = dC ⊙ G;   dF = dC ⊙ C';   dG = dC ⊙ I;   dC' = dC ⊙ F
        (2)  dz_k = dK ⊙ K ⊙ (1 - K)  for K = I, F, O;   dz_g = dG ⊙ (1 - G²)
        (1)  dH' = Σ_k dz_k Wh_kᵀ;   dWh_k = Σ_t H'ᵀ dz_k

    The same in thirty lines of plain NumPy: `lstm_reference` in tests/support/oracles.py.
    """

    gates: ClassVar[tuple[str, ...]] = ("i", "f", "o", "g")
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    scale: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5, 1.0)
    saved: ClassVar[int] = 0
    keeping: ClassVar[Mapping[str, int]] = {"f": 1, "i": -1}
    squashed: ClassVar[slice] = slice(1, 2)
    forgetting: ClassVar[slice] = slice(1, 2)

    def parameters(self, hidden_size: int) -> dict[str, Parameter]:
        return {"Wh": Parameter((4, hidden_size, hidden_size), orthogonal, packed=True)}

    def init_bias(self, b: Array) -> None:
        # A forget gate that starts open lets gradients through from the first step
        # (Jozefowicz, Zaremba and Sutskever 2015, section 4.1).
        b[1] = 1.0

    def step(self, run: Tape, p: Weights, z: Array, s_prev: Array, s: Array, ws: Workspace) -> None:
        hW, a = ws("cell.hW", *z.shape), ws("cell.a", *s.shape[1:])
        (h_prev, c_prev), (h, c) = s_prev, s
        i, f, o, g = z
        ifo = z[:3]
        # (1) z_k = X Wx_k + b_k + H' Wh_k
        run.matmul(h_prev, p["Wh"], hW)
        run(np.add, z, hW, z)
        # (2) I, F, O = (1 + tanh(z / 2)) / 2;  G = tanh(z)
        run(np.tanh, z, z)
        run(np.multiply, ifo, 0.5, ifo)
        run(np.add, ifo, 0.5, ifo)
        # (3) C = F ⊙ C' + I ⊙ G
        run(np.multiply, f, c_prev, c)
        run(np.multiply, i, g, a)
        run(np.add, c, a, c)
        # (4) H = O ⊙ tanh(C)
        run(np.tanh, c, a)
        run(np.multiply, o, a, h)

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
        G, T, B, H = z.shape
        c_prev, c = s_prev[1], s[1]
        dh_next, dc = ds
        dzW, a = ws("cell.hW", G, B, H), ws("cell.a", B, H)
        for block in blocks_back(T, B * H):
            i, f, o, g = z[:, block]
            F, Q, tmp = (ws(name, *f.shape) for name in ("cell.F", "cell.Q", "cell.tmp"))
            # First what does not depend on dH or dC, for many steps in one call. The activation of a
            # gate is replaced by a factor: dz_k is this factor times dC for i, f, g, times dH for o.
            # (4) Q = O ⊙ (1 - tanh²(C)), the factor from dH to dC
            # (4), (2)  o <- tanh(C) ⊙ O ⊙ (1 - O);  F holds O ⊙ tanh(C) for these lines only
            run(np.tanh, c[block], tmp)
            run(np.multiply, o, tmp, F)
            run(np.multiply, F, tmp, Q)
            run(np.subtract, o, Q, Q)
            run(np.multiply, F, o, o)
            run(np.subtract, F, o, o)
            # (3), (2)  f <- C' ⊙ F ⊙ (1 - F);  F is kept for dC'
            run(np.copyto, F, f)
            run(np.multiply, F, F, f)
            run(np.subtract, F, f, f)
            run(np.multiply, f, c_prev[block], f)
            # (3), (2)  g <- I ⊙ (1 - G²);  i <- G ⊙ I ⊙ (1 - I);  tmp = I ⊙ G
            run(np.multiply, i, g, tmp)
            run(np.multiply, tmp, g, g)
            run(np.subtract, i, g, g)
            run(np.multiply, tmp, i, i)
            run(np.subtract, tmp, i, i)
            for t, dz_t, F_t, Q_t, dh_t in steps_back(block, z[:, block], F, Q, dh[block]):
                dif, do, dg = dz_t[:2], dz_t[2], dz_t[3]
                # dH: the gradient of the output plus that from the next step
                run(np.add, dh_next, dh_t, dh_next)
                # (4), (2)  dz_o = dH ⊙ o
                run(np.multiply, dh_next, do, do)
                # (4) dC <- dC + dH ⊙ Q
                run(np.multiply, dh_next, Q_t, a)
                run(np.add, dc, a, dc)
                # (3), (2)  dz_i = dC ⊙ i;  dz_f = dC ⊙ f;  dz_g = dC ⊙ g
                run(np.multiply, dif, dc, dif)
                run(np.multiply, dg, dc, dg)
                # (3) dC' = dC ⊙ F
                run(np.multiply, dc, F_t, dc)
                # (1) dH' = Σ_k dz_k Wh_kᵀ
                run.matmul(dz_t, p["WhT"], dzW)
                run(np.add.reduce, dzW, 0, None, dh_next)
                yield t

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s_prev: Array) -> None:
        # (1) dWh_k = Σ_t H'ᵀ dz_k, one product for all steps and streams
        np.matmul(flat_rows(s_prev[0]).T, flat_rows(z), d["Wh"])
