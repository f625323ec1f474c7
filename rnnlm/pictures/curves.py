"""How losses, the learning rate and the gradient norm went, read from a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import CheckpointError
from ..models.base import TrainableModel
from ..runs.checkpoint import Glance
from ..runs.history import history

STEPS, SYMBOLS, MINUTES = "steps", "symbols", "minutes"
AXES = (STEPS, SYMBOLS, MINUTES)  # what a run can be drawn against


@dataclass(frozen=True)
class Curves:
    """What a run logged, by columns (n,) of float64 with a row for each record: those in AXES, `loss`
    in nats per symbol, and of `train` also `learning_rate` and `grad_norm`.
    """

    name: str  # in a legend
    noun: str  # the word for a symbol
    train: Mapping[str, Array]
    validation: Mapping[str, Array]
    level: float | None = None  # the validation loss of a model that was made at once

    @property
    def lowest(self) -> tuple[int, float] | None:
        """The row of `validation` with the lowest loss, and the loss; None without one."""
        losses = self.validation["loss"]
        return (int(losses.argmin()), float(losses.min())) if len(losses) else None


def curves(run: Glance) -> Curves:
    """What the run of a checkpoint logged, with the name of its folder.

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
    if isinstance(run.model, TrainableModel):
        return Curves(folder.name, run.noun, train, validation)
    nothing = {key: values[:0] for key, values in train.items()}
    return Curves(folder.name, run.noun, nothing, nothing, float(validation["loss"][-1]))


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
