"""Learning-rate schedules: the learning rate of each step.

A schedule is a function `(step, steps_per_epoch, total_steps, learning_rate, **options)` that gives
the rate of the update number `step`, counted from 0. The keywords with defaults are its options in
the config, within the limits that their types declare; `NEEDS_TOTAL` lists the schedules that depend
on how long the run is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from ..config.kinds import Integer, Number

Factor = Annotated[float, Number(low=0, high=1)]
Rate = Annotated[float, Number(low=0, high=1e6)]
Count = Annotated[int, Integer(low=0, high=10**6)]


def constant(step: int, steps_per_epoch: int, total_steps: int, learning_rate: float) -> float:
    """The configured rate throughout."""
    return learning_rate


def exponential(
    step: int,
    steps_per_epoch: int,
    total_steps: int,
    learning_rate: float,
    *,
    decay: Factor = 0.97,
    from_epoch: Count = 10,
) -> float:
    """The configured rate for `from_epoch` epochs, then times `decay` with each epoch that begins."""
    return learning_rate * decay ** max(0, step // steps_per_epoch + 1 - from_epoch)


def cosine(
    step: int,
    steps_per_epoch: int,
    total_steps: int,
    learning_rate: float,
    *,
    warmup_steps: Count = 0,
    final_learning_rate: Rate = 0.0,
) -> float:
    """Linear from 0 over `warmup_steps`, then half a cosine down to `final_learning_rate`
    (Loshchilov and Hutter 2017, equation 5, without restarts).
    """
    if step < warmup_steps:
        return learning_rate * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    share = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return final_learning_rate + (learning_rate - final_learning_rate) * share


Schedule = Callable[..., float]

SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "exponential": exponential,
    "cosine": cosine,
}

NEEDS_TOTAL = frozenset({"cosine"})  # schedules whose rates change when the run is made longer
