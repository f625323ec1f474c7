"""`rnnlm score`: prints a row for each line of a text, as a table or as JSON; a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..interrupts import end_cleanly, stop
from ..watching import report
from .arguments import UNKNOWN, example, found
from .bars import passes_shown
from .terminal import open_output, say_line

if TYPE_CHECKING:
    from ..inference.scoring import Lines, Scores
    from ..text.sources import Reader
    from ..text.vocabulary import Unknown


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
    from ..api.scoring import score_lines
    from ..text.sources import Reader
    from .scores import Table, ranked

    run, file = _run_and_file(names, texts)
    checkpoint = found(run, "score RUN")
    raw = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)  # lines come as they are written
    given = Input(Reader(checkpoint.format.rules, raw), file, texts)
    stop.at_first = end_cleanly
    table = Table(checkpoint, bits, tokens, as_json)
    with passes_shown():
        blocks = score_lines(checkpoint, given.lines(), carry=carry, unknown=unknown)
        rows = table.rows(blocks if sys.stdout.isatty() else given.watched(blocks))
        header = table.header()
        with open_output(None) as write:
            for some in ranked(rows) if rank else rows:
                write(header + "".join(row for _, row in some))
                header = ""
            write(header)
    for line in table.summary():
        say_line(line)


def _run_and_file(names: tuple[str, ...], texts: tuple[str, ...]) -> tuple[Path | None, str | None]:
    """The run and the file that a user means; None where the command line has none."""
    if len(names) > (1 if texts else 2) or not (names or texts):
        raise click.UsageError(
            "name a run or not, and then a FILE, - for standard input, or --text"
        )
    runs, file = (names, None) if texts else (names[:-1], names[-1])
    if file is not None and (Path(file).is_dir() or file.endswith(".npz")):
        raise click.UsageError(f"{file} is no text: name a run or not, and then a FILE, or -")
    return (Path(runs[0]) if runs else None), file


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
        newline = "\n" if rules.encoding else b"\n"
        texts = (rules.read(text).removesuffix(newline) for text in self._texts)
        return iter([[line for text in texts for line in text.split(newline)]])

    def _counted(self, block: Any) -> Any:
        self._read += len(block)
        return block

    def watched(self, blocks: Iterable[Scores]) -> Iterator[Scores]:
        """The blocks, each reported once it is worked on, in kilobytes of a file of known size."""
        size, scored = self._kilobytes(), 0
        for block in blocks:
            yield block
            scored += len(block.lines) + sum(map(len, block.lines))
            kilobytes = int(self._reader.position * scored / max(scored, self._read)) >> 10
            if size:
                report("scoring", min(kilobytes, size), size)

    def _kilobytes(self) -> int:
        """The size of the file; 0 of what is none."""
        from ..text.sources import STDIN

        if self._file is None or self._file == STDIN or not Path(self._file).is_file():
            return 0
        return max(1, Path(self._file).stat().st_size >> 10)
