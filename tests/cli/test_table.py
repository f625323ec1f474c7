"""Tables on a terminal: as wide as it is."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from rnnlm.cli import table

ROWS: list[dict[str, Any]] = [
    {
        "model.cell.name": cell,
        "train.optimizer.learning_rate": 0.002,
        "runs": 3,
        "loss": 1.25,
        "said": "a long way to say it",
        "best run": f"runs/a-long-name/cell={cell}-seed=0",
    }
    for cell in ("rnn", "gru")
]


def test_small_learning_rates_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Four places are not enough for them; a loss has four."""
    table.show_rows([{"rate": 3e-5, "loss": 1.5}, {"rate": 4.25e-5, "loss": 0.0}], None)
    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["3e-05", "1.5000"],
        ["4.25e-05", "0.0000"],
    ]


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_table_fits_on_a_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it does not show is said; elsewhere, and where there is room, nothing is cut."""
    table.show_rows(ROWS, None, ("best run", "runs"))
    whole = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 24)))
    table.show_rows(ROWS, None, ("best run", "runs"))
    shown, said = capsys.readouterr()
    assert max(map(len, shown.splitlines())) <= columns
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ["rnn", "gru"]
    assert shown.splitlines()[1].split()[1] == "0.0020"
    assert (shown == whole) == (columns == 200)
    assert ("best run" in said) == (columns < 80) and (said == "") == (columns >= 80)
    table.show_rows(ROWS, "csv", ("best run", "runs"))
    assert len(capsys.readouterr().out.splitlines()[0].split(",")) == len(ROWS[0])


def test_keys_without_room_stand_below_their_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All that have a value, none cut, so that what explains a loss is seen; figures stay a table."""
    keys = {f"train.optimizer.key_{n}": 0.5 for n in range(6)}
    rows = [
        {"model.kind": "ngram", **dict.fromkeys(keys), "test": 1.5, "best run": "runs/a"},
        {"model.kind": "recurrent", **keys, "test": 2.5, "best run": "runs/b"},
    ]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((60, 24)))
    table.show_rows(rows, None, ("best run",), ["model.kind", *keys])
    shown = capsys.readouterr().out.splitlines()
    assert [line.split() for line in shown[:4]] == [
        ["test", "best", "run"],
        ["1.5000", "runs/a"],
        ["ngram"],
        ["2.5000", "runs/b"],
    ]
    assert max(map(len, shown)) <= 60
    words = ["recurrent", *(f"key_{n}=0.5" for n in range(6))]
    assert " ".join(" ".join(shown[4:]).split()) == ", ".join(words)


def test_columns_without_a_value_are_the_first_to_go(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of one seed have no spread; which run a row is, says more."""
    rows = [{"loss": 1.5, "spread": None, "best run": "runs/a"}]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((18, 24)))
    table.show_rows(rows, None, ("best run", "spread"))
    assert capsys.readouterr().out.splitlines()[1].split() == ["1.5000", "runs/a"]


def test_texts_are_cut_where_they_tell_least() -> None:
    """A path keeps its end, words their beginning; short headings stay different."""
    narrow = table._columns([{"a": 1, "b": 2.5, "c": 3, "d": 4}])
    names = [column.name for column in table.fitted(narrow, ("d", "c"), 13) or ()]
    assert names == ["a", "b", "c"]  # no more is left out than has to be
    named = table._columns([{"n": 1, "at": "runs/abcdefghijklmnopqr"}])
    head, *cells = table.fitted(named, (), 20) or ()
    assert head.width == 1 and cells[0].cells[1] == "...efghijklmnopqr"
    assert table._cut("a few words more", 8) == "a few..."
    names = ["model.cell.name", "train.epochs", "a.b.size", "a.c.size", "runs"]
    assert table.short_keys(names) == ["cell", "epochs", "a.b.size", "a.c.size", "runs"]
