"""A step of one text on two cores: a helper process computes a part of each large product.

A step of a large network takes mostly the time in which one core reads the weights. So the tiles of
each product are cut in two parts. The caller computes one part and does everything else; a forked
helper computes the other, in memory that they share. Each tile is multiplied by the call that a process
alone makes, and so the bits are the same.

Each tells the other how far it is by a counter in that memory, at which the other looks again and
again: a look takes some 50 ns, a message through a pipe 50 µs. A helper that is told nothing for a
while sleeps. A caller that loses time by it, since another program has a core, goes on alone for a
while.
"""

from __future__ import annotations

import math
import mmap
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape
from ..errors import TrainingError
from .tape import Tape
from .tiles import PackedMatrix
from .workers import WorkerProcess, available_cores, may_fork, shared_zeros

LARGE = 2 << 20  # bytes of weights, more than a core's own cache holds
BEGIN = 512  # steps alone, before a helper is forked: that takes as long as a hundred large ones
AGAIN = 1 << 13  # steps alone, where that failed
LOOKS = 4000  # without news, 200 µs: then the helper sleeps, and the caller lets others go first
# Seconds that steps together took longer than as many alone. Beyond LOST there are too few cores: the
# caller goes on alone for PAUSE times as long; of a process that was stopped MOST_LOST count
LOST, MOST_LOST, PAUSE = 1e-3, 0.25, 32
ORDERED = "x86_64"  # whose cores see the stores of each other in order, as Linux calls it
# The helper's part of a product. Those of the state before begin while the caller draws a symbol
EARLY, LATE = 5 / 8, 1 / 2
TOLD, DONE, ASLEEP = 0, 8, 16  # counters, each in a cache line of its own


def pays(weights: int) -> bool:
    """Whether a helper may save time in steps that read so many bytes of weights."""
    return (
        weights >= LARGE
        and platform.machine() == ORDERED
        and available_cores() > 1
        and not Pair.has_helper
        and may_fork()
    )


