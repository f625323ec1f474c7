"""The gated recurrent unit."""

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
class GRU:
    """Cho et al. 2014 (arXiv:1406.1078), in the sign convention of its equation (7).

    Forward, for one step (⊙ is the element-wise product, σ the logistic function):

        R, Z = σ(z_r), σ(z_z)                                with z_k = X Wx_k + H' Wh_k + b_k
        N = tanh(X Wx_n + b_n + M)
        M = (R ⊙ H') Wh_n                   by default: the reset comes before the product
        M = R ⊙ P,  P = H' Wh_n + bh        with `reset_after`: cuDNN's variant
        H = Z ⊙ H' + (1 - Z) ⊙ N = N + Z ⊙ (H' - N)

    Backward, where dH already holds what comes from the next step:

        dz_n = dH ⊙ (1 - Z) ⊙ (1 - N²)
        dz_z = dH ⊙ (H' - N) ⊙ Z ⊙ (1 - Z)
        dH'  = dH ⊙ Z + dz_r Wh_rᵀ + dz_z Wh_zᵀ + ...
        by default:          E = dz_n Wh_nᵀ;     dz_r = E ⊙ H' ⊙ R ⊙ (1 - R);     dH' += E ⊙ R
        with `reset_after`:  dP = dz_n ⊙ R;      dz_r = dz_n ⊙ P ⊙ R ⊙ (1 - R);   dH' += dP Wh_nᵀ
        dWh_r, dWh_z = Σ_t H'ᵀ dz_r, Σ_t H'ᵀ dz_z
        dWh_n = Σ_t (R ⊙ H')ᵀ dz_n,   with `reset_after`  Σ_t H'ᵀ dP  and  dbh = Σ_t dP
    """

    reset_after: bool = False

    gates: ClassVar[tuple[str, ...]] = ("r", "z", "n")
    states: ClassVar[tuple[str, ...]] = ("h",)
    scale: ClassVar[tuple[float, ...]] = (0.5, 0.5, 1.0)
    saved: ClassVar[int] = 1  # R ⊙ H', or P with `reset_after`

    def shapes(self, hidden_size: int) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"Wh": (3, hidden_size, hidden_size)}
        if self.reset_after:
            shapes["bh"] = (hidden_size,)
        return shapes

    def init_bias(self, b: Array) -> None:
        del b  # stays zero

    def step(
        self, run: Tape, p: Mapping[str, Array], z: Array, s_prev: Array, s: Array, ws: Workspace
    ) -> None:
        r, u, n, saved = z  # u: the update gate Z
        rz = z[:2]
        (h_prev,), (h,) = s_prev, s
        Wh = p["Wh.tiles"]
        hW = ws("cell.hW", *z.shape)[:3]
        hW_tiles = tiled(hW, Wh)

        def gates() -> None:
            # R, Z = (1 + tanh(z / 2)) / 2
            run(np.add, rz, hW[:2], rz)
            run(np.tanh, rz, rz)
            run(np.multiply, rz, 0.5, rz)
            run(np.add, rz, 0.5, rz)

        m = hW[2]
        if self.reset_after:
            # P = H' Wh_n + bh;  M = R ⊙ P
            run(np.matmul, h_prev, Wh, hW_tiles)
            gates()
            run(np.add, m, p["bh"], saved)
            run(np.multiply, r, saved, m)
        else:
            # M = (R ⊙ H') Wh_n
            run(np.matmul, h_prev, Wh[:2], hW_tiles[:2])
            gates()
            run(np.multiply, r, h_prev, saved)
            run(np.matmul, saved, Wh[2], hW_tiles[2])
        # N = tanh(X Wx_n + b_n + M);  H = N + Z ⊙ (H' - N)
        run(np.add, n, m, n)
        run(np.tanh, n, n)
        run(np.subtract, h_prev, n, h)
        run(np.multiply, h, u, h)
        run(np.add, h, n, h)

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
        (h,), (dh_next,) = s, ds
        WhT = p["WhT.tiles"]
        # The four terms of dH': dz_r Wh_rᵀ, dz_z Wh_zᵀ, the candidate's, and dH ⊙ Z
        terms = ws("cell.hW", 4, B, H)
        terms_tiles = tiled(terms[:3], WhT)
        through_n, through_z = terms[2], terms[3]
        for block in blocks_back(T, B * H):
            r, u, n, saved = z[:, block]  # u: the update gate Z
            R, Z, tmp = (ws(name, *r.shape) for name in ("cell.R", "cell.Z", "cell.tmp"))
            h_prev = h[:-1][block]
            # Everything that does not depend on dH, for many steps at once: each gate becomes the
            # factor that dH, dz_n or E is multiplied with.
            # u <- (H' - N) ⊙ Z ⊙ (1 - Z)
            run(np.copyto, Z, u)
            run(np.subtract, 1, Z, tmp)
            run(np.multiply, u, tmp, u)
            run(np.subtract, h_prev, n, R)
            run(np.multiply, u, R, u)
            # n <- (1 - Z) ⊙ (1 - N²) = (1 - Z) - (1 - Z) ⊙ N²
            run(np.multiply, n, n, n)
            run(np.multiply, n, tmp, n)
            run(np.subtract, tmp, n, n)
            # r <- (H' or P) ⊙ R ⊙ (1 - R)
            run(np.copyto, R, r)
            run(np.multiply, R, R, tmp)
            run(np.subtract, R, tmp, r)
            run(np.multiply, r, saved if self.reset_after else h_prev, r)
            for z_t, R_t, Z_t, dh_t in steps_back(z[:, block].swapaxes(0, 1), R, Z, dh[block]):
                dr, _, dn, dP = z_t
                drz, dzn = z_t[:2], z_t[1:3]
                run(np.add, dh_next, dh_t, dh_next)
                run(np.multiply, dh_next, Z_t, through_z)
                run(np.multiply, dzn, dh_next, dzn)
                if self.reset_after:
                    run(np.multiply, dr, dn, dr)
                    run(np.multiply, dn, R_t, dP)
                    run(np.matmul, dP, WhT[2], terms_tiles[2])
                else:
                    # E = dz_n Wh_nᵀ;  dz_r = E ⊙ H' ⊙ R ⊙ (1 - R)
                    run(np.matmul, dn, WhT[2], terms_tiles[2])
                    run(np.multiply, dr, through_n, dr)
                    run(np.multiply, through_n, R_t, through_n)
                run(np.matmul, drz[:, None], WhT[:2], terms_tiles[:2])
                run(np.add.reduce, terms, 0, None, dh_next)

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s: Array) -> None:
        h_prevT, dz, saved = flat_rows(s[0, :-1]).T, flat_rows(z[:3]), flat_rows(z[3])
        np.matmul(h_prevT, dz[:2], d["Wh"][:2])
        if self.reset_after:
            np.matmul(h_prevT, saved, d["Wh"][2])
            np.add.reduce(saved, axis=0, out=d["bh"])
        else:
            np.matmul(saved.T, dz[2], d["Wh"][2])
