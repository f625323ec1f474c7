"""Batches: what a model reads in one window, in training and in evaluation.

The text is cut into B streams of equal length, which are read in parallel, window after window. The
state of a stream after one window is its state before the next. Targets are the inputs shifted by one
symbol, across stream borders too. So only the symbols that fit no stream are left out: B - 1 at most.
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
    """T steps of B streams: each of the `targets` (T, B) is predicted after its symbol in `ids` (T, B).

    A target that does not count is IGNORED. `fresh` (T, B) marks the steps before which the state is
    zeroed, since a text begins there; None: no step.
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
    """B, the number of streams in every batch."""
    seq_length: int
    """Steps of a window; the last window of an epoch may have fewer."""
    left_out: int
    """Symbols of an epoch that are never predicted, since they fit no stream."""

    def __len__(self) -> int:
        """Windows of an epoch."""

    def __call__(self, epoch: int, k: int) -> Batch:
        """Window k of an epoch, both from 0."""


class Streams:
    """One long text `ids` (n,) as `streams` parallel streams, in windows of `seq_length` steps.

    The state is zeroed when an epoch begins and carried through it. With `seq_length` None a window is
    a whole stream. Raises DataError, which names the largest batch and window that fit, when the text
    is too short.
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
            fits = " or ".join(options) or "more text"
            raise DataError(
                f"the training text has {counted(n, 'symbol')}, too few for batch_size {streams} and "
                f"seq_length {window}: use {fits}"
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
