"""`rnnlm score`: prints a row for each line of a text, as a table or as JSON; a bar on a terminal."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import DataError
from ..interrupts import end_cleanly, stop
from ..watching import report
from ..wording import counted, escaped, share
from .arguments import UNKNOWN, example, found
from .bars import passes_shown
from .terminal import open_output, say_line

if TYPE_CHECKING:
    from ..inference.scoring import Lines, Scores
    from ..runs.checkpoint import Checkpoint
    from ..text.sources import Reader
    from ..text.vocabulary import Unknown

RANKED = 1 << 29  # characters of rows that `--rank` holds, each row counted as this many more:
ROW = 250  # bytes that Python takes for it
AT_ONCE = 1 << 12  # ranked rows that are written together


@click.command("score", epilog=example("rnnlm score runs/my-run sentences.txt --rank"))
@click.argument("names", nargs=-1, type=click.Path(allow_dash=True), metavar="[RUN] FILE|-")
@click.option("--text", "texts", multiple=True, help="A line, instead of a file; again for more.")
@click.option("--bits", is_flag=True, help="Bits instead of nats.")
@click.option("--rank", is_flag=True, help="Lowest per symbol first; holds all rows in memory.")
@click.option("--tokens", is_flag=True, help="Each symbol with its surprisal.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each line.")
@click.option("--carry", is_flag=True, help="Carry the state from each line to the next.")
@UNKNOWN
def command(
    names: tuple[str, ...],
    texts: tuple[str, ...],
    bits: bool,
    rank: bool,
    tokens: bool,
    as_json: bool,
    carry: bool,
    unknown: Unknown,
) -> None:
    """Say how surprising a model finds each line of a text: -ln p, in total and per symbol.

    A line is read from the zero state, after a newline, and the newline that ends it is predicted too.
    Where the vocabulary has no newline, nothing ends a line, and its first symbol has the probability
    of its frequency in the training text. Without a run: the newest under ./runs.
    """
    from ..api import score_lines
    from ..text.sources import STDIN, Reader

    if len(names) > (1 if texts else 2) or not (names or texts):
        raise click.UsageError(
            "name a run or not, and then a FILE, - for standard input, or --text"
        )
    file = None if texts else names[-1]
    if file is not None and Path(file).is_dir():
        raise click.UsageError(f"{file} is a folder: name a run or not, and then a FILE, or -")
    checkpoint = found(Path(names[0]) if len(names) > (file is not None) else None)
    raw = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)  # lines come as they are written
    given = Input(Reader(checkpoint.format.rules, raw), file, texts)
    size = 0 if file in (None, STDIN) or sys.stdout.isatty() else _size(str(file))
    stop.at_first = end_cleanly
    table = Table(checkpoint, bits, tokens, as_json)
    with passes_shown():
        blocks = score_lines(checkpoint, given.lines(), carry=carry, unknown=unknown)
        rows = table.rows(given.watched(blocks, size))
        header = table.header()
        with open_output(None) as write:
            for some in _ranked(rows) if rank else rows:
                write(header + "".join(row for _, row in some))
                header = ""
            write(header)
    for line in table.summary():
        say_line(line)


class Input:
    """The lines of a file, or those that were given; knows how far they are scored."""

    def __init__(self, reader: Reader, file: str | None, texts: tuple[str, ...]) -> None:
        self._reader, self._file, self._texts = reader, file, texts
        self._read = 0  # characters or bytes

    def lines(self) -> Iterator[Lines]:
        """The lines, some at a time."""
        from ..inference.scoring import split_lines

        if self._file is not None:
            return split_lines(map(self._counted, self._reader.blocks([self._file])))
        rules = self._reader.rules
        lines = [rules.normalize(text).removesuffix("\n").split("\n") for text in self._texts]
        units = rules.kind.units
        return iter([[line if rules.encoding else units(line).tobytes() for line in chain(*lines)]])

    def _counted(self, block: Any) -> Any:
        self._read += len(block)
        return block

    def watched(self, blocks: Iterable[Scores], size: int) -> Iterator[Scores]:
        """The blocks, each reported once it is worked on, in kilobytes of a file of that `size`; one
        without a size is not reported.
        """
        scored = 0
        for block in blocks:
            yield block
            scored += len(block.lines) + sum(map(len, block.lines))
            kilobytes = int(self._reader.position * scored / max(scored, self._read)) >> 10
            if size:
                report("scoring", min(kilobytes, size), size)


def _size(file: str) -> int:
    """Kilobytes of a file; 0 of what is none."""
    path = Path(file)
    return max(1, path.stat().st_size >> 10) if path.is_file() else 0


def _ranked(rows: Iterable[Iterable[tuple[float, str]]]) -> Iterator[list[tuple[float, str]]]:
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
        mean = f"{self._total / n:.4f}" if n else "no"
        line = f"{counted(self._lines, 'line')}, {counted(n, noun)}: {mean} {self._unit} per {noun}"
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
        record |= {name: _in_json(value) for name, value in figures.items()}
        record["text"] = line.text
        if self._tokens:
            record["tokens"] = [[self._names[i], _in_json(s)] for i, s in line.tokens]
        return record

    def _perplexity(self, per_symbol: float) -> float:
        """Infinite beyond the range of floats, too."""
        try:
            return math.exp(per_symbol / self._scale)
        except OverflowError:
            return math.inf

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


def _in_json(value: float) -> float | None:
    """A figure as JSON holds it, which knows no infinity."""
    return value if math.isfinite(value) else None
