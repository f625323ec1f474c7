"""`rnnlm sweep`: one table, however often it is interrupted, whatever becomes of a run."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from commands import rnnlm
from conftest import TEXT
from sweeps import here

from rnnlm.backend import executors
from rnnlm.cli.main import cli
from rnnlm.runs.checkpoint import glance
from rnnlm.training import sweep as sweeps

SWEEP = """\
base:
  data: {{path: text.txt}}
  model: {{hidden_size: 4, num_layers: 1}}
  train: {{epochs: 1, batch_size: 16, seq_length: 32, log_every: 5, threads: 1}}
grid:
  {grid}
seeds: [0, 1]
"""
CELLS = "model.cell: [rnn, gru]"
TIMINGS = {"symbols/s", "minutes", "best run"}


def write(grid: str = CELLS) -> None:
    """A sweep and its text."""
    Path("text.txt").write_text(TEXT[:4000])
    Path("sweep.yaml").write_text(SWEEP.format(grid=grid))


def rows(*args: object, code: int = 0) -> list[dict[str, Any]]:
    """The table of the sweep, timings and places aside."""
    done = CliRunner().invoke(cli, list(map(str, ("sweep", "sweep.yaml", "--json", *args))))
    assert done.exit_code == code, done.output
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in found]


@pytest.fixture
def in_process(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are trained in this process."""
    monkeypatch.setattr(executors, "make_executor", here)


@pytest.mark.usefixtures("in_process")
def test_a_sweep_that_is_interrupted_ends_with_the_same_table(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit: stopped in the middle of the second run, and gone on with."""
    write()
    whole = rows()
    assert [row["model.cell.name"] for row in whole] == ["rnn", "gru"]
    assert [row["runs"] for row in whole] == [2, 2]
    assert all(row["spread"] > 0 and row["test perplexity"] > 1 for row in whole)

    def tell(path: Path, about: dict[str, Any]) -> None:
        if about["name"] == "cell=rnn-seed=1" and about.get("step") == 3:
            (path.parent / "stop").touch()

    with monkeypatch.context() as patched:
        patched.setattr(sweeps, "_tell", tell)
        patched.setattr(sweeps, "TOLD", 0)
        patched.setattr(sweeps, "POLL", 0)
        assert rows("--out", "parts", code=128 + signal.SIGTERM) == []
    plan = rnnlm("sweep", "sweep.yaml", "--out", "parts", "--dry-run").stdout
    assert "cell=rnn-seed=0: finished\ncell=rnn-seed=1: stopped\n" in plan
    assert "cell=gru-seed=0: new\n" in plan
    assert glance(Path("parts/cell=rnn-seed=1/last.npz")).progress.step == 3
    assert rows("--out", "parts") == whole == rows("--out", "parts")


@pytest.mark.usefixtures("in_process")
def test_a_run_that_fails_is_in_the_table_with_its_error() -> None:
    """The others are trained, and the exit code is 1."""
    write(
        "- model.cell: rnn\n"
        "  - {model.cell: {name: rnn, activation: identity}, train.grad_clip: null,"
        " train.optimizer: {name: sgd, learning_rate: 1e5}}"
    )
    good, bad = rows(code=1)
    assert good["runs"] == 2
    assert good["error"] is None
    assert bad["runs"] == 0
    assert bad["validation"] is None
    assert "learning_rate" in bad["error"]
