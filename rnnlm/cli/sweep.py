"""`rnnlm sweep`: trains many runs side by side, with a bar for each, and prints their table."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..backend.launchers import started_as
from ..interrupts import end_cleanly, stop
from ..wording import counted
from . import table
from .arguments import FILE, argument, example
from .bars import SweepBars, passes_shown
from .terminal import be_silent, lenient_output, say, say_in_handler, show_lines

if TYPE_CHECKING:
    from ..training.grid import Setting, Sweep
    from ..training.sweep import OpenSweep

# Columns that a narrow terminal does not show, the first first
LEAST = ("test bits", "symbols/s", "parameters", "minutes")


@click.command("sweep", epilog=example("rnnlm sweep configs/sweeps/timemachine.yaml"))
@click.argument("sweep_file", type=FILE)
@click.option("--out", type=FILE, help="Folder of the runs; default runs/<name of the file>.")
@click.option("--workers", type=click.IntRange(1), help="Runs at a time; default one a core.")
@click.option("--dry-run", is_flag=True, help="Show the runs, and how each stands, and stop.")
@table.form
def command(
    sweep_file: Path, out: Path | None, workers: int | None, dry_run: bool, form: str | None
) -> int:
    """Train a config with every combination of some values and seeds, and print a table.

    The same command goes on with a sweep that was stopped, and trains what is new in the file.
    Runs that differ only by seed are one row. Losses are in nats per symbol.
    """
    from ..backend.executors import make_executor
    from ..runs.folder import RUNS
    from ..training.grid import read_sweep
    from ..training.sweep import FAILED, FINISHED, STOPPED, OpenSweep
    from .corpus import ready

    if started_as()[0]:  # of those that mpiexec started, one says what is wrong
        be_silent()
    stop.at_first = end_cleanly
    sweep = read_sweep(sweep_file)
    folder = RUNS / sweep_file.stem if out is None else out
    for path in dict.fromkeys(config.data.path for config in sweep.runs.values()):
        if path is not None:
            ready(path)
    if dry_run:
        show_lines(_plan(sweep, folder, workers))
        return 0
    errors: dict[str, str] = {}
    with OpenSweep(sweep, folder, workers) as opened, lenient_output(), passes_shown():
        done = sum(opened.state(name) == FINISHED for name in sweep.runs)
        say(f"{_size(sweep, opened.workers)}; {done} finished before; folder: {folder}")
        with SweepBars(len(sweep.runs), done) as bars:
            for outcome in opened.events(make_executor, stop):
                stop.at_first = _say_stopping
                if outcome is None:
                    bars.show(opened.running())
                    continue
                if outcome.state == FAILED:
                    errors[outcome.name] = outcome.error or ""
                if outcome.state != STOPPED:
                    bars.ended(outcome.name, outcome.error)
        left = [n for n in sweep.runs if opened.state(n) != FINISHED and n not in errors]
    if left:
        where = "" if out is None else f" --out {argument(out)}"
        todo = counted(len(left), "run")
        say(f"stopped, {todo} to do; to go on: rnnlm sweep {argument(sweep_file)}{where}")
        end_cleanly(stop.signal or signal.SIGTERM)
    least, keys = (*LEAST, *table.LEAST_OF_LOSSES), [*sweep.settings[0].differs]
    table.show_rows(_rows(opened, errors), form, least, keys)
    return 1 if errors else 0


def _say_stopping(_signal: int) -> None:
    say_in_handler("all runs save and stop; Ctrl-C or SIGTERM once more to stop at once")


def _size(sweep: Sweep, workers: int) -> str:
    from ..backend.executors import under_mpi
    from ..backend.workers import available_cores

    each = (
        "the cores of its machine shared out"
        if under_mpi()
        else counted(max(1, available_cores() // workers), "core")
    )
    runs, settings = counted(len(sweep.runs), "run"), counted(len(sweep.settings), "setting")
    return f"{runs} of {settings}, {workers} at a time, each on {each}"


def _plan(sweep: Sweep, folder: Path, workers: int | None) -> Iterator[str]:
    """What a sweep will do; nothing is written."""
    from ..training.sweep import check, standing, workers_for

    yield f"{_size(sweep, workers_for(sweep, workers))}; folder: {folder}"
    for setting in sweep.settings:
        with passes_shown():
            lines = check(setting, setting.first)
        yield from (f"{name}: {standing(folder / name)}" for name in setting.runs)
        yield from (f"  {line}" for line in lines)


def _rows(sweep: OpenSweep, errors: dict[str, str]) -> list[table.Row]:
    rows = [_row(sweep, setting) for setting in sweep.sweep.settings]
    if not errors:
        return rows
    failed = [
        next((errors[name] for name in setting.runs if name in errors), None)
        for setting in sweep.sweep.settings
    ]
    return [{**row, "error": error} for row, error in zip(rows, failed, strict=True)]


def _row(sweep: OpenSweep, setting: Setting) -> table.Row:
    from ..inference.evaluation import bits_per_symbol, perplexity
    from ..training.comparison import cost, group

    runs = sweep.done(setting)
    row = table.losses(group(setting.differs, runs))
    test = row["test"]
    return {
        **row,
        "test bits": None if test is None else bits_per_symbol(test),
        "test perplexity": None if test is None else perplexity(test),
        **cost(runs),
    }
