"""Learning-rate schedules: the learning rate of each step.

A schedule is a function `(at, learning_rate, **options)` that gives the rate of an update from where
the run is. The keywords with defaults are its options in the config, within the limits that their types
declare. `NEEDS_TOTAL` lists the schedules that depend on how long the run is, `NEEDS_VALIDATION` those
that wait for validations. Every schedule but `one_cycle`, which rises anyway, may begin with
`warmup_steps`, over which the rate rises in a straight line from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from ..config.kinds import Number
from .limits import Count, Rate, Times

Factor = Annotated[float, Number(low=0, high=1)]
Half = Annotated[float, Number(above=0, high=0.5)]


@dataclass(frozen=True)
class Position:
    """Where a run is before an update."""

    step: int
    """How many updates were made."""
    epoch: int
    """The epoch that the update belongs to, from 0."""
    total: int
    """Updates of the whole run."""
    drops: int = 0
    """How often the schedule's `patience` validations, one after another, brought nothing better."""


def constant(at: Position, learning_rate: float, *, warmup_steps: Count = 0) -> float:
    """The configured rate throughout."""
    return _warmed_up(at, learning_rate, warmup_steps)


def exponential(
    at: Position,
    learning_rate: float,
    *,
    decay: Factor = 0.97,
    from_epoch: Count = 10,
    warmup_steps: Count = 0,
) -> float:
    """The configured rate for `from_epoch` epochs, then times `decay` with each epoch that begins."""
    rate = learning_rate * decay ** max(0, at.epoch + 1 - from_epoch)
    return _warmed_up(at, rate, warmup_steps)


def cosine(
    at: Position,
    learning_rate: float,
    *,
    warmup_steps: Count = 0,
    final_learning_rate: Rate = 0.0,
) -> float:
    """Half a cosine from the end of the warm-up down to `final_learning_rate`
    (Loshchilov and Hutter 2017, equation 5, without restarts).
    """
    if at.step < warmup_steps:
        return _warmed_up(at, learning_rate, warmup_steps)
    progress = (at.step - warmup_steps) / max(1, at.total - warmup_steps)
    share = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return final_learning_rate + (learning_rate - final_learning_rate) * share


def plateau(
    at: Position,
    learning_rate: float,
    *,
    factor: Factor = 0.5,
    patience: Times = 2,
    warmup_steps: Count = 0,
) -> float:
    """Times `factor` whenever `patience` validations one after another brought nothing better."""
    return _warmed_up(at, learning_rate * factor**at.drops, warmup_steps)


def one_cycle(at: Position, learning_rate: float, *, rise: Half = 0.45, low: Factor = 0.1) -> float:
    """Up in a straight line from `low` times the rate, over the share `rise` of all steps; down again
    in as many; and to 0 in those that are left (Smith 2018, arXiv:1803.09820, section 5, but for the
    momentum, which stays).
    """
    progress, peak = at.step / max(1, at.total), 2 * rise
    if progress < peak:
        share = 1 - (1 - low) * abs(progress / rise - 1)
    else:
        share = low * max(0.0, 1 - progress) / (1 - peak) if peak < 1 else 0.0
    return learning_rate * share


def _warmed_up(at: Position, rate: float, steps: int) -> float:
    return rate * (at.step + 1) / steps if at.step < steps else rate


Schedule = Callable[..., float]

SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "exponential": exponential,
    "cosine": cosine,
    "plateau": plateau,
    "one_cycle": one_cycle,
}

NEEDS_TOTAL = frozenset({"cosine", "one_cycle"})  # their rates change when a run is made longer
NEEDS_VALIDATION = frozenset({"plateau"})
