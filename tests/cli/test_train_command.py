"""`rnnlm train`: its bars, limits, and the run that is gone on with."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import says
from conftest import TEXT, TINY

from rnnlm.cli import bars
from rnnlm.cli.bars import BAR, PassBar, StepsBar, fitting
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.runs.history import read_metrics

KEYS = (*TINY, "model.hidden_size=4", "train.threads=1", "data.path=text.txt")
SETS = [part for key in KEYS for part in ("--set", key)]


def train(*args: object, code: int = 0) -> str:
    """Train a tiny model on the text of `in_text`."""
    return says("train", *SETS, *args, code=code)


@pytest.fixture
def in_text(in_tmp: Path) -> Path:
    """A folder with a text."""
    (in_tmp / "text.txt").write_text(TEXT)
    return in_tmp


# Bars


@pytest.mark.parametrize(("columns", "others"), [(58, 0), (80, 1), (120, 3)])
def test_a_bar_shows_epoch_loss_and_time_left_before_anything_else(
    columns: int, others: int
) -> None:
    """And the rest where there is room; it is never cut off, also in a long run."""
    from tqdm import tqdm

    always = ["epoch 12.35/100", "loss 2.957", "1:12:34 left"]
    more = ["30,111 characters/s", "perplexity 19.25", "step 12345/99999"]
    with io.StringIO() as nowhere, tqdm(total=99999, ncols=columns, file=nowhere) as bar:
        bar.bar_format = BAR
        bar.set_description_str(fitting([*always, *more], columns), refresh=False)
        shown = str(bar)
    assert ", ".join(always) in shown
    assert [figure in shown for figure in more] == [True] * others + [False] * (3 - others)
    assert len(shown) == columns


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What is drawn on standard error from here on."""
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    return shown


def test_a_run_that_was_made_shorter_has_no_more_than_a_hundred_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after `--resume --set train.epochs=1` of a longer one."""
    shown = terminal(monkeypatch)
    with StepsBar(total=10, epochs=1, done=30, seconds=5.0, limit=None).bar:
        pass
    assert "100%" in shown.getvalue()
    assert "300%" not in shown.getvalue()


def test_time_left_is_that_of_the_limit_which_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step took a second: 90 are left, or the 50 seconds that the limit leaves."""
    terminal(monkeypatch)
    monkeypatch.setattr(bars, "REDRAW", 0)
    for limit, left in ((None, "01:30"), (65.0, "00:50"), (1000.0, "01:30")):
        steps = StepsBar(total=100, epochs=10, done=5, seconds=10.0, limit=limit)
        with steps.bar:
            for step in range(6, 11):
                record = {"step": step, "epoch": step / 10, "loss": 1.0, "seconds": step + 5.0}
                steps.step(record, iter(()))
            assert steps.bar.desc == f"epoch 1.00/10, loss 1.000, {left} left"


def test_a_validation_is_seen_in_the_bar_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """How much of it is done, and the time that it takes yet."""
    shown = terminal(monkeypatch)
    clock = iter([10, 10, 20, 20])
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    steps = StepsBar(total=10, epochs=1, done=0, seconds=0.0, limit=None)
    with steps.bar:
        steps.watch("validation", 1, 4)
        steps.watch("validation", 2, 4)
        assert steps.bar.desc == "validation 50%, 00:10 left"
    assert "validation 50%, 00:10 left" in shown.getvalue()


def test_the_bar_of_a_run_ends_with_its_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn however soon it comes; a validation and a test take its place only while they last."""
    terminal(monkeypatch)
    monkeypatch.setattr(bars, "REDRAW", 1000)
    steps = StepsBar(total=2, epochs=1, done=0, seconds=0.0, limit=None)
    with steps.bar:
        for step in (1, 2):
            record = {"step": step, "epoch": step / 2, "loss": 3.0 - step, "seconds": float(step)}
            steps.step(record, iter(()))
        for done in (1, 2):
            steps.watch("test", done, 2)
        assert steps.bar.desc == "epoch 1.00/1, loss 1.000, 00:00 left"


def test_a_pass_has_a_bar_once_it_takes_longer_than_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the time left, where that can be known; none is left behind."""
    drawn = terminal(monkeypatch)
    clock = iter([0.0, 0.5, 0.9, 10.0, 11.5, 20.0, 25.0])
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    shown = PassBar()
    for done in (1, 2, 3):
        shown.watch("reading", done, 3)
    assert drawn.getvalue() == ""
    monkeypatch.setattr(bars, "REDRAW", 1e-9)
    make_bar = bars.make_bar
    monkeypatch.setattr(bars, "make_bar", lambda *a, **o: make_bar(*a, mininterval=0, **o))
    shown.watch("evaluation", 1, 100)
    shown.watch("evaluation", 50, 100)
    assert re.search(r"evaluation +50%\|.*\| .* left", drawn.getvalue())
    shown.watch("reading", 10**6, 0)
    shown.watch("reading", 10**8, 0)
    assert "reading 100M" in drawn.getvalue()
    shown.close()
    assert drawn.getvalue().endswith("\r")