class Pair:
    """The caller's side of a helper, for two tapes that are replayed in turn.

    Their memory is to come from `empty`. A helper is forked after BEGIN steps, unless another pair has
    one then, or the process may not fork.
    """

    has_helper: ClassVar[bool] = False

    def __init__(self) -> None:
        self._memory: list[Array] = []
        self._counters = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._number = 0  # of the last part of a step that the helper was told to do
        self._parts: list[list[Callable[[], object]]] = []
        self._firsts: list[int] = []  # of each tape, the number of its first part
        self._helper: WorkerProcess | None = None
        self._owner = 0  # the process that forked it
        self._alone = BEGIN  # steps
        self._usual, self._lost = math.inf, 0.0  # seconds: of a step alone, and lost by helpers
        self._ready: int | None = None  # the place of the tape of which it was told the first part

    def tapes(self) -> list[Tape]:
        """Both tapes; they know the pair, and it does not know them: no cycle keeps their memory."""
        tapes = [PairTape(self, 0), PairTape(self, 1)]
        self._firsts = [tape.first for tape in tapes]
        return [*tapes]

    def empty(self, shape: Shape, dtype: DTypeLike) -> Array:
        """Memory that the helper shares."""
        self._memory.append(shared_zeros(shape, dtype))
        return self._memory[-1]

    def shares(self, *arrays: Array) -> bool:
        """Whether all these arrays are in such memory."""
        return all(any(np.may_share_memory(a, m) for m in self._memory) for a in arrays)

    def add_part(self, calls: list[Callable[[], object]]) -> int:
        """The number of a part of a step: calls for the helper."""
        self._parts.append(calls)
        return len(self._parts) - 1

    def replay(self, tape: PairTape) -> None:
        """One step."""
        began = time.perf_counter()
        if self._alone:
            self._ready = None
            for call in tape.alone:
                call()
            self._usual = min(self._usual, time.perf_counter() - began)
            self._alone -= 1
            if not self._alone and self._helper is None:
                self._fork()
            return
        if self._ready != tape.place:  # after steps alone, or an interrupted one
            self.tell(tape.first)
        self._ready = None
        for call in tape.together:
            call()
        if self._alone:  # the helper was killed
            return
        other = 1 - tape.place
        self.tell(self._firsts[other])
        self._ready = other
        self._lost = max(0.0, self._lost + time.perf_counter() - began - self._usual)
        if self._lost > LOST:
            self.wait()
            lost, self._lost = min(self._lost, MOST_LOST), 0.0
            self._alone = math.ceil(PAUSE * lost / self._usual)

    def tell(self, part: int) -> None:
        """Let the helper begin a part of a step."""
        counters, n = self._counters, len(self._parts)
        # The helper knows the part by the number's rest: the next number with that rest
        self._number += (part - self._number - 1) % n + 1
        counters[TOLD] = self._number
        if counters[ASLEEP]:
            self._wake()

    def wait(self) -> None:
        """Until the helper has done what it was told."""
        counters, number = self._counters, self._number
        for _ in range(LOOKS):
            if counters[DONE] == number:
                return
        while counters[DONE] != number:
            # It may have been told in the moment in which it fell asleep, or have been killed
            if counters[ASLEEP] or (self._helper and self._helper.has_answered()):
                self._wake()
            os.sched_yield()

    def close(self) -> None:
        """End the helper. Closing a closed pair does nothing."""
        helper, self._helper = self._helper, None
        if helper is not None and os.getpid() == self._owner:
            Pair.has_helper = False
            helper.close()

    def _fork(self) -> None:
        self._alone = AGAIN
        if Pair.has_helper or not may_fork():
            return
        self._counters[ASLEEP] = 0
        with suppress(OSError):  # the limit of processes or open files is reached
            self._helper, self._owner = WorkerProcess(1, [self._follow]), os.getpid()
            self._helper.send((0, ()))
            Pair.has_helper, self._alone = True, 0

    def _wake(self) -> None:
        """Wake the helper; where it was killed, do its part."""
        counters, helper, error = self._counters, self._helper, None
        counters[ASLEEP] = 0
        try:
            if helper is not None:
                error = helper.receive()
                helper.send((0, ()))
        except TrainingError:
            self.close()
        if error is not None:
            raise error
        if self._helper is None:
            for call in self._parts[self._number % len(self._parts)]:
                call()
            counters[DONE], counters[ASLEEP] = self._number, 1
            self._alone = AGAIN

    def _follow(self, _worker: int) -> None:
        """What the helper does while it is awake."""
        counters, parts = self._counters, self._parts
        n, done, looks = len(parts), counters[DONE], 0
        try:
            while looks < LOOKS:
                told = counters[TOLD]
                if told == done:
                    looks += 1
                    continue
                for call in parts[told % n]:
                    call()
                counters[DONE] = done = told
                looks = 0
        finally:
            counters[ASLEEP] = 1


class PairTape(Tape):
    """Calls that are recorded twice: for the caller alone, and for the caller beside a helper."""

    def __init__(self, pair: Pair, place: int) -> None:
        super().__init__()
        self._pair, self.place = pair, place
        self._early: list[Callable[[], object]] = []
        self._rest: list[Callable[[], object]] = []
        self._touched: list[Array] = []
        self._first: list[Callable[[], object]] = []
        self.first = pair.add_part(self._first)

    def __call__(self, function: Callable[..., object], *arguments: Any) -> None:
        self._touched += [a for a in arguments if isinstance(a, np.ndarray)]
        super().__call__(function, *arguments)

    def matmul(self, X: Array, W: PackedMatrix, out: Array) -> None:
        """Record a product; one of what no call of this step has touched begins before the step."""
        pair = self._pair
        early = not any(np.may_share_memory(a, b) for a in (X, out) for b in self._touched)
        self._touched.append(out)
        cut = W.cut(X, out, EARLY if early else LATE) if pair.shares(X, out) else None
        if cut is None:
            super().matmul(X, W, out)
            return
        self._calls.append(W.product(X, out))
        own, helpers = cut
        if early:
            self._early.append(own)
            self._first.append(helpers)
        else:
            self._rest += [partial(pair.tell, pair.add_part([helpers])), own, pair.wait]

    def _add(self, call: Callable[[], object]) -> None:
        super()._add(call)
        self._rest.append(call)

    def replay(self) -> None:
        self._complete = True
        self._pair.replay(self)

    @property
    def alone(self) -> list[Callable[[], object]]:
        """The calls of a step without a helper."""
        return self._calls

    @cached_property
    def together(self) -> list[Callable[[], object]]:
        """The calls beside a helper that was told its first part."""
        return [*self._early, self._pair.wait, *self._rest]
