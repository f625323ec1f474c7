"""Rows of named values as lines: aligned, CSV, Markdown, or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from ..wording import escaped
from .terminal import figure

if TYPE_CHECKING:
    from ..training.comparison import Group

Row = Mapping[str, Any]


def form(command: Any) -> Any:
    """Options for the form of a table; the command gets `form`, None where none was given."""
    for name, text in (
        ("markdown", "Print a Markdown table."),
        ("csv", "Print comma-separated values."),
        ("json", "Print JSON, an object a line."),
    ):
        command = click.option(f"--{name}", "form", flag_value=name, help=text)(command)
    return command


def _plain(rows: Sequence[Row]) -> Iterator[str]:
    cells = [list(rows[0]), *(list(map(_cell, row.values())) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [all(_is_number(row[name]) for row in rows) for name in rows[0]]
    for line in cells:
        parts = zip(line, widths, right, strict=True)
        yield "  ".join(c.rjust(w) if r else c.ljust(w) for c, w, r in parts).rstrip()


def _markdown(rows: Sequence[Row]) -> Iterator[str]:
    yield f"| {' | '.join(rows[0])} |"
    yield "|" + " --- |" * len(rows[0])
    for row in rows:
        cells = (_cell(value).replace("|", "\\|") for value in row.values())
        yield f"| {' | '.join(cells)} |"


def _csv(rows: Sequence[Row]) -> Iterator[str]:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    yield from out.getvalue().splitlines()


def _json(rows: Sequence[Row]) -> Iterator[str]:
    from ..inference.evaluation import in_json

    for row in rows:
        yield json.dumps({k: in_json(v) if isinstance(v, float) else v for k, v in row.items()})


FORMS: Mapping[str | None, Callable[[Sequence[Row]], Iterator[str]]] = {
    None: _plain,
    "csv": _csv,
    "markdown": _markdown,
    "json": _json,
}


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):  # as a config has it
        return str(value).lower()
    if isinstance(value, float):
        return figure(value)
    return f"{value:,}" if isinstance(value, int) else escaped(str(value), keep="")


def losses(group: Group) -> Row:
    """The row of a group of runs; of none, without losses."""
    from statistics import fmean

    from ..training.comparison import spread

    return {
        **group.differs,
        "runs": len(group.runs),
        "validation": fmean(group.validation) if group.validation else None,
        "spread": spread(group.validation),
        "best": min(group.validation, default=None),
        "test": fmean(group.test) if group.test else None,
        "test spread": spread(group.test),
        "best run": str(group.best.path.parent) if group.runs else None,
    }
