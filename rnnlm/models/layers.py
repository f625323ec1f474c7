"""What a layer computes beside its recurrence: input projection, dropout, softmax cross-entropy.

Every backward function follows its forward function. Arrays: ids (R,) integers; X (R, D) rows of input,
R = T·B; z and dz (G, R, H); H (R, H) hidden states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..backend.tape import Tape
from ..backend.tiles import PackedMatrix
from ..backend.workspace import Workspace

LOGITS_BLOCK = 1 << 20  # logits in one row block: 4 MiB of float32, whatever the vocabulary
LOGITS_ROWS = 512  # rows in one block: small vocabularies stay in the cache


def one_hot_projection(run: Tape, ids: Array, table: Array, z: Array) -> None:
    """z_k = onehot(ids) table_k: the product selects rows of table (G, V, H), which includes the bias.

    In memory, table and z may both be (G, R, H), or both (R, G, H) with the first axes swapped.
    """
    # With mode "clip", take writes into z without a buffer; ids are always in range
    if table.flags.c_contiguous:
        run(table.take, ids, 1, z, "clip")
    else:
        run(table.swapaxes(0, 1).take, ids, 0, z.swapaxes(0, 1), "clip")


def one_hot_projection_backward(ids: Array, dz: Array, dtable: Array, ws: Workspace) -> None:
    """dtable_k = onehot(ids)ᵀ dz_k: for each symbol, the sum of its rows of dz (G, R, H).

    The rows are sorted by symbol, and the rows of each symbol are summed, always in the same order.
    For every vocabulary this is faster than the product with one-hot rows.
    """
    R = ids.size
    order = np.argsort(ids, kind="stable")
    ordered = ws("one_hot.ordered", R, dtype=ids.dtype)
    np.take(ids, order, out=ordered, mode="clip")
    begins = ws("one_hot.begins", R, dtype=np.bool_)
    begins[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], begins[1:])
    starts = np.flatnonzero(begins)
    rows = ws("one_hot.rows", R, dz.shape[2])
    dtable.fill(0)
    for dz_k, dtable_k in zip(dz, dtable, strict=True):
        np.take(dz_k, order, axis=0, out=rows, mode="clip")
        stop = R
        for start in reversed(starts):
            np.add.reduce(rows[start:stop], axis=0, out=dtable_k[ordered[start]])
            stop = start


def dense_projection(run: Tape, X: Array, Wx: PackedMatrix, b: Array, z: Array) -> None:
    """z_k = X Wx_k + b_k, with Wx (G, D, H), and b (G, 1, H) or as large as z."""
    run.matmul(X, Wx, z)
    run(np.add, z, b, z)


def dense_projection_backward(
    X: Array, Wx: Array, dz: Array, dWx: Array, db: Array, dX: Array, ws: Workspace
) -> None:
    """dWx_k = Xᵀ dz_k;  db_k = Σ_rows dz_k;  dX = Σ_k dz_k Wx_kᵀ."""
    np.matmul(X.T, dz, dWx)
    sum_rows(dz, db, ws)
    part = ws("dense.dX", *dX.shape)
    for k, (dz_k, Wx_k) in enumerate(zip(dz, Wx, strict=True)):
        np.matmul(dz_k, Wx_k.T, part if k else dX)
        if k:
            np.add(dX, part, dX)


def projection(
    run: Tape,
    p: Mapping[str, Any],
    X: Array | None,
    ids: Array,
    z: Array,
    factors: Array | None = None,
) -> None:
    """A layer's projection of its input: the rows X, or where that is None, one-hot ids, each row
    times its factor (R, 1) where there are `factors`.
    """
    if X is None:
        one_hot_projection(run, ids, p["table"], z)
        if factors is not None:  # not for the bias, which is in the table
            run(np.subtract, z, p["b"], z)
            run(np.multiply, z, factors, z)
            run(np.add, z, p["b"], z)
    else:
        dense_projection(run, X, p["Wx"], p["b"], z)


def projection_backward(
    X: Array | None,
    ids: Array,
    Wx: Array,
    dz: Array,
    d: Mapping[str, Array],
    dX: Array,
    ws: Workspace,
    factors: Array | None = None,
) -> None:
    """The gradients of Wx and b in `d`, and of X in dX. `factors` may overwrite dz."""
    if X is None and factors is not None:
        sum_rows(dz, d["b"], ws)
        np.multiply(dz, factors, dz)
        one_hot_projection_backward(ids, dz, d["Wx"], ws)
    elif X is None:
        one_hot_projection_backward(ids, dz, d["Wx"], ws)
        # Each row of dz is in the sum of one symbol, so the sum over symbols is Σ_rows dz
        np.add.reduce(d["Wx"], axis=1, out=d["b"])
    else:
        dense_projection_backward(X, Wx, dz, d["Wx"], d["b"], dX, ws)


def sum_rows(dz: Array, db: Array, ws: Workspace) -> None:
    """db_k = Σ_rows dz_k for dz (G, R, H): a product with ones, four times as fast as a sum."""
    ones = ws("sum_rows.ones", dz.shape[1])
    ones.fill(1)
    np.matmul(ones, dz, db)


@dataclass(frozen=True)
class Place:
    """Where dropout is applied to rows of `size` elements.

    `locked`: all steps of a window have the same mask. `by_symbol`: the elements are symbols, and a row
    takes that of its id.
    """

    rate: float
    size: int
    locked: bool = False
    by_symbol: bool = False

    def count(self, T: int, B: int) -> int:
        """How many numbers a mask has."""
        return (1 if self.locked else T) * B * self.size if self.rate else 0

    def mask(self, ids: Array, rng: np.random.Generator, name: str, ws: Workspace) -> Array:
        """Draw the mask (T, B, size) for a window of ids (T, B): (1, B, size) where it is locked, and
        (T, B, 1) by symbol.
        """
        T, B = ids.shape
        mask = ws(name, 1 if self.locked else T, B, self.size)
        dropout_mask(self.rate, rng, mask)
        return mask[0, np.arange(B), ids, None] if self.by_symbol else mask


def dropout(X: Array, rate: float, rng: np.random.Generator, mask: Array, out: Array) -> None:
    """out = X ⊙ mask, with a mask drawn by `dropout_mask`."""
    dropout_mask(rate, rng, mask)
    np.multiply(X, mask, out)


def dropout_mask(rate: float, rng: np.random.Generator, mask: Array) -> None:
    """Draw a mask: 0 with probability `rate`, else 1 / (1 - rate).

    Inverted dropout (Srivastava et al. 2014, section 10): nothing is scaled at test time.
    """
    rng.random(out=mask, dtype=mask.dtype)
    np.add(mask, 1 - rate, mask)
    np.floor(mask, mask)  # 1 with probability 1 - rate
    np.multiply(mask, 1 / (1 - rate), mask)


def dropout_backward(mask: Array, dX: Array) -> None:
    """dX <- dX ⊙ mask."""
    np.multiply(dX, mask, dX)


def square_penalty(x: Array, counted: Array, weight: float, ws: Workspace) -> tuple[float, Array]:
    """weight · Σ x² over the rows of x (T, B, H) that count, and its gradient, 2 · weight · x there.

    `counted` (T, B) is true where they do.
    """
    dx = np.multiply(x, counted[:, :, None], ws("penalty", *x.shape))
    total = weight * float(np.vdot(dx, dx))
    return total, np.multiply(dx, 2 * weight, dx)


def logits_rows(R: int, V: int) -> int:
    """How many of R rows of logits over V symbols are computed at a time."""
    return max(1, min(R, LOGITS_ROWS, max(64, LOGITS_BLOCK // V)))


@dataclass(frozen=True)
class OutputGradients:
    """Where `softmax_cross_entropy` writes the gradients of scale · loss."""

    dH: Array  # (R, D)
    dWy: Array  # (D, V)
    dby: Array  # (V,)
    scale: float


def softmax_cross_entropy(
    H: Array,
    Wy: Array,
    by: Array,
    targets: Array,
    ws: Workspace,
    gradients: OutputGradients | None = None,
    losses: Array | None = None,
) -> float:
    """Σ_rows -ln softmax(H Wy + by)[target], in nats; H (R, D), Wy (D, V), by (V,), targets (R,).

    Rows with a negative target do not count, neither in the sum nor in the gradients. `losses` (R,),
    where given, receives the loss of each row.

    Rows are computed in blocks, and the gradient of a block overwrites its logits: a large vocabulary
    takes no more memory than a small one. The largest logit of each row is subtracted first, so logits
    of any size are safe.
    """
    R, V = H.shape[0], by.size
    length = logits_rows(R, V)
    total = 0.0
    for start in range(0, R, length):
        rows = slice(start, min(start + length, R))
        n = rows.stop - start
        logits = ws("softmax.logits", n, V)
        np.matmul(H[rows], Wy, logits)
        np.add(logits, by, logits)
        np.subtract(logits, np.maximum.reduce(logits, axis=1, keepdims=True), logits)
        ignored = np.flatnonzero(targets[rows] < 0)
        at_target = (np.arange(n), np.maximum(targets[rows], 0) if ignored.size else targets[rows])
        shifted = logits[at_target]
        np.exp(logits, logits)
        sums = np.add.reduce(logits, axis=1, keepdims=True)
        # -ln p = ln Σ exp(logits - peak) - (logit - peak)
        nats = np.log(sums[:, 0], dtype=np.float64) - shifted
        nats[ignored] = 0
        total += float(np.add.reduce(nats))
        if losses is not None:
            losses[rows] = nats
        if gradients is not None:
            # dlogits = scale · (softmax - onehot(target)), in the memory of the logits
            np.multiply(logits, gradients.scale / sums, logits)
            logits[at_target] -= gradients.scale
            logits[ignored] = 0
            _output_backward(H[rows], Wy, logits, rows, gradients, ws)
    return total


def _output_backward(
    H: Array, Wy: Array, dlogits: Array, rows: slice, to: OutputGradients, ws: Workspace
) -> None:
    """dH = dlogits Wyᵀ;  dWy = Σ_blocks Hᵀ dlogits;  dby = Σ_rows dlogits."""
    np.matmul(dlogits, Wy.T, to.dH[rows])
    if rows.start == 0:
        np.matmul(H.T, dlogits, to.dWy)
        np.add.reduce(dlogits, axis=0, out=to.dby)
    else:
        part = ws("softmax.dWy", *to.dWy.shape)
        np.matmul(H.T, dlogits, part)
        np.add(to.dWy, part, to.dWy)
        np.add(to.dby, np.add.reduce(dlogits, axis=0), to.dby)
