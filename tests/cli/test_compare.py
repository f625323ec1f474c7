"""`rnnlm compare`: runs that differ only by seed are one row, and the columns say what differs."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path

import pytest
from commands import rnnlm
from conftest import TEXT, tiny_config

from rnnlm import make_config, resume, train
from rnnlm.cli import table
from rnnlm.config.schema import flat
from rnnlm.runs.checkpoint import glance
from rnnlm.training.comparison import differing, labels

QUICK = ("train.epochs=1", "train.batch_size=32", "train.threads=1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of one config, and another config; trained for a moment."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    found = []
    for name, keys in {
        "a": ("train.seed=0",),
        "b": ("train.seed=1", "train.log_every=3"),
        "c": ("model.hidden_size=5",),
    }.items():
        config = tiny_config(folder / "text.txt", folder / name, *QUICK, *keys)
        found.append(train(config).folder)
    return found


def test_runs_that_differ_only_by_seed_are_one_row(runs: list[Path]) -> None:
    """Mean, spread and best over the seeds; only keys that differ are columns."""
    rows = [json.loads(line) for line in rnnlm("compare", *runs, "--json").stdout.splitlines()]
    by_size = {row["model.hidden_size"]: row for row in rows}
    assert {size: row["runs"] for size, row in by_size.items()} == {12: 2, 5: 1}
    infos = [json.loads(rnnlm("info", run, "--json").stdout) for run in runs[:2]]
    losses = [info["losses"]["best"]["nats_per_symbol"] for info in infos]
    assert by_size[12]["validation"] == pytest.approx(statistics.fmean(losses))
    assert by_size[12]["spread"] == pytest.approx(abs(losses[0] - losses[1]) / 2**0.5)
    assert by_size[12]["best"] == min(losses)
    assert by_size[12]["best run"] == str(runs[losses.index(min(losses))])
    assert by_size[5]["spread"] is None
    tests = [json.loads(rnnlm("eval", run, "--json").stdout)["nats_per_symbol"] for run in runs[:2]]
    assert by_size[12]["test"] == pytest.approx(statistics.fmean(tests))
    assert [row["validation"] for row in rows] == sorted(row["validation"] for row in rows)
    assert {key for key in rows[0] if "." in key} == {"model.hidden_size"}


def test_ways_that_have_no_name_differ_by_the_keys_that_one_leaves_out() -> None:
    """Clipping by norm, by value, or not at all; but not what only another model has."""
    configs = (), ("train.grad_clip=null",), ("train.grad_clip={value: 1}",), ("model.cell=rnn",)
    every = [dict(flat(make_config(None, *keys).to_dict())) for keys in configs]
    assert differing(every[:2]) == ["train.grad_clip.norm"]
    assert differing(every[1:3]) == ["train.grad_clip.value"]
    assert differing([every[0], every[3]]) == ["model.cell.name"]


def test_runs_that_ended_otherwise_are_rows_of_their_own(runs: list[Path], tmp_path: Path) -> None:
    """By what limits them now, also where best.npz is older; by their step where they were stopped."""
    text = runs[0].parent / "text.txt"
    shutil.copytree(runs[0], cut := tmp_path / "cut")
    log = (cut / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True)
    (cut / "metrics.jsonl").write_text("".join(log[:-1]))
    short = train(tiny_config(text, tmp_path / "short", *QUICK, "train.max_steps=2")).folder
    best = (short / "best.npz").read_bytes()
    resume(short, "train.max_steps=3")
    (short / "best.npz").write_bytes(best)
    lines = rnnlm("compare", runs[0], runs[1], cut, short, "--json").stdout.splitlines()
    rows = {row["best run"]: row for row in map(json.loads, lines)}
    assert rows[str(short)]["train.max_steps"] == 3 and rows[str(short)]["stopped_at"] is None
    assert rows[str(cut)]["stopped_at"] == glance(cut / "last.npz").progress.step
    assert sorted(row["runs"] for row in rows.values()) == [1, 1, 2]
    names = labels([glance(run / "best.npz") for run in (runs[0], short)])
    assert names == [f"{runs[0]}: max_steps null", f"{short}: max_steps 3"]


def test_a_model_that_counts_takes_nothing_of_train(runs: list[Path], tmp_path: Path) -> None:
    """So its row has no value there; and keys that differ are those of the runs that have them."""
    counts = ("model.kind=ngram", "model.order=2", f"run.dir={tmp_path}/n")
    ngram = train(make_config(None, f"data.path={runs[0].parent}/text.txt", *counts)).folder
    lines = rnnlm("compare", runs[0], ngram, "--json").stdout.splitlines()
    assert {key for key in json.loads(lines[0]) if "." in key} == {"model.kind"}
    rates = tiny_config(runs[0].parent / "text.txt", tmp_path / "r", *QUICK, "train.batch_size=30")
    lines = rnnlm("compare", runs[0], ngram, train(rates).folder, "--json").stdout.splitlines()
    found = {row["model.kind"]: row["train.batch_size"] for row in map(json.loads, lines)}
    assert found["ngram"] is None and found["recurrent"] in (30, 32)


def test_the_table_is_readable(runs: list[Path], tmp_path: Path) -> None:
    """A heading, a line for each group; a run without its log has no test loss."""
    shutil.copytree(runs[2], tmp_path / "c")
    (tmp_path / "c" / "metrics.jsonl").unlink()
    lines = rnnlm("compare", *runs[:2], tmp_path / "c").stdout.splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:4] == ["model.hidden_size", "runs", "validation", "spread"]
    (row,) = (line.split() for line in lines if str(tmp_path / "c") in line)
    assert row[5] == "-"
    flags = table.FORMS["markdown"]([{"data.reverse": True}, {"data.reverse": None}])
    assert [*flags][2:] == ["| true |", "| - |"]
    rnnlm("compare", code=2)
    (tmp_path / "empty").mkdir()
    rnnlm("compare", tmp_path / "empty", code=1)


def test_what_a_shell_names_beside_runs_is_left_out(runs: list[Path], tmp_path: Path) -> None:
    """With a line; a sweep's folder is its runs. What is not there, or is damaged, is an error."""
    folder = runs[0].parent
    plain = rnnlm("compare", *runs, "--json").stdout
    assert rnnlm("compare", folder, "--json").stdout == plain
    named = rnnlm("compare", *sorted(folder.iterdir()), "--json")
    assert named.stdout == plain
    assert named.stderr == f"{folder / 'text.txt'}: no run, and left out\n"
    assert "text.txt" in rnnlm("compare", folder / "text.txt", code=1).stderr
    for name in ("nowhere", "n" * 300):
        assert name in rnnlm("compare", runs[0], folder / name, code=1).stderr
    (tmp_path / "last.npz").write_bytes(b"PK")
    assert "damaged" in rnnlm("compare", runs[0], tmp_path, code=1).stderr
