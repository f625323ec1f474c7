"""How losses, the learning rate and the gradient norm went: read from a run, and drawn."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import CheckpointError
from ..models.base import TrainableModel
from ..runs.checkpoint import Glance
from ..runs.history import history

# Told apart by readers with any colour vision: Okabe and Ito 2008, the yellow left out
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")  # one for each time round the colours
STEPS, SYMBOLS, MINUTES = "steps", "symbols", "minutes"
FEW = 40  # validations that are drawn as points too
WIDTH = 130  # characters of a row of the legend
AXES = (STEPS, SYMBOLS, MINUTES)  # what a run can be drawn against


@dataclass(frozen=True)
class Curves:
    """What a run logged, by columns (n,) of float64 with a row for each record: those in AXES, `loss`
    in nats per symbol, and of `train` also `learning_rate` and `grad_norm`.
    """

    name: str
    noun: str  # the word for a symbol
    train: Mapping[str, Array]
    validation: Mapping[str, Array]
    level: float | None = None  # the validation loss of a model that was made at once

    @property
    def lowest(self) -> tuple[int, float] | None:
        """The row of `validation` with the lowest loss, and the loss; None without one."""
        losses = self.validation["loss"]
        return (int(losses.argmin()), float(losses.min())) if len(losses) else None


def curves(run: Glance, name: str | None = None) -> Curves:
    """What the run of a checkpoint logged; `name` stands for it in a legend (default: its folder's).

    Raises CheckpointError where its log is missing or damaged, or has no loss.
    """
    folder = run.path.absolute().parent
    columns = history(folder)
    n = len(next(iter(columns.values()), ()))
    event, split, checkpoint_step = (
        columns.get(key, np.full(n, None)) for key in ("event", "split", "checkpoint_step")
    )
    of_stretch = np.array([value is None or value != value for value in checkpoint_step], bool)
    train = _rows(columns, event == "train", run)
    validation = _rows(columns, (event == "eval") & (split == "val") & of_stretch, run)
    if not len(train["loss"]) + len(validation["loss"]):
        raise CheckpointError(
            f"{folder / 'metrics.jsonl'}: no loss in it yet: train on, or set train.log_every lower"
        )
    name = folder.name if name is None else name
    if isinstance(run.model, TrainableModel):
        return Curves(name, run.noun, train, validation)
    nothing = {key: values[:0] for key, values in train.items()}
    return Curves(name, run.noun, nothing, nothing, float(validation["loss"][-1]))


def _rows(columns: Mapping[str, Array], wanted: Any, run: Glance) -> dict[str, Array]:
    """The columns of the records that are wanted and have a loss."""
    n = len(columns.get("step", ()))

    def column(name: str) -> Array:
        values = columns.get(name)
        return np.full(n, np.nan) if values is None else values.astype(np.float64)

    loss = column("loss")
    chosen = np.broadcast_to(wanted, n) & np.isfinite(loss)
    rows = {
        STEPS: column("step"),
        SYMBOLS: column("epoch") * run.counts.sum(),
        MINUTES: column("seconds") / 60,
        "loss": loss,
        "learning_rate": column("learning_rate"),
        "grad_norm": column("grad_norm"),
    }
    return {name: values[chosen] for name, values in rows.items()}


def noun(runs: Sequence[Curves]) -> str:
    """The word for a symbol of all runs."""
    return runs[0].noun if len({run.noun for run in runs}) == 1 else "symbol"


def unit(x: str, runs: Sequence[Curves]) -> str:
    """What is counted on the axis `x`."""
    return f"{noun(runs)}s" if x == SYMBOLS else x


def draw(runs: Sequence[Curves], *, x: str = STEPS, log: bool = False) -> Any:
    """A matplotlib Figure: training and validation loss, below them learning rate and gradient norm.

    `x` is one of AXES; with `log` both axes of the losses are logarithmic. The lowest validation loss
    of each run has a ring. A run that was made at once is a level line with its name.
    """
    from matplotlib.figure import Figure

    below = PANELS if any(len(run.train["loss"]) for run in runs) else {}
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
    panels[-1].set_xlabel(f"{unit(x, runs)} of training")
    panels[-1].xaxis.set_major_formatter("{x:,.10g}")
    if log:
        _make_log(panels[0], "x")
        _make_log(panels[0], "y")
    _add_legend(figure, runs)
    return figure


PANELS = {  # columns of `train` that are drawn below the losses: what they are called, their scale
    "learning_rate": ("learning rate", "linear"),
    "grad_norm": ("gradient norm", "log"),
}


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
    entries["validation (ring: lowest)"] = Line2D([], [], color="0.3", lw=1.8, marker="o", ms=3.5)
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


def svg(figure: Any) -> str:
    """A Figure as an `<svg>` element; equal figures give equal text. Its letters stay text."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.hashsalt": "rnnlm", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
