"""How a recurrence walks through time: step by step forward, block by block back."""

from __future__ import annotations

from collections.abc import Iterator

from ..params import Array

# Elements of one gate in a block: few calls, and still in the second-level cache
BLOCK_SIZE = 65536


def blocks_back(T: int, step_size: int) -> Iterator[slice]:
    """Slices of steps, last first, each of about `BLOCK_SIZE` elements at `step_size` a step."""
    length = max(1, BLOCK_SIZE // step_size)
    for stop in range(T, 0, -length):
        yield slice(max(0, stop - length), stop)


def steps_back(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The arrays' views of one step each, last step first."""
    return zip(*(array[::-1] for array in arrays), strict=True)


def flat_rows(a: Array) -> Array:
    """The view (..., T·B, H) of a (..., T, B, H)."""
    *before, T, B, H = a.shape
    return a.reshape(*before, T * B, H)
