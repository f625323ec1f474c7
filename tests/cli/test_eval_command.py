"""`rnnlm eval` and `rnnlm info`: what was evaluated is said, in lines, tables and JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from commands import rnnlm
from conftest import TEXT

import rnnlm as library


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two n-grams, which take no time."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT)
    for order in (2, 4):
        keys = ("--set", "model.kind=ngram", "--set", f"model.order={order}")
        rnnlm("train", folder / "text.txt", *keys, "--run-dir", folder / f"order-{order}")
    return [folder / "order-2", folder / "order-4"]


def test_it_says_what_it_evaluated(runs: list[Path], tmp_path: Path) -> None:
    """Checkpoint, step and split; in JSON too; or the text."""
    said = rnnlm("eval", runs[0], "--split", "val").stdout.splitlines()
    assert said[:2] == [f"checkpoint: {runs[0] / 'best.npz'}, step 1", "split: val"]
    found = json.loads(rnnlm("eval", runs[0], "--json").stdout)
    assert found["checkpoint"] == str(runs[0] / "best.npz")
    assert (found["step"], found["split"]) == (1, "test")
    (tmp_path / "a.txt").write_text("Mara sold the map")
    found = json.loads(rnnlm("eval", runs[0], "--text", tmp_path / "a.txt", "--json").stdout)
    assert found["text"] == str(tmp_path / "a.txt")


def test_a_text_where_a_run_is_expected_gets_what_to_write(
    runs: list[Path], tmp_path: Path
) -> None:
    """By each command its own way; a checkpoint that is damaged is not taken for a text."""
    (text := tmp_path / "a.txt").write_text("Mara sold the map")
    for command, way in (
        (["eval"], f"rnnlm eval [RUN] --text {text}"),
        (["sample"], f"rnnlm sample [RUN] --prime-file {text}"),
        (["score", text], f"rnnlm score RUN {text}"),
        (["info"], f"rnnlm train {text}"),
    ):
        said = rnnlm(*command, text, code=1).stderr
        assert said == (
            f"Error: {text}: not an rnnlm checkpoint, nor a run folder; if it is a text, write {way}\n"
        )
    assert "nor a run folder\n" in rnnlm("compare", text, code=1).stderr
    (damaged := tmp_path / "damaged").write_bytes((runs[0] / "best.npz").read_bytes()[:-9])
    assert "if it is a text" not in rnnlm("eval", damaged, code=1).stderr


def test_several_runs_are_one_table(runs: list[Path]) -> None:
    """In each form the same figures, a line for each run; they are those of one run."""
    each = [json.loads(rnnlm("eval", run, "--json").stdout) for run in runs]
    assert [json.loads(line) for line in rnnlm("eval", *runs, "--json").stdout.splitlines()] == each
    table = list(csv.DictReader(rnnlm("eval", *runs, "--csv").stdout.splitlines()))
    assert [float(row["nats_per_symbol"]) for row in table] == [e["nats_per_symbol"] for e in each]
    plain = rnnlm("eval", *runs).stdout.splitlines()
    assert rnnlm("eval", runs[0].parent).stdout.splitlines() == plain  # a folder of runs
    assert len(plain) == 3
    assert plain[0].split() == list(each[0])
    assert [line.split()[-1] for line in plain[1:]] == [f"{e['perplexity']:.4f}" for e in each]
    markdown = rnnlm("eval", runs[0], "--markdown").stdout.splitlines()
    assert markdown[1] == "|" + " --- |" * len(each[0])
    assert f"| {each[0]['perplexity']:.4f} |" in markdown[2]


def test_what_was_left_out_is_counted(runs: list[Path]) -> None:
    """On standard error, in JSON, and for a script."""
    text = "Mara söld thé map, Ödd"
    done = rnnlm("eval", runs[0], "--text", "-", "--unknown", "skip", "--json", stdin=text.encode())
    assert done.stderr == "left out: 4 characters outside the vocabulary\n"
    assert json.loads(done.stdout)["left_out"] == 4
    result = library.evaluate(library.load(runs[0]), text, unknown="skip")
    assert (result.left_out, result.symbols) == (4, len(text) - 5)


def test_standard_input_is_read_once(runs: list[Path]) -> None:
    """Two runs cannot share it."""
    rnnlm("eval", *runs, "--text", "-", code=2)


def test_dynamic_figures_stand_beside_the_static_ones(runs: list[Path]) -> None:
    """With their options, in a table and in JSON; as in a script, and no checkpoint is changed."""
    held = (runs[1] / "best.npz").read_bytes()
    said = rnnlm("eval", *runs, "--dynamic", "--json").stdout.splitlines()
    static, learnt = (json.loads(line) for line in said[2:])
    assert (static["dynamic"], learnt["dynamic"]) == (None, {})
    assert learnt["nats_per_symbol"] < static["nats_per_symbol"]
    assert [
        line.split()[3] for line in rnnlm("eval", runs[0], "--dynamic").stdout.splitlines()
    ] == [
        "dynamic",
        "-",
        "counts",
    ]
    at, end = library.load(runs[1]), TEXT[-len(TEXT) // 20 :]
    result = library.evaluate(at, end, dynamic=library.Dynamic())
    assert result.nats < library.evaluate(at, end).nats
    assert (runs[1] / "best.npz").read_bytes() == held


def test_tuning_prints_what_it_tried_and_what_to_give(runs: list[Path], tmp_path: Path) -> None:
    """A row for each choice, and the options of the best."""
    rnnlm("mix", *runs, "--out", tmp_path / "mixed")
    done = rnnlm("eval", tmp_path / "mixed", "--dynamic", "--tune", "--json")
    tried = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(tried[0]) == ["split", "segment", "weight_rate", "nats_per_symbol"]
    assert {row["split"] for row in tried} == {"val"}
    best = min(tried, key=lambda row: row["nats_per_symbol"])
    flags = f"--segment {best['segment']} --weight-rate {best['weight_rate']:g}"
    assert done.stderr == f"best: rnnlm eval {tmp_path}/mixed --dynamic {flags}\n"
    assert len({row["segment"] for row in tried}) > 1
    rnnlm("eval", runs[0], "--dynamic", "--tune", code=1)  # nothing to tune
    for wrong, said in (
        (("--tune",), "--tune is about --dynamic: add"),
        (
            ("--dynamic", "--tune", "--split", "test"),
            "add --split to the command that it ends with",
        ),
        (("--tune", "--text", "a.txt"), "add --text to the command that it ends with"),
        (("--weight-rate", "0.01"), "--weight-rate is about --dynamic: add --dynamic"),
        (("--dynamic", "--rate", "x"), "--rate"),
        ((runs[1], "--dynamic", "--tune"), "takes one run"),
    ):
        assert said in rnnlm("eval", runs[0], *wrong, code=2).stderr


def test_info_is_json_for_scripts(runs: list[Path]) -> None:
    """One object, with the config by section."""
    found = json.loads(rnnlm("info", runs[1], "--json").stdout)
    assert found["config"]["model"]["order"] == 4
    assert found["symbols"] == len(set(TEXT))
    assert found["losses"]["best"]["nats_per_symbol"] > 0
