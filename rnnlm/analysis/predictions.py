"""What a model expects at every symbol of a stretch: its surprise, the rank, the entropy, the top five.

The ranks are those of GLTR (Gehrmann, Strobelt and Rush 2019, arXiv:1906.04043), for any symbol.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..errors import TrainingError
from ..runs.checkpoint import Checkpoint
from ..watching import report
from .stretch import Stretch

TOP = 5
SIDE_BY_SIDE = 64  # texts that are read at a time
BLOCK = 1 << 21  # probabilities that are worked on at a time
EVERY = 512  # steps between two reports


@dataclass(frozen=True)
class Predictions:
    """Of each symbol (n,) of a stretch, in the order of its text: `nats`, -ln p; `rank`, 1 where none
    was more probable; `entropy` of the prediction, in nats. `top` (n, 5) are the ids of the most
    probable symbols, the most probable first, and `p` their probabilities; fewer of a small vocabulary.
    """

    nats: Array
    rank: Array
    entropy: Array
    top: Array
    p: Array


def predictions(checkpoint: Checkpoint, stretch: Stretch) -> Predictions:
    """Read a stretch, as `surprisal` does: from the zero state after a newline, or where there is none
    with the first symbol by its frequency; of lines, each by itself.

    Reported as `predictions` (watching.py). Raises TrainingError where something is not finite.
    """
    n, V = len(stretch.ids), len(checkpoint.vocabulary)
    k = min(TOP, V)
    found = Predictions(
        np.empty(n), np.empty(n, np.intp), np.empty(n), np.empty((n, k), np.intp), np.empty((n, k))
    )
    with blas.one_thread(), np.errstate(all="ignore"):
        for at, logits in _logits(checkpoint, stretch):
            _measure(logits, stretch.ids[at], at, found)
    order = stretch.order
    return Predictions(*(values[order] for values in vars(found).values()))


def _measure(logits: Array, targets: Array, at: Array, found: Predictions) -> None:
    """Fill in what rows of logits (R, V) say of the symbols at some places (R,)."""
    rows, k = np.arange(len(targets)), found.top.shape[1]
    top = logits.max(1, keepdims=True)
    if not np.isfinite(top).all():
        raise TrainingError("the model's predictions are not finite: its weights are too large")
    log_p = logits - top
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    p = np.exp(log_p)
    mine = log_p[rows, targets]
    found.nats[at] = -mine
    found.rank[at] = 1 + (log_p > mine[:, None]).sum(1)
    found.entropy[at] = -np.where(p > 0, p * log_p, 0.0).sum(1)
    best = np.argpartition(-log_p, k - 1, axis=1)[:, :k]
    best = np.take_along_axis(best, np.argsort(-log_p[rows[:, None], best], axis=1), axis=1)
    found.top[at], found.p[at] = best, p[rows[:, None], best]


def _logits(checkpoint: Checkpoint, stretch: Stretch) -> Iterator[tuple[Array, Array]]:
    """Places (R,) in a stretch, and the logits (R, V) of what comes there, in float64."""
    newline, ids = stretch.format.newline, stretch.ids
    starts, lengths = stretch.texts
    most = max(1, BLOCK // len(checkpoint.vocabulary))
    held: list[tuple[Array, Array]] = []
    size = done = 0
    for first in range(0, len(starts), SIDE_BY_SIDE):
        begins, sizes = (a[first : first + SIDE_BY_SIDE] for a in (starts, lengths))
        texts = checkpoint.model.begin(checkpoint.params, len(begins))
        for t in range(int(sizes.max())):
            going = sizes > t
            if t or newline is not None:
                before = ids[begins + np.minimum(t, sizes - 1) - 1]
                logits = texts.step(before if t else np.full(len(begins), newline))
            else:
                logits = np.log(checkpoint.frequencies)[None].repeat(len(begins), 0)
            held.append((begins[going] + t, logits[going].astype(np.float64)))
            size += len(held[-1][0])
            if size >= most:
                yield _together(held)
                done, size, held = done + size, 0, []
            if t % EVERY == 0:
                report("predictions", done + size, len(ids))
    if held:
        yield _together(held)
    report("predictions", len(ids), len(ids))


def _together(held: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    places, logits = zip(*held, strict=True)
    return np.concatenate(places), np.concatenate(logits)
