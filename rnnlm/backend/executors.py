"""Processes that run tasks beside this one: on this machine, or those that a launcher of MPI started.

Both are executors of `concurrent.futures`. A signal is for the parent, which says what it means to the
tasks; a process here only notes that one has come.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from ..errors import ConfigError
from ..interrupts import SIGNALS, stop
from .launchers import started_as
from .workers import harmless_threads, threads

CHECK_PARENT_EVERY = 1.0  # seconds
SOON, LATE = 0.5, 5.0  # seconds without a task; the others may still be saving
POOL = "mpi4py.futures"  # `mpiexec -n N python -m mpi4py.futures -m rnnlm ...`


def under_mpi() -> int | None:
    """How many processes of MPI wait for tasks of this one; None where there are none.

    Raises ConfigError where a launcher of MPI started this process several times, for nothing.
    """
    size = started_as()[1]
    if size == 1:
        return None
    if POOL not in sys.modules:
        raise ConfigError(
            f"mpiexec started {size} processes that would all do the same: write mpiexec -n {size} "
            f"python -m {POOL} -m rnnlm ..."
        )
    return size - 1


def make_executor(workers: int) -> Executor:
    """An executor on so many processes; under MPI on those that wait."""
    if under_mpi() is None:
        return Processes(workers, get_context("spawn"), begin, (os.getpid(),))
    from mpi4py.futures import MPIPoolExecutor

    pool: Executor = MPIPoolExecutor(initializer=begin)
    return pool


class Processes(ProcessPoolExecutor):
    """Processes of this machine, in which signals wait until `begin` is ready for them."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        with _signals_held():
            return super().submit(_task, fn, *args, **options)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait until this block is left; a process that is started inside it inherits that."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin(parent: int | None = None) -> None:
    """Make a new process ready: a first signal is noted, and a task asks `interrupts.stop` for it.

    The end of the parent counts as a signal. A process without a task ends soon after that, and after a
    SIGTERM, which a pool sends to the others when one of its processes was killed.
    """
    stop.at_first = _note
    stop.catch()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    # Those of MPI, as in ranks.py; a process of a pool has none
    harmless_threads.update(threads() - {str(os.getpid())})
    if parent is not None and hasattr(signal, "setitimer"):

        def check(_signal: int, _frame: object) -> None:
            left = os.getppid() != parent
            if left:
                stop.signal = stop.signal or signal.SIGTERM
            idle = 0.0 if _idle_since is None else time.monotonic() - _idle_since
            if stop.signal == signal.SIGTERM and idle > (SOON if left else LATE):
                os._exit(1)

        # Not a thread, since a process with threads cannot fork
        signal.signal(signal.SIGALRM, check)
        signal.setitimer(signal.ITIMER_REAL, CHECK_PARENT_EVERY, CHECK_PARENT_EVERY)


def _note(_signal: int) -> None:
    """`Stop` has noted it."""


_idle_since: float | None = time.monotonic()  # None: with a task


def _task(fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
    global _idle_since
    _idle_since = None
    try:
        return fn(*args, **options)
    finally:
        _idle_since = time.monotonic()
