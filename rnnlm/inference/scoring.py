"""What a model thinks of lines: -ln p of every symbol of each, many lines side by side.

A line is a text of its own, whatever the unit of the model: it is read from the zero state, after its
start symbol, the newline, and the newline that ends it is predicted too. Where the vocabulary has no
newline, there is no end symbol, and the first symbol has the probability of its frequency in the
training text.

The bits of a line do not depend on the lines beside it. All windows, and so all products, have one
size, and lines stand only in rows that a product treats alike (`blas.rows_alike`). So workers can read
some of them each. A line of more than LONG symbols is read by itself: one stream takes less time for it
than many of which one is at work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..backend.workers import available_cores, forked, shared_zeros
from ..errors import DataError
from ..models.base import LanguageModel
from ..models.layers import logits_rows
from ..text.batches import IGNORED, Batch
from ..text.format import TextFormat
from ..text.vocabulary import Unknown
from .evaluation import CHUNK

BLOCK = 1 << 18  # characters or bytes of lines that are scored at a time
FEWEST = 1 << 14  # symbols; workers cost more than they save for fewer
LONG = 1 << 12  # symbols; a line that has more is read by itself
LONGEST = 1 << 24  # characters or bytes of a line
STREAMS = (96, 48)  # multiples of 12, see `blas.rows_alike`; a block of logits has at least 64 rows

Lines = Sequence[Any]  # str, or bytes where nothing is decoded; without the newlines that end them


@dataclass(frozen=True)
class Scores:
    """Lines and the surprisal of their symbols.

    `ids` (n,) are the symbols of all lines, one after another, in the order of the text, each line with
    its end symbol; `nats` (n,) is -ln p of each; `symbols` (L,) says how many each line has. `skipped`
    symbols were not in the vocabulary and are left out.
    """

    lines: Lines
    ids: Array
    nats: Array
    symbols: Array
    skipped: int

    @property
    def totals(self) -> Array:
        """The nats of each line (L,): summed in float64, from its first symbol to its last."""
        L = len(self.symbols)
        return np.bincount(np.repeat(np.arange(L), self.symbols), self.nats, L)


class Scorer:
    """A model with its text format, that scores lines.

    `first` (V,) are the probabilities of a first symbol, used where the vocabulary has no newline.
    """

    def __init__(
        self,
        model: LanguageModel,
        params: Any,
        text_format: TextFormat,
        first: Array,
        unknown: Unknown = "error",
    ) -> None:
        self._model, self._params, self._format, self._first = model, params, text_format, first
        self._unknown = unknown
        self._side_by_side: _SideBySide | None = None

    def lines(self, batches: Iterable[Lines], noun: str = "line") -> Iterator[Scores]:
        """The scores of each batch of lines, each line from the zero state.

        Raises DataError for symbols outside the vocabulary, unless they are skipped: it names the line
        by its number, as `noun`; TrainingError where the predictions are not finite.
        """
        if self._side_by_side is None:
            self._side_by_side = _SideBySide(self._model, self._params, self._newline, self._first)
        number = 1
        for lines in batches:
            ids, symbols, skipped = self._ids(lines, number, noun)
            order = self._reading_order(symbols)
            nats = np.empty(len(ids))
            nats[order] = self._nats(ids[order], symbols)
            yield Scores(lines, ids, nats, symbols, skipped)
            number += len(lines)

    def carried(self, batches: Iterable[Lines]) -> Iterator[Scores]:
        """As `lines`, for all lines as one text: the state is carried from each to the next.

        Raises DataError too for a model that reads backwards.
        """
        if self._format.rules.reverse:
            raise DataError(
                "the model reads text backwards, so nothing can be carried from a line to the next: "
                "score each line by itself"
            )
        stream = Stream(self._model, self._params, self._newline, self._first)
        waiting: deque[tuple[Lines, Array, Array, int]] = deque()
        known = np.zeros(0)
        number = 1
        for lines in batches:
            ids, symbols, skipped = self._ids(lines, number, "line")
            waiting.append((lines, ids, symbols, skipped))
            known = np.append(known, stream(ids))
            number += len(lines)
            while waiting and len(waiting[0][1]) <= len(known):
                lines, ids, symbols, skipped = waiting.popleft()
                yield Scores(lines, ids, known[: len(ids)], symbols, skipped)
                known = known[len(ids) :]
        known = np.append(known, stream.rest())
        for lines, ids, symbols, skipped in waiting:
            yield Scores(lines, ids, known[: len(ids)], symbols, skipped)
            known = known[len(ids) :]

    @property
    def _newline(self) -> int | None:
        return self._format.newline

    def _nats(self, ids: Array, symbols: Array) -> Array:
        """-ln p of each of the ids (n,), in reading order, of lines of so many symbols (L,)."""
        assert self._side_by_side is not None
        long = symbols > LONG
        if not long.any():
            return self._side_by_side(ids, symbols)
        alone = np.repeat(long, symbols)
        nats = np.empty(len(ids))
        nats[~alone] = self._side_by_side(ids[~alone], symbols[~long])
        ends = np.cumsum(symbols)
        for end, n in zip(ends[long].tolist(), symbols[long].tolist(), strict=True):
            stream = Stream(self._model, self._params, self._newline, self._first)
            nats[end - n : end] = np.append(stream(ids[end - n : end]), stream.rest())
        return nats

    def _ids(self, lines: Lines, number: int, noun: str) -> tuple[Array, Array, int]:
        """The ids of lines, each with its end symbol, how many each has, and how many are left out."""
        vocabulary = self._format.vocabulary
        try:
            if self._newline is None:
                each = [vocabulary.ids(line, self._unknown) for line in lines]
                ids = np.concatenate([np.zeros(0, np.intp), *each])
                symbols = np.array([len(line) for line in each], np.intp)
                had = sum(len(vocabulary.units(line)) for line in lines)
            else:
                text = _joined(lines)
                ids = vocabulary.ids(text, self._unknown)
                symbols = np.diff(np.flatnonzero(ids == self._newline), prepend=-1)
                had = len(vocabulary.units(text))
        except DataError:
            for k, line in enumerate(lines, number):
                try:
                    vocabulary.ids(line, self._unknown)
                except DataError as error:
                    raise DataError(f"{noun} {k:,}: {error}") from None
            raise
        return ids, symbols, had - len(ids)

    def _reading_order(self, symbols: Array) -> Any:
        """Where the model finds the symbols of lines one after another; end symbols stay at the end."""
        if not self._format.rules.reverse:
            return slice(None)
        n, has_end = int(symbols.sum()), self._newline is not None
        ends = np.cumsum(symbols)
        order = np.repeat(2 * ends - symbols - 1 - has_end, symbols) - np.arange(n)
        if has_end:
            order[ends - 1] = ends - 1
        return order


def _joined(lines: Lines) -> Any:
    """The text of lines, the last with its newline too."""
    newline: Any = b"\n" if lines and isinstance(lines[0], bytes) else "\n"
    return newline.join([*lines, newline[:0]])


def _predicted(
    ids: Array, starts: Array, newline: int | None, before: int | None = None
) -> tuple[Array, Array, Array]:
    """For texts that begin at `starts` (L,) of the ids (n,): what is read before each symbol, the
    targets, and where the state is zeroed. `before` is what was read before the first symbol.
    """
    inputs = np.empty(len(ids), np.intp)
    inputs[1:] = ids[:-1]
    fresh = np.zeros(len(ids), np.bool_)
    if newline is not None:
        inputs[:1] = newline if before is None else before
        inputs[starts] = newline
        fresh[starts] = True
        return inputs, ids, fresh
    inputs[:1] = 0 if before is None else before
    targets = ids.copy()
    targets[starts] = IGNORED
    after = starts + 1
    fresh[after[after < len(ids)]] = True
    return inputs, targets, fresh


class _SideBySide:
    """Reads many texts at once, in streams made of whole texts and in windows of one size."""

    def __init__(
        self, model: LanguageModel, params: Any, newline: int | None, first: Array
    ) -> None:
        # A window is one block of logits: a last, smaller block would have bits of its own
        rows = logits_rows(1 << 30, model.vocabulary_size)
        self._streams = next(streams for streams in STREAMS if streams <= rows)
        self._steps = rows // self._streams
        self._newline, self._first = newline, first
        with blas.one_thread():
            self._used = blas.rows_alike(self._streams, self._steps)
            self._read = model.read(params, self._streams)

    def __call__(self, ids: Array, symbols: Array) -> Array:
        """-ln p of each of the ids (n,) of texts of so many symbols (L,).

        Workers, one for each core, read equal shares of many texts, where the process may fork.
        """
        workers = available_cores() if len(ids) >= FEWEST else 1
        ends = np.append(0, np.cumsum(symbols))
        borders = ends.searchsorted(len(ids) * np.arange(workers + 1) // workers)
        nats = shared_zeros((len(ids),), np.float64)

        def share(worker: int) -> None:
            first, stop = borders[worker : worker + 2]
            own = slice(ends[first], ends[stop])
            nats[own] = self._nats(ids[own], symbols[first:stop])

        pool = forked(workers, [share])
        if pool is None:
            return self._nats(ids, symbols)
        with closing(pool), blas.one_thread():
            pool.run(share)
        return nats

    def _nats(self, ids: Array, symbols: Array) -> Array:
        n, T, B = len(ids), self._steps, self._streams
        ends = np.cumsum(symbols)
        starts = (ends - symbols)[symbols > 0]
        inputs, targets, fresh = _predicted(ids, starts, self._newline)
        nats = np.empty(n)
        if self._newline is None:
            with np.errstate(divide="ignore"):
                nats[starts] = -np.log(self._first[ids[starts]])
        # Equal shares, each moved to where a text begins
        borders, used = np.append(starts, n), self._used
        cuts = borders[borders.searchsorted(n * np.arange(len(used) + 1) // len(used))]
        begins, stops = np.full((2, B), n)
        begins[used], stops[used] = cuts[:-1], cuts[1:]
        windows = -(-int((stops - begins).max(initial=0)) // T)
        at = np.arange(windows * T)[:, None] + begins
        inside = at < stops
        at[~inside] = 0
        targets = np.where(inside, targets[at], IGNORED)
        inputs, fresh, losses = inputs[at], fresh[at] & inside, np.empty(at.shape)
        with blas.one_thread(), np.errstate(all="ignore"):
            for k in range(windows):
                steps = slice(k * T, (k + 1) * T)
                self._read(Batch(inputs[steps], targets[steps], fresh[steps]), losses[steps])
        counted = targets >= 0
        nats[at[counted]] = losses[counted]
        return nats


class Stream:
    """Reads one text, that comes in parts, in windows of one size.

    With `lines` the state is zeroed after every newline, as where the unit of a model is the line.
    """

    def __init__(
        self,
        model: LanguageModel,
        params: Any,
        newline: int | None,
        first: Array,
        lines: bool = False,
    ) -> None:
        self._newline, self._first, self._lines = newline, first, lines
        self._held = np.zeros(0, np.intp)  # symbols that fill no window yet
        self._before: int | None = None  # the last symbol that was read
        with blas.one_thread():
            self._read = model.read(params, 1)

    def __call__(self, ids: Array) -> Array:
        """Add a part of the text; -ln p of the symbols that fill windows, in order."""
        ids = np.append(self._held, ids)
        whole = len(ids) - len(ids) % CHUNK
        self._held = ids[whole:]
        return self._nats(ids[:whole])

    def rest(self) -> Array:
        """-ln p of the symbols that are left, at the end of the text."""
        ids, self._held = self._held, self._held[:0]
        return self._nats(ids)

    def _nats(self, ids: Array) -> Array:
        n = len(ids)
        starts = np.zeros(1 if n and self._before is None else 0, np.intp)
        inputs, targets, fresh = _predicted(ids, starts, self._newline, self._before)
        if self._lines:
            fresh |= inputs == self._newline
        nats = np.zeros(n)
        if n and self._before is None and self._newline is None:
            with np.errstate(divide="ignore"):
                nats[0] = -np.log(self._first[ids[0]])
        missing = -n % CHUNK  # up to a whole window
        inputs, targets, fresh = (
            np.pad(a, (0, missing), constant_values=value)[:, None]
            for a, value in ((inputs, 0), (targets, IGNORED), (fresh, False))
        )
        losses = np.empty(targets.shape)
        with blas.one_thread(), np.errstate(all="ignore"):
            for k in range(0, n, CHUNK):
                steps = slice(k, k + CHUNK)
                self._read(Batch(inputs[steps], targets[steps], fresh[steps]), losses[steps])
        counted = targets[:n, 0] >= 0
        nats[counted] = losses[:n, 0][counted]
        if n:
            self._before = int(ids[-1])
        return nats


def split_lines(blocks: Iterable[str] | Iterable[bytes]) -> Iterator[Lines]:
    """The lines of a text that comes in blocks, as many at a time as a block completes.

    A last line need not have a newline. Raises DataError for one of more than LONGEST characters.
    """
    held: list[Any] = []  # the parts of a line that is not complete
    number = 1
    for part in (b[i : i + BLOCK] for b in blocks for i in range(0, len(b), BLOCK)):
        newline: Any = "\n" if isinstance(part, str) else b"\n"
        *complete, rest = part.split(newline)
        if complete:
            complete[0] = newline[:0].join([*held, complete[0]])
            held = []
            yield complete
            number += len(complete)
        held.append(rest)
        if sum(map(len, held)) > LONGEST:
            raise DataError(
                f"line {number:,} has more than {LONGEST:,} characters: cut it into several lines"
            )
    if any(held):
        yield [held[0][:0].join(held)]


def in_batches(lines: Iterable[Any]) -> Iterator[Lines]:
    """Lines, some at a time."""
    batch: list[Any] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line) + 1
        if size >= BLOCK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
