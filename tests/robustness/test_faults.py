"""Faults, each really done to a process of its own: signals, full disks, lost folders, two at once."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TEXT
from faults import command, differences, environment, finish, here, rnnlm, start, wait_for
from processes import forking
from soak import Cycle, soak

from rnnlm import (
    Checkpoint,
    CheckpointError,
    Corpus,
    RnnlmError,
    make_config,
    prepare,
    read_metrics,
    train,
)
from rnnlm.assembly import build_model
from rnnlm.runs import finding
from rnnlm.storage.atomic import atomic_write
from rnnlm.text.format import LEVELS, TextFormat, TextRules

SMALL = (
    "model.hidden_size=8",
    "model.num_layers=1",
    "train.batch_size=16",  # two lanes, and so two processes
    "train.seq_length=16",
    "train.threads=2",
    "train.log_every=5",
    "train.eval_every=100",
)


def sets(*keys: object) -> list[str]:
    """Keys as the command line takes them."""
    return [part for key in keys for part in ("--set", str(key))]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def data(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, prepared."""
    return prepare(text, tmp_path_factory.mktemp("prepared") / "data").folder


@pytest.fixture(scope="module")
def small(data: Path) -> list[str]:
    """The arguments of a run of 35 steps an epoch."""
    return ["train", *sets(f"data.path={data}", *SMALL)]


@pytest.fixture(scope="module")
def long(small: list[str]) -> list[str]:
    """The arguments of a run of 210 steps."""
    return [*small, *sets("train.epochs=6", "train.checkpoint_every=70")]


