"""`rnnlm runs`: what is in a folder of runs, in whatever condition."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import rnnlm
from conftest import ROOT, TEXT, tiny_config

from rnnlm import Training, make_config, train
from rnnlm.training.comparison import unusual, words

FIXTURES = ROOT / "tests" / "fixtures"


def rows(folder: Path, *options: str) -> dict[str, dict[str, object]]:
    """The rows of the table by name, in their order."""
    lines = rnnlm("runs", folder, "--json", *options).stdout.splitlines()
    return {row["name"]: row for row in map(json.loads, lines)}


def test_runs_are_listed_in_whatever_condition(tmp_path: Path) -> None:
    """Finished, stopped, training now, damaged; a folder that is no run is passed over."""
    (tmp_path / "text.txt").write_text(TEXT)
    counts = ("model.kind=ngram", "model.order=2")
    train(make_config(None, f"data.path={tmp_path}/text.txt", f"run.dir={tmp_path}/n", *counts))
    shutil.copytree(FIXTURES / "run-0.1.0-gru", tmp_path / "gru")
    shutil.copytree(FIXTURES / "run-0.1.0-rnn", tmp_path / "cut")
    (tmp_path / "cut" / "last.npz").write_bytes(b"PK")
    config = tiny_config(tmp_path / "text.txt", tmp_path / "live", "train.seed=3")
    with Training.start(config, "live"):
        found = rows(tmp_path)
        assert found["live"]["state"] == "training"
    assert rows(tmp_path)["live"]["state"] == "stopped"
    assert list(found) == ["live", "n", "gru", "cut"]  # the newest first, the unknown last
    assert {name: row["state"] for name, row in found.items()} == {
        "live": "training",
        "n": "finished",
        "gru": "finished",
        "cut": "damaged",
    }
    assert found["n"]["model"] == "2-gram, smoothing kneser_ney" and found["n"]["step"] == 1
    told = json.loads(rnnlm("info", tmp_path / "gru", "--json").stdout)
    assert found["gru"]["best"] == told["losses"]["best"]["nats_per_symbol"]
    assert found["gru"]["test"] == 3.797233615394543  # in its log
    assert list(rows(tmp_path, "--sort", "name")) == ["cut", "gru", "live", "n"]
    shown = rnnlm("runs", tmp_path)
    assert "cut/last.npz: not an rnnlm checkpoint, or damaged" in shown.stderr
    assert "seed=3" in shown.stdout and "GRU, " in shown.stdout


def test_the_best_loss_is_that_of_compare(tmp_path: Path) -> None:
    """Also where the last validation came after last.npz was saved; max_steps is told."""
    (tmp_path / "text.txt").write_text(TEXT)
    keys = ("train.max_steps=3", "train.eval_every=2 steps")
    result = train(tiny_config(tmp_path / "text.txt", tmp_path / "a", *keys))
    assert result.best_step == 3
    (row,) = rows(tmp_path).values()
    compared = json.loads(rnnlm("compare", tmp_path / "a", "--json").stdout)
    assert row["best"] == compared["best"] == result.best_loss
    assert row["settings"]["train.max_steps"] == 3  # type: ignore[index]


def test_a_folder_without_runs_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default ./runs is looked into, there or not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    for named in ([], ["."], ["nowhere"]):
        assert "no run under" in rnnlm("runs", *named, code=1).stderr
    (tmp_path / "runs" / "sweep" / "a").mkdir(parents=True)
    (tmp_path / "runs" / "sweep" / "a" / "last.npz").touch()
    assert rnnlm("runs", code=1).stderr.endswith(f"rnnlm runs {Path('runs', 'sweep')}\n")
    assert rnnlm("eval", code=1).stderr.endswith(f"those in {Path('runs', 'sweep')}\n")


def test_settings_are_those_that_are_not_as_by_default() -> None:
    """For what was chosen, in short words; what changes no result is left out."""
    keys = ("model.cell=rnn", "train.optimizer={name: sgd, momentum: 0.5}", "model.tie=true")
    config = make_config(None, *keys, "model.embedding_size=128", "train.log_every=5", "run.dir=x")
    assert words(unusual(config)) == "rnn, embedding_size=128, tie=true, sgd, momentum=0.5"
    assert unusual(make_config(None, "model.kind=ngram")) == {"model.kind": "ngram"}
    assert words({"a.b.size": 1, "a.c.size": True}, " ") == "b.size 1, c.size true"
