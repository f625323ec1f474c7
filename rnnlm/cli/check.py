"""`rnnlm check`: prints analytic beside numerical derivatives, and exits with 1 where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..wording import counted
from .arguments import FILE, example, settings
from .bars import passes_shown
from .terminal import show_lines

if TYPE_CHECKING:
    from ..training.check import Derivative, GradientCheck


@click.command("check", epilog=example("rnnlm check configs/tinyshakespeare.yaml --break Wy"))
@click.argument("config_or_run", required=False, type=FILE)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key.")
@click.option("--break", "wrong", metavar="NAME", help="Make this gradient wrong by 1 percent.")
def command(config_or_run: Path | None, overrides: tuple[str, ...], wrong: str | None) -> int:
    """Check a model's gradients: analytic against numerical derivatives, in float64.

    For every parameter and the initial state, on a window of the training text: along a random
    direction, and at the entry whose derivative is the largest. CONFIG, or a text, gives the
    parameters that training begins with, RUN those of its checkpoint.
    """
    with passes_shown():
        check = _opened(config_or_run, overrides)
        rows = list(check.derivatives(wrong))
    failed = [row.name for row in rows if not row.agrees]
    T, B = check.batch.ids.shape
    show_lines([f"model: {check.model.describe()}", f"window: {T} steps of {B} streams, float64"])
    show_lines(_table(rows))
    of = counted(len(rows), "derivative")
    show_lines(
        [f"{len(failed)} of {of} wrong: {', '.join(failed)}" if failed else f"{of}: all agree"]
    )
    return 1 if failed else 0


def _opened(name: Path | None, overrides: tuple[str, ...]) -> GradientCheck:
    from ..api.checkpoints import load
    from ..config.tree import is_sweep
    from ..training.check import GradientCheck
    from .corpus import ready

    if name is not None and (name.is_dir() or name.suffix == ".npz"):
        if overrides:
            raise click.UsageError("--set is for a CONFIG; a RUN has its own")
        return GradientCheck.of_checkpoint(load(name))
    if name is not None and is_sweep(name):
        raise click.UsageError(f"{name} is a sweep: rnnlm check takes a config or a run")
    config, _ = settings(name, overrides, None)
    if config.data.path is not None:
        ready(config.data.path)
    return GradientCheck.of_config(config)


def _table(rows: Iterable[Derivative]) -> Iterator[str]:
    cells = [("parameter", "shape", "analytic", "numerical", "error", "")]
    cells += [
        (
            row.name,
            "x".join(map(str, row.shape)),
            f"{row.analytic:.5e}",
            f"{row.numerical:.5e}",
            f"{row.error:.1e}",
            "ok" if row.agrees else "WRONG",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for name, shape, *figures, verdict in cells:
        numbers = (figure.rjust(w) for figure, w in zip(figures, widths[2:], strict=False))
        yield "  ".join((name.ljust(widths[0]), shape.ljust(widths[1]), *numbers, verdict)).rstrip()
