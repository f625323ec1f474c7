"""How a recurrence walks back through time: block by block, and step by step within a block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arrays import Array

# Elements of one gate in a block: few calls, and still in the second-level cache
BLOCK_SIZE = 65536


def blocks_back(T: int, step_size: int) -> Iterator[slice]:
    """Slices of steps, last first, each of about `BLOCK_SIZE` elements at `step_size` a step."""
    length = max(1, BLOCK_SIZE // step_size)
    for stop in range(T, 0, -length):
        yield slice(max(0, stop - length), stop)


def steps_back(block: slice, z: Array, *arrays: Array) -> Iterator[tuple[Any, ...]]:
    """The steps t of a block, last first, each with its views of z (G, T, B, H) and the arrays
    (T, B, H), which hold the block alone.
    """
    times = range(block.stop - 1, block.start - 1, -1)
    return zip(times, z.swapaxes(0, 1)[::-1], *(array[::-1] for array in arrays), strict=True)


def flat_rows(a: Array) -> Array:
    """The view (..., T·B, H) of a (..., T, B, H)."""
    *before, T, B, H = a.shape
    return a.reshape(*before, T * B, H)
