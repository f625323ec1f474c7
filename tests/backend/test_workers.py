"""Pools of workers: forked processes, threads, and the calling thread."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import children, forking

from rnnlm.backend.workers import (
    ForkedWorkers,
    SerialWorkers,
    ThreadWorkers,
    WorkerPool,
    make_pool,
    may_fork,
    shared_zeros,
)
from rnnlm.errors import TrainingError

KINDS: dict[str, Callable[[int, Any], WorkerPool]] = {
    "serial": lambda size, _: SerialWorkers(size),
    "threads": lambda size, _: ThreadWorkers(size),
    "forks": ForkedWorkers,
}
every_kind = pytest.mark.parametrize("kind", KINDS)

MOST = 4
done = shared_zeros((MOST,), np.int64)  # how often each worker has counted


def count(worker: int, by: int = 1) -> None:
    """Count a call on its worker."""
    done[worker] += by


def fail_on(worker: int, which: int) -> None:
    """An error on one of the workers."""
    if worker == which:
        raise ZeroDivisionError(f"worker {worker}")


class UnsendableError(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__("of its own kind")


def fail_unsendably(worker: int) -> None:
    """On every worker but the calling thread."""
    if worker:
        raise UnsendableError(1, 2)


JOBS = (count, fail_on, fail_unsendably)


@pytest.fixture(autouse=True)
def nothing_done_and_nothing_left() -> Iterator[None]:
    """Counts begin at zero; no test leaves a process."""
    done.fill(0)
    before = children()
    yield
    assert children() == before


@forking
@every_kind
@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_worker_does_every_job_once(kind: str, size: int) -> None:
    """With the arguments that were given."""
    with closing(KINDS[kind](size, JOBS)) as pool:
        for _ in range(20):
            pool.run(count)
        pool.run(count, 100)
    assert done.tolist() == [120] * size + [0] * (MOST - size)


@forking
@every_kind
@pytest.mark.parametrize("which", range(3))
def test_an_error_reaches_the_caller_and_the_pool_stays_usable(kind: str, which: int) -> None:
    """From any worker."""
    with closing(KINDS[kind](3, JOBS)) as pool:
        for _ in range(5):
            with pytest.raises(ZeroDivisionError, match=f"worker {which}"):
                pool.run(fail_on, which)
        pool.run(count)
    assert done.tolist() == [1, 1, 1, 0]


@forking
def test_an_error_that_cannot_be_pickled_is_described() -> None:
    """By its name and text."""
    with closing(ForkedWorkers(2, JOBS)) as pool:
        with pytest.raises(RuntimeError, match="UnsendableError: of its own kind"):
            pool.run(fail_unsendably)
        pool.run(count)
    assert done.tolist() == [1, 1, 0, 0]


@forking
def test_worker_processes_ignore_signals_that_the_parent_handles() -> None:
    """A terminal's Ctrl-C and a service manager's SIGTERM are sent to every process of a group."""
    before = children()
    with closing(ForkedWorkers(3, JOBS)) as pool:
        workers = children() - before
        assert len(workers) == 2
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for pid in workers:
                os.kill(pid, number)
            pool.run(count)
    assert done.tolist() == [3, 3, 3, 0]


@forking
def test_a_killed_worker_process_is_named() -> None:
    """The pool cannot be used any more, and says so."""
    before = children()
    with closing(ForkedWorkers(3, JOBS)) as pool:
        os.kill(max(children() - before), signal.SIGKILL)
        with pytest.raises(TrainingError, match=r"process \d+ was killed by SIGKILL"):
            pool.run(count)
        with pytest.raises(RuntimeError, match="closed, or interrupted"):
            pool.run(count)


@forking
def test_an_interrupted_wait_leaves_no_answer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers to an old job are not taken for answers to a new one."""
    with closing(ForkedWorkers(2, JOBS)) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(
                "rnnlm.backend.workers.WorkerProcess.receive",
                lambda _: signal.raise_signal(signal.SIGINT),
            )
            with pytest.raises(KeyboardInterrupt):
                pool.run(count)
        with pytest.raises(RuntimeError, match="closed, or interrupted"):
            pool.run(count)


