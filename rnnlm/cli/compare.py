"""`rnnlm compare`: prints a table of runs, those that differ only by their seed in one row."""

from __future__ import annotations

from pathlib import Path

import click

from . import table
from .arguments import FILE, example, named_runs


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
    from ..training.comparison import compare

    groups = compare(map(look, named_runs(runs)))
    rows = list(map(table.losses, groups))
    table.show_rows(rows, form, table.LEAST_OF_LOSSES, [*groups[0].differs])
