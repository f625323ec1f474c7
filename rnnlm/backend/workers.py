"""A pool of workers that do a job together: forked processes or threads.

Threads of one Python process wait for its global lock several times in every NumPy call. Small models
lose a quarter of their speed there (tests/bench/subjects/README.md). Forked processes have a lock each,
and share memory that `shared_zeros` allocates. So processes are forked where that is safe; elsewhere
there are threads, and where neither can be started the calling thread does everything. The results are
the same.
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
from ..interrupts import SIGNALS

FORKING = ((os, "fork"), (os, "sysconf"), (signal, "pthread_sigmask"))  # what it takes
CHECK_PARENT_AFTER = 1.0  # seconds without a job, then a worker checks that its parent is alive
Job = Callable[..., None]  # its first argument is the number of the worker


class WorkerPool(Protocol):
    """Workers 0, 1, ...: worker 0 is the calling thread."""

    def run(self, job: Job, *args: Any) -> None:
        """Call job(k, *args) on every worker k at the same time, and wait for all of them.

        Raises the first error of a worker, and TrainingError when a worker process has ended: other
        workers may then still be running until the pool is closed.
        """

    def close(self) -> None:
        """End the workers. Closing a closed pool does nothing."""


def available_cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def make_pool(size: int, jobs: Sequence[Job]) -> WorkerPool:
    """The fastest pool of `size` workers that can be made here; it can run only the listed jobs."""
    if (pool := forked(size, jobs)) is not None:
        return pool
    if size > 1:
        with suppress(RuntimeError):  # the limit of threads is reached
            return ThreadWorkers(size)
    return SerialWorkers(size)


def forked(size: int, jobs: Sequence[Job]) -> WorkerPool | None:
    """A pool of processes, where `size` of them can be had here."""
    if size > 1 and may_fork():
        with suppress(OSError):  # the limit of processes or open files is reached
            return ForkedWorkers(size, jobs)
    return None


def threads() -> set[str]:
    """The threads of this process as Linux names them; none where that cannot be known."""
    try:
        return {path.name for path in Path("/proc/self/task").iterdir()}
    except OSError:  # no /proc
        return set()


harmless_threads: set[str] = set()  # that hold nothing which a forked process needs


def may_fork() -> bool:
    """Whether it is safe to fork: on Linux, in a process with a single thread, but for harmless ones.

    macOS has threads of its own in its libraries, and Windows has no fork.
    """
    return (
        sys.platform == "linux"
        and all(hasattr(module, name) for module, name in FORKING)
        and len(threads() - harmless_threads) == 1
    )


def shared_zeros(shape: Shape, dtype: DTypeLike) -> Array:
    """Zeros in memory that this process shares with processes forked from it later."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    try:
        memory = mmap.mmap(-1, max(1, size))
    except OSError as error:
        raise MemoryError(f"{size} bytes of shared memory: {error.strerror}") from None
    return np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)


class SerialWorkers:
    """The calling thread does the work of all workers, one after another."""

    def __init__(self, size: int) -> None:
        self._size = size

    def run(self, job: Job, *args: Any) -> None:
        for k in range(self._size):
            _run_job(job, k, *args)

    def close(self) -> None:
        """Nothing to end."""


class ThreadWorkers:
    """A pool of threads. Raises RuntimeError when they cannot be started."""

    def __init__(self, size: int) -> None:
        self._numbers = range(1, size)
        self._threads = ThreadPoolExecutor(max(1, size - 1), thread_name_prefix="rnnlm")
        all_started = threading.Event()
        try:
            for _ in self._numbers:
                # Starts a new thread each time, since those before are still waiting
                self._threads.submit(all_started.wait)
        except RuntimeError:
            self._threads.shutdown(wait=False)
            raise
        finally:
            all_started.set()

    def run(self, job: Job, *args: Any) -> None:
        futures = [self._threads.submit(_run_job, job, k, *args) for k in self._numbers]
        try:
            _run_job(job, 0, *args)
        finally:
            errors = [future.exception() for future in futures]
        _raise_first(errors)

    def close(self) -> None:
        self._threads.shutdown()


