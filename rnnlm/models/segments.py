"""One text in segments that are read side by side, with the figure of one stream.

A product of many rows costs little more than that of one. So a text is cut into S segments:

1. Each is read from the zero state, side by side. All but the first begin wrongly.
2. Each is read again, from the state in which the segment before it ended, until its state agrees
   with that of the first reading at the same symbol. What follows there stands, since it follows
   from that state.
3. The end of a segment that was read through has changed, so the segment after it is read again.
   Where that does not soon come to an end, the rest is read as one stream.

So nothing is assumed about how long a network remembers: its states are seen to agree, or there is
one stream.

States agree where no number differs by more than TOLERANCE, relative to the larger of it and 1 where
the cell is bounded. Rounding asks for that much: products of other rows round otherwise, and readings
from one state differ by up to 4e-6 for ever. Where a network forgets within m of the L symbols of a
segment, that changes the mean loss by g TOLERANCE m / L at most, if the |d loss / d state| of all
numbers add up to at most g: by 2e-7 for g = 0.3, m = 100, L = 3,000. So usual networks are read within
1e-6 nats (trained ones were within 2e-9). What is never forgotten may add up over segments, as
rounding does over the symbols of one stream.

The c of an LSTM may count on, for thousands of symbols, beyond what can be seen: everything else
reads tanh(c), and that is ±1. Such numbers (`Cell.squashed`) need not agree. Let two readings be the
same but for c, which is further from 0 in the second. With c = F c' + I G the difference d becomes F
d: it does not grow, nor change its side. So if c stays beyond SATURATED on one side in the first, it
does in the second, and they stay the same but for c. How far out c is at the end is then not known,
by d times the product of F. So it must be beyond SATURATED all through the next segment, too, until
that product is as small as TOLERANCE. Where it is not, the text is read as one stream from the last
segment before which all was known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Array
from ..backend.params import Parameters
from ..backend.workers import SerialWorkers, WorkerPool, forked, shared_zeros
from ..backend.workspace import Workspace
from ..text.batches import Batch
from ..watching import report
from .base import Whole
from .declared import Reading, finite

if TYPE_CHECKING:
    from .recurrent import Recurrent

SEGMENTS = (64, 32, 16)  # of a text in which each has SHORTEST symbols or more for each of them
SHORTEST = 128
MOST_ROWS = 16  # in a product; there are two groups of rows or more, which workers share
WINDOW = 128  # symbols of each row in a call
MOST_BLOCKS = 32  # of a segment; its state is recorded at the end of each
TOLERANCE = 2e-5
SATURATED = 7.0  # 1 - tanh(7) = 1.7e-6
MOST_PASSES = 3
# What may be left of differences after a quarter of the second pass: then its eight quarters and those
# of a third bring them down to TOLERANCE.
HOPEFUL = TOLERANCE ** (1 / 8)


def segments_of(symbols: int) -> int:
    """Into how many segments a text of so many symbols is cut; 1: it is too short.

    This follows from its length alone, and so do the bits.
    """
    return next((S for S in SEGMENTS if symbols >= S * S * SHORTEST), 1)


class SegmentsReading(Reading):
    """As `Reading`, for a stack of recurrent layers; a whole text is read in segments."""

    def __init__(self, model: Recurrent, params: Parameters, streams: int) -> None:
        super().__init__(model, params, streams)
        self._stack = model

    def whole(self, ids: Array, workers: int, keep: bool = False) -> Whole | None:
        """None where the text is too short to pay. It is reported as `evaluation` (watching.py)."""
        T = len(ids) - 1
        S = segments_of(T)
        if S == 1:
            return None
        losses = shared_zeros((T,), np.float64) if keep else None
        before = T % S  # symbols that fit no segment
        nats = list(self._onward(ids, 0, before, losses))
        own = None if losses is None else losses[before:]
        segments = Segments(self._stack, self._weights.params, self._state, ids[before:], S, own)
        stand = segments.read(workers)
        self._state[:] = segments.starts[:, :, stand : stand + 1]
        nats += segments.sums[:, :stand].ravel().tolist()
        rest = before + stand * (T // S)
        for k, loss in enumerate(self._onward(ids, rest, T, losses), 1):
            nats.append(loss)
            report("evaluation", min(k * WINDOW, T - rest), T - rest)
        return Whole(finite(math.fsum(nats)), segments.read_again + T - rest, losses)

    def _onward(self, ids: Array, first: int, stop: int, losses: Array | None) -> Iterator[float]:
        """Go on with symbols of a text (n,) as one stream: the loss of each window."""
        for k in range(first, stop, WINDOW):
            end = min(k + WINDOW, stop)
            cut = ids[k : end + 1].astype(np.intp)[:, None]
            yield self(Batch(cut[:-1], cut[1:]), None if losses is None else losses[k:end, None])


class Segments:
    """The text `ids` (S L + 1,) in S segments of L symbols, read in groups of rows.

    Recorded of the latest reading of each segment: the state before it (`starts`, of S + 1: the last is
    after the text), and for each block the sum of its losses (`sums`), the state after it (`states`),
    and of squashed numbers c the side on which they were beyond SATURATED all the time (`sides`: 1, -1,
    else 0) and the product of their F (`kept`). `losses` (S L,), of `shared_zeros`, where given, has
    each loss.
    """

    def __init__(
        self,
        model: Recurrent,
        params: Parameters,
        start: Array,
        ids: Array,
        S: int,
        losses: Array | None,
    ) -> None:
        self._rows, dtype = min(MOST_ROWS, S // 2), start.dtype
        self._model, self._squashed = model, model.cell.squashed
        self._weights = model.weights(params, self._rows, backward=False)
        self._ws = Workspace(dtype)  # each worker has its own, as it is forked
        self._ids, self._targets = (a.reshape(S, -1) for a in (ids[:-1], ids[1:]))
        windows = [slice(k, k + WINDOW) for k in range(0, self._ids.shape[1], WINDOW)]
        n = -(-len(windows) // MOST_BLOCKS)
        self._blocks = [windows[k : k + n] for k in range(0, len(windows), n)]
        self.starts = np.zeros(model.state_shape(S + 1), dtype)
        self.starts[:, :, :1] = start
        self.losses = np.empty((0, 0)) if losses is None else losses.reshape(S, -1)
        self.read_again = 0
        self._before = 0  # blocks that were read before those that are read now, for a report
        # What workers have just read, and what is recorded of it
        blocks, shape = len(self._blocks), model.state_shape(S)
        self._sum = shared_zeros((S,), np.float64)
        self._state = shared_zeros(shape, dtype)
        self._side = shared_zeros(self._state[:, self._squashed].shape, np.int8)
        self._kept = shared_zeros(self._side.shape, np.float64)
        self.sums, self.states, self.sides, self.kept = (
            np.zeros((blocks, *a.shape), a.dtype)
            for a in (self._sum, self._state, self._side, self._kept)
        )
        # By how much squashed numbers are further out after a segment than it is recorded
        self._further = np.zeros(self._side.shape)

    def read(self, workers: int) -> int:
        """Read all; how many segments stand, from the first on. It is reported as `evaluation`."""
        S, begun = len(self._sum), self.starts[:, :, :-1]
        workers = min(workers, S // self._rows)
        forks = forked(workers, [self.work])
        pool: WorkerPool = SerialWorkers(1) if forks is None else forks
        again = np.ones(S, np.bool_)
        with closing(pool):
            for number in range(1, MOST_PASSES + 1):
                begun[:, :, again] = self._ends()[:, :, :-1][:, :, again]
                given_up = self._pass(pool, 1 if forks is None else workers, number, again)
                gap, further = self._apart(self._ends()[:, :, :-1], begun, 0)
                again = given_up | (gap != 0)
                hopeless = number > 1 and not gap.max() <= TOLERANCE**0.5
                if given_up.any() or hopeless or not again.any():
                    break
        self._report(2 * len(self._blocks))
        stand = self._known(int(again.argmax()) if again.any() else S, further)
        self.starts[:, :, stand] = self._ends()[:, :, stand]
        return stand

    def _ends(self) -> Array:
        """The state before the text, and after each segment as it is recorded."""
        return np.concatenate([self.starts[:, :, :1], self.states[-1]], axis=2)

    def _pass(self, pool: WorkerPool, workers: int, number: int, again: Array) -> Array:
        """Read these segments (S,), up to where their states agree with those of the last time.

        Returns those (S,) that were given up.
        """
        live = again.copy()
        self._state[:] = self.starts[:, :, :-1]
        blocks, first = len(self._blocks), number == 1
        for k, block in enumerate(self._blocks):
            if not live.any():
                break
            groups = self._groups(live)
            self._before = k if first else blocks + k
            pool.run(self.work, k, [groups[worker::workers] for worker in range(workers)])
            read = live.copy()
            if first or k == blocks - 1:
                self._further[:, :, read] = 0
            else:
                gap, further = self._apart(self._state, self.states[k], k + 1)
                live &= gap != 0
                if number == 2 and k == blocks // 4 and not gap[live].max(initial=0) <= HOPEFUL:
                    return read
                agree = read & ~live
                self._further[:, :, agree] += (further * self.kept[k + 1 :].prod(0))[:, :, agree]
            self.sums[k, read] = self._sum[read]
            self.states[k][:, :, read] = self._state[:, :, read]
            self.sides[k][:, :, read] = self._side[:, :, read]
            self.kept[k][:, :, read] = self._kept[:, :, read]
            if not first:
                length = min(block[-1].stop, self._ids.shape[1]) - block[0].start
                self.read_again += length * int(np.count_nonzero(read))
        return np.zeros_like(live)

    def _report(self, blocks: float) -> None:
        """So many blocks are read, of those of the first pass and, as a guess, a quarter more.

        They are reported as windows, since a block of a long text takes seconds.
        """
        total, windows = len(self._blocks) * 5 // 4, len(self._blocks[0])
        report("evaluation", math.ceil(min(blocks, total) * windows), total * windows)

    def _groups(self, live: Array) -> list[Array]:
        """The segments (S,) to read, so many together; the last group is filled up with one of them."""
        rows = np.flatnonzero(live)
        filled = np.append(rows, np.repeat(rows[-1], -len(rows) % self._rows))
        return list(filled.reshape(-1, self._rows))

    def work(self, worker: int, block: int, shares: list[list[Array]]) -> None:
        """Read a block of a worker's groups of rows."""
        model, w, ws = self._model, self._weights, self._ws
        q, f = model.cell.squashed, model.cell.forgetting
        reads = len(shares[worker]) * len(self._blocks[block])
        done = 0
        for rows in shares[worker]:
            state = self._state[:, :, rows]
            total, sides, kept = np.zeros(state.shape[2]), [], []
            for columns in self._blocks[block]:
                ids, targets = (
                    a[rows, columns].T.astype(np.intp, order="C")
                    for a in (self._ids, self._targets)
                )
                batch, losses = Batch(ids, targets), ws("segments.losses", *ids.shape, dtype=float)
                traces = model.forward(w, batch, state, ws)
                model.loss_of(w, traces, batch, ws, losses)
                total += losses.sum(axis=0)
                sides.append([_side(trace.s[q, 1:]) for trace in traces])
                # In float64: in float32 products soon are so small that processors are slow
                kept.append([trace.z[f].prod(axis=1, dtype=float) for trace in traces])
                if len(self.losses):
                    self.losses[rows, columns] = losses.T
                done += 1
                if worker == 0:  # the process that is watched
                    self._report(self._before + done / reads)
            self._state[:, :, rows] = state
            self._sum[rows] = total
            self._side[:, :, rows] = _common(np.array(sides))
            self._kept[:, :, rows] = np.array(kept).prod(axis=0)

    def _apart(self, new: Array, old: Array, block: int) -> tuple[Array, Array]:
        """How far states (L, N, S, H) before a block are apart, relative, where they do not agree (S,);
        and how much further out are squashed numbers that agree only since nobody sees it.
        """
        q = self._squashed
        # An unbounded state may be a large sum of which little is seen: there nothing is relative
        gap = np.abs(new - old)
        if self._model.cell.bounded:
            gap /= np.maximum(1, np.abs(old))
        gap[gap <= TOLERANCE] = 0
        further = (new - old)[:, q] * _common(self.sides[block:])
        further[~(further > 0) | (gap[:, q] == 0)] = 0
        gap[:, q][further > 0] = 0
        return gap.max(axis=(0, 1, 3)), further

    def _known(self, stand: int, further: Array) -> int:
        """So many segments, or fewer: those before which, in the last, no number is seen whose
        distance from 0 is not known. By `further` (L, n, S, H) it was too small at their starts.
        """
        side, kept = _common(self.sides), self.kept.prod(axis=0)
        carried, known = np.zeros(further[:, :, 0].shape), 0
        for row in range(min(stand + 1, len(self._sum))):
            allowed = TOLERANCE * np.maximum(1, np.abs(self.starts[:, self._squashed, row]))
            unknown = carried > allowed
            if (unknown & ((side[:, :, row] == 0) | (row == stand))).any():
                return known
            if not unknown.any():
                known = row
            carried = (carried + further[:, :, row]) * kept[:, :, row] + self._further[:, :, row]
        return stand


def _side(c: Array) -> Array:
    """On which side of 0 numbers (n, T, B, H) are beyond SATURATED all the time: (n, B, H)."""
    side: Array = (c.min(axis=1) > SATURATED).astype(np.int8)
    side -= c.max(axis=1) < -SATURATED
    return side


def _common(sides: Array) -> Array:
    """The side that is the same along the first axis, else 0."""
    low: Array = sides.min(axis=0)
    low[low != sides.max(axis=0)] = 0
    return low
