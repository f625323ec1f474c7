"""Pictures that matplotlib draws, and writes as files: SVG, PNG, PDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..inference.gradients import LayerFlow
from ..storage.atomic import atomic_write, check_new, writing
from ..wording import option
from .curves import STEPS, Curves, noun, unit

# Told apart by readers with any colour vision: Okabe and Ito 2008, the yellow left out
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")  # one for each time round the colours
FEW = 40  # validations that are drawn as points too
WIDTH = 130  # characters of a row of the legend
PANELS = {  # columns of `train` that are drawn below the losses: what they are called, their scale
    "learning_rate": ("learning rate", "linear"),
    "grad_norm": ("gradient norm", "log"),
}


def draw(runs: Sequence[Curves], *, x: str = STEPS, log: bool = False) -> Any:
    """A matplotlib Figure: training and validation loss, below them learning rate and gradient norm.

    `x` is one of AXES; with `log` both axes of the losses are logarithmic. The lowest validation loss
    of each run has a ring. A run that was made at once is a level line with its name.
    """
    from matplotlib.figure import Figure

    below = {
        name: look
        for name, look in PANELS.items()
        if any(np.isfinite(run.train[name]).any() for run in runs)
    }
    heights = [4.5, *[1.3] * len(below)]
    figure = Figure(figsize=(8, sum(heights) + 0.3), layout="constrained")
    panels = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for number, run in enumerate(runs):
        look = _look(number)
        _draw_losses(panels[0], run, x, look)
        for panel, name in zip(panels[1:], below, strict=True):
            panel.plot(run.train[x], run.train[name], lw=1.2, **look)
    for panel in panels:
        panel.grid(True, alpha=0.25, lw=0.6)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].margins(y=0.1)
    panels[0].set_ylabel(f"loss (nats per {noun(runs)})")
    for panel, (name, (label, scale)) in zip(panels[1:], below.items(), strict=True):
        panel.set_ylabel(label)
        if scale == "log" and any(np.nanmax(run.train[name], initial=0) > 0 for run in runs):
            _make_log(panel, "y")
        elif scale == "linear":
            panel.set_ylim(bottom=0)
    if all(run.level is not None for run in runs):
        panels[-1].set_xticks([])
    else:
        panels[-1].set_xlabel(f"{unit(x, runs)} of training")
        panels[-1].xaxis.set_major_formatter("{x:,.10g}")
    if log and any(run.level is None for run in runs):
        _make_log(panels[0], "x")
    if log:
        _make_log(panels[0], "y")
    _add_legend(figure, runs)
    return figure


def _look(number: int) -> dict[str, Any]:
    """The colour and style of the lines of a run, by its number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "ls": STYLES[number // len(COLOURS) % len(STYLES)],
    }


def _draw_losses(panel: Any, run: Curves, x: str, look: dict[str, Any]) -> None:
    colour = look["color"]
    if run.level is not None:
        panel.axhline(run.level, color=colour, ls=(0, (6, 3)), lw=1.2)
        panel.annotate(
            f"{run.name}: {run.level:.4f}",
            (1, run.level),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize="small",
            color=colour,
        )
        return
    panel.plot(run.train[x], run.train["loss"], lw=1, alpha=0.45, **look)
    at, losses = run.validation[x], run.validation["loss"]
    points = {"marker": "o", "ms": 3.5} if len(losses) <= FEW else {}
    panel.plot(at, losses, lw=1.8, **points, **look)
    if run.lowest is not None:
        row, loss = run.lowest
        panel.plot(at[row], loss, "o", ms=9, mfc="none", mec=colour)


def _make_log(panel: Any, axis: str) -> None:
    """Make an axis logarithmic, its ticks at round numbers that are written out."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    getattr(panel, f"set_{axis}scale")("log")
    low, high = getattr(panel, f"get_{axis}lim")()
    ticks = getattr(panel, f"{axis}axis")
    short = high < 10 * low
    ticks.set_major_locator(MaxNLocator(6) if short else LogLocator(subs=(1, 2, 5)))
    ticks.set_major_formatter("{x:,.10g}")
    ticks.set_minor_locator(NullLocator())
    ticks.set_minor_formatter(NullFormatter())


def _add_legend(figure: Any, runs: Sequence[Curves]) -> None:
    """A colour for each run, with its lowest validation loss; a line for each kind of loss."""
    from matplotlib.lines import Line2D

    entries = {}
    for number, run in enumerate(runs):
        if run.level is None:
            loss = "" if run.lowest is None else f": {run.lowest[1]:.4f}"
            entries[f"{run.name}{loss}"] = Line2D([], [], lw=1.8, **_look(number))
    if not entries:
        return
    if any(len(run.validation["loss"]) for run in runs):
        points = Line2D([], [], color="0.3", lw=1.8, marker="o", ms=3.5)
        entries["validation (ring: lowest)"] = points
    if any(len(run.train["loss"]) for run in runs):
        entries["training"] = Line2D([], [], color="0.3", lw=1, alpha=0.45)
    lengths = [len(name) + 8 for name in entries]
    one_row = sum(lengths) < WIDTH
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="outside upper center",
        ncols=len(entries) if one_row else max(1, WIDTH // max(lengths)),
        frameon=False,
        fontsize="small",
    )


def draw_flow(measured: Sequence[tuple[str, Sequence[LayerFlow]]]) -> Any:
    """A matplotlib Figure of how gradients go back in models, each with its name: a line for each layer
    over its quartiles, the norm on a logarithmic scale. Of one model alone also, dashed, what a linear
    network would have.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    panel: Any = figure.subplots()
    for name, layers in measured:
        for number, layer in enumerate(layers, 1):
            lower, median, upper = layer.quartiles
            lags = range(len(median))
            label = name + (f", layer {number}" if len(layers) > 1 else "")
            (line,) = panel.semilogy(lags, median, label=label)
            panel.fill_between(lags, lower, upper, color=line.get_color(), alpha=0.2)
            if layer.linear is not None and len(measured) == 1:
                panel.semilogy(lags, layer.linear, "--", color=line.get_color(), label="linear")
    panel.set_xlabel("steps before the loss")
    panel.set_ylabel("norm of the gradient of h: median, quartiles")
    panel.grid(True, alpha=0.3)
    figure.legend(loc="outside upper center", fontsize="small")
    return figure


def check_picture(path: Path, name: str, force: bool = False) -> None:
    """Raise ConfigError or DataError where a picture could not be drawn into a file, which the option
    `name` gave: matplotlib is missing, or draws no such files, or, unless `force`, the file exists.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ConfigError(f"{option(name)} needs matplotlib: pip install 'rnnlm[plot]'") from None
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:] not in known:
        raise ConfigError(f"{option(name)}: {path} must end in one of .{', .'.join(known)}")
    if not force:
        check_new(path)


def write_picture(figure: Any, path: Path) -> None:
    """Draw a matplotlib Figure into a file, whole or not at all. Raises DataError where that fails."""
    from matplotlib import rc_context

    letters_stay_text = rc_context({"svg.fonttype": "none"})
    with letters_stay_text, writing(path), atomic_write(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=150)
