"""The order of a backward pass: blocks of steps from the last to the first, and steps in a block."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arrays import Array

# Elements of one gate in a block: large, so that calls are few, but still in the second-level cache
BLOCK_SIZE = 65536


def blocks_back(T: int, step_size: int) -> Iterator[slice]:
    """Slices of the steps, last first, of about `BLOCK_SIZE` elements; a step has `step_size`."""
    length = max(1, BLOCK_SIZE // step_size)
    for stop in range(T, 0, -length):
        yield slice(max(0, stop - length), stop)


def steps_back(block: slice, z: Array, *arrays: Array) -> Iterator[tuple[Any, ...]]:
    """The steps t of a block, last first, each with its views of z (G, T, B, H) and `arrays`
    (T, B, H). Here T counts the steps of the block: the arrays begin with its first step.
    """
    times = range(block.stop - 1, block.start - 1, -1)
    return zip(times, z.swapaxes(0, 1)[::-1], *(array[::-1] for array in arrays), strict=True)


def flat_rows(a: Array) -> Array:
    """`a` (..., T, B, H) as (..., T·B, H)."""
    *before, T, B, H = a.shape
    return a.reshape(*before, T * B, H)