def test_a_pipe_gets_no_bars(in_text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a pass takes."""
    monkeypatch.setattr(bars, "SHORT", 0.0)
    assert "%" not in says("prepare", "text.txt", "--out", "data")


# Ends


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (("train.max_steps=3",), "ended at step 3, after 3 steps (train.max_steps)"),
        (("train.max_minutes=1e-9",), "minutes (train.max_minutes)"),
        (
            ("train.patience=1", "train.eval_every=1", "train.optimizer.learning_rate=0"),
            "ended at step 2, after 1 validation without a better one (train.patience)",
        ),
    ],
)
def test_a_run_that_ends_before_its_last_epoch_says_why(
    keys: tuple[str, ...], said: str, in_text: Path
) -> None:
    """In the last line before what can follow."""
    sets = [part for key in keys for part in ("--set", key)]
    assert said in train(*sets)


def test_a_dry_run_says_what_limits_the_run_and_the_validations(in_text: Path) -> None:
    """Steps and minutes on the line of the steps, a stretch on a line of its own."""
    sets = ("train.max_steps=1", "train.max_minutes=2", "train.eval_symbols=50")
    said = train("--dry-run", *[part for key in sets for part in ("--set", key)])
    assert re.search(r"steps: .*; at most 1 step; at most 2 minutes\n", said)
    assert re.search(r"validation: on the first 50 of \d+ characters, first after step 6;", said)


# Going on


def test_resume_without_a_name_takes_the_newest_run_that_is_not_finished(in_text: Path) -> None:
    """Which is said; where all are finished or there is none, that is said."""
    assert "no run with a checkpoint" in says("train", "--resume", code=1)
    train("--set", "train.max_steps=1", "--run-dir", "runs/newest")
    assert "is finished" in says("train", "--resume", code=1)
    shutil.copytree("runs/newest", "runs/killed")
    log = Path("runs/killed/metrics.jsonl")
    log.write_text(log.read_text().rsplit("\n", 2)[0] + "\n")
    said = says("train", "--resume", "--set", "train.max_steps=2")
    assert "newest unfinished run: runs/killed\n" in said
    assert Checkpoint.load("runs/killed/last.npz").progress.step == 2
    assert "--resume takes nothing" in says("train", "--resume", "--dry-run", code=2)


def test_resume_or_start_starts_goes_on_and_is_content(in_text: Path) -> None:
    """One command for a job script, run again and again; a changed limit makes the run longer."""

    def job(*args: object, code: int = 0) -> str:
        return train("--run-dir", "job", "--resume-or-start", *args, code=code)

    def log() -> list[dict[str, Any]]:
        return list(read_metrics("job/metrics.jsonl"))

    short = ("--set", "train.max_steps=3")
    assert "ended at step 3" in job(*short)
    before = log()
    assert "finished" in job(*short)
    assert log() == before
    assert "going on from step 3" in job("--set", "train.max_steps=5")
    assert log()[-1]["step"] == 5
    path = Path("job/metrics.jsonl")  # as after a kill
    path.write_text(path.read_text().rsplit("\n", 2)[0] + "\n")
    assert "going on from step 5" in job("--set", "train.max_steps=5")
    assert "model.hidden_size changed" in job("--set", "model.hidden_size=13", code=1)
    shutil.copy("text.txt", "other.txt")
    assert "data.path other.txt" in says(
        "train", "other.txt", "--run-dir", "job", "--resume-or-start", code=1
    )
    assert "needs --run-dir" in train("--resume-or-start", code=2)
