"""Processes that run tasks beside this one: on this machine, or those that a launcher of MPI started.

Both are executors of `concurrent.futures`. A signal is for the parent, which says what it means to the
tasks; a process here only notes that one has come.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

from ..errors import ConfigError
from ..interrupts import SIGNALS, stop
from .launchers import started_as
from .workers import harmless_threads, threads

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
        return Processes(workers, get_context("spawn"), begin)
    from mpi4py.futures import MPIPoolExecutor

    pool: Executor = MPIPoolExecutor(initializer=begin)
    return pool


class Processes(ProcessPoolExecutor):
    """Processes of this machine, in which signals wait until `begin` is ready for them."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        with _signals_held():
            return super().submit(fn, *args, **options)


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


def begin() -> None:
    """Make a new process ready: a first signal is noted, and a task asks `interrupts.stop` for it."""
    stop.at_first = _note
    stop.catch()
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    # Those of MPI, as in ranks.py; a process of a pool has none
    harmless_threads.update(threads() - {str(os.getpid())})


def _note(_signal: int) -> None:
    """`Stop` has noted it."""