@pytest.fixture(scope="module")
def whole(long: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That run, never interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    here(*long, "--run-dir", folder)
    return folder


@pytest.fixture(scope="module")
def two_epochs(small: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of one epoch, and one of two that was never interrupted."""
    folder = tmp_path_factory.mktemp("epochs")
    for n in (1, 2):
        here(*small, *sets(f"train.epochs={n}"), "--run-dir", folder / str(n))
    return folder / "1", folder / "2"


def steps(folder: Path) -> int:
    """At which step a run was saved."""
    return Checkpoint.load(folder / "last.npz").progress.step


# Signals


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_saves_and_the_printed_command_resumes(
    sent: signal.Signals, code: int, long: list[str], whole: Path, tmp_path: Path
) -> None:
    """The step is finished, the exit code is a shell's for the signal, and nothing is lost."""
    run = tmp_path / "a run's folder"  # which the printed command has to quote
    process = start(*long, "--run-dir", run)
    assert process.stderr
    process.stderr.readline()  # it is training
    process.send_signal(sent)
    ended, _, err = finish(process)
    assert ended == code
    assert "stopping after this step" in err
    found = re.search(r"stopped at step (\d+); to go on: rnnlm (.*)", err)
    assert found
    assert 0 < int(found[1]) == steps(run)
    here(*shlex.split(found[2]))
    assert differences(whole, run) == []


def workers(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a run has forked and that are at work: they hold a pipe and standard files."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [int(pid) for pid in children if len([*Path(f"/proc/{pid}/fd").iterdir()]) <= 4]
    except (FileNotFoundError, ProcessLookupError):
        return []


@forking
def test_signals_to_every_process_of_a_run_are_one_signal(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """As a terminal's Ctrl-C is, and a service manager's stop."""
    run = tmp_path / "run"
    process = start(*long, "--run-dir", run, start_new_session=True)
    assert wait_for(lambda: workers(process), process)
    os.killpg(process.pid, signal.SIGTERM)
    ended, _, err = finish(process)
    assert ended == 143
    assert f"stopped at step {steps(run)};" in err
    here("train", "--resume", run)
    assert differences(whole, run) == []


@forking
def test_a_run_that_loses_a_process_says_so_and_goes_on_from_its_checkpoint(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """As when the system is short of memory and kills one."""
    run = tmp_path / "run"
    process = start(*long, "--run-dir", run)
    assert wait_for(lambda: workers(process), process)
    (worker,) = workers(process)
    os.kill(worker, signal.SIGKILL)
    ended, _, err = finish(process)
    assert ended == 1
    assert err.splitlines()[-1].startswith(f"Error: worker process {worker} was killed by SIGKILL")
    here("train", "--resume", run)
    assert differences(whole, run) == []


@forking
def test_a_run_that_is_killed_can_be_resumed_at_once(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """Its lock is gone with it, not with the processes it had forked."""
    run = tmp_path / "run"
    process = start(*long, "--run-dir", run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert wait_for(lambda: workers(process), process)
    (worker,) = workers(process)
    os.kill(worker, signal.SIGSTOP)
    process.kill()
    process.wait()
    try:
        here("train", "--resume", run)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert differences(whole, run) == []


def test_a_second_signal_stops_at_once_and_harms_no_file(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """Even inside the save that the first one asked for."""
    run = tmp_path / "run"
    process = start(*long, "--run-dir", run, handicap=("slow", 0.15))
    assert process.stderr
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert wait_for(lambda: list(run.glob(".last.npz.*-tmp")), process)
    process.send_signal(signal.SIGTERM)
    ended, _, err = finish(process)
    assert ended == 143
    assert "to go on" not in err
    assert steps(run) == 0
    here("train", "--resume", run)
    assert differences(whole, run) == []


def test_signals_that_come_together_are_one_request(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """As `timeout`, service managers and closed terminals send them."""
    run = tmp_path / "run"
    process = start(*long, "--run-dir", run)
    assert process.stderr
    process.stderr.readline()
    process.send_signal(signal.SIGSTOP)  # so that all are there when it goes on
    for sent in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        process.send_signal(sent)
    process.send_signal(signal.SIGCONT)
    ended, _, err = finish(process)
    assert ended in (129, 130, 143)
    assert err.count("stopping after this step") == 1
    assert f"stopped at step {steps(run)};" in err
    here("train", "--resume", run)
    assert differences(whole, run) == []


def test_a_signal_that_was_to_be_ignored_is_ignored(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """SIGHUP under nohup, SIGINT in a background job of a shell script."""
    run = tmp_path / "run"
    ignoring = ["sh", "-c", 'trap "" INT HUP; exec "$@"', "sh", *command(*long, "--run-dir", run)]
    process = subprocess.Popen(
        ignoring, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGHUP)
    ended, _, err = finish(process)
    assert (ended, "stopping" in err) == (0, False)
    assert differences(whole, run) == []


EARLY = """
import os, runpy, signal, sys

def run(number, sent, args):
    count = 0

    def hook(event, names):
        nonlocal count
        if event == "import" and (count or names[0] == "rnnlm.interrupts"):
            count += 1
            if count == number:
                os.kill(os.getpid(), sent)

    sys.argv = ["rnnlm", *args]
    sys.addaudithook(hook)
    runpy.run_module("rnnlm", run_name="__main__", alter_sys=True)

for number in map(int, sys.argv[1].split(",")):
    sent = (signal.SIGINT, signal.SIGTERM)[number % 2]
    pid = os.fork()
    if pid == 0:
        run(number, sent, sys.argv[2:])
    print(128 + sent, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize(
    ("numbers", "args"), [("2,3,6,15,30", ["--help"]), ("90,125,160", ["info", "nowhere.npz"])]
)
def test_a_signal_while_modules_load_ends_without_a_word(numbers: str, args: list[str]) -> None:
    """From the first line that is rnnlm's on; what Python loads before is beyond it."""
    script = [sys.executable, "-c", EARLY, numbers, *args]
    done = subprocess.run(script, env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    codes = [line.split() for line in done.stdout.splitlines()]
    assert len(codes) == numbers.count(",") + 1
    assert all(expected == code for expected, code in codes), codes


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_before_the_first_step_leaves_nothing_in_the_way(
    sent: signal.Signals, code: int, text: Path, small: list[str], tmp_path: Path
) -> None:
    """The same command starts again, whatever the first one had made."""
    args = [*small, *sets("train.epochs=1", f"data.path={text}"), "--run-dir", tmp_path / "run"]
    process = start(*args, handicap=("slow", 0.05))
    assert wait_for(lambda: (tmp_path / "run" / "data").exists(), process)
    process.send_signal(sent)
    ended, out, _ = finish(process)
    assert ended == code
    assert out == ""
    assert not (tmp_path / "run").exists()
    here(*args)


def test_a_death_at_any_operation_on_files_loses_nothing(tmp_path: Path) -> None:
    """SIGKILL before, inside and after each write, sync and rename, and again after going on."""
    (tmp_path / "text.txt").write_text(TEXT[:800])
    run = sets(
        f"data.path={tmp_path / 'text.txt'}",
        *("model.hidden_size=4", "model.num_layers=1", "train.epochs=1", "train.batch_size=4"),
        *("train.seq_length=40", "train.checkpoint_every=3", "train.eval_every=2"),
        *("train.log_every=2", "train.sample_every=4", "train.keep=1", "train.threads=1"),
    )
    script = command(tmp_path, *run, handicap=("die-everywhere", "41,1"))
    done = subprocess.run(script, env=environment(), capture_output=True, text=True, check=False)
    assert re.fullmatch(r"\d\d\d operations\n", done.stdout), done


def test_a_dry_run_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """At any time: its copy of the text has no name."""
    (tmp_path / "temporary").mkdir()
    os.mkfifo(tmp_path / "pipe")
    data = sets(f"data.path={tmp_path / 'pipe'}")
    environ = {**environment(), "TMPDIR": str(tmp_path / "temporary")}
    for sent, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = start("train", "--dry-run", *data, env=environ)
        with (tmp_path / "pipe").open("wb", buffering=0) as pipe:  # it is reading
            pipe.write(TEXT.encode())
            process.send_signal(sent)
        # the pipe is closed: a signal just before a read waits for that
        ended, _, _ = finish(process)
        assert ended == code
        assert not list((tmp_path / "temporary").iterdir())


def test_of_many_that_prepare_into_one_folder_at_once_one_does(tmp_path: Path) -> None:
    """The others are refused in one line, and its text is what is there."""
    for name in "abc":
        (tmp_path / name).write_text(name + TEXT)
    out = tmp_path / "out"
    ended = [
        finish(process)
        for process in [start("prepare", tmp_path / name, "--out", out) for name in "abc"]
    ]
    assert sorted(code for code, _, _ in ended) == [0, 1, 1], ended
    (winner,) = [name for name, (code, _, _) in zip("abc", ended, strict=True) if code == 0]
    corpus = Corpus.open(out)
    assert corpus.vocabulary.text(corpus["train"][:1]) == winner
    for code, _, err in ended:
        assert code == 0 or re.fullmatch(r"Error: .*(another process|not empty).*\n", err)


# Disks and folders


NO_SPACE = """
set -eu
mount -t tmpfs -o size=1m none "$1"
shift
exec "$@"
"""


def without_space(folder: Path) -> list[str]:
    """What to put before a command to give it a disk of 1 MB at `folder`; skips where it cannot be."""
    prefix = ["unshare", "--mount", "sh", "-c", NO_SPACE, "sh", str(folder)]
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("a disk of its own needs root's right to mount one")
    return prefix


FILL = """
import os, shutil, subprocess, sys
from pathlib import Path

small, kept, free = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
command = sys.argv[4:]
shutil.copytree(kept / "1", small / "run")
room = os.statvfs(small).f_bavail * os.statvfs(small).f_frsize
(small / "filler").write_bytes(bytes(room - free))
done = subprocess.run([*command], capture_output=True, text=True)
print(done.returncode, done.stderr)
(small / "filler").unlink()
shutil.copytree(small / "run", kept / "after")
"""


@pytest.mark.parametrize(
    ("free", "said"),
    [(0, r"config.yaml: cannot write \d+ bytes: No space"), (20_000, r"last.npz: .* MB needed")],
)
def test_no_space_leaves_the_old_checkpoint(
    free: int, said: str, two_epochs: tuple[Path, Path], tmp_path: Path
) -> None:
    """On a disk that is full, or too full for a checkpoint: what is missing is said, nothing lost."""
    shutil.copytree(two_epochs[0], tmp_path / "1")
    (tmp_path / "disk").mkdir()
    run = tmp_path / "disk" / "run"
    resume = command("train", "--resume", run, *sets("train.epochs=2"))
    script = [sys.executable, "-c", FILL, tmp_path / "disk", tmp_path, free, *resume]
    done = subprocess.run(
        [*without_space(tmp_path / "disk"), *map(str, script)],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("1 "), done
    assert re.search(said, done.stdout)
    assert str(run) in done.stdout
    go_on_and_compare(two_epochs, tmp_path / "after")


def go_on_and_compare(two_epochs: tuple[Path, Path], run: Path) -> None:
    """After a fault in its second epoch: the files of the first are whole, and the end is the same."""
    for name in ("last.npz", "best.npz"):
        assert (run / name).read_bytes() == (two_epochs[0] / name).read_bytes()
    assert not list(run.glob(".*tmp"))
    here("train", "--resume", run, *sets("train.epochs=2"))
    assert differences(two_epochs[1], run) == []


def test_a_file_that_may_not_grow_leaves_the_old_checkpoint(
    two_epochs: tuple[Path, Path], tmp_path: Path
) -> None:
    """As no space does, where no disk can be made for the test."""
    run = tmp_path / "run"
    shutil.copytree(two_epochs[0], run)
    resume = ("train", "--resume", run, *sets("train.epochs=2"))
    _, err = rnnlm(*resume, code=1, handicap=("small-files", 10_000))
    assert re.search(r"last\.npz: cannot write the checkpoint \(0\.\d MB needed\): File too", err)
    go_on_and_compare(two_epochs, run)


def test_a_folder_that_becomes_read_only_leaves_the_old_checkpoint(
    two_epochs: tuple[Path, Path], small: list[str], tmp_path: Path
) -> None:
    """Permissions that forbid the next save, or the first one, are named with their path."""
    run = tmp_path / "run"
    shutil.copytree(two_epochs[0], run)
    run.chmod(0o555)
    resume = ("train", "--resume", run, *sets("train.epochs=2"))
    _, err = rnnlm(*resume, code=1, handicap=("bound-by-modes", "-"))
    assert f"{run}/config.yaml: cannot write" in err
    assert "Permission denied" in err
    _, err = rnnlm(*small, "--run-dir", run / "new", code=1, handicap=("bound-by-modes", "-"))
    assert f"{run}/new: cannot make the run folder: Permission denied" in err
    run.chmod(0o755)
    go_on_and_compare(two_epochs, run)


def test_a_folder_that_vanishes_stops_the_run_and_can_be_gone_on_with(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """Moved away in the middle: the path and the need are said, and it resumes where it is now."""
    process = start(*long, "--run-dir", tmp_path / "run")
    assert wait_for(lambda: (tmp_path / "run" / "best.npz").exists(), process)
    (tmp_path / "run").rename(tmp_path / "moved")
    ended, _, err = finish(process)
    assert ended == 1
    said = rf"Error: {tmp_path}/run/(best|last)\.npz: cannot write .* MB needed\): No such file"
    assert re.match(said, err.splitlines()[-1])
    here("train", "--resume", tmp_path / "moved")
    assert differences(whole, tmp_path / "moved") == []


def test_a_run_that_was_moved_reads_its_own_text(
    small: list[str], text: Path, tmp_path: Path
) -> None:
    """Not that of another run where it had been."""
    (tmp_path / "other.txt").write_text(TEXT.upper())
    one_epoch = [*small, *sets("train.epochs=1")]
    here(*one_epoch, *sets(f"data.path={text}"), "--run-dir", tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    here(*one_epoch, *sets(f"data.path={tmp_path / 'other.txt'}"), "--run-dir", tmp_path / "a")
    here("train", "--resume", tmp_path / "b", *sets("train.epochs=2"))


def test_a_lost_best_checkpoint_is_missed(small: list[str], tmp_path: Path) -> None:
    """The test is not made with other parameters in its place."""
    run = tmp_path / "run"
    here(*small, *sets("train.epochs=1", "train.eval_every=1 epoch"), "--run-dir", run)
    (run / "best.npz").unlink()
    err = here("train", "--resume", run, code=1)
    assert "best.npz: no such file" in err


def test_a_second_process_is_refused_until_the_first_is_dead(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """By a lock that goes with its holder, however that ends, from the start of the run on."""
    run = tmp_path / "run"
    process = start(*long, "--run-dir", run, handicap=("slow", 0.05))
    assert wait_for(lambda: (run / "lock").exists(), process)
    for args in ((*long, "--run-dir", run), ("train", "--resume", run)):
        err = here(*args, code=1)
        assert re.search("another process|already holds something", err)
        wait_for((run / "last.npz").exists, process)
    process.kill()
    finish(process)
    here("train", "--resume", run)
    assert differences(whole, run) == []


def test_of_many_that_start_at_once_one_runs(
    small: list[str], two_epochs: tuple[Path, Path], tmp_path: Path
) -> None:
    """The others are refused in one line, and its run is as if it had been alone."""
    run = tmp_path / "run"
    started = [start(*small, *sets("train.epochs=1"), "--run-dir", run) for _ in range(3)]
    ended = [finish(process) for process in started]
    assert sorted(code for code, _, _ in ended) == [0, 1, 1], ended
    assert differences(two_epochs[0], run) == []


def test_a_start_that_is_refused_leaves_a_foreign_folder_as_it_was(
    small: list[str], tmp_path: Path
) -> None:
    """No lock is put into a folder of other things, or into one that a link leads to."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to-mara.txt").write_text("Dear Mara")
    err = here(*small, "--run-dir", tmp_path / "letters", code=1)
    assert "already holds something" in err
    assert [p.name for p in (tmp_path / "letters").iterdir()] == ["to-mara.txt"]


def test_a_log_that_is_a_link_or_a_pipe_is_refused(
    two_epochs: tuple[Path, Path], tmp_path: Path
) -> None:
    """A run folder from elsewhere does not lead the writer out of it, nor make it wait."""
    run, letter = tmp_path / "run", tmp_path / "letter.txt"
    shutil.copytree(two_epochs[0], run)
    letter.write_text("Dear Mara\n" * 1000)
    for make in (lambda path: path.symlink_to(letter), os.mkfifo):
        (run / "metrics.jsonl").unlink()
        make(run / "metrics.jsonl")
        err = here("train", "--resume", run, code=1)
        assert "metrics.jsonl" in err
    assert letter.read_text() == "Dear Mara\n" * 1000


def test_a_short_soak_ends_as_it_must() -> None:
    """One run, killed, stopped and damaged; `make soak` has all kinds of trials, at length."""
    assert soak(1, seed=1, jobs=1, kinds=(Cycle,)) == 0


# Divergence


def test_divergence_says_what_to_lower_and_keeps_the_last_finite_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loss or gradient that is no number stops the run before the update."""
    keys = (
        *(f"data.path={data}", "model.cell=rnn", "model.activation=identity"),
        *("train.batch_size=4", "train.seq_length=32", "train.checkpoint_every=1"),
        *("train.optimizer={name: sgd, learning_rate: 1000}", "train.grad_clip=null"),
    )
    err = here("train", *sets(*keys), "--run-dir", tmp_path / "a", "--report", code=1)
    page = (tmp_path / "a" / "report.html").read_text("utf-8")
    assert "<dd>diverged</dd>" in page and 'http-equiv="refresh"' not in page
    said = re.search(r"Error: step (\d+): loss \S+, gradient norm \S+: training diverged", err)
    assert said
    assert "lower train.optimizer.learning_rate or set train.grad_clip.norm" in err
    kept = Checkpoint.load(tmp_path / "a" / "last.npz")
    assert kept.progress.step == int(said[1]) - 1
    assert np.isfinite(kept.params.flat).all()
    log = list(read_metrics(tmp_path / "a"))
    assert (log[-1]["event"], log[-1]["step"]) == ("diverged", int(said[1]) - 1)
    assert '"state": "diverged"' in here("runs", tmp_path, "--json")
    # a resume repeats it, and leaves one such record; what is advised does something else
    assert said[0] in here("train", "--resume", tmp_path / "a", code=1)
    assert [r["event"] for r in read_metrics(tmp_path / "a")].count("diverged") == 1
    monkeypatch.setattr(finding, "RUNS", tmp_path)
    with pytest.raises(CheckpointError, match="is finished or has diverged"):
        finding.find_unfinished()
    _, _, advised = err.rstrip().partition(": train again, in another --run-dir, with ")
    assert advised == "--set train.grad_clip.norm=5"
    calmer = (
        *shlex.split(advised),
        *sets("train.max_steps=1", "train.optimizer.learning_rate=0.01"),
    )
    here("train", *sets(*keys), "--run-dir", tmp_path / "c", *calmer)
    assert Checkpoint.load(tmp_path / "c" / "last.npz").config.train.grad_clip == {"norm": 5.0}

    # and where the weights that a run starts from overflow in the validation before the first step
    kept.params.flat[:] = 3e38
    replace(kept, state=None, optimizer_state={}).save(tmp_path / "huge.npz")
    huge = ("--init-from", tmp_path / "huge.npz", "--run-dir", tmp_path / "b")
    err = here("train", *sets(f"data.path={data}", "train.batch_size=4"), *huge, code=1)
    assert "Error: the model's predictions are not finite: its weights are too large" in err
    assert (Checkpoint.load(tmp_path / "b" / "last.npz").params.flat == np.float32(3e38)).all()


def test_a_run_from_a_checkpoint_leaves_it_alone(data: Path, tmp_path: Path) -> None:
    """Training from weights that a caller holds does not change them under the caller."""
    keys = (f"data.path={data}", "model.hidden_size=4", "train.epochs=1")
    train(make_config(None, *keys, f"run.dir={tmp_path / 'a'}"))
    held = Checkpoint.load(tmp_path / "a" / "last.npz")
    before = held.params.flat.tobytes()
    train(make_config(None, *keys, f"run.dir={tmp_path / 'b'}"), init_from=held)
    assert held.params.flat.tobytes() == before


# Power loss


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name what is synced")
def test_files_and_folders_are_synced_before_and_after_a_rename(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log before the checkpoint that counts it, the file before its name, the folder after it."""
    done: list[str] = []
    fsync, rename = os.fsync, Path.replace

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")

    def recorded_rename(self: Path, target: Path) -> Path:
        done.append(f"rename {self.name} {target.name}")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_rename)
    keys = ("model.hidden_size=4", "train.epochs=1", f"run.dir={tmp_path / 'new' / 'run'}")
    train(make_config(None, f"data.path={data}", *keys))
    assert done[:2] == [f"sync {tmp_path.name}", "sync new"]  # the folders that were made
    assert any(" best.npz" in event for event in done)
    assert any(" last.npz" in event for event in done)
    for at, event in enumerate(done):
        if event.startswith("rename "):
            _, temporary, name = event.split()
            around = [done[at - 2], done[at - 1], done[at + 1]]
            log = "sync metrics.jsonl" if name.endswith(".npz") else around[0]
            assert around == [log, f"sync {temporary}", "sync run"]


def test_a_failed_write_leaves_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever step fails."""
    (tmp_path / "a").write_text("old")

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    for owner, name in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="Input/output"):
            patch.setattr(owner, name, fail)
            with atomic_write(tmp_path / "a") as file:
                file.write(b"new")
        assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


# Terminals and pipes


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that draws escape sequences, marks that turn text around, and letters."""
    symbols = [7, 10, 13, 27, ord("["), ord("a"), 0x9B, 0x202E, 0x1F600]
    config = make_config(None, "model.hidden_size=4", "model.num_layers=1")
    model = build_model(config, len(symbols))
    params = model.init(np.random.default_rng(0))
    params.flat[:] = 0
    text_format = TextFormat(TextRules.of(config.data), LEVELS["char"](symbols))
    path = tmp_path_factory.mktemp("hostile") / "c.npz"
    Checkpoint(config, text_format, params, np.ones(len(symbols), np.int64)).save(path)
    return path


def terminal() -> tuple[int, int]:
    """Both sides of a terminal: that of who looks at it, and that of what runs in it."""
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return leader, follower


def on_terminal(*args: object, **options: Any) -> str:
    """What a command shows on a terminal of its own, and that it ended well."""
    leader, follower = terminal()
    on_it = {"stdin": follower, "stdout": follower, "stderr": follower}
    process = start(*args, **{**on_it, **options})
    os.close(follower)

    def pieces() -> Iterator[bytes]:
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # how Linux says that the other side has closed
                return
            if not piece:
                return
            yield piece

    shown = b"".join(pieces())
    os.close(leader)
    assert process.wait(timeout=60) == 0, shown
    return shown.decode()


def test_control_characters_are_escaped_on_a_terminal_and_raw_elsewhere(
    hostile: Path, tmp_path: Path
) -> None:
    """What a model draws does not drive the terminal, and reaches a pipe or a file as it is."""
    args = ("sample", hostile, "--length", 400, "--prime", "\x1b[a")
    shown = on_terminal(*args).replace("\r\n", "\n")
    for c in "\x07\r\x1b\x9b\u202e":
        assert c not in shown
        assert c.encode("unicode_escape").decode() in shown
    assert shown.startswith("\\x1b[a")
    assert "\U0001f600" in shown
    pipe = subprocess.run(command(*args), env=environment(), capture_output=True, check=True)
    here(*args, "--output", tmp_path / "out.txt")
    assert pipe.stdout == (tmp_path / "out.txt").read_bytes()
    raw = pipe.stdout.decode()
    assert set("\x07\r\x1b\x9b\u202e\U0001f600") < set(raw)
    escaped = "".join(
        c.encode("unicode_escape").decode() if c in "\x07\r\x1b\x9b\u202e" else c for c in raw
    )
    assert shown == escaped


def test_a_terminal_has_a_progress_bar(small: list[str], tmp_path: Path) -> None:
    """On one line, with the figures of the training, and results above it."""
    shown = on_terminal(*small, *sets("train.epochs=10"), "--run-dir", tmp_path / "run")
    assert re.search(
        r"\r *\d+%\|.*\| epoch \d\.\d\d/10, loss \d\.\d+, \d\d:\d\d left, [\d,]+ characters/s",
        shown,
    )
    assert "test, checkpoint of step" in shown


def test_a_bar_that_is_told_nonsense_is_shown(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a variable that tqdm refuses when it is loaded, or one that it refuses when it draws."""
    monkeypatch.setenv("TQDM_MININTERVAL", "abc")
    monkeypatch.setenv("TQDM_BAR_FORMAT", "{nonsense}")
    shown = on_terminal(*small, *sets("train.epochs=1"), "--run-dir", tmp_path / "run")
    assert "100%" in shown


IN_SESSION = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("sh", ["sh", "-c", sys.argv[1] + ' exec "$@"', "sh", *sys.argv[2:]])
"""


@pytest.mark.parametrize(("before", "code"), [("", 129), ('trap "" HUP;', 0)])
def test_a_run_whose_terminal_is_closed_is_not_lost(
    before: str, code: int, long: list[str], whole: Path, tmp_path: Path
) -> None:
    """It is saved and stops, or goes on to its end where SIGHUP is ignored, as nohup has it."""
    run = tmp_path / "run"
    leader, follower = terminal()
    training = command(*long, "--run-dir", run, handicap=("slow", 0.05))
    script = [sys.executable, "-c", IN_SESSION, before, *training]
    process = subprocess.Popen(
        script, env=environment(), stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    shown = b""
    while b" left" not in shown:  # the bar
        shown += os.read(leader, 65536)
    os.close(leader)
    assert process.wait(timeout=60) == code
    if code:
        assert 0 < steps(run) < steps(whole)
        here("train", "--resume", run)
    assert differences(whole, run) == []


FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


@needs_full
@pytest.mark.parametrize("bar", [False, True])
def test_a_full_disk_under_the_log_does_not_end_a_run(
    bar: bool, small: list[str], two_epochs: tuple[Path, Path], tmp_path: Path
) -> None:
    """Nor one under standard output while a bar is shown."""
    args = (*small, *sets("train.epochs=1"), "--run-dir", tmp_path / "run")
    with FULL.open("w") as full:
        if bar:
            assert "100%" in on_terminal(*args, stdout=full)
        else:
            assert start(*args, stdout=full, stderr=full).wait(timeout=60) == 0
    assert differences(two_epochs[0], tmp_path / "run") == []


UNWRITABLE = """
import gc, itertools, json, os, sys
from importlib import import_module
import rnnlm.api.facts, rnnlm.api.sampling
from rnnlm.__main__ import main
from rnnlm.cli.main import COMMANDS

for name in COMMANDS:  # here, so that no fork has to
    import_module(f"rnnlm.cli.{name}")
gc.freeze()

places, lines = map(json.loads, sys.argv[1:])
for place, line, descriptors in itertools.product(places, lines, ((1,), (1, 2))):
    reader, said = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(said, 2)
        for descriptor in descriptors:
            os.dup2(os.open(*place), descriptor)
        sys.argv = ["rnnlm", *line]
        sys.exit(main())
    os.close(said)
    with open(reader) as file:
        err = file.read()
    print(json.dumps([line, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), err]))
"""


@needs_full
def test_output_that_cannot_be_written_is_one_line(hostile: Path) -> None:
    """With exit code 1; where that line cannot be written either, there is none."""
    places = (("/dev/full", os.O_WRONLY), (os.devnull, os.O_RDONLY))
    lines = (["--help"], ["train", "--help"], ["--version"], ["info", hostile], ["sample", hostile])
    arguments = (json.dumps(places), json.dumps(lines, default=str))
    done = subprocess.run(
        [sys.executable, "-c", UNWRITABLE, *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    ended = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ended) == len(places) * len(lines) * 2
    for (line, code, err), nothing in zip(ended, itertools.cycle([False, True]), strict=False):
        assert code == 1, line
        if nothing:
            assert err == ""
        else:
            assert re.fullmatch(r"Error: .*(No space left|Bad file descriptor).*\n", err), line


@pytest.mark.parametrize("command_line", ["sample", "info", "train"])
def test_a_closed_pipe_ends_a_command_quietly(
    command_line: str, hostile: Path, long: list[str], tmp_path: Path
) -> None:
    """As `| head` closes it."""
    args = {
        "sample": ("sample", hostile, "--length", 10**7),
        "info": ("info", hostile),
        "train": (*long, "--run-dir", tmp_path / "run"),
    }[command_line]
    process = start(*args)
    assert process.stdout
    # `info` says all of it at once, and would be done before the pipe is closed
    assert command_line == "info" or process.stdout.read(1)
    process.stdout.close()
    process.stdout = None
    code, _, err = finish(process)
    assert code == 141
    assert not [
        line for line in err.splitlines() if not line.startswith(("step ", "stopped at "))
    ], err


def test_a_run_whose_reader_goes_away_is_saved_and_goes_on(
    long: list[str], whole: Path, tmp_path: Path
) -> None:
    """Like a run that was interrupted; its exit code is a shell's for a broken pipe."""
    run = tmp_path / "run"
    process = start(*long, "--run-dir", run, *sets("train.eval_every=50"))
    assert process.stdout
    while "validation" not in process.stdout.readline():
        pass
    process.stdout.close()
    process.stdout = None
    code, _, err = finish(process)
    assert code == 141
    found = re.search(r"stopped at step (\d+); to go on: rnnlm (.*)", err)
    assert found
    assert steps(run) == int(found[1]) >= 100
    out = here(*shlex.split(found[2]))
    assert f"going on from step {found[1]}\n" in out
    a, b = (Checkpoint.load(folder / "last.npz").params.flat for folder in (run, whole))
    np.testing.assert_array_equal(a, b)


def test_a_run_without_standard_files_ends_like_any_other(
    small: list[str], two_epochs: tuple[Path, Path], tmp_path: Path
) -> None:
    """No pipe or checkpoint takes the place of a closed one."""
    args = command(*small, *sets("train.epochs=1"), "--run-dir", tmp_path / "run")
    closed = f"{shlex.join(args)} <&- >&- 2>&-"
    assert subprocess.run(closed, shell=True, env=environment(), check=False).returncode == 0
    assert differences(two_epochs[0], tmp_path / "run") == []


# Nothing outside the paths that are given

AUDIT = """
import json, os, sys

touched = set()
WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")

def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes, os.PathLike)):
        writes = isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        touched.add(("write" if writes else "read", os.path.abspath(os.fsdecode(args[0]))))
    elif event in WRITES:
        for path in args[:2]:
            if isinstance(path, (str, bytes, os.PathLike)):
                touched.add(("write", os.path.abspath(os.fsdecode(path))))
    elif event.split(".")[0] in ("socket", "subprocess", "ctypes.dlopen") or event in (
        "os.system", "os.exec", "os.posix_spawn", "os.fork", "exec.pickle", "pickle.find_class",
    ):
        touched.add((event, str(args)))

from rnnlm.cli import main as cli
import rnnlm.api.evaluation, rnnlm.api.sampling, tqdm  # what is imported later would be read, too
sys.addaudithook(hook)
for line in json.loads(sys.argv[1]):
    try:
        cli.cli(line, prog_name="rnnlm")
    except SystemExit as end:
        if end.code:
            raise
print(json.dumps(sorted(touched)), file=sys.stderr)
"""


def test_nothing_is_read_or_written_outside_the_given_paths(tmp_path: Path) -> None:
    """From prepare to sample: the text, the folders that were named, and what Python itself reads."""
    given, run = tmp_path / "given", tmp_path / "given" / "run"
    given.mkdir()
    (given / "text.txt").write_text(TEXT)
    (tmp_path / "elsewhere").mkdir()
    first = sets(f"data.path={given / 'data'}", *SMALL[:4], "train.epochs=1", "train.keep=1")
    lines = [
        ["prepare", given / "text.txt", "--out", given / "data"],
        ["train", *first, "--run-dir", run],
        ["train", "--resume", run, *sets("train.epochs=2")],
        ["sample", run, "--prime", "Mara", "--length", 9, "--output", given / "sample.txt"],
        ["eval", run, "--text", given / "text.txt"],
        ["eval", run],
        ["info", run / "last.npz"],
    ]
    script = [sys.executable, "-c", AUDIT, json.dumps(lines, default=str)]
    environ = {**environment(), "HOME": str(tmp_path / "elsewhere"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        script, env=environ, cwd=tmp_path / "elsewhere", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    touched = json.loads(done.stderr.splitlines()[-1])
    writes = {path for kind, path in touched if kind == "write"}
    assert writes
    assert not {path for path in writes if not path.startswith(str(given) + "/")}
    system = ("/proc/", "/sys/", "/dev/null", sys.prefix, sys.base_prefix, environ["PYTHONPATH"])
    reads = {path for kind, path in touched if kind == "read"}
    assert not {path for path in reads if not path.startswith((str(given), *system))}
    assert {kind for kind, _ in touched} == {"read", "write"}
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_run_folder_that_was_never_one_is_refused(tmp_path: Path) -> None:
    """With what to do about it."""
    (tmp_path / "run").mkdir()
    err = here("train", "--resume", tmp_path / "run", code=1)
    assert "no last.npz" in err
    with pytest.raises(RnnlmError):
        Checkpoint.load(tmp_path / "run")
    np.savez(tmp_path / "run" / "last.npz", a=np.arange(3))
    err = here("train", "--resume", tmp_path / "run", code=1)
    assert "last.npz: not an rnnlm checkpoint" in err
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["last.npz"]
