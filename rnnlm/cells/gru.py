"""The gated recurrent unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Array
from ..backend.initial import orthogonal, zeros
from ..backend.params import Parameter
from ..backend.tape import Tape
from ..backend.workspace import Workspace
from .contract import Cell, Weights
from .steps import blocks_back, flat_rows, steps_back


@dataclass(frozen=True)
class GRU(Cell):
    """Cho et al. 2014 (arXiv:1406.1078), in the sign convention of its equation (7).

    Forward, one step (⊙ is the element-wise product, σ the logistic function):

        (1)  z_k = X Wx_k + H' Wh_k + b_k  for k = r, z;   z_n = X Wx_n + b_n
        (2)  R, Z = σ(z_r), σ(z_z)
        (3)  M = (R ⊙ H') Wh_n                   by default: the reset comes before the product
             M = R ⊙ P,   P = H' Wh_n + bh       with `reset_after`: cuDNN's variant
        (4)  N = tanh(z_n + M)
        (5)  H = Z ⊙ H' + (1 - Z) ⊙ N = N + Z ⊙ (H' - N)

    Backward, from dH, the gradient of the output plus that from the next step. Each line belongs to the
    line above with its number; dH' is the sum of four terms:

        (5)  dN = dH ⊙ (1 - Z);   dZ = dH ⊙ (H' - N);   dH' = dH ⊙ Z + ...
        (4)  dz_n = dN ⊙ (1 - N²) = dM
        (3)  E = dz_n Wh_nᵀ;      dR = E ⊙ H';      dH' += E ⊙ R          by default
             dP = dz_n ⊙ R;       dR = dz_n ⊙ P;    dH' += dP Wh_nᵀ       with `reset_after`
        (2)  dz_r = dR ⊙ R ⊙ (1 - R);   dz_z = dZ ⊙ Z ⊙ (1 - Z)
        (1)  dH' += dz_r Wh_rᵀ + dz_z Wh_zᵀ;   dWh_k = Σ_t H'ᵀ dz_k  for k = r, z
             dWh_n = Σ_t (R ⊙ H')ᵀ dz_n,   with `reset_after`  Σ_t H'ᵀ dP  and  dbh = Σ_t dP

    One step in plain NumPy: `gru_step` in tests/support/oracles.py.
    """

    reset_after: bool = False

    gates: ClassVar[tuple[str, ...]] = ("r", "z", "n")
    states: ClassVar[tuple[str, ...]] = ("h",)
    scale: ClassVar[tuple[float, ...]] = (0.5, 0.5, 1.0)
    saved: ClassVar[int] = 1  # R ⊙ H', or P with `reset_after`
    keeping: ClassVar[Mapping[str, int]] = {"z": 1}

    def parameters(self, hidden_size: int) -> dict[str, Parameter]:
        own = {"Wh": Parameter((3, hidden_size, hidden_size), orthogonal, packed=True)}
        if self.reset_after:
            own["bh"] = Parameter((hidden_size,), zeros)
        return own

    def step(self, run: Tape, p: Weights, z: Array, s_prev: Array, s: Array, ws: Workspace) -> None:
        r, u, n, saved = z  # u: the update gate Z
        rz = z[:2]
        (h_prev,), (h,) = s_prev, s
        Wh, hW = p["Wh"], ws("cell.hW", *z.shape)[:3]
        m = hW[2]

        def gates() -> None:
            # (1) and (2): R, Z = (1 + tanh(z / 2)) / 2
            run(np.add, rz, hW[:2], rz)
            run(np.tanh, rz, rz)
            run(np.multiply, rz, 0.5, rz)
            run(np.add, rz, 0.5, rz)

        if self.reset_after:
            run.matmul(h_prev, Wh, hW)
            gates()
            # (3) P = H' Wh_n + bh;  M = R ⊙ P
            run(np.add, m, p["bh"], saved)
            run(np.multiply, r, saved, m)
        else:
            run.matmul(h_prev, Wh[:2], hW[:2])
            gates()
            # (3) M = (R ⊙ H') Wh_n
            run(np.multiply, r, h_prev, saved)
            run.matmul(saved, Wh[2:], hW[2:])
        # (4) N = tanh(z_n + M)
        run(np.add, n, m, n)
        run(np.tanh, n, n)
        # (5) H = N + Z ⊙ (H' - N)
        run(np.subtract, h_prev, n, h)
        run(np.multiply, h, u, h)
        run(np.add, h, n, h)

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
        (dh_next,) = ds
        WhT = p["WhT"]
        # The four terms of dH': dz_r Wh_rᵀ, dz_z Wh_zᵀ, the candidate's, and dH ⊙ Z
        terms = ws("cell.hW", 4, B, H)
        through_n, through_z = terms[2], terms[3]
        for block in blocks_back(T, B * H):
            r, u, n, saved = z[:, block]  # u: the update gate Z
            R, Z, tmp = (ws(name, *r.shape) for name in ("cell.R", "cell.Z", "cell.tmp"))
            h_prev = s_prev[0, block]
            # First what does not depend on dH, for many steps in one call. The activation of a gate is
            # replaced by a factor: dz_k is this factor times dH for u and n; for r it is times E, or
            # times dz_n with `reset_after`.
            # (5), (2)  u <- (H' - N) ⊙ Z ⊙ (1 - Z);  tmp = 1 - Z;  R holds H' - N for these lines only
            run(np.copyto, Z, u)
            run(np.subtract, 1.0, Z, tmp)
            run(np.multiply, u, tmp, u)
            run(np.subtract, h_prev, n, R)
            run(np.multiply, u, R, u)
            # (5), (4)  n <- (1 - Z) ⊙ (1 - N²) = (1 - Z) - (1 - Z) ⊙ N²
            run(np.multiply, n, n, n)
            run(np.multiply, n, tmp, n)
            run(np.subtract, tmp, n, n)
            # (3), (2)  r <- (H' or P) ⊙ R ⊙ (1 - R)
            run(np.copyto, R, r)
            run(np.multiply, R, R, tmp)
            run(np.subtract, R, tmp, r)
            run(np.multiply, r, saved if self.reset_after else h_prev, r)
            for t, dz_t, R_t, Z_t, dh_t in steps_back(block, z[:, block], R, Z, dh[block]):
                dr, _, dn, dP = dz_t
                drz, dzn = dz_t[:2], dz_t[1:3]
                # dH: the gradient of the output plus that from the next step
                run(np.add, dh_next, dh_t, dh_next)
                # (5) the term dH ⊙ Z
                run(np.multiply, dh_next, Z_t, through_z)
                # (5), (4), (2)  dz_z = dH ⊙ u;  dz_n = dH ⊙ n
                run(np.multiply, dzn, dh_next, dzn)
                if self.reset_after:
                    # (3), (2)  dz_r = dz_n ⊙ r;  dP = dz_n ⊙ R;  the term dP Wh_nᵀ
                    run(np.multiply, dr, dn, dr)
                    run(np.multiply, dn, R_t, dP)
                    run.matmul(dP, WhT[2:], terms[2:3])
                else:
                    # (3), (2)  E = dz_n Wh_nᵀ;  dz_r = E ⊙ r;  the term E ⊙ R
                    run.matmul(dn, WhT[2:], terms[2:3])
                    run(np.multiply, dr, through_n, dr)
                    run(np.multiply, through_n, R_t, through_n)
                # (1) the terms dz_r Wh_rᵀ and dz_z Wh_zᵀ;  dH' is the sum of all four
                run.matmul(drz, WhT[:2], terms[:2])
                run(np.add.reduce, terms, 0, None, dh_next)
                yield t

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s_prev: Array) -> None:
        # (1), one product for all steps and streams; the last block of z holds R ⊙ H', or dP
        h_prevT, dz, saved = flat_rows(s_prev[0]).T, flat_rows(z[:3]), flat_rows(z[3])
        np.matmul(h_prevT, dz[:2], d["Wh"][:2])
        if self.reset_after:
            np.matmul(h_prevT, saved, d["Wh"][2])
            np.add.reduce(saved, axis=0, out=d["bh"])
        else:
            np.matmul(saved.T, dz[2], d["Wh"][2])