@forking
def test_worker_processes_close_the_files_of_their_parent(tmp_path: Path) -> None:
    """A lock ends when the parent closes its file, though workers are still alive."""
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        pool = ForkedWorkers(3, JOBS)
        pool.run(count)
    with closing(pool), (tmp_path / "lock").open("w") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        pool.run(count)


PARENT = """
import os, sys
from rnnlm.backend.workers import ForkedWorkers
pool = ForkedWorkers(3, [os.getpgid])
print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
sys.stdin.read()
"""


@forking
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=str)
def test_worker_processes_end_with_their_parent(how: signal.Signals | None) -> None:
    """When it is killed, is told to end, or does not close the pool."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        workers = [Path("/proc") / pid for pid in parent.stdout.readline().split()]
        assert len(workers) == 2
        if how is not None:
            parent.send_signal(how)
        parent.communicate()
    deadline = time.monotonic() + 10
    while any(alive(worker) for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(process: Path) -> bool:
    """Whether it runs: it has not ended, and is not a zombie."""
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@forking
def test_a_pool_ends_though_another_process_holds_its_pipe() -> None:
    """As every process does that the parent forks later."""
    pool = ForkedWorkers(2, JOBS)
    other = os.fork()
    if other == 0:
        time.sleep(60)
        os._exit(0)
    began = time.monotonic()
    pool.close()
    assert time.monotonic() - began < 30
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)


@forking
def test_a_process_with_other_threads_is_not_forked() -> None:
    """A lock that another thread holds would stay locked in the forked process for ever."""
    asked = threading.Event()
    thread = threading.Thread(target=asked.wait)
    thread.start()
    try:
        assert not may_fork()
        with closing(make_pool(2, JOBS)) as pool:
            assert isinstance(pool, ThreadWorkers)
    finally:
        asked.set()
        thread.join()


@forking
def test_a_process_with_one_thread_is_forked() -> None:
    """As the command line's process is, where BLAS is set to one thread before it is loaded."""
    script = (
        "from rnnlm.backend.blas import hold_from_start; hold_from_start(); "
        "import rnnlm.training.engine, rnnlm.backend.workers as w; pool = w.make_pool(2, []); "
        "print(type(pool).__name__); pool.close(); print(type(w.make_pool(1, [])).__name__)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["ForkedWorkers", "SerialWorkers"]


@forking
def test_threads_are_used_where_processes_cannot_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no process that was forked before is left."""
    forks = iter([os.fork])

    def fork() -> int:
        for real in forks:
            return real()
        raise BlockingIOError("no more processes")

    monkeypatch.setattr("rnnlm.backend.workers.may_fork", lambda: True)
    monkeypatch.setattr("os.fork", fork)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with closing(make_pool(3, JOBS)) as pool:
        assert isinstance(pool, ThreadWorkers)
        pool.run(count)
    assert done.tolist() == [1, 1, 1, 0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@forking
@pytest.mark.parametrize("allowed", [0, 1])
def test_the_calling_thread_does_all_where_no_process_or_thread_can_be_started(
    allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the threads that were started before have ended."""
    starts = iter([threading.Thread.start] * allowed)
    started = []

    def start(thread: threading.Thread) -> None:
        for real in starts:
            started.append(thread)
            return real(thread)
        raise RuntimeError("can't start new thread")

    def fork() -> int:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr("rnnlm.backend.workers.may_fork", lambda: True)
    monkeypatch.setattr("os.fork", fork)
    monkeypatch.setattr("threading.Thread.start", start)
    with closing(make_pool(3, JOBS)) as pool:
        pool.run(count)
        with pytest.raises(ZeroDivisionError):
            pool.run(fail_on, 2)
    assert done.tolist() == [1, 1, 1, 0]
    assert len(started) == allowed
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def test_shared_memory_begins_with_zeros() -> None:
    """Of any shape, also without elements or dimensions."""
    for shape in ((), (0,), (3, 5)):
        for dtype in (np.float32, np.intp):
            array = shared_zeros(shape, dtype)
            assert array.shape == shape
            assert array.dtype == dtype
            assert not array.any()
            array[...] = 1
