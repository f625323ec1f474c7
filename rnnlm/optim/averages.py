"""Averages of the weights: what a run evaluates, samples from and saves, beside the weights it trains.

After each update the average a moves towards the weights w by a share s: a += s (w - a). An average is
a function `(n, epoch, losses, **options)` that gives this share, or None before it begins: the
average is the weights then. `n` counts the updates that are averaged already, `epoch` those that
were trained when the update was made, `losses` are those of the validations so far (see `remembered`).
The keywords with defaults are its options in the config; `NEEDS_VALIDATION` lists those that begin with
a validation.

All weights count alike, biases too. Since the average moves only where the weights do, no correction is
kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..arrays import Array
from .limits import Count, Share, Times


def none(n: int, epoch: float, losses: Sequence[float]) -> None:
    """No average: the weights themselves."""


def ema(n: int, epoch: float, losses: Sequence[float], *, decay: Share = 0.999) -> float:
    """Exponential moving average: a = d a + (1 - d) w, where d = min(`decay`, (2 + n) / (11 + n)).

    With a constant d the first weights would keep their share of d^n, long after training has left
    them. A correction as Adam's gives all updates of the beginning the same share; with this d the
    average reaches back over a tenth of the run at first, and forgets its beginning.
    """
    return max(1 - decay, 9 / (11 + n))


def mean(n: int, epoch: float, losses: Sequence[float], *, from_epoch: Count = 5) -> float | None:
    """The mean of the weights after each update, once `from_epoch` epochs are trained
    (Polyak and Juditsky 1992).
    """
    return 1 / (n + 1) if n or epoch >= from_epoch else None


def triggered(
    n: int, epoch: float, losses: Sequence[float], *, patience: Times = 5
) -> float | None:
    """The mean of the weights, once a validation is worse than the best of those before it, the last
    `patience` of them left aside (NT-ASGD: Merity, Keskar and Socher 2018, algorithm 1, with the
    condition of the ICLR version and of the authors' program; that of arXiv:1708.02182 is a slip).
    """
    *before, last = losses or [math.inf]
    return 1 / (n + 1) if n or last > min(before[:-patience], default=math.inf) else None


def remembered(losses: Sequence[float], patience: int) -> list[float]:
    """What `triggered` needs of the losses: of all that it compares with only the lowest."""
    k = patience + 1  # the last one, and those that are left aside before it
    return [*([min(losses[:-k])] if len(losses) > k else []), *losses[-k:]]


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
