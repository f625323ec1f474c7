"""Averages of the weights: what a run evaluates, samples from and saves, beside the weights it trains.

After each update the average a moves towards the weights w by a share s: a += s (w - a). An average is
a function `(n, epoch, bad_evals, **options)` that gives this share, or None before it begins: the
average is the weights then. `n` counts the updates that are averaged already, `epoch` those that
were trained when the update was made, `bad_evals` the validations since the best one. The keywords
with defaults are its options in the config; `NEEDS_VALIDATION` lists those that begin with one.

All weights count alike, biases too. Since the average moves only where the weights do, no correction is
kept beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import numpy as np

from ..arrays import Array
from ..config.kinds import Integer, Number

Share = Annotated[float, Number(low=0, below=1)]  # of the past in a moving average
Count = Annotated[int, Integer(low=0, high=10**6)]
Times = Annotated[int, Integer(low=1, high=10**6)]


def none(n: int, epoch: float, bad_evals: int) -> None:
    """No average: the weights themselves."""


def ema(n: int, epoch: float, bad_evals: int, *, decay: Share = 0.999) -> float:
    """Exponential moving average: a = d a + (1 - d) w, where d = min(`decay`, (2 + n) / (11 + n)).

    With a constant d the first weights would keep their share of d^n, long after training has left
    them. A correction as Adam's gives all updates of the beginning the same share; with this d the
    average reaches back over a tenth of the run at first, and forgets its beginning.
    """
    return max(1 - decay, 9 / (11 + n))


def mean(n: int, epoch: float, bad_evals: int, *, from_epoch: Count = 5) -> float | None:
    """The mean of the weights after each update, once `from_epoch` epochs are trained
    (Polyak and Juditsky 1992).
    """
    return 1 / (n + 1) if n or epoch >= from_epoch else None


def triggered(n: int, epoch: float, bad_evals: int, *, patience: Times = 5) -> float | None:
    """The mean of the weights, once `patience` validations brought nothing better than the one before
    them (NT-ASGD: Merity, Keskar and Socher 2018, algorithm 1. There one validation that is worse than
    the best of all but the last n begins it; here all n must be).
    """
    return 1 / (n + 1) if n or bad_evals >= patience else None


def move(average: Array, w: Array, tmp: Array, share: float | None) -> None:
    """average += share · (w - average), in place; w where `share` is None. `tmp` is scratch memory; all
    are (n,).
    """
    if share is None:
        np.copyto(average, w)
        return
    np.subtract(w, average, tmp)
    np.multiply(tmp, share, tmp)
    np.add(average, tmp, average)


Average = Callable[..., float | None]

AVERAGES: dict[str, Average] = {"none": none, "ema": ema, "mean": mean, "triggered": triggered}

NEEDS_VALIDATION = frozenset({"triggered"})
