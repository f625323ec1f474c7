"""`rnnlm runs`: prints a table of the runs in a folder, and how each of them stands."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import CheckpointError
from . import table
from .arguments import FILE, argument, example
from .terminal import say_line

if TYPE_CHECKING:
    from ..api.listing import Listed

COLUMNS = ("name", "model", "step", "best", "test", "state", "age")
LEAST = ("step", "not as by default", "test")  # columns that a narrow terminal does not show
AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@click.command("runs", epilog=example("rnnlm runs --sort best"))
@click.argument("folder", required=False, type=FILE)
@click.option(
    "--sort",
    type=click.Choice(COLUMNS),
    default="age",
    show_default=True,
    help="Order of the rows: numbers rise, so the newest or the best is first.",
)
@table.form
def command(folder: Path | None, sort: str, form: str | None) -> None:
    """List the runs in a folder (./runs), finished or not, and how each of them stands: training,
    stopped, finished, diverged, or damaged. Losses are in nats per symbol, the best one of validation.

    `rnnlm compare` groups runs that you name by what they differ in; this one tells what there is.
    """
    from ..api.listing import listed
    from ..runs.finding import runs_below
    from ..runs.folder import RUNS

    folder = RUNS if folder is None else folder
    runs = list(listed(folder)) if folder.is_dir() else []
    if not runs:
        below = runs_below(folder)
        way = (
            "name a folder of runs"
            if below is None
            else f"look below: rnnlm runs {argument(below)}"
        )
        raise CheckpointError(f"no run under {folder}: train one with rnnlm train, or {way}")
    now = time.time()
    rows = [(_row(run, now), run) for run in runs]
    rows.sort(key=lambda row: (row[0][sort] is None, row[0][sort]))
    for _, run in rows:
        if run.problem is not None:
            say_line(run.problem)
    shown = _in_json if form == "json" else _in_words
    table.show_rows([shown(row, run) for row, run in rows], form, LEAST)


def _row(run: Listed, now: float) -> dict[str, Any]:
    age = None if run.started is None else max(0.0, now - run.started)
    values = (run.path.name, run.model, run.step, run.best, run.test, run.state, age)
    return dict(zip(COLUMNS, values, strict=True))


def _in_json(row: dict[str, Any], run: Listed) -> table.Row:
    return {**row, "folder": str(run.path), "settings": dict(run.settings), "problem": run.problem}


def _in_words(row: dict[str, Any], run: Listed) -> table.Row:
    """A row as it is read: keys that the name of the model does not tell already, ages in short."""
    from ..training.comparison import words

    told = {key: value for key, value in run.settings.items() if not key.startswith("model.")}
    settings = {"not as by default": words(told) or None}
    age = {"age": None if row["age"] is None else _age(row["age"])}
    model = {"name": row["name"], "model": row["model"]}
    return {**model, **settings, **row, **age}


def _age(seconds: float) -> str:
    """A time in its largest whole unit."""
    return next(f"{int(seconds / n)} {unit}" for n, unit in AGES if seconds >= n or n == 1)
