"""Rows of named values as lines: aligned, on a terminal as wide as it is; CSV, Markdown, or JSON."""

from __future__ import annotations

import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from ..wording import escaped, wrapped
from .terminal import figure, say_line, show_lines

if TYPE_CHECKING:
    from ..training.comparison import Group

Row = Mapping[str, Any]

GAP = 2  # spaces between two columns
SHORTEST = 16  # characters that a text keeps before a column is left out for it, and
LEAST = 6  # where none can be left out
INDENT = " " * 6  # of what stands below a row


def form(command: Any) -> Any:
    """Options for the form of a table; the command gets `form`, None where none was given."""
    for name, text in (
        ("markdown", "Print a Markdown table."),
        ("csv", "Print comma-separated values."),
        ("json", "Print JSON, an object a line."),
    ):
        command = click.option(f"--{name}", "form", flag_value=name, help=text)(command)
    return command


def show_rows(
    rows: Sequence[Row], form: str | None, least: Sequence[str] = (), keys: Sequence[str] = ()
) -> None:
    """Print rows in a form. On a terminal that is too narrow for an aligned table, the columns `least`
    are left out one after another, those without a value first, and texts are cut. Where there is no
    room for all columns `keys` then, which are keys of the config, they stand in words below each row.
    """
    if form is not None or not sys.stdout.isatty():
        show_lines(FORMS[form](rows))
        return
    whole, width = _columns(rows), shutil.get_terminal_size().columns
    least = sorted(least, key=lambda name: any(row.get(name) is not None for row in rows))
    columns = fitted(whole, least, width)
    below = columns is None and bool(keys)
    if below:
        whole = [c for c in whole if c.name not in keys]
        columns = fitted(whole, least, width)
    if columns is None:
        columns = _squeezed([c for c in _short(whole) if c.name not in least], width)
    head, *lines = _aligned(columns)
    show_lines([head])
    for line, row in zip(lines, rows, strict=True):
        show_lines([line, *(_in_words(row, keys, width) if below else ())])
    if missing := [c.name for c in whole if c.name not in {c.name for c in columns}]:
        say_line(f"not shown on so narrow a terminal: {', '.join(missing)}")


def _in_words(row: Row, keys: Sequence[str], width: int) -> list[str]:
    """The keys of a row that have a value, in lines of so many characters."""
    from ..training.comparison import words

    said = words({key: row[key] for key in keys if row[key] is not None})
    return wrapped(said, width, INDENT, INDENT)


@dataclass(frozen=True)
class Column:
    """The cells of a column, the first its heading, and whether they are numbers."""

    name: str
    cells: Sequence[str]
    numbers: bool

    @property
    def width(self) -> int:
        return max(map(len, self.cells))

    def cut(self, most: int) -> Column:
        """Texts of so many characters at most."""
        return self if self.numbers else replace(self, cells=[_cut(c, most) for c in self.cells])


def _columns(rows: Sequence[Row]) -> list[Column]:
    return [
        Column(
            name,
            [name, *(_cell(row[name]) for row in rows)],
            all(_is_number(row[name]) for row in rows),
        )
        for name in rows[0]
    ]


def fitted(columns: Sequence[Column], least: Sequence[str], most: int) -> list[Column] | None:
    """Columns for a line of `most` characters: as they are, with short headings, with texts that are
    cut but in the first column, and without those of `least`, one after another. None where there is
    no room for the others.
    """
    if _width(columns) <= most:
        return [*columns]
    kept = _short(columns)
    for left_out in range(len(least) + 1):
        kept = [c for c in kept if c.name not in least[:left_out]]
        for longest in range(max(SHORTEST, *(c.width for c in kept)), SHORTEST - 1, -1):
            found = [kept[0], *(c.cut(longest) for c in kept[1:])]
            if _width(found) <= most:
                return found
    return None


def _squeezed(columns: Sequence[Column], most: int) -> list[Column]:
    """Columns for a line of `most` characters, their texts cut as far as it takes."""
    for longest in range(max(LEAST, *(c.width for c in columns)), LEAST - 1, -1):
        found = [c.cut(longest) for c in columns]
        if _width(found) <= most:
            break
    return found


def _short(columns: Sequence[Column]) -> list[Column]:
    """Columns with short headings."""
    heads = short_keys([c.name for c in columns])
    return [replace(c, cells=[h, *c.cells[1:]]) for c, h in zip(columns, heads, strict=True)]


def short_keys(names: Sequence[str]) -> list[str]:
    """Keys of the config by their last words, where no two are the same then: `hidden_size`, `cell`."""
    from ..training.comparison import CHOICES

    parts = [name.split(".") for name in names]
    short = [p[-2] if len(p) > 1 and p[-1] in CHOICES else p[-1] for p in parts]
    return [s if short.count(s) == 1 else name for s, name in zip(short, names, strict=True)]


def _cut(text: str, most: int) -> str:
    """A text of so many characters at most; of a path or a name the end tells more."""
    if len(text) <= most:
        return text
    return text[: most - 3] + "..." if " " in text else "..." + text[3 - most :]


def _width(columns: Sequence[Column]) -> int:
    return sum(c.width + GAP for c in columns) - GAP


def _aligned(columns: Sequence[Column]) -> Iterator[str]:
    for line in zip(*(c.cells for c in columns), strict=True):
        parts = zip(line, columns, strict=True)
        justified = (t.rjust(c.width) if c.numbers else t.ljust(c.width) for t, c in parts)
        yield (" " * GAP).join(justified).rstrip()


def _plain(rows: Sequence[Row]) -> Iterator[str]:
    return _aligned(_columns(rows))


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
        # A learning rate: four places would not tell two of them apart
        small = 0 < abs(value) < 1e-3
        return f"{value:.4g}" if small else figure(value)
    return f"{value:,}" if isinstance(value, int) else escaped(str(value), keep="")


# The columns of `losses` that a narrow terminal does not show, the first first
LEAST_OF_LOSSES = ("test spread", "best", "runs", "best run", "spread", "text")


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
