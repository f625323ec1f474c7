"""The simple recurrent unit: a cell whose products do not wait for the step before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from ..arrays import Array
from ..backend.initial import zeros
from ..backend.params import Parameter
from ..backend.tape import Tape
from ..backend.workspace import Workspace
from .contract import Cell, Weights
from .rnn import ACTIVATIONS
from .steps import blocks_back, steps_back

# g, and g' as a function of g(C); None for the identity, for which there is nothing to compute
G = {"identity": None, "tanh": ACTIVATIONS["tanh"]}


@dataclass(frozen=True)
class SRU(Cell):
    """Lei, Zhang, Wang, Dai and Artzi 2018 (arXiv:1709.02755), equations (1) to (4).

    Forward (⊙ is the element-wise product, σ the logistic function, g the `activation`):

        (1)  z_k = X Wx_k + v_k ⊙ C' + b_k  for k = f, r;   U = X Wx_u + b_u
             X̃ = α X, or α (X Wx_x + b_x) where X is one-hot or not of size H;   α = √3
        (2)  F, R = σ(z_f), σ(z_r)
        (3)  C = F ⊙ C' + (1 - F) ⊙ U = U + F ⊙ (C' - U)
        (4)  H = R ⊙ g(C) + (1 - R) ⊙ X̃ = X̃ + R ⊙ (g(C) - X̃)

    The paper has no b_u and no b_x; they start at 0. α keeps the variance of H near that of X (its
    section 3.2, for b_r = 0). Only z_f, F and C wait for the step before: all products, R and H are
    computed for many steps at once.

    Backward, from dH, the gradient of the output, and dC, that from the next step. Each line belongs to
    the line above with its number; dC' is the sum of three terms:

        (4)  dR = dH ⊙ (g(C) - X̃);   dX̃ = dH ⊙ (1 - R);   dC <- dC + dH ⊙ R ⊙ g'(C)
        (3)  dF = dC ⊙ (C' - U);   dU = dC ⊙ (1 - F);   dC' = dC ⊙ F + ...
        (2)  dz_k = dK ⊙ K ⊙ (1 - K)  for K = F, R
        (1)  dC' += dz_f ⊙ v_f + dz_r ⊙ v_r;   dv_k = Σ_t dz_k ⊙ C';   dz_x = α dX̃

    So dC' = dC ⊙ J + P with J = F + v_f ⊙ (C' - U) ⊙ F ⊙ (1 - F) and P = dz_r ⊙ v_r: only this waits
    for the next step.

    One step in plain NumPy: `sru_step` in tests/support/oracles.py.
    """

    activation: Literal["identity", "tanh"] = "identity"

    gates: ClassVar[tuple[str, ...]] = ("f", "r", "u", "x")
    states: ClassVar[tuple[str, ...]] = ("h", "c")
    scale: ClassVar[tuple[float, ...]] = (0.5, 0.5, 1.0, math.sqrt(3))
    saved: ClassVar[int] = 0
    keeping: ClassVar[Mapping[str, int]] = {"f": 1}
    carried: ClassVar[int] = 1
    direct: ClassVar[int] = 1

    @property
    def bounded(self) -> bool:
        return False  # C and X̃ are not

    def parameters(self, hidden_size: int) -> dict[str, Parameter]:
        return {"v": Parameter((2, hidden_size), zeros)}

    def forward(
        self, run: Tape, p: Weights, z: Array, s_prev: Array, s: Array, ws: Workspace
    ) -> Iterator[int]:
        f, r, u, x = z
        T, *rows, H = f.shape
        c_prev, (h, c) = s_prev[1], s
        v, a = ws("cell.v", 2, *rows, H), ws("cell.a", *rows, H)
        # Half of v, as z is half (`scale`), and repeated for every row: a call takes half the time then
        run(np.multiply, p["v"].reshape(2, *(1 for _ in rows), H), 0.5, v)
        for t in range(T):
            yield t
            f_t, u_t = f[t], u[t]
            # (1) z_f = X Wx_f + b_f + v_f ⊙ C';  (2) F = (1 + tanh(z_f / 2)) / 2
            run(np.multiply, c_prev[t], v[0], a)
            run(np.add, f_t, a, f_t)
            run(np.tanh, f_t, f_t)
            run(np.multiply, f_t, 0.5, f_t)
            run(np.add, f_t, 0.5, f_t)
            # (3) C = U + F ⊙ (C' - U)
            run(np.subtract, c_prev[t], u_t, a)
            run(np.multiply, a, f_t, a)
            run(np.add, u_t, a, c[t])
        g = G[self.activation]
        for block in blocks_back(T, math.prod(rows) * H):
            R, X, out = r[block], x[block], h[block]
            tmp = ws("cell.tmp", *R.shape)
            # (1) z_r = X Wx_r + b_r + v_r ⊙ C';  (2) R = (1 + tanh(z_r / 2)) / 2
            run(np.multiply, c_prev[block], v[1], tmp)
            run(np.add, R, tmp, R)
            run(np.tanh, R, R)
            run(np.multiply, R, 0.5, R)
            run(np.add, R, 0.5, R)
            # (4) H = X̃ + R ⊙ (g(C) - X̃)
            gC = c[block] if g is None else tmp
            if g is not None:
                run(g[0], c[block], gC)
            run(np.subtract, gC, X, out)
            run(np.multiply, out, R, out)
            run(np.add, out, X, out)

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
        g = G[self.activation]
        dh_last, dc = ds
        v = ws("cell.v", 2, B, H)
        run(np.copyto, v, p["v"][:, None])
        # No step reads h: its gradient from the final state is that of the last output
        run(np.add, dh[-1], dh_last, dh[-1])
        run(dh_last.fill, 0.0)
        for block in blocks_back(T, B * H):
            f, r, u, x = z[:, block]
            dH, c_prev = dh[block], s_prev[1, block]
            D, J, P, tmp = (ws(f"cell.{name}", *f.shape) for name in ("D", "J", "P", "tmp"))
            # First what does not depend on dC, for many steps in one call.
            # (4) D = dH ⊙ R ⊙ g'(C), what the outputs add to dC;  x <- dz_x = α dH ⊙ (1 - R)
            # (4), (2)  r <- dz_r = dH ⊙ (g(C) - X̃) ⊙ R ⊙ (1 - R);  P = dz_r ⊙ v_r
            gC = s[1, block] if g is None else tmp
            if g is not None:
                run(g[0], s[1, block], gC)
            run(np.subtract, gC, x, J)
            run(np.multiply, dH, r, D)
            run(np.subtract, dH, D, x)
            run(np.multiply, J, x, J)
            run(np.multiply, J, r, r)
            run(np.multiply, x, self.scale[3], x)
            if g is not None:
                run(g[1], gC, tmp)
                run(np.multiply, D, tmp, D)
            run(np.multiply, r, v[1], P)
            # (3), (2)  f <- (C' - U) ⊙ F ⊙ (1 - F);  u <- 1 - F;  J = F + f ⊙ v_f
            run(np.subtract, c_prev, u, tmp)
            run(np.subtract, 1.0, f, u)
            run(np.copyto, J, f)
            run(np.multiply, f, u, f)
            run(np.multiply, f, tmp, f)
            run(np.multiply, f, v[0], tmp)
            run(np.add, J, tmp, J)
            for t, D_t, J_t, P_t in steps_back(block, D[None], J, P):
                # dC: the gradient of the output plus that from the next step, kept in D
                run(np.add, D_t[0], dc, D_t[0])
                # dC' = dC ⊙ J + P
                run(np.multiply, D_t[0], J_t, dc)
                run(np.add, dc, P_t, dc)
                yield t
            # (3), (2)  dz_f = dC ⊙ f;  dU = dC ⊙ u
            run(np.multiply, f, D, f)
            run(np.multiply, u, D, u)

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s_prev: Array) -> None:
        # (1) dv_k = Σ_t dz_k ⊙ C'
        np.einsum("ktbh,tbh->kh", z[:2], s_prev[1], out=d["v"])
