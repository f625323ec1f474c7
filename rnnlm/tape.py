"""Calls on fixed memory, written down once and played many times.

A step of a small model is a dozen NumPy calls of a microsecond each, and cutting out the views they
work on takes as long as the arithmetic. But every window works on the same buffers: so the calls, with
their views, are recorded for the first one and played for the others. tests/bench/README.md has the
figures.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


class Tape:
    """A list of calls; calling the tape adds one, `play` makes them all, in order."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], object]] = []
        self._complete = False

    def __call__(self, function: Callable[..., object], first: Any, *rest: Any) -> None:
        """Record function(first, *rest); a float becomes an array of the dtype of `first`.

        NumPy takes such an array in half the time of a Python number.
        """
        args = (np.array(x, first.dtype) if isinstance(x, float) else x for x in rest)
        self._take(partial(function, first, *args))

    def _take(self, call: Callable[[], object]) -> None:
        self._calls.append(call)

    def __bool__(self) -> bool:
        """Whether it was recorded to its end: what was interrupted in the middle is not played."""
        return self._complete

    def play(self) -> None:
        """Make all recorded calls; there are no more to come."""
        self._complete = True
        for call in self._calls:
            call()


class Live(Tape):
    """Makes each call at once and keeps nothing: for windows so long that a tape would be in the way.

    It is never complete, and so asks to be told again every time.
    """

    def _take(self, call: Callable[[], object]) -> None:
        call()

    def play(self) -> None:
        """Nothing is left to be done."""
