"""Contiguous windows over parallel streams of one text.

The text is cut into B streams of equal length that are read side by side, window after window; the
state of stream b after one window is its state before the next. Targets are the inputs shifted by one
character, across stream borders too, so that only what fits no stream, B - 1 characters at most, is
left out.
"""

from __future__ import annotations

import math

import numpy as np

from .errors import DataError
from .params import Array
from .words import counted


class Windows:
    """The windows of an epoch over `ids` (n,): `batch_size` streams, `seq_length` steps each.

    `seq_length` None is one window of the whole stream. Raises DataError when the text is too short,
    naming the largest batch and window that fit.
    """

    def __init__(self, ids: Array, batch_size: int, seq_length: int | None) -> None:
        n = len(ids)
        self.stream_length = (n - 1) // batch_size if n else 0
        self.seq_length = seq_length or max(1, self.stream_length)
        if self.stream_length < self.seq_length:
            window = self.seq_length
            options = [f"train.batch_size at most {(n - 1) // window}"] if n > window else []
            if self.stream_length:
                options.append(f"train.seq_length at most {self.stream_length}")
            fits = " or ".join(options) or "more text is needed"
            raise DataError(
                f"the training text has {counted(n, 'character')}, too few for batch_size "
                f"{batch_size} and seq_length {window}: {fits}"
            )
        used = self.stream_length * batch_size
        self._inputs = ids[:used].reshape(batch_size, self.stream_length)
        self._targets = ids[1 : used + 1].reshape(batch_size, self.stream_length)
        self.left_out = n - 1 - used

    def __len__(self) -> int:
        """Windows of one epoch; the last may be shorter."""
        return math.ceil(self.stream_length / self.seq_length)

    def __getitem__(self, k: int) -> tuple[Array, Array]:
        """Inputs and targets (T, B) of window k, as indices."""
        columns = slice(k * self.seq_length, (k + 1) * self.seq_length)
        x, y = self._inputs[:, columns].T, self._targets[:, columns].T
        return x.astype(np.intp, order="C"), y.astype(np.intp, order="C")
