"""`rnnlm gradients`: prints how far back gradients reach, as tables or as JSON; draws the curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .arguments import FILE, example, found
from .bars import passes_shown
from .terminal import show_lines

if TYPE_CHECKING:
    from ..inference.gradients import LayerFlow

BAR = 30  # characters of the longest


@click.command("gradients", epilog=example("rnnlm gradients runs/my-run --lags 30 --at-init"))
@click.argument("runs", nargs=-1, type=FILE, metavar="[RUN]...")
@click.option("--at-init", is_flag=True, help="Of the parameters that training began with.")
@click.option(
    "--lags",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    help="Steps back, at most.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each run.")
@click.option("--plot", type=FILE, metavar="FILE", help="Draw the curves, as PNG, SVG or PDF.")
def command(
    runs: tuple[Path, ...], at_init: bool, lags: int, as_json: bool, plot: Path | None
) -> None:
    """Measure how far back gradients reach: the norm of the derivative of a loss with respect to the
    output of each layer 0, 1, 2, ... steps before, on a stretch of the validation text. Of several
    runs, one after another, and in one picture.
    """
    from ..inference.gradients import as_json as in_json
    from ..inference.gradients import gradient_flow
    from ..pictures.figure import check_picture, draw_flow, write_picture

    if plot is not None:
        check_picture(plot, "plot")
    measured: list[tuple[str, list[LayerFlow]]] = []
    for run in runs or (None,):
        checkpoint = found(run)
        with passes_shown():
            layers = gradient_flow(checkpoint, lags, at_init)
        name = checkpoint.model.describe().replace(":", ", at its beginning:" if at_init else ":")
        folder = checkpoint.path.absolute().parent.name if checkpoint.path else ""
        measured.append((f"{folder}: {name.split(':')[0]}", layers))
        if as_json:
            told = {"checkpoint": str(checkpoint.path), "model": name, **in_json(layers)}
            show_lines([json.dumps(told)])
        else:
            show_lines([*([""] if len(measured) > 1 else []), f"model: {name}", *_tables(layers)])
    if plot is not None:
        write_picture(draw_flow(measured), plot)


def _tables(layers: list[LayerFlow]) -> Iterator[str]:
    """What was measured of each layer; the bars of all have one scale."""
    logs = [_log(v) for layer in layers for v in layer.quartiles[1]]
    known = [log for log in logs if log is not None]
    for number, layer in enumerate(layers, 1):
        yield from ("", f"layer {number} of {len(layers)}")
        yield from _curve(layer, min(known, default=0.0), max(known, default=0.0))
        yield from _figures(layer)


def _curve(layer: LayerFlow, low: float, high: float) -> Iterator[str]:
    """A row for each lag; the bar shows the logarithm of the median, from `low` to `high`."""
    n = layer.norms.shape[1]
    yield f"gradient norm of a loss with respect to h, so many steps before ({n} gradients)"
    span = max(high - low, math.log(10))  # a curve that is flat has bars that are equal
    linear = "" if layer.linear is None else "    linear"
    yield f"{'lag':>5}  {'median':>8}  {'quartiles':>18}{linear}"
    for lag, (lower, median, upper) in enumerate(layer.quartiles.T):
        log = _log(median)
        filled = 0 if log is None else BAR - round((BAR - 1) * (high - log) / span)
        beside = "" if layer.linear is None else f"  {layer.linear[lag]:8.2e}"
        yield f"{lag:5}  {median:8.2e}  {lower:8.2e}  {upper:8.2e}{beside}  {'#' * filled}".rstrip()


def _log(value: float) -> float | None:
    """The logarithm of a norm that has one."""
    return math.log(value) if 0 < value < math.inf else None


def _figures(layer: LayerFlow) -> Iterator[str]:
    """Lines about the recurrent matrices, the gates and the units."""
    for name, (singular, moduli) in layer.matrices.items():
        middle = singular[len(singular) // 2]
        yield (
            f"{name}: spectral radius {moduli[0]:.4g}, singular values {singular[-1]:.4g} to "
            f"{singular[0]:.4g}, median {middle:.4g}"
        )
    for name, (low, high, zero) in layer.saturated.items():
        what, least = ("output h", -0.9) if name == "h" else (f"gate {name}", 0.1)
        beyond = "" if math.isnan(low) else f"{low:.1%} below {least}, {high:.1%} above 0.9, "
        yield f"{what}: {beyond}{zero:.1%} at 0"
