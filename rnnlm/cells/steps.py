"""How a recurrence walks through time: step by step forward, block by block back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ..params import Array

Step = Callable[[Array, Array, Array], None]

BLOCK_SIZE = (
    65536  # elements of one gate in a block: few calls, and still in the second-level cache
)


def run_steps(step: Step, z: Array, s: Array) -> None:
    """Take `step(z_t, s_prev, s_t)` for every t of z (·, T, B, H) and s (S, T+1, B, H)."""
    states = s.swapaxes(0, 1)
    for z_t, s_prev, s_t in zip(z.swapaxes(0, 1), states[:-1], states[1:], strict=True):
        step(z_t, s_prev, s_t)


def blocks_back(T: int, step_size: int) -> Iterator[slice]:
    """Slices of steps, last first, each of about `BLOCK_SIZE` elements at `step_size` a step."""
    length = max(1, BLOCK_SIZE // step_size)
    for stop in range(T, 0, -length):
        yield slice(max(0, stop - length), stop)


def steps_back(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The arrays' views of one step each, last step first."""
    return zip(*(array[::-1] for array in arrays), strict=True)
