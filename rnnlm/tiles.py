"""Products of a few rows with a large matrix, at the speed of a product of many.

A BLAS copies ("packs") the right-hand matrix into its own layout at every call. For 64 rows or fewer
that copy costs as much as the arithmetic. OpenBLAS skips it when M·N·K is at most 10⁶, so a matrix
that serves every step of a window is cut once into contiguous column tiles that keep each product
below that size, and numpy.matmul runs over the tiles in one call. Measured in tests/bench/README.md:
164 -> 240 GFLOP/s at 32 rows, H=512.
"""

from __future__ import annotations

import numpy as np

from .params import Array, Shape

SMALL_PRODUCT = 1_000_000  # OpenBLAS, interface/gemm.c and kernel/x86_64/sgemm_small_kernel_permit
WIDTHS = (64, 48, 32, 16)  # multiples of the AVX-512 vector of 16 floats


def tile_width(rows: int, inner: int, columns: int) -> int:
    """The widest tile whose product with `rows` rows needs no packing; `columns` if there is none."""
    for width in WIDTHS:
        if rows > 1 and columns % width == 0 and rows * inner * width <= SMALL_PRODUCT:
            return width
    return columns


def tiles_shape(rows: int, W: Array) -> Shape:
    """(G, N/w, K, w): the shape of the tiles for products of `rows` rows with W (G, K, N)."""
    G, K, N = W.shape
    width = tile_width(rows, K, N)
    return G, N // width, K, width


def fill_tiles(tiles: Array, W: Array, scale: float = 1.0) -> None:
    """Copy W (K, N) times `scale` into tiles (N/w, K, w)."""
    n, K, width = tiles.shape
    np.multiply(W.reshape(K, n, width).swapaxes(0, 1), W.dtype.type(scale), out=tiles)


def tiled(out: Array, tiles: Array) -> Array:
    """A view (G, N/w, ..., M, w) of `out` (G, ..., M, N) that takes the products with `tiles`."""
    n, width = tiles.shape[1], tiles.shape[-1]
    return np.moveaxis(out.reshape(*out.shape[:-1], n, width), -2, 1)
