"""Calls on fixed memory, recorded once and replayed many times.

A step of a small model is a dozen NumPy calls of a microsecond each, and making the views that they
work on takes as long as the arithmetic. But every window works on the same buffers: so the calls, with
their views, are recorded for the first window and replayed for every window. What is recorded must
therefore not branch on values and not allocate. tests/bench/README.md has the figures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..arrays import Array
from .tiles import PackedMatrix


class Tape:
    """A list of calls: `run(function, *arguments)` records one, `replay` makes them all, in order."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        self._complete = False

    @property
    def is_recorded(self) -> bool:
        """Whether all calls are there; a recording that an exception interrupted is made anew."""
        return self._complete

    def __call__(self, function: Callable[..., object], *arguments: Any) -> None:
        """Record function(*arguments).

        Numbers become arrays without dimensions, which NumPy takes in half the time; their dtype is
        that of the first array among the arguments.
        """
        dtype = next((a.dtype for a in arguments if isinstance(a, np.ndarray)), None)
        args = (np.array(a, dtype) if isinstance(a, float) else a for a in arguments)
        self._add(partial(function, *args))

    def matmul(self, X: Array, W: PackedMatrix, out: Array) -> None:
        """Record out_k = X W_k for every gate k; see `PackedMatrix.operands`."""
        self._add(partial(np.matmul, *W.operands(X, out)))

    def _add(self, call: Callable[[], object]) -> None:
        self._calls.append(call)

    def replay(self) -> None:
        """Make all recorded calls; after the first replay nothing is recorded any more."""
        self._complete = True
        for call in self._calls:
            call()


class Untaped(Tape):
    """Makes each call at once and keeps nothing: for windows too long to be worth a recording.

    `is_recorded` stays false, so that whoever uses it gives the calls again for every window.
    """

    def _add(self, call: Callable[[], object]) -> None:
        call()

    def replay(self) -> None:
        """All calls were made already."""
