"""`rnnlm sample`: prints text that the model draws, as it is drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config.kinds import Integer, Number
from ..inference.sampling import FILTERS, filter_kind
from ..interrupts import end_cleanly, stop
from ..wording import counted, share
from .arguments import CHECKPOINT, FILE, UNKNOWN, example, found, read_text
from .terminal import Write, open_output, say_line

if TYPE_CHECKING:
    from ..text.format import TextRules


def _filters(command: Any) -> Any:
    """An option for each filter, its type and help as the filter declares them."""
    for name in reversed(FILTERS):
        kind, text = filter_kind(name), FILTERS[name].__doc__ or ""
        assert isinstance(kind, Number)
        low = kind.low if kind.above is None else kind.above
        limits: Any = {"min": low, "max": kind.high, "min_open": kind.above is not None}
        number: Any = click.IntRange if isinstance(kind, Integer) else click.FloatRange
        option = f"--{name.replace('_', '-')}"
        command = click.option(option, type=number(**limits), help=text.splitlines()[0])(command)
    return command


@click.command(
    "sample", epilog=example('rnnlm sample runs/my-run --prime "The " --temperature 0.7')
)
@CHECKPOINT
@click.option("--prime", default="", help="Text to go on from.")
@click.option("--prime-file", type=click.Path(allow_dash=True), help="The same, from a file or -.")
@click.option(
    "--length",
    type=click.IntRange(0),
    default=500,
    show_default=True,
    help="Symbols to draw; of a line the most.",
)
@_filters
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed, the same text.",
)
@click.option(
    "--num-samples", type=click.IntRange(1), default=1, show_default=True, help="Texts to draw."
)
@click.option(
    "--stop",
    default="",
    metavar="TEXT",
    help="End before this text; read backwards: begin after it.",
)
@click.option("--no-prime", is_flag=True, help="Leave the prime out of the output.")
@click.option("--novel", is_flag=True, help="Of lines: only those not in the training text.")
@UNKNOWN
@click.option("--output", type=FILE, help="Write here instead of standard output.")
def command(
    checkpoint_or_run: Path | None,
    prime: str,
    prime_file: str | None,
    no_prime: bool,
    novel: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Generate text, symbol by symbol. Without a path: from the newest run under ./runs.

    A model of lines draws whole lines. A model that reads backwards goes on from --prime to what leads
    up to it.
    """
    from ..api import novel_lines, samples

    checkpoint = found(checkpoint_or_run)
    text_format = checkpoint.format
    start: str | bytes = prime
    if prime_file is not None:
        if prime:
            raise click.UsageError("--prime and --prime-file exclude each other")
        start = read_text(prime_file, checkpoint)
        if text_format.rules.of_lines:  # every file of lines ends with a newline
            start = start[:-1]
    n = options["num_samples"]
    stop.at_first = end_cleanly
    if novel:
        lines, drawn = novel_lines(checkpoint, start, **options)
        pieces: Iterable[list[str]] = [lines]
        say_line(f"{counted(drawn, 'line')} drawn, {drawn - n:,} of them in the training text")
    else:
        pieces = samples(checkpoint, start, **options)
    ids = text_format.prime(start, options["unknown"])
    if unknown := text_format.unknowns(ids):
        say_line(f"of the prime {share(unknown, len(ids), text_format.noun)} are <unk>")
    shown = "" if no_prime else text_format.text(ids)
    if text_format.rules.reverse and output is None and sys.stdout.isatty():
        say_line("the model reads backwards: a text is shown when it is whole")
    with open_output(output) as write:
        _write_samples(pieces, shown, n, text_format.rules, write)


def _write_samples(
    pieces: Iterable[list[str]], shown: str, n: int, rules: TextRules, write: Write
) -> None:
    """One sample as it is drawn; several one after another, each under a line with its number, unless
    they are lines. What was drawn backwards is written when it is whole, with its prime after it.
    """
    if n == 1 and not rules.reverse:
        write(shown)
        ends = shown[-1:]
        for (piece,) in pieces:
            write(piece)
            ends = piece[-1:] or ends
        if ends != "\n":
            write("\n")
        return
    texts: list[list[str]] = [[] for _ in range(n)]
    for step in pieces:
        for text, piece in zip(texts, step, strict=True):
            text.append(piece)
    for number, text in enumerate(texts, 1):
        body = "".join([*text, shown] if rules.reverse else [shown, *text])
        heading = "" if n == 1 or rules.of_lines else f"=== sample {number} ===\n"
        write(heading + body + ("" if body.endswith("\n") else "\n"))
