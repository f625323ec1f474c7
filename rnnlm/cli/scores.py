"""Scores of lines as rows: a table with tabs between its columns, or JSON; in order or ranked."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

from ..errors import DataError
from ..inference.evaluation import in_json, perplexity
from ..inference.scoring import Scores
from ..runs.checkpoint import Checkpoint
from ..wording import counted, escaped, share

RANKED = 1 << 29  # characters of rows that `--rank` holds, each row counted as this many more:
ROW = 250  # bytes that Python takes for it
AT_ONCE = 1 << 12  # ranked rows that are written together


def ranked(rows: Iterable[Iterable[tuple[float, str]]]) -> Iterator[list[tuple[float, str]]]:
    """All rows, some at a time, the lowest surprisal per symbol first; equal ones in their order."""
    held: list[tuple[float, str]] = []
    size = 0
    for key, row in chain.from_iterable(rows):
        held.append((key, row))
        size += len(row) + ROW
        if size > RANKED:
            raise DataError(
                f"--rank holds all rows in memory, and more than {len(held):,} are too many: rank a "
                "part of the lines, or sort the rows without --rank"
            )
    held.sort(key=lambda pair: pair[0])
    yield from (held[k : k + AT_ONCE] for k in range(0, len(held), AT_ONCE))


class Table:
    """Scores as rows of text; counts what went through it."""

    def __init__(self, checkpoint: Checkpoint, bits: bool, tokens: bool, as_json: bool) -> None:
        self._vocabulary, self._tokens, self._as_json = checkpoint.vocabulary, tokens, as_json
        self._unknowns = checkpoint.format.unknowns
        self._unit, self._scale = ("bits", 1 / math.log(2)) if bits else ("nats", 1.0)
        self._names: list[Any] = checkpoint.vocabulary.to_json()["symbols"] if tokens else []
        self._total, self._lines, self._symbols, self._skipped, self._unknown = 0.0, 0, 0, 0, 0
        self._seconds = time.monotonic()

    def header(self) -> str:
        """The names of the columns; nothing where the rows are JSON."""
        if self._as_json:
            return ""
        columns = ("symbol",) if self._tokens else ("per_symbol", "perplexity", "text")
        return "\t".join(("line", self._unit, *columns)) + "\n"

    def rows(self, blocks: Iterable[Scores]) -> Iterator[Iterator[tuple[float, str]]]:
        """The rows of each block, made as they are read, each with its surprisal per symbol."""
        for block in blocks:
            yield map(self._row, self._scored(block))
            self._skipped += block.skipped
            self._unknown += self._unknowns(block.ids)

    def summary(self) -> Iterator[str]:
        """What was scored, how fast, and what was left out."""
        seconds = time.monotonic() - self._seconds
        noun, n = self._vocabulary.noun, self._symbols
        line = f"{counted(self._lines, 'line')}, {counted(n, noun)}"
        line += f": {self._total / n:.4f} {self._unit} per {noun}" if n else ": nothing to score"
        if seconds > 1:
            line += f", {self._lines / seconds:,.0f} lines per second"
        yield line
        if self._skipped:
            yield f"left out: {counted(self._skipped, noun)} outside the vocabulary"
        if self._unknown:
            yield f"{share(self._unknown, n, noun)} are <unk>"

    def _scored(self, block: Scores) -> Iterator[Line]:
        ends = [0, *accumulate(block.symbols.tolist())]
        totals = (block.totals * self._scale).tolist()
        for line, total, (start, end) in zip(block.lines, totals, pairwise(ends), strict=True):
            self._lines += 1
            self._symbols += end - start
            self._total += total
            text = line if isinstance(line, str) else line.decode("utf-8", "replace")
            tokens: list[tuple[int, float]] = []
            if self._tokens:
                surprisal = (block.nats[start:end] * self._scale).tolist()
                tokens = list(zip(block.ids[start:end].tolist(), surprisal, strict=True))
            yield Line(self._lines, text, end - start, total, tokens)

    def _row(self, line: Line) -> tuple[float, str]:
        per_symbol = line.total / max(1, line.symbols)
        if self._as_json:
            row = json.dumps(self._record(line, per_symbol)) + "\n"
        elif self._tokens:
            row = "".join(f"{line.number}\t{s:.4f}\t{self._spelled(i)}\n" for i, s in line.tokens)
        else:
            power = self._perplexity(per_symbol)
            row = f"{line.number}\t{line.total:.4f}\t{per_symbol:.4f}\t{power:.4f}\t{line.text}\n"
        return per_symbol, row

    def _record(self, line: Line, per_symbol: float) -> dict[str, Any]:
        figures = {
            self._unit: line.total,
            "per_symbol": per_symbol,
            "perplexity": self._perplexity(per_symbol),
        }
        record: dict[str, Any] = {"line": line.number, "symbols": line.symbols}
        record |= {name: in_json(value) for name, value in figures.items()}
        record["text"] = line.text
        if self._tokens:
            record["tokens"] = [[self._names[i], in_json(s)] for i, s in line.tokens]
        return record

    def _perplexity(self, per_symbol: float) -> float:
        """Infinite beyond the range of floats, too."""
        figure = perplexity(per_symbol / self._scale)
        return math.inf if figure is None else figure

    def _spelled(self, symbol: int) -> str:
        """A symbol in a row of its own."""
        return escaped(self._vocabulary.text([symbol]), keep="")


@dataclass(frozen=True)
class Line:
    """A line with its surprisal, in the unit that is shown."""

    number: int
    text: str
    symbols: int
    total: float
    tokens: list[tuple[int, float]]  # the id of each symbol, and its surprisal
