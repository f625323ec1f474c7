"""Losses drawn with plain characters, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np

from ..arrays import Array
from ..wording import wrapped
from .curves import STEPS, Curves, noun, unit

ROWS = 17
EVERY = 4  # rows from one number beside them to the next
LEAST = 24  # columns of a picture, however narrow the terminal
MEASURE = 40  # and of its legend
ENTRY = 9  # columns before the name of a run in it


@dataclass(frozen=True)
class Axis:
    """Values on the cells of an axis. `first` and `last` are those of its ends; with `log` it is
    logarithmic, and they are logarithms.
    """

    first: float
    last: float
    cells: int
    log: bool

    @classmethod
    def of(cls, values: Array, cells: int, log: bool) -> Axis:
        """An axis on which values just fit. With `log` they are positive."""
        low, high = float(values.min()), float(values.max())
        if low == high:  # any values beside it do
            low, high = low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9
        first, last = np.log([low, high]) if log else (low, high)
        return cls(float(first), float(last), cells, log)

    def cell(self, values: Array) -> Array:
        """The numbers of the cells that values are on."""
        scaled = np.log(values) if self.log else np.asarray(values)
        part = (scaled - self.first) / (self.last - self.first)
        return np.rint(part * (self.cells - 1)).astype(int)

    def value(self, cell: Array) -> Array:
        """The values in the middle of cells."""
        part = np.asarray(cell) / (self.cells - 1)
        scaled = self.first + part * (self.last - self.first)
        return np.exp(scaled) if self.log else scaled


def draw_plain(
    runs: Sequence[Curves], *, x: str = STEPS, log: bool = False, width: int = 80
) -> Iterator[str]:
    """The lines of a picture: losses against `x`, one of AXES; with `log` both axes are logarithmic.

    Each run has a letter: a small one for training, joined to a line, a capital one for validation, and
    `*` where that is lowest. A run that was made at once is a level line. Lines are at most `width`
    characters long, if that is not too narrow, and no word of a run's name is longer.
    """
    trained = [run for run in runs if run.level is None]
    sides = [_side(run, kind, x, log) for run in trained for kind in ("train", "validation")]
    levels = [run.level for run in runs if run.level is not None]
    losses = np.concatenate([*(side[1] for side in sides), np.array(levels)])
    down = Axis.of(losses, ROWS, log)
    down = Axis(down.last, down.first, ROWS, log)  # the highest in the first row
    numbers = {row: f"{down.value(np.array(row)):.4g}" for row in range(0, ROWS, EVERY)}
    margin = max(map(len, numbers.values()))
    across = Axis.of(
        np.concatenate([side[0] for side in sides]) if sides else np.array([0.0, 1.0]),
        max(LEAST, width - margin - 3),
        log and bool(sides),
    )
    grid = np.full((ROWS, across.cells), " ")
    for level in levels:
        grid[down.cell(np.array(level))] = "-"
    letters = [ascii_lowercase[number % 26] for number in range(len(trained))]
    for letter, (at, loss) in zip(letters, sides[::2], strict=True):
        _join(grid, across, down, at, loss, letter)
    for letter, (at, loss) in zip(letters, sides[1::2], strict=True):
        grid[down.cell(loss), across.cell(at)] = letter.upper()
    for at, loss in sides[1::2]:
        if len(loss):
            grid[down.cell(loss.min()), across.cell(at[loss.argmin()])] = "*"

    yield f"loss (nats per {noun(runs)})"
    for row, cells in enumerate(grid):
        yield f"{numbers.get(row, ''):>{margin}} |{''.join(cells)}".rstrip()
    yield " " * margin + " +" + "-" * across.cells
    if sides:
        yield " " * (margin + 2) + _ends(across, f"{unit(x, runs)} of training")
        yield "  small: training, capital: validation, *: the lowest"
    letter_of = iter(letters)
    for run in runs:
        entry = _entry(run, "-" if run.level is not None else next(letter_of), x)
        yield from wrapped(entry, max(width, MEASURE), others=" " * ENTRY)


def _side(run: Curves, kind: str, x: str, log: bool) -> tuple[Array, Array]:
    """Where a run's losses of one kind were measured, and the losses: those that have a place."""
    columns = getattr(run, kind)
    at, loss = columns[x], columns["loss"]
    shown = np.isfinite(at) & (~np.bool_(log) | ((at > 0) & (loss > 0)))
    return at[shown], loss[shown]


def _join(grid: Array, across: Axis, down: Axis, at: Array, loss: Array, letter: str) -> None:
    """Draw a line through points: its height in each column between the first and the last."""
    if len(at):
        ends = across.cell(at)
        columns = np.arange(ends[0], ends[-1] + 1)
        grid[down.cell(np.interp(across.value(columns), at, loss)), columns] = letter


def _ends(across: Axis, name: str) -> str:
    """The numbers at both ends of an axis, and its name between them."""
    first, last = map(_number, across.value(np.array([0, across.cells - 1])))
    between = across.cells - len(first) - len(last)
    return f"{first}{name:^{between}}{last}"


def _number(value: float) -> str:
    return f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"


def _entry(run: Curves, letter: str, x: str) -> str:
    """The line of a run in the legend."""
    if run.level is not None:
        return f"  -      {run.name}: {run.level:.4f}"
    if run.lowest is None:
        return f"  {letter}      {run.name}"
    row, loss = run.lowest
    at = run.validation[x][row]
    return (
        f"  {letter} {letter.upper()} *  {run.name}: {loss:.4f} at {_number(at)} {unit(x, [run])}"
    )