class ForkedWorkers:
    """A pool of processes, forked when the pool is made.

    They see the parent's memory as it was then. Of later changes they see only those in memory from
    `shared_zeros`. They end when the pool is closed or the parent has ended, however it ended. They
    ignore SIGNALS, since a terminal sends Ctrl-C to the workers too: the parent decides.
    """

    def __init__(self, size: int, jobs: Sequence[Job]) -> None:
        self._jobs = list(jobs)
        self._processes: list[WorkerProcess] = []
        try:
            for k in range(1, size):
                self._processes.append(WorkerProcess(k, self._jobs))
        except BaseException:
            self.close()
            raise
        self._usable = True

    def run(self, job: Job, *args: Any) -> None:
        if not self._usable:
            raise RuntimeError("this pool of workers was closed, or interrupted during a job")
        self._usable = False  # until every answer is read: an old one must not answer a new job
        number = self._jobs.index(job)
        for process in self._processes:
            process.send((number, args))
        try:
            _run_job(job, 0, *args)
        finally:
            errors = [process.receive() for process in self._processes]
            self._usable = True
        _raise_first(errors)

    def close(self) -> None:
        self._usable = False
        for process in self._processes:
            process.close()


class WorkerProcess:
    """A forked process. It receives a job's number and arguments, and answers with an error or None."""

    def __init__(self, k: int, jobs: list[Job]) -> None:
        self._pipe, workers_end = Pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            parent = os.getpid()
            self._pid = os.fork()
            if self._pid == 0:
                self._serve(workers_end, parent, k, jobs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            workers_end.close()

    def send(self, message: tuple[int, tuple[Any, ...]]) -> None:
        """Start a job. Raises TrainingError when the process has ended."""
        try:
            self._pipe.send(message)
        except OSError:
            self._raise_ended()

    def receive(self) -> Exception | None:
        """Wait until the job is done; the error that it raised, if any.

        Raises TrainingError when the process has ended.
        """
        try:
            error: Exception | None = self._pipe.recv()
        except (EOFError, OSError):
            self._raise_ended()
        return error

    def has_answered(self) -> bool:
        """Whether `receive` need not wait: the job is done, or the process has ended."""
        return self._pipe.poll(0)

    def close(self) -> None:
        """End the process when it has done its current job."""
        with suppress(OSError):
            # A message, as closing may not be noticed: other processes can hold this end too
            self._pipe.send(None)
        self._pipe.close()
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _raise_ended(self) -> NoReturn:
        code = 0
        with suppress(ChildProcessError):  # its exit code was read elsewhere
            code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "ended"
        raise TrainingError(
            f"worker process {self._pid} {how}, perhaps because memory ran out: resume from the last "
            "checkpoint, with fewer train.threads if it happens again"
        )

    def _serve(self, pipe: Connection, parent: int, k: int, jobs: list[Job]) -> NoReturn:
        """The life of the forked process: do jobs until told to end, or until the parent is gone."""
        try:
            gc.freeze()  # objects of the parent must not be finalised here
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            # Close all other files: locks and pipes of the parent must not stay open in its workers
            os.closerange(3, pipe.fileno())
            os.closerange(pipe.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
            while True:
                while not pipe.poll(CHECK_PARENT_AFTER):
                    if os.getppid() != parent:
                        os._exit(0)
                message = pipe.recv()
                if message is None:
                    break
                number, args = message
                pipe.send(_error_to_send(jobs[number], k, *args))
        except (EOFError, OSError):
            pass
        finally:
            os._exit(0)


def _error_to_send(job: Job, k: int, *args: Any) -> Exception | None:
    """Run a worker's part of a job; the error that it raised, in a form that pickle can send."""
    try:
        _run_job(job, k, *args)
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            return RuntimeError(f"{type(error).__name__}: {error}")
        return error if isinstance(error, Exception) else RuntimeError(repr(error))
    return None


def _raise_first(errors: Sequence[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error


def _run_job(job: Job, k: int, *args: Any) -> None:
    # No warnings of overflow: the engine checks loss and norm before it uses them
    with np.errstate(all="ignore"):
        job(k, *args)
