"""Several hands for one job: threads, processes forked from this one, or one after another.

Threads of one Python meet at its lock several times a microsecond-long NumPy call, and small models
lose a quarter of their speed there (tests/bench/README.md). Forked processes do not, and memory from
`shared_zeros` is the same for all of them. So a process that can be forked without harm is, and any
other works with threads, or alone where neither is allowed; what is computed is the same.
"""

from __future__ import annotations

import gc
import math
import mmap
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape
from ..errors import TrainingError

ALONE_AFTER = 1.0  # seconds without a job, after which a helper looks for its owner
Job = Callable[..., None]  # its first argument is the number of the hand


class Team(Protocol):
    """Hands that do the jobs they were made for."""

    def run(self, job: Job, *args: Any) -> None:
        """job(k, *args) for every hand k, side by side; 0 is the caller.

        The first error of any is raised when all have stopped. Raises TrainingError when a process is
        lost; others may then be at work until the team is closed.
        """

    def close(self) -> None:
        """Let the hands go. Calling it again does nothing."""


def make_team(hands: int, jobs: Sequence[Job]) -> Team:
    """The best team of that size for these jobs, which is all that it can do."""
    if hands > 1 and may_fork():
        with suppress(OSError):  # no more processes or pipes are allowed
            return Forks(hands, jobs)
    if hands > 1:
        with suppress(RuntimeError):  # no more threads are
            return Threads(hands)
    return Alone(hands)


def may_fork() -> bool:
    """Whether a fork is safe: on Linux, in a process whose only thread this is."""
    try:
        return sys.platform == "linux" and len([*Path("/proc/self/task").iterdir()]) == 1
    except OSError:  # no /proc
        return False


def shared_zeros(shape: Shape, dtype: DTypeLike) -> Array:
    """Zeros in memory that processes forked from this one share with it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, max(1, size))
    except OSError as error:
        raise MemoryError(f"{size} bytes of shared memory: {error.strerror}") from None
    return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


class Alone:
    """One thread, the caller's, that does what the hands of a team do one after another."""

    def __init__(self, hands: int) -> None:
        self._hands = hands

    def run(self, job: Job, *args: Any) -> None:
        for k in range(self._hands):
            _quietly(job, k, *args)

    def close(self) -> None:
        """Nobody else is here."""


class Threads:
    """A team of threads. Raises RuntimeError where they cannot be started."""

    def __init__(self, hands: int) -> None:
        self._helpers = range(1, hands)
        self._pool = ThreadPoolExecutor(max(1, hands - 1), thread_name_prefix="rnnlm")
        all_started = threading.Event()
        try:
            for _ in self._helpers:
                self._pool.submit(all_started.wait)  # each starts a thread: the others are waiting
        except RuntimeError:
            self._pool.shutdown(wait=False)
            raise
        finally:
            all_started.set()

    def run(self, job: Job, *args: Any) -> None:
        futures = [self._pool.submit(_quietly, job, k, *args) for k in self._helpers]
        try:
            _quietly(job, 0, *args)
        finally:
            errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        self._pool.shutdown()


class Forks:
    """A team of processes, forked when it is made: they see what was there then and, of what changes,
    only memory from `shared_zeros`.

    They end when the team is closed or its owner is gone, whatever ended it, and leave SIGINT, SIGTERM
    and SIGHUP to it, since a terminal sends Ctrl-C to every process.
    """

    def __init__(self, hands: int, jobs: Sequence[Job]) -> None:
        self._jobs = list(jobs)
        self._helpers: list[Helper] = []
        try:
            for k in range(1, hands):
                self._helpers.append(Helper(k, self._jobs))
        except BaseException:
            self.close()
            raise
        self._usable = True

    def run(self, job: Job, *args: Any) -> None:
        if not self._usable:
            raise RuntimeError("this team was closed, or interrupted in the middle of a job")
        self._usable = False
        number = self._jobs.index(job)
        for helper in self._helpers:
            helper.send((number, args))
        try:
            _quietly(job, 0, *args)
        finally:
            errors = [helper.receive() for helper in self._helpers]
            self._usable = True
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        self._usable = False
        for helper in self._helpers:
            helper.close()


class Helper:
    """A forked process that does jobs: numbers and arguments come in, errors or None go out."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, k: int, jobs: list[Job]) -> None:
        self._pipe, theirs = Pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self.SIGNALS)
        try:
            owner = os.getpid()
            self._pid = os.fork()
            if self._pid == 0:
                self._live(theirs, owner, k, jobs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()

    def send(self, message: tuple[int, tuple[Any, ...]]) -> None:
        """Ask for a job."""
        try:
            self._pipe.send(message)
        except OSError:
            self._mourn()

    def receive(self) -> Exception | None:
        """Wait for the job's end: its error, if there was one."""
        try:
            error: Exception | None = self._pipe.recv()
        except (EOFError, OSError):
            self._mourn()
        return error

    def close(self) -> None:
        """End the process, after the job it may be at."""
        with suppress(OSError):
            self._pipe.send(None)  # other processes may hold this end of the pipe
        self._pipe.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _mourn(self) -> NoReturn:
        code = 0
        with suppress(ChildProcessError):  # somebody else has asked how it ended
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended"
        raise TrainingError(
            f"process {self._pid}, which did a part of the training, {how}, perhaps for want of "
            "memory: go on from the last checkpoint, with fewer train.threads if it happens again"
        )

    def _live(self, pipe: Connection, owner: int, k: int, jobs: list[Job]) -> NoReturn:
        try:
            gc.freeze()  # nothing of the owner's may be finalised here
            for number in self.SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)
            # The owner's locks and files, and other helpers' pipes, must not live on here
            os.closerange(3, pipe.fileno())
            os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            while True:
                while not pipe.poll(ALONE_AFTER):
                    if os.getppid() != owner:
                        os._exit(0)
                message = pipe.recv()
                if message is None:
                    break
                number, args = message
                pipe.send(_error_of(jobs[number], k, *args))
        except (EOFError, OSError):
            pass
        finally:
            os._exit(0)


def _error_of(job: Job, k: int, *args: Any) -> Exception | None:
    """Do the job; its error, if there was one, fit to be sent."""
    try:
        _quietly(job, k, *args)
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error if isinstance(error, Exception) else RuntimeError(repr(error))
    return None


def _quietly(job: Job, k: int, *args: Any) -> None:
    # No warnings of overflow: the loss and the norm are checked before they have an effect
    with np.errstate(all="ignore"):
        job(k, *args)
