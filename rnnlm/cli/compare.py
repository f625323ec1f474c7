"""`rnnlm compare`: prints a table of runs, those that differ only by their seed in one row."""

from __future__ import annotations

from pathlib import Path

import click

from . import table
from .arguments import FILE, example
from .terminal import say_line


@click.command("compare", epilog=example("rnnlm compare runs/*"))
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=FILE)
@table.form
def command(runs: tuple[Path, ...], form: str | None) -> None:
    """Compare runs by validation and test loss, in nats per symbol.

    Runs that differ only by their seed are one row: their mean, the spread (standard deviation) and the
    best of them. The other columns are the keys in which the rows differ. A folder of runs, as a
    sweep's, stands for its runs.
    """
    from ..api.checkpoints import look
    from ..api.listing import runs_among
    from ..training.comparison import compare

    found, others = runs_among(runs)
    for path in others if found else ():
        say_line(f"{path}: no run, and left out")
    groups = compare(map(look, found or others))  # says what is wrong where all are others
    rows = list(map(table.losses, groups))
    table.show_rows(rows, form, table.LEAST_OF_LOSSES, [*groups[0].differs])
