"""Batches: what a model reads in one window, in training and in evaluation.

A text is cut into B streams, which are read in parallel, window after window. The state of a stream
after one window is its state before the next. `Streams` cuts one long text, `Lines` many short ones;
`Borders` says where windows end, and `Variation` how they differ from epoch to epoch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..arrays import Array
from ..backend.seeds import Purpose, generator
from ..errors import DataError
from ..wording import counted

IGNORED = -1  # as a target: this step's prediction does not count
Rows = slice | Array  # which streams of a batch: a slice, or their numbers (n,)
ALL = slice(None)


@dataclass(frozen=True)
class Batch:
    """T steps of B streams: each of the `targets` (T, B) is predicted after its symbol in `ids` (T, B).

    A target that does not count is IGNORED. `fresh` (T, B) marks the steps before which the state is
    zeroed, since a text begins there; None: no step.
    """

    ids: Array
    targets: Array
    fresh: Array | None = None

    def of(self, rows: Rows) -> Batch:
        """Some of its streams."""
        fresh = None if self.fresh is None else self.fresh[:, rows]
        return Batch(self.ids[:, rows], self.targets[:, rows], fresh)

    @property
    def counted(self) -> int:
        """How many targets count."""
        return int(np.count_nonzero(self.targets >= 0))


@dataclass(frozen=True)
class Variation:
    """How training reads a text otherwise in each epoch, by its seed. By default it does not.

    Borders between windows are moved so that a window is longer or shorter by the share `lengths` at
    most (Merity, Keskar and Socher 2018, section 4.1, have lengths from a normal distribution).
    `offset`: streams begin at a random place of the text, which then is a circle. `reset` is the
    probability, for each stream and window, that the state is zeroed before it (Melis, Kočiský and
    Blunsom 2020, arXiv:1909.01792).
    """

    lengths: float = 0.0
    offset: bool = False
    reset: float = 0.0


FIXED = Variation()


class Borders:
    """Where the windows of `stream_length` steps begin and end, about each `seq_length` steps.

    With `vary` above 0 a border lies up to two moves before or after its place, drawn for it alone, so
    that an epoch keeps its number of windows and there are nine lengths: the calls of each are recorded
    (backend/tape.py). The last window keeps its length.
    """

    def __init__(
        self, stream_length: int, seq_length: int, vary: float = 0.0, seed: int = 0
    ) -> None:
        self._stream_length, self._seq_length, self._seed = stream_length, seq_length, seed
        self._move = min(max(1, round(vary * seq_length / 4)), (seq_length - 1) // 4) if vary else 0
        moved = {seq_length + n * self._move for n in range(-4, 5)}
        *self.shorter, self.longest = sorted({min(stream_length, length) for length in moved})
        """The lengths of windows, the longest by itself; the last window of an epoch aside."""

    def __len__(self) -> int:
        return math.ceil(self._stream_length / self._seq_length)

    def __call__(self, epoch: int, k: int) -> tuple[int, int]:
        """The first step of window k, and the first one after it; that of the last may lie beyond."""
        return self._border(epoch, k), self._border(epoch, k + 1)

    def _border(self, epoch: int, k: int) -> int:
        if not self._move or not 0 < k < len(self) - 1:
            return k * self._seq_length
        moves = generator(self._seed, Purpose.WINDOWS, epoch, k).integers(-2, 2, endpoint=True)
        return k * self._seq_length + self._move * int(moves)


class Batches(Protocol):
    """The windows of a text, epoch after epoch."""

    streams: int
    """B, the number of streams in every batch."""
    seq_length: int
    """Steps of a window, of those that vary the mean; the last window of an epoch may have fewer."""
    longest: int
    """Steps of the longest window."""
    begins_inside: bool
    """Whether texts begin inside windows, not only at the first step of an epoch."""

    def __len__(self) -> int:
        """Windows of an epoch."""

    def left_out(self, epoch: int) -> int:
        """How many symbols are not predicted in an epoch, since they fit no stream."""

    def __call__(self, epoch: int, k: int, rows: Rows = ALL) -> Batch:
        """Window k of an epoch, both from 0; of some of the streams."""


class Streams:
    """One long text `ids` (n,) as `streams` parallel streams, in windows of `seq_length` steps.

    The streams have equal lengths, and windows differ as `vary` says. Targets are the inputs shifted by
    one symbol, across stream borders too. So only the symbols that fit no stream are left out:
    `streams` - 1 at most. The state is zeroed when an epoch begins and carried through it. With
    `seq_length` None a window is a whole stream. Raises DataError, which names the largest batch and
    window that fit, when the text is too short.
    """

    def __init__(
        self,
        ids: Array,
        streams: int,
        seq_length: int | None,
        seed: int = 0,
        vary: Variation = FIXED,
    ) -> None:
        n = len(ids)
        self._ids, self._seed, self._vary, self.begins_inside = ids, seed, vary, vary.offset
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
        self._used = used = self.stream_length * streams
        self._inputs = ids[:used].reshape(streams, self.stream_length)
        self._targets = ids[1 : used + 1].reshape(streams, self.stream_length)
        self._borders = Borders(self.stream_length, self.seq_length, vary.lengths, seed)
        self.longest = self._borders.longest

    def __len__(self) -> int:
        return len(self._borders)

    def left_out(self, epoch: int) -> int:
        return len(self._ids) - 1 - self._used

    def __call__(self, epoch: int, k: int, rows: Rows = ALL) -> Batch:
        columns = slice(*self._borders(epoch, k))
        if self._vary.offset:
            at = self._places(epoch, columns, rows)
            ids, targets = (self._ids[at + shift].astype(np.intp) for shift in (0, 1))
            fresh = at == 0
        else:
            ids, targets = (
                a[rows, columns].T.astype(np.intp, order="C") for a in (self._inputs, self._targets)
            )
            fresh = np.zeros(ids.shape, np.bool_)
        if not k:
            fresh[0] = True
        elif self._vary.reset:
            draws = generator(self._seed, Purpose.RESET, epoch, k).random(self.streams)
            fresh[0] |= draws[rows] < self._vary.reset
        return Batch(ids, targets, fresh if fresh.any() else None)

    def _places(self, epoch: int, columns: slice, rows: Rows) -> Array:
        """Where the symbols (T, B) of these steps stand in the text; after its last is its first."""
        offset = generator(self._seed, Purpose.OFFSET, epoch).integers(self.stream_length)
        steps = np.arange(columns.start, min(columns.stop, self.stream_length))
        firsts = self.stream_length * np.arange(self.streams)[rows]
        places: Array = (offset + steps[:, None] + firsts) % self._used
        return places


class Lines:
    """Many short texts, the lines of `ids` (n,), as `streams` parallel streams.

    Every line begins from the zero state. The symbol `newline` is its start symbol (it ends the line
    before) and its end symbol, which is predicted; where the last line has none, one is added. In
    training (`seed` given) the lines come in an order of their own in each epoch, one after another,
    and the streams are cut from them, with equal lengths: a batch is as full as with one long text.
    Where a cut falls inside a line, the part after it does not count.

    With `seed` None the lines keep their order, and every stream is made of whole lines: each symbol
    counts once, whatever the number of streams. All windows have the same size then; targets after the
    end of a stream do not count.

    With `seq_length` None a window is a whole stream. Raises DataError where there are fewer symbols
    than streams.
    """

    begins_inside = True

    def __init__(
        self,
        ids: Array,
        newline: int,
        streams: int,
        seq_length: int | None,
        seed: int | None = None,
        vary: Variation = FIXED,
    ) -> None:
        assert not (vary.offset or vary.reset), "lines have an order and a beginning of their own"
        ends = line_ends(ids, newline)
        self._ids, self._newline, self._seed = ids, newline, seed
        self._starts = np.append(0, ends)[:-1]
        self._lengths = ends - self._starts
        self._epoch: int | None = None
        total = int(self._lengths.sum())
        if total < (1 if seed is None else streams):
            raise DataError(
                f"the training text has {counted(total, 'symbol')}, too few for batch_size {streams}: "
                f"use train.batch_size at most {total} or more text"
            )
        self.streams = streams
        if seed is None:
            share = total * np.arange(streams + 1) // streams  # borders, were lines cut anywhere
            borders = np.append(self._starts, total)
            borders = borders[borders.searchsorted(share)]
            self._begins, self._stops = borders[:-1], borders[1:]
        else:
            length = total // streams
            self._begins = length * np.arange(streams)
            self._stops = self._begins + length
        self.stream_length = int((self._stops - self._begins).max())
        self.seq_length = seq_length or self.stream_length
        self._total = total
        self._window = Borders(self.stream_length, self.seq_length, vary.lengths, seed or 0)
        self.longest = self._window.longest if seed is not None else self.seq_length

    def __len__(self) -> int:
        return len(self._window)

    def left_out(self, epoch: int) -> int:
        line = self._line(epoch, self._begins)
        stop = np.minimum(self._borders[line + 1], self._stops)
        cut = np.where(self._borders[line] < self._begins, stop - self._begins, 0)
        return int(self._total - (self._stops - self._begins - cut).sum())

    def __call__(self, epoch: int, k: int, rows: Rows = ALL) -> Batch:
        firsts, stops = self._begins[rows], self._stops[rows]
        at, begin, source = self._steps(epoch, k, firsts)
        begins = at == begin
        # A step reads the symbol before its target; before the first symbol of a text is a newline
        ids = self._ids[np.minimum(source, len(self._ids)) - 1]
        ids[begins] = self._newline
        targets = self._ids[np.minimum(source, len(self._ids) - 1)].astype(np.intp)
        targets[source >= len(self._ids)] = self._newline
        beyond = at >= stops[:, None]
        targets[beyond | (begin < firsts[:, None])] = IGNORED
        ids, targets, fresh = (a.T.copy() for a in (ids, targets, begins & ~beyond))
        return Batch(ids.astype(np.intp), targets, fresh)

    def _steps(self, epoch: int, k: int, firsts: Array) -> tuple[Array, Array, Array]:
        """For each stream, whose places begin in `firsts` (B,), and step (B, T): its place among the
        ordered lines, where its line begins there, and where its target stands in the text.
        """
        start, stop = self._window(epoch, k)
        T = (stop if self._seed is None else min(stop, self.stream_length)) - start
        first = firsts + start
        at = first[:, None] + np.arange(T)
        # The lines of each stream's window, one stream after another
        line, last = self._line(epoch, first), self._line(epoch, first + T - 1)
        lines = last - line + 1
        stream = np.repeat(np.arange(len(firsts)), lines)
        line = np.arange(len(stream)) + (line - np.cumsum(lines) + lines)[stream]
        begin = self._borders[line]
        step = stream * T + np.maximum(begin - first[stream], 0)
        steps = np.diff(step, append=at.size)
        shift = np.repeat(self._ordered[line] - begin, steps).reshape(at.shape)
        return at, np.repeat(begin, steps).reshape(at.shape), at + shift

    def _line(self, epoch: int, at: Array) -> Array:
        """The lines in which places of an epoch are; the last one where they are beyond all."""
        if epoch != self._epoch:
            self._order(epoch)
        line: Array = self._borders[:-1].searchsorted(at, "right") - 1
        return line

    def _order(self, epoch: int) -> None:
        """Put the lines into the order of an epoch."""
        order: Array = np.arange(len(self._starts))
        if self._seed is not None:
            order = generator(self._seed, Purpose.DATA, epoch).permutation(order)
        self._ordered = self._starts[order]
        self._borders = np.append(0, np.cumsum(self._lengths[order]))
        self._epoch = epoch


def line_ends(ids: Array, newline: int, block: int = 1 << 20) -> Array:
    """Where each line ends, after its newline (L,); one is added where the last line has none."""
    ends = [
        start + 1 + np.flatnonzero(ids[start : start + block] == newline)
        for start in range(0, len(ids), block)
    ]
    found = np.concatenate([np.zeros(0, np.int64), *ends])
    return found if len(ids) == 0 or ids[-1] == newline else np.append(found, len(ids) + 1)
