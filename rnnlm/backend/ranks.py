"""Ranks: processes that mpiexec started to train one model together, perhaps on several machines.

Rank 0 leads: it does all that a process alone does, and tells the others what to compute. They follow:
they wait to be told. This is the only file that knows MPI, and it loads mpi4py only in a process that a
launcher of MPI started, which is seen in the environment.

MPI's own waiting keeps a core busy. Here all waiting is by tests, with pauses that grow with the time
waited. It also looks for the other side's end, so that an error on any rank ends all of them.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from ..arrays import Array
from ..errors import ConfigError, RnnlmError, TrainingError
from .launchers import started_as
from .workers import harmless_threads, threads

AWAKE = 0.002  # seconds of waiting without a pause
PAUSE = 1 / 32  # of the time waited: how long the next pause is
LONGEST_PAUSE = 0.02  # seconds
LAST_WORDS = 30.0  # seconds that rank 0 waits for the others to end; then MPI ends them


class EndedError(Exception):
    """Rank 0 has ended, and the other ranks are to end with its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Ranks:
    """All ranks, seen from one of them: here a process alone, for which there is nothing to exchange.

    A vector that all ranks have is cut at `borders`: rank r owns vector[borders[r] : borders[r + 1]].
    """

    number = 0
    size = 1
    neighbours = 1  # ranks that share the cores of this one, with it
    here: Sequence[int] = (0,)  # the ranks of this machine

    def shares(self, count: int) -> list[int]:
        """The borders that cut so many items into shares as equal as possible."""
        return [count * r // self.size for r in range(self.size + 1)]

    def tell(self, messages: Sequence[Any]) -> None:
        """From rank 0: start sending message r - 1 to each other rank r."""

    def told(self) -> Any:
        """Wait for the next message of rank 0. Raises EndedError where that has ended."""
        raise EndedError(0)

    def swap(
        self, sent: Sequence[tuple[int, Array]], received: Sequence[tuple[int, Array]]
    ) -> None:
        """Send arrays to ranks, and fill arrays with what ranks send; between two in their order."""

    def give(self, vector: Array) -> None:
        """Copy the vector of rank 0 to all."""

    def gather(self, *cut: tuple[Array, Sequence[int]]) -> None:
        """Give everybody's share of vectors (vector, borders) to all."""

    def add(self, vector: Array, borders: Sequence[int], total: Array) -> None:
        """Sum the vectors of all ranks, in an order that MPI chooses; `total` is this one's share."""


class Joined(Ranks):
    """Ranks over MPI. Every method but `tell` and `told` is called by all of them at the same time.

    Raises on rank 0 the error that another rank reported, and EndedError on the others.
    """

    def __init__(self, mpi: Any) -> None:
        self._mpi = mpi
        world = mpi.COMM_WORLD
        self._data, self._words = world.Dup(), world.Dup()  # words: errors, and the end
        self.number, self.size = world.rank, world.size
        node = (mpi.Get_processor_name(), _cores())
        nodes = world.allgather(node)
        self.neighbours = nodes.count(node)
        self.here = [rank for rank, (name, _) in enumerate(nodes) if name == node[0]]
        self._unsent: list[Any] = []

    def tell(self, messages: Sequence[Any]) -> None:
        for rank, message in enumerate(messages, 1):
            self._unsent.append(self._data.isend(message, rank))

    def told(self) -> Any:
        found: list[Any] = []

        def came() -> bool:
            message = self._data.improbe(source=0)
            found.extend([] if message is None else [message])
            return bool(found)

        self._wait(came)
        return found[0].recv()

    def swap(
        self, sent: Sequence[tuple[int, Array]], received: Sequence[tuple[int, Array]]
    ) -> None:
        self._complete(
            [self._data.Irecv(array, rank) for rank, array in received]
            + [self._data.Isend(array, rank) for rank, array in sent]
        )

    def give(self, vector: Array) -> None:
        self._complete([self._data.Ibcast(vector)])

    def gather(self, *cut: tuple[Array, Sequence[int]]) -> None:
        self._complete(
            [
                self._data.Iallgatherv(self._mpi.IN_PLACE, [vector, _counts(borders)])
                for vector, borders in cut
            ]
        )

    def add(self, vector: Array, borders: Sequence[int], total: Array) -> None:
        self._complete([self._data.Ireduce_scatter(vector, total, _counts(borders))])

    def _complete(self, requests: list[Any]) -> None:
        self._unsent += requests
        self._wait(lambda: self._mpi.Request.Testall(self._unsent))
        self._unsent = []

    def _wait(self, done: Any) -> None:
        began = time.monotonic()
        while not done():
            self._listen()
            waited = time.monotonic() - began
            if waited < AWAKE:
                os.sched_yield()
            else:
                time.sleep(min(waited * PAUSE, LONGEST_PAUSE))

    def _listen(self) -> None:
        """Raise what the other side has said."""
        message = self._words.improbe()
        if message is not None:
            raise message.recv()

    # How ranks end

    def report(self, error: BaseException) -> NoReturn:
        """From another rank: tell rank 0 an error, and wait for the end. Raises EndedError."""
        known = isinstance(error, TrainingError)  # also rank 0 raises it, where training diverged
        place = f"rank {self.number} on {self._mpi.Get_processor_name()}"
        said = str(error) if isinstance(error, RnnlmError) else _named(error)
        told = error if known else TrainingError(f"{place}: {said}")
        self._unsent.append(self._words.isend(told, 0))
        self._wait(lambda: False)
        raise AssertionError

    def lead_out(self, code: int) -> None:
        """From rank 0: end all other ranks with an exit code, and wait until they have heard."""
        heard: set[int] = set()
        words = [self._words.isend(EndedError(code), rank) for rank in range(1, self.size)]
        until = time.monotonic() + LAST_WORDS

        def done() -> bool:
            if message := self._words.improbe():
                said = message.recv()
                heard.update([said] if isinstance(said, int) else [])  # not a late error
            return len(heard) == self.size - 1 or time.monotonic() > until

        while not done():
            time.sleep(0.001)
        if len(heard) < self.size - 1:
            self._mpi.COMM_WORLD.Abort(code or 1)
        self._end(words, code)

    def follow_out(self, code: int) -> None:
        """From another rank that has heard of the end."""
        self._end([self._words.isend(self.number, 0)], code)

    def _end(self, words: list[Any], code: int) -> None:
        """Leave MPI; without that its launcher would kill the other ranks."""
        self._mpi.Request.Waitall(words)
        late = threading.Timer(LAST_WORDS, os._exit, [code or 1])
        late.daemon = True
        late.start()
        with _no_standard_error():  # after an error, MPI complains of what is half sent
            self._mpi.Finalize()
        late.cancel()


def _counts(borders: Sequence[int]) -> list[int]:
    return [b - a for a, b in pairwise(borders)]


def _cores() -> frozenset[int]:
    """Which cores this process may use; ranks with others do not share them."""
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return frozenset()


@contextmanager
def _no_standard_error() -> Iterator[None]:
    """Standard error goes nowhere inside this block, also that of libraries."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _named(error: BaseException) -> str:
    return "not enough memory" if isinstance(error, MemoryError) else repr(error)


_world = Ranks()


def world() -> Ranks:
    """The ranks that this process has joined; alone where it has not."""
    return _world


def join() -> Joined:
    """Join the other processes of a launcher: `world` are all of them from now on.

    Raises ConfigError where mpi4py is not there, or belongs to another MPI than the launcher.
    """
    global _world
    size = started_as()[1]
    before = threads()
    try:
        import mpi4py

        mpi4py.rc.initialize = mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no library of MPI
        raise ConfigError(
            f"mpiexec started {size} processes, and mpi4py is not there to join them: "
            f"pip install 'rnnlm[mpi]' ({error})"
        ) from None
    MPI.Init_thread(MPI.THREAD_FUNNELED)
    if MPI.COMM_WORLD.size != size:
        raise ConfigError(
            f"mpiexec started {size} processes, and mpi4py sees {MPI.COMM_WORLD.size}: it was made for "
            "another MPI: use the mpiexec of that, or install mpi4py with the MPI of this mpiexec"
        )
    harmless_threads.update(threads() - before)
    _world = joined = Joined(MPI)
    return joined
