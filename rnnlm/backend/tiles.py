"""Products of a few rows with a large matrix, at the speed of a product of many.

A BLAS copies ("packs") the right-hand matrix into its own layout at every call. For 64 rows or fewer
that copy costs as much as the arithmetic. OpenBLAS skips it when M·N·K is at most 10⁶, so a matrix
that serves every step of a window is cut once into contiguous column tiles that keep each product
below that size, and numpy.matmul runs over the tiles in one call. Measured in tests/bench/README.md:
164 -> 240 GFLOP/s at 32 rows, H=512.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..arrays import Array, Shape

SMALL_PRODUCT = 1_000_000  # OpenBLAS, interface/gemm.c and kernel/x86_64/sgemm_small_kernel_permit
WIDTHS = (64, 48, 32, 16)  # multiples of the AVX-512 vector of 16 floats


class PackedMatrix:
    """Matrices W (G, K, N), one for each gate, stored for products with few rows.

    `tiles` (G, N/w, K, w) hold the columns of W in groups of w. Indexing selects gates by a slice.
    """

    def __init__(self, tiles: Array) -> None:
        self.tiles = tiles

    @classmethod
    def empty(
        cls,
        shape: Shape,
        rows: int | None,
        allocate: Callable[[Shape], Array],
    ) -> PackedMatrix:
        """Room for matrices of `shape` (G, K, N) that are multiplied with `rows` rows at a time.

        `rows` None: with many rows, for which one tile is best.
        """
        G, K, N = shape
        width = N if rows is None else tile_width(rows, K, N)
        return cls(allocate((G, N // width, K, width)))

    def fill(self, gate: int, W: Array, scale: float = 1.0) -> None:
        """Store W (K, N) times `scale` as the matrix of one gate."""
        n, K, width = self.tiles.shape[1:]
        columns = W.reshape(K, n, width).swapaxes(0, 1)
        np.multiply(columns, W.dtype.type(scale), out=self.tiles[gate])

    def __getitem__(self, gates: slice) -> PackedMatrix:
        return PackedMatrix(self.tiles[gates])

    def operands(self, X: Array, out: Array) -> tuple[Array, Array, Array]:
        """The three arguments of `numpy.matmul` that compute out_k = X W_k.

        out (G, ..., M, N); X (..., M, K) serves all gates, or has a block for each: (G, ..., M, K).
        """
        G, n, K, width = self.tiles.shape
        between = out.ndim - 3  # axes between gates and rows
        tiles = self.tiles.reshape(G, n, *(1,) * between, K, width)
        columns = out.reshape(*out.shape[:-1], n, width)
        return X[:, None] if X.ndim == out.ndim else X, tiles, np.moveaxis(columns, -2, 1)


def tile_width(rows: int, inner: int, columns: int) -> int:
    """The widest tile whose product with `rows` rows needs no packing; `columns` if there is none."""
    for width in WIDTHS:
        if rows > 1 and columns % width == 0 and rows * inner * width <= SMALL_PRODUCT:
            return width
    return columns
