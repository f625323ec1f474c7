"""`rnnlm sample`: prints text that the model draws, as it is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ..config.kinds import Integer, Number
from ..inference.sampling import FILTERS, filter_kind
from ..interrupts import end_cleanly, stop
from ..wording import share
from .arguments import CHECKPOINT, FILE, UNKNOWN, example, found, read_text
from .terminal import Write, open_output, say_line


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
    "--length", type=click.IntRange(0), default=500, show_default=True, help="Symbols to draw."
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
@click.option("--stop", default="", metavar="TEXT", help="End before this text.")
@click.option("--no-prime", is_flag=True, help="Leave the prime out of the output.")
@UNKNOWN
@click.option("--output", type=FILE, help="Write here instead of standard output.")
def command(
    checkpoint_or_run: Path | None,
    prime: str,
    prime_file: str | None,
    no_prime: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Generate text, symbol by symbol. Without a path: from the newest run under ./runs."""
    from ..api import samples

    checkpoint = found(checkpoint_or_run)
    start: str | bytes = prime
    if prime_file is not None:
        if prime:
            raise click.UsageError("--prime and --prime-file exclude each other")
        start = read_text(prime_file, checkpoint)
    pieces = samples(checkpoint, start, **options)
    ids = checkpoint.format.prime(start, options["unknown"])
    if unknown := checkpoint.format.unknowns(ids):
        say_line(f"of the prime {share(unknown, len(ids), checkpoint.format.noun)} are <unk>")
    stop.at_first = end_cleanly
    shown = "" if no_prime else checkpoint.format.text(ids)
    with open_output(output) as write:
        _write_samples(pieces, shown, options["num_samples"], write)


def _write_samples(pieces: Iterable[list[str]], shown: str, n: int, write: Write) -> None:
    """One sample as it is drawn; several one after another, each under a line with its number."""
    if n == 1:
        write(shown)
        ends = shown[-1:]
        for (piece,) in pieces:
            write(piece)
            ends = piece[-1:] or ends
        if ends != "\n":
            write("\n")
        return
    texts = [[shown] for _ in range(n)]
    for step in pieces:
        for text, piece in zip(texts, step, strict=True):
            text.append(piece)
    for number, text in enumerate(texts, 1):
        body = "".join(text)
        write(f"=== sample {number} ===\n{body}" + ("" if body.endswith("\n") else "\n"))
