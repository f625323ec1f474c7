"""Hands that work side by side: threads and forked processes."""

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

from rnnlm.backend.workers import Alone, Forks, Team, Threads, make_team, may_fork, shared_zeros
from rnnlm.errors import TrainingError

KINDS: dict[str, Callable[[int, Any], Team]] = {
    "alone": lambda hands, _: Alone(hands),
    "threads": lambda hands, _: Threads(hands),
    "forks": Forks,
}
every_kind = pytest.mark.parametrize("kind", KINDS)

HANDS = 4
done = shared_zeros((HANDS,), np.int64)


def count(hand: int, by: int = 1) -> None:
    """Note that a hand was here."""
    done[hand] += by


def fail_on(hand: int, which: int) -> None:
    """An error on one of the hands."""
    if hand == which:
        raise ZeroDivisionError(f"hand {hand}")


class UnsendableError(Exception):
    """An error that does not survive its journey."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__("of its own kind")


def fail_unsendably(hand: int) -> None:
    """On every hand but the caller."""
    if hand:
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
@pytest.mark.parametrize("hands", [1, 2, 4])
def test_every_hand_does_every_job_once(kind: str, hands: int) -> None:
    """With the arguments that were given."""
    with closing(KINDS[kind](hands, JOBS)) as team:
        for _ in range(20):
            team.run(count)
        team.run(count, 100)
    assert done.tolist() == [120] * hands + [0] * (HANDS - hands)


@forking
@every_kind
@pytest.mark.parametrize("which", range(3))
def test_an_error_reaches_the_caller_and_the_team_lives_on(kind: str, which: int) -> None:
    """From whichever hand."""
    with closing(KINDS[kind](3, JOBS)) as team:
        for _ in range(5):
            with pytest.raises(ZeroDivisionError, match=f"hand {which}"):
                team.run(fail_on, which)
        team.run(count)
    assert done.tolist() == [1, 1, 1, 0]


@forking
def test_an_error_that_cannot_be_sent_is_told() -> None:
    """By its name and text."""
    with closing(Forks(2, JOBS)) as team:
        with pytest.raises(RuntimeError, match="UnsendableError: of its own kind"):
            team.run(fail_unsendably)
        team.run(count)
    assert done.tolist() == [1, 1, 0, 0]


@forking
def test_signals_are_left_to_the_owner() -> None:
    """A terminal's Ctrl-C and a service manager's SIGTERM come to every process of a group."""
    before = children()
    with closing(Forks(3, JOBS)) as team:
        helpers = children() - before
        assert len(helpers) == 2
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for pid in helpers:
                os.kill(pid, number)
            team.run(count)
    assert done.tolist() == [3, 3, 3, 0]


@forking
def test_a_killed_helper_is_named() -> None:
    """Then the team is of no use any more, and says so."""
    before = children()
    with closing(Forks(3, JOBS)) as team:
        os.kill(max(children() - before), signal.SIGKILL)
        with pytest.raises(TrainingError, match=r"process \d+.*was killed by SIGKILL"):
            team.run(count)
        with pytest.raises(RuntimeError, match="closed, or interrupted"):
            team.run(count)


@forking
def test_an_interrupted_wait_leaves_no_answer_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers of an old job can't be taken for those of a new one."""
    with closing(Forks(2, JOBS)) as team:
        with monkeypatch.context() as patch:
            patch.setattr(
                "rnnlm.backend.workers.Helper.receive", lambda _: signal.raise_signal(signal.SIGINT)
            )
            with pytest.raises(KeyboardInterrupt):
                team.run(count)
        with pytest.raises(RuntimeError, match="closed, or interrupted"):
            team.run(count)


@forking
def test_helpers_hold_no_file_of_the_owners(tmp_path: Path) -> None:
    """A lock ends with its owner's file, while helpers are alive."""
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        team = Forks(3, JOBS)
        team.run(count)
    with closing(team), (tmp_path / "lock").open("w") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        team.run(count)


OWNER = """
import os, sys
from rnnlm.backend.workers import Forks
team = Forks(3, [os.getpgid])
print(open(f"/proc/self/task/{os.getpid()}/children").read(), flush=True)
sys.stdin.read()
"""


@forking
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=str)
def test_helpers_end_with_their_owner(how: signal.Signals | None) -> None:
    """Whether it is killed, asked to go, or forgets to close the team."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        helpers = [Path("/proc") / pid for pid in owner.stdout.readline().split()]
        assert len(helpers) == 2
        if how is not None:
            owner.send_signal(how)
        owner.communicate()
    deadline = time.monotonic() + 10
    while any(alive(helper) for helper in helpers):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def alive(process: Path) -> bool:
    """Whether it runs: neither gone nor waiting for somebody to ask how it ended."""
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


@forking
def test_a_team_ends_though_another_process_holds_its_pipe() -> None:
    """As every process does that the owner forks afterwards."""
    team = Forks(2, JOBS)
    other = os.fork()
    if other == 0:
        time.sleep(60)
        os._exit(0)
    began = time.monotonic()
    team.close()
    assert time.monotonic() - began < 30
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)


@forking
def test_a_process_with_other_threads_is_not_forked() -> None:
    """A lock that another thread holds would be held for ever in the copy."""
    asked = threading.Event()
    thread = threading.Thread(target=asked.wait)
    thread.start()
    try:
        assert not may_fork()
        with closing(make_team(2, JOBS)) as team:
            assert isinstance(team, Threads)
    finally:
        asked.set()
        thread.join()


@forking
def test_a_process_with_one_thread_is_forked() -> None:
    """As the command line's is, which holds BLAS to one thread before it is loaded."""
    script = (
        "from rnnlm.backend.blas import hold_from_start; hold_from_start(); "
        "import rnnlm.training.engine, rnnlm.backend.workers as t; team = t.make_team(2, []); "
        "print(type(team).__name__); team.close(); print(type(t.make_team(1, [])).__name__)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["Forks", "Alone"]


@forking
def test_where_no_process_can_be_made_threads_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """And none that was made before is left."""
    forks = iter([os.fork])

    def fork() -> int:
        for real in forks:
            return real()
        raise BlockingIOError("no more processes")

    monkeypatch.setattr("rnnlm.backend.workers.may_fork", lambda: True)
    monkeypatch.setattr("os.fork", fork)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with closing(make_team(3, JOBS)) as team:
        assert isinstance(team, Threads)
        team.run(count)
    assert done.tolist() == [1, 1, 1, 0]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@forking
@pytest.mark.parametrize("allowed", [0, 1])
def test_where_neither_process_nor_thread_can_be_made_the_caller_does_all(
    allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the threads that could be started before have ended."""
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
    with closing(make_team(3, JOBS)) as team:
        team.run(count)
        with pytest.raises(ZeroDivisionError):
            team.run(fail_on, 2)
    assert done.tolist() == [1, 1, 1, 0]
    assert len(started) == allowed
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()


def test_shared_memory_begins_with_zeros() -> None:
    """Of any shape, and none."""
    for shape in ((), (0,), (3, 5)):
        for dtype in (np.float32, np.intp):
            array = shared_zeros(shape, dtype)
            assert array.shape == shape
            assert array.dtype == dtype
            assert not array.any()
            array[...] = 1
