"""Calls on fixed memory that are recorded once and replayed for every window.

A step of a small model is a dozen NumPy calls of a microsecond each. Making the views that they work on
takes as long as the arithmetic. But all windows use the same buffers. So the calls, with their views,
are recorded for the first window and replayed for every window. Recorded code must therefore not
branch on values and not allocate. tests/bench/subjects/README.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..arrays import Array
from .tiles import PackedMatrix


class Tape:
    """A list of calls: `run(function, *arguments)` records one, `run.replay()` makes all in order."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        self._complete = False

    @property
    def is_recorded(self) -> bool:
        """Whether the recording is complete, as it is at the first replay.

        Where an exception interrupted a recording, it is started again on a new tape.
        """
        return self._complete

    def __call__(self, function: Callable[..., object], *arguments: Any) -> None:
        """Record function(*arguments).

        A float becomes an array without dimensions, of the dtype of the first array among the
        arguments: NumPy then needs half the time for the call.
        """
        dtype = next((a.dtype for a in arguments if isinstance(a, np.ndarray)), None)
        args = (np.array(a, dtype) if isinstance(a, float) else a for a in arguments)
        self._add(partial(function, *args))

    def matmul(self, X: Array, W: PackedMatrix, out: Array) -> None:
        """Record out_k = X W_k for every gate k; see `PackedMatrix.product`."""
        self._add(W.product(X, out))

    def _add(self, call: Callable[[], object]) -> None:
        self._calls.append(call)

    def replay(self) -> None:
        """Make all recorded calls. After the first replay the recording is complete."""
        self._complete = True
        for call in self._calls:
            call()


class Unrecorded(Tape):
    """Makes each call immediately and records nothing: for windows whose recording would be too long.

    `is_recorded` is always false, so the calls are given again for every window.
    """

    def _add(self, call: Callable[[], object]) -> None:
        call()

    def replay(self) -> None:
        """Nothing to do: the calls are made already."""
