"""Products of few rows with a large matrix, as fast as products of many rows.

In every call, a BLAS copies ("packs") the right-hand matrix into a layout of its own. For 64 rows or
fewer this copy takes as long as the arithmetic. OpenBLAS does not pack when M·N·K is at most 10⁶. So a
matrix that is used at every step of a window is cut once into tiles: groups of columns, contiguous in
memory, small enough that OpenBLAS does not pack them. One call of numpy.matmul computes the products
with all tiles. Measured in tests/bench/subjects/README.md: 164 -> 240 GFLOP/s at 32 rows, H=512.

One row alone needs no tiles: there the matrices of all gates are joined to one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ..arrays import Array, Shape

SMALL_PRODUCT = 1_000_000  # OpenBLAS, interface/gemm.c and kernel/x86_64/sgemm_small_kernel_permit
WIDTHS = (64, 48, 32, 16)  # multiples of the AVX-512 vector of 16 floats


class PackedMatrix:
    """Matrices W (G, K, N), one for each gate, stored for products with few rows.

    `tiles` (G, N/w, K, w) hold the columns of W in groups of w. A slice selects gates: `W[:2]`. Where
    they are `joined`, memory has the columns of all gates side by side, (K, G, N), in one tile each.
    """

    def __init__(self, tiles: Array, joined: bool = False) -> None:
        self.tiles, self._joined = tiles, joined

    @classmethod
    def empty(
        cls,
        shape: Shape,
        rows: int | None,
        allocate: Callable[[Shape], Array],
        joined: bool = False,
    ) -> PackedMatrix:
        """Memory for matrices of `shape` (G, K, N) that are multiplied with `rows` rows at a time.

        `rows` None: with many rows. One tile for all columns is then fastest. `joined`: with one row,
        the same for all gates.
        """
        G, K, N = shape
        # For other widths the bits are not those of each gate alone
        if joined and (G == 1 or N % WIDTHS[-1] == 0):
            return cls(allocate((K, 1, G, N)).transpose(2, 1, 0, 3), joined)
        width = N if rows is None else tile_width(rows, K, N)
        return cls(allocate((G, N // width, K, width)))

    def fill(self, gate: int, W: Array, scale: float = 1.0) -> None:
        """Store W (K, N) times `scale` as the matrix of one gate."""
        n, K, width = self.tiles.shape[1:]
        columns = W.reshape(K, n, width).swapaxes(0, 1)
        np.multiply(columns, W.dtype.type(scale), out=self.tiles[gate])

    def __getitem__(self, gates: slice) -> PackedMatrix:
        return PackedMatrix(self.tiles[gates], self._joined)

    def product(self, X: Array, out: Array) -> Callable[[], object]:
        """The call that computes out_k = X W_k, for X and out as in `operands`."""
        G, _, K, N = self.tiles.shape
        if self._joined and X.size == K:
            W = self.tiles[:, 0].swapaxes(0, 1).reshape(K, G * N)
            if W.flags.c_contiguous:  # one product with a vector for all gates
                return partial(np.dot, X.reshape(K), W, out.reshape(G * N))
        return partial(np.matmul, *self.operands(X, out))

    def cut(
        self, X: Array, out: Array, share: float
    ) -> tuple[Callable[[], object], Callable[[], object]] | None:
        """The call of `product` as two calls, of which the second computes about that share.

        Each has some of the tiles, or of the gates where a gate is one tile: the same bits. None where
        there is one tile.
        """
        if X.ndim == out.ndim:
            return None
        X, tiles, columns = self.operands(X, out)
        axis = 1 if tiles.shape[1] > 1 else 0
        n = tiles.shape[axis]
        first = n - round(n * share)
        if not 0 < first < n:
            return None
        tiles, columns = tiles.swapaxes(0, axis), columns.swapaxes(0, axis)
        return (
            partial(np.matmul, X, tiles[:first], columns[:first]),
            partial(np.matmul, X, tiles[first:], columns[first:]),
        )

    def operands(self, X: Array, out: Array) -> tuple[Array, Array, Array]:
        """The three arguments of `numpy.matmul` that compute out_k = X W_k.

        out is (G, ..., M, N). X is (..., M, K), the same for all gates, or (G, ..., M, K).
        """
        G, n, K, width = self.tiles.shape
        between = out.ndim - 3  # axes between gates and rows
        tiles = self.tiles.reshape(G, n, *(1,) * between, K, width)
        columns = out.reshape(*out.shape[:-1], n, width)
        return X[:, None] if X.ndim == out.ndim else X, tiles, np.moveaxis(columns, -2, 1)


def tile_width(rows: int, inner: int, columns: int) -> int:
    """The largest tile width for which `rows` rows need no packing; `columns` if there is none."""
    for width in WIDTHS:
        if rows > 1 and columns % width == 0 and rows * inner * width <= SMALL_PRODUCT:
            return width
    return columns
