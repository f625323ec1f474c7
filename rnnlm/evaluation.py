"""How well a model predicts a text: nats and bits per character, perplexity."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from . import blas
from .errors import DataError, TrainingError
from .model import Model, StepWeights
from .params import Array, Parameters
from .words import counted
from .workspace import Workspace

CHUNK = 128  # steps at a time; a constant, because the bits of a product depend on its rows
MOST_ROWS = 4096  # of all streams in a chunk


def perplexity(nats_per_char: float) -> float | None:
    """exp of the mean cross-entropy; None beyond the range of floats."""
    try:
        return math.exp(nats_per_char)
    except OverflowError:
        return None


def bits_per_char(nats_per_char: float) -> float:
    """The mean cross-entropy in bits."""
    return nats_per_char / math.log(2)


@dataclass(frozen=True)
class Evaluation:
    """The cross-entropy of a text: `chars` predicted characters, `nats` their sum."""

    chars: int
    nats: float

    @property
    def nats_per_char(self) -> float:
        return self.nats / self.chars

    @property
    def bits_per_char(self) -> float:
        return bits_per_char(self.nats_per_char)

    @property
    def perplexity(self) -> float | None:
        return perplexity(self.nats_per_char)


def evaluate(model: Model, params: Parameters, ids: Array, streams: int = 1) -> Evaluation:
    """-ln p of every character of `ids` (n,) but the first, given all characters before it.

    One stream from the zero state, its state carried from the first character to the last, worked on
    in fixed chunks and summed in float64: no batch or window that a run is configured with changes a
    bit of it. With `streams` above 1 the text is cut into that many, each from the zero state: faster,
    and an approximation. Raises DataError for fewer than two characters
    a stream, TrainingError where the figure is not finite.
    """
    length = (len(ids) - 1) // streams if len(ids) else 0
    if length < 1:
        raise DataError(
            f"{counted(len(ids), 'character')} in {counted(streams, 'stream')}: nothing to predict; "
            "more text is needed"
        )
    used = length * streams
    inputs = ids[:used].reshape(streams, length)
    targets = ids[1 : used + 1].reshape(streams, length)
    ws = Workspace(params.flat.dtype)
    state = model.zero_state(streams, params.flat.dtype)
    chunk = min(CHUNK, max(1, MOST_ROWS // streams))
    chunks = []
    with blas.one_thread(), np.errstate(all="ignore"):  # whoever asked looks at the figure
        weights = StepWeights(model, params, rows=streams, backward=False)
        for start in range(0, length, chunk):
            x, y = (
                a[:, start : start + chunk].T.astype(np.intp, order="C") for a in (inputs, targets)
            )
            chunks.append(model.loss(weights, x, y, state, ws))
    nats = math.fsum(chunks)
    if not math.isfinite(nats):
        raise TrainingError("the model's predictions are not finite: its weights are too large")
    return Evaluation(used, nats)
