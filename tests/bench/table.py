"""Tables: named columns over rows of plain values, printed aligned and written as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Form = Callable[[Any], str]
Columns = Mapping[str, Form]


def whole(value: float) -> str:
    """12,345"""
    return f"{value:,.0f}"


def tenths(value: float) -> str:
    """12,345.6"""
    return f"{value:,.1f}"


def hundredths(value: float) -> str:
    """1.25"""
    return f"{value:,.2f}"


def times(value: float) -> str:
    """1.25x"""
    return f"{value:,.2f}x"


def percent(value: float) -> str:
    """56 %"""
    return f"{100 * value:.0f} %"


@dataclass(frozen=True)
class Table:
    """Rows of values under columns, each with the form its values are shown in; None is a dash."""

    columns: Columns
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, *values: Any) -> None:
        """A row, its values in the order of the columns."""
        self.rows.append(dict(zip(self.columns, values, strict=True)))

    def lines(self) -> list[str]:
        """The table as text: words to the left, figures to the right."""
        cells = [list(self.columns)]
        for row in self.rows:
            cells.append([_show(row[name], form) for name, form in self.columns.items()])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        left = [form is str for form in self.columns.values()]
        lines = [_line(row, widths, left) for row in cells]
        return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def _show(value: Any, form: Form) -> str:
    return "-" if value is None else form(value)


def _line(cells: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    parts = zip(cells, widths, left, strict=True)
    return "  ".join(c.ljust(w) if to_left else c.rjust(w) for c, w, to_left in parts).rstrip()


@dataclass
class Report:
    """What a subject found: a table, what has to be said about it, and the single rounds."""

    title: str
    table: Table
    notes: list[str] = field(default_factory=list)
    rounds: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report as text."""
        return [self.title, "=" * len(self.title), "", *self.table.lines(), "", *self.notes]

    def to_json(self) -> dict[str, Any]:
        """Everything that is printed, and the single rounds."""
        return {
            "title": self.title,
            "rows": self.table.rows,
            "notes": self.notes,
            "rounds": self.rounds,
        }
