"""The gated recurrent unit."""

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

    def stepper(self, p: Mapping[str, Array], rows: Shape, H: int, ws: Workspace) -> Step:
        Wh = p["Wh.tiles"]
        hW = ws("cell.hW", 4, *rows, H)[:3]
        hW_tiles = tiled(hW, Wh)
        hW_n = hW[2]

        def gates(rz: Array, hW_rz: Array) -> None:
            # R, Z = (1 + tanh(z / 2)) / 2
            np.add(rz, hW_rz, rz)
            np.tanh(rz, rz)
            np.multiply(rz, 0.5, rz)
            np.add(rz, 0.5, rz)

        def output(n: Array, m: Array, z: Array, h_prev: Array, h: Array) -> None:
            # N = tanh(X Wx_n + b_n + M);  H = N + Z ⊙ (H' - N)
            np.add(n, m, n)
            np.tanh(n, n)
            np.subtract(h_prev, n, h)
            np.multiply(h, z, h)
            np.add(h, n, h)

        if self.reset_after:
            bh, m = p["bh"], ws("cell.a", *rows, H)

            def step(z_t: Array, s_prev: Array, s_t: Array) -> None:
                r, z, n, P = z_t
                (h_prev,), (h,) = s_prev, s_t
                np.matmul(h_prev, Wh, hW_tiles)
                gates(z_t[:2], hW[:2])
                # P = H' Wh_n + bh;  M = R ⊙ P
                np.add(hW_n, bh, P)
                np.multiply(r, P, m)
                output(n, m, z, h_prev, h)

        else:
            Wh_rz, Wh_n = Wh[:2], Wh[2]
            hW_rz, hW_rz_tiles, hW_n_tiles = hW[:2], hW_tiles[:2], hW_tiles[2]

            def step(z_t: Array, s_prev: Array, s_t: Array) -> None:
                r, z, n, rh = z_t
                (h_prev,), (h,) = s_prev, s_t
                np.matmul(h_prev, Wh_rz, hW_rz_tiles)
                gates(z_t[:2], hW_rz)
                # M = (R ⊙ H') Wh_n
                np.multiply(r, h_prev, rh)
                np.matmul(rh, Wh_n, hW_n_tiles)
                output(n, hW_n, z, h_prev, h)

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
            np.copyto(Z, u)
            np.subtract(1, Z, tmp)
            np.multiply(u, tmp, u)
            np.subtract(h_prev, n, R)
            np.multiply(u, R, u)
            # n <- (1 - Z) ⊙ (1 - N²) = (1 - Z) - (1 - Z) ⊙ N²
            np.multiply(n, n, n)
            np.multiply(n, tmp, n)
            np.subtract(tmp, n, n)
            # r <- (H' or P) ⊙ R ⊙ (1 - R)
            np.copyto(R, r)
            np.multiply(R, R, tmp)
            np.subtract(R, tmp, r)
            np.multiply(r, saved if self.reset_after else h_prev, r)
            dz = z[:, block].swapaxes(0, 1)
            views = steps_back(dz[:, :2], dz[:, 1:3], dz[:, 0], dz[:, 2], saved, R, Z, dh[block])
            for drz, dzn, dr, dn, dP, R_t, Z_t, dh_t in views:
                np.add(dh_next, dh_t, dh_next)
                np.multiply(dh_next, Z_t, through_z)
                np.multiply(dzn, dh_next, dzn)
                if self.reset_after:
                    np.multiply(dr, dn, dr)
                    np.multiply(dn, R_t, dP)
                    np.matmul(dP, WhT[2], terms_tiles[2])
                else:
                    # E = dz_n Wh_nᵀ;  dz_r = E ⊙ H' ⊙ R ⊙ (1 - R)
                    np.matmul(dn, WhT[2], terms_tiles[2])
                    np.multiply(dr, through_n, dr)
                    np.multiply(through_n, R_t, through_n)
                np.matmul(drz[:, None], WhT[:2], terms_tiles[:2])
                np.add.reduce(terms, axis=0, out=dh_next)
        rows = (T * B, H)
        h_prevT = h[:-1].reshape(rows).T
        dn, saved = z[2].reshape(rows), z[3].reshape(rows)
        np.matmul(h_prevT, z[:2].reshape(2, *rows), d["Wh"][:2])
        if self.reset_after:
            np.matmul(h_prevT, saved, d["Wh"][2])
            np.add.reduce(saved, axis=0, out=d["bh"])
        else:
            np.matmul(saved.T, dn, d["Wh"][2])
