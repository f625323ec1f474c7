"""Batches: what a model reads in one window, in training and in evaluation.

The text is cut into B streams of equal length that are read side by side, window after window; the
state of stream b after one window is its state before the next. Targets are the inputs shifted by one
symbol, across stream borders too, so that only what fits no stream, B - 1 symbols at most, is left
out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..arrays import Array
from ..errors import DataError
from ..wording import counted

IGNORED = -1  # as a target: this step's prediction does not count


@dataclass(frozen=True)
class Batch:
    """T steps of B streams: after each of the ids (T, B) the target is to be predicted.

    A target that does not count is IGNORED. `fresh` (T, B) marks where the state is zeroed before a
    step, since a text begins there; None: nowhere.
    """

    ids: Array
    targets: Array
    fresh: Array | None = None

    @property
    def counted(self) -> int:
        """How many targets count."""
        return int(np.count_nonzero(self.targets >= 0))


class Batches(Protocol):
    """The windows of a text, epoch after epoch."""

    streams: int
    """B, the streams of every batch."""
    seq_length: int
    """Steps of a window; the last one of an epoch may have fewer."""
    left_out: int
    """Symbols that are never predicted in an epoch, as they fit no stream."""

    def __len__(self) -> int:
        """Windows of an epoch."""

    def __call__(self, epoch: int, k: int) -> Batch:
        """Window k of an epoch, both from 0."""


class Streams:
    """One long text `ids` (n,) as `streams` parallel streams, `seq_length` steps at a time.

    The state is carried through an epoch, and zeroed where one begins. `seq_length` None is one window
    of the whole stream. Raises DataError when the text is too short, naming the largest batch and
    window that fit.
    """

    def __init__(self, ids: Array, streams: int, seq_length: int | None) -> None:
        n = len(ids)
        self.streams = streams
        self.stream_length = (n - 1) // streams if n else 0
        self.seq_length = seq_length or max(1, self.stream_length)
        if self.stream_length < self.seq_length:
            window = self.seq_length
            options = [f"train.batch_size at most {(n - 1) // window}"] if n > window else []
            if self.stream_length:
                options.append(f"train.seq_length at most {self.stream_length}")
            fits = " or ".join(options) or "more text is needed"
            raise DataError(
                f"the training text has {counted(n, 'symbol')}, too few for batch_size {streams} and "
                f"seq_length {window}: {fits}"
            )
        used = self.stream_length * streams
        self._inputs = ids[:used].reshape(streams, self.stream_length)
        self._targets = ids[1 : used + 1].reshape(streams, self.stream_length)
        self.left_out = n - 1 - used

    def __len__(self) -> int:
        return math.ceil(self.stream_length / self.seq_length)

    def __call__(self, epoch: int, k: int) -> Batch:
        columns = slice(k * self.seq_length, (k + 1) * self.seq_length)
        ids, targets = (
            a[:, columns].T.astype(np.intp, order="C") for a in (self._inputs, self._targets)
        )
        if k:
            return Batch(ids, targets)
        fresh = np.zeros(ids.shape, np.bool_)
        fresh[0] = True
        return Batch(ids, targets, fresh)
