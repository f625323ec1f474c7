"""Curves of runs: what is drawn, exactly; what each run is called; what cannot be drawn."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from commands import rnnlm
from conftest import ROOT

from rnnlm.arrays import Array
from rnnlm.pictures.curves import Curves, curves
from rnnlm.pictures.figure import draw, write_picture
from rnnlm.pictures.plain import draw_plain
from rnnlm.runs.checkpoint import glance

RUN = ROOT / "tests" / "fixtures" / "run-0.1.0-gru"


def columns(steps: list[float], losses: list[float]) -> dict[str, Array]:
    """The columns of some records; each step takes half a minute and reads two symbols."""
    x = np.array(steps)
    loss, rate = np.array(losses), np.full(len(steps), 0.1)
    numbers = {"loss": loss, "learning_rate": rate, "grad_norm": loss / 2}
    return {"steps": x, "symbols": 2 * x, "minutes": x / 2, **numbers}


RUNS = [
    Curves("gru", "word", columns([2, 4, 8], [5, 4, 3]), columns([4, 6, 8], [4.5, 3, 3.5])),
    Curves("counts", "word", columns([], []), columns([], []), 1.0),
]
PICTURE = """\
loss (nats per word)
5 |a
  | aa
  |   aa   A
  |     aa
4 |       aaa
  |          aaaa
  |              aaaa     A
  |                  aaaa
3 |               *      aa
  |
  |
  |
2 |
  |
  |
  |
1 |------------------------
  +------------------------
   2  steps of training   8
  small: training, capital: validation, *: the lowest
  a A *  gru: 3.0000 at 6 steps
  -      counts: 1.0000
"""


def test_a_picture_of_characters() -> None:
    """Each point is in the column and row that arithmetic gives: step 4 of 2 to 8 in column 8 of 0 to
    23, loss 4.5 of 5 to 1 in row 2 of 0 to 16.
    """
    assert "\n".join([*draw_plain(RUNS, width=0), ""]) == PICTURE


@pytest.mark.parametrize("log", [False, True])
def test_a_picture_is_as_wide_as_the_terminal(log: bool) -> None:
    """And shows what there is where there are no validations, one point, or a level alone."""
    one = replace(RUNS[0], train=columns([3], [4]), validation=columns([], []))
    for runs in ([one], RUNS[1:], [one, *RUNS]):
        lines = list(draw_plain(runs, x="symbols", log=log, width=60))
        assert max(map(len, lines[:-3])) <= 60
        assert any("a" in line or "---" in line for line in lines[1:18])


def test_a_drawn_picture_says_all_that_it_shows(tmp_path: Path) -> None:
    """Runs by name with the lowest loss, axes, panels."""
    if find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    figure = draw(RUNS, x="symbols", log=True)
    losses, rate, norm = figure.axes
    lines = [line.get_xydata().tolist() for line in losses.lines]
    assert [[4, 5], [8, 4], [16, 3]] in lines and [[8, 4.5], [12, 3], [16, 3.5]] in lines
    assert [[12, 3]] in lines and [[0, 1], [1, 1]] in lines  # the ring, the level
    assert rate.lines[0].get_ydata().tolist() == [0.1] * 3
    assert norm.lines[0].get_ydata().tolist() == [2.5, 2, 1.5] and norm.get_yscale() == "log"
    write_picture(figure, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text("utf-8")
    for said in ("gru: 3.0000", "counts: 1.0000", "loss (nats per word)", "words of training"):
        assert f">{said}<" in text


def test_only_what_has_data_is_drawn() -> None:
    """No panel for a column that nobody logged, nor a name of curves that there are not."""
    if find_spec("matplotlib") is None:
        pytest.skip("matplotlib is not installed")
    nothing = np.full(3, np.nan)
    old = replace(
        RUNS[0], train={**RUNS[0].train, "grad_norm": nothing}, validation=columns([], [])
    )
    figure = draw([old, RUNS[1]])
    assert [panel.get_ylabel() for panel in figure.axes[1:]] == ["learning rate"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["gru", "training"]
    (level,) = draw(RUNS[1:], log=True).axes
    assert level.get_xlabel() == "" and len(level.get_xticks()) == 0


def test_runs_are_named_by_what_they_differ_in(tmp_path: Path) -> None:
    """In the order in which they were given; the file is not overwritten unless that is asked for."""
    other = RUN.with_name("run-0.1.0-rnn")
    lines = rnnlm("plot", RUN, other).stdout.splitlines()
    begins = [k for k, line in enumerate(lines) if line.startswith(("  a A *  ", "  b B *  "))]
    assert len(begins) == 2 and max(map(len, lines)) <= 80
    first = " ".join(map(str.strip, lines[begins[0] : begins[1]]))
    assert "level char, gru, num_layers 1" in first and "3.7801 at 34 steps" in first
    same = rnnlm("plot", RUN, RUN).stdout.splitlines()
    assert " ".join(map(str.strip, same)).endswith(f"{RUN}: 3.7801 at 34 steps")
    if find_spec("matplotlib") is not None:
        picture = tmp_path / "a.png"
        picture.touch()
        assert "is not overwritten" in rnnlm("plot", RUN, "--out", picture, code=1).stderr
        shown = rnnlm("plot", RUN, "--out", picture, "--force", "--text").stdout.splitlines()
        assert shown[-2].startswith("  a A *") and shown[-1] == str(picture)
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log without a loss, or torn; one that is damaged; no run; no matplotlib: one line each."""
    run = tmp_path / "run"
    shutil.copytree(RUN, run)
    log = run / "metrics.jsonl"
    whole = log.read_text("utf-8")
    log.write_text("")
    assert "no loss in it" in rnnlm("plot", run, code=1).stderr
    log.write_text(json.dumps({"event": "sample", "step": 1, "text": ""}) + "\n")
    assert "no loss in it" in rnnlm("plot", run, code=1).stderr
    both = rnnlm("plot", run, RUN, log)
    assert both.stderr.splitlines()[0] == f"{log}: no run, and left out"
    assert both.stderr.splitlines()[1].startswith(f"left out: {log}: no loss in it yet")
    assert both.stdout == rnnlm("plot", RUN).stdout
    log.write_text(whole[:-20])
    assert curves(glance(run / "last.npz")).validation["loss"].tolist() == [3.7800504600817533]
    log.write_text("[]\n")
    assert "restore the file" in rnnlm("plot", run, code=1).stderr
    log.unlink()
    assert "cannot read" in rnnlm("plot", run, code=1).stderr
    monkeypatch.chdir(tmp_path)
    assert "train one with rnnlm train" in rnnlm("plot", code=1).stderr
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    error = rnnlm("plot", RUN, "--out", "a.svg", code=1).stderr
    assert "pip install 'rnnlm[plot]'" in error
