"""`rnnlm sample`: prints text that the model draws, as it is drawn."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config.kinds import Integer, Number
from ..inference.filters import FILTERS, filter_kind
from ..interrupts import end_cleanly, stop
from ..wording import counted, share
from .arguments import (
    CHECKPOINT,
    FILE,
    SEED,
    UNKNOWN,
    example,
    found,
    read_text,
    say_left_out,
    unescaped,
)
from .terminal import Write, open_output, say_line

if TYPE_CHECKING:
    from ..runs.checkpoint import Checkpoint
    from ..text.format import TextRules
    from ..text.vocabulary import Unknown


def _filters(command: Any) -> Any:
    """An option for each filter, its type and help as the filter declares them."""
    for name in reversed(FILTERS):
        kind, text = filter_kind(name), FILTERS[name].__doc__ or ""
        assert isinstance(kind, Number)
        low = kind.low if kind.above is None else kind.above
        limits: Any = {"min": low, "max": kind.high, "min_open": kind.above is not None}
        number: Any = click.IntRange if isinstance(kind, Integer) else click.FloatRange
        option = f"--{name.replace('_', '-')}"
        type_, line = number(**limits), text.splitlines()[0]
        command = click.option(option, type=type_, multiple=True, help=line)(command)
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
    type=SEED,
    default="0",
    show_default=True,
    help="The same seed, the same text; `random` draws one and says it.",
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
@click.option("--escapes", is_flag=True, help=r"Read \n, \t, \xNN, \uXXXX in --prime and --stop.")
@click.option("--no-prime", is_flag=True, help="Leave the prime out of the output.")
@click.option("--novel", is_flag=True, help="Of lines: only those not in the training text.")
@click.option(
    "--separator",
    metavar="TEXT",
    help=r"Between several texts, instead of headings: \n, for example.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line for each text.")
@UNKNOWN
@click.option("--output", type=FILE, help="Write here instead of standard output.")
@click.option("--append", is_flag=True, help="Add to the end of --output.")
def command(
    checkpoint_or_run: Path | None,
    prime: str,
    prime_file: str | None,
    no_prime: bool,
    novel: bool,
    escapes: bool,
    separator: str | None,
    as_json: bool,
    output: Path | None,
    append: bool,
    **options: Any,
) -> None:
    """Generate text, symbol by symbol. Without a path: from the newest run under ./runs.

    A model of lines draws whole lines. A model that reads backwards goes on from --prime to what leads
    up to it. --temperature, --top-k and --top-p can be given several times: every combination is drawn.
    """
    if append and output is None:
        raise click.UsageError("--append adds to a file: name it with --output")
    if as_json and (no_prime or separator is not None):
        raise click.UsageError("--json has the prime and each text apart: it excludes the others")
    checkpoint = found(checkpoint_or_run, "sample [RUN] --prime-file")
    start = _prime(checkpoint, prime, prime_file, escapes)
    if escapes:
        options["stop"] = unescaped(options["stop"], in_bytes=False)
    if separator is not None:
        separator = unescaped(separator, in_bytes=False)
    stop.at_first = end_cleanly
    settings = _settings({name: options.pop(name) for name in FILTERS})
    drawn = [(values, _draw(checkpoint, start, novel, options | values)) for values in settings]
    shown = _prime_shown(checkpoint, start, options["unknown"])
    rules, n = checkpoint.format.rules, options["num_samples"]
    if rules.reverse and output is None and sys.stdout.isatty():
        say_line("the model reads backwards: a text is shown when it is whole")
    with open_output(output, append) as write:
        if as_json:
            _write_json(drawn, n, {"prime": shown, "seed": options["seed"]}, write)
        elif n == len(drawn) == 1 and not rules.reverse:
            _write_sample(drawn[0][1], "" if no_prime else shown, write)
        else:
            texts = _headed(drawn, n, "" if no_prime else shown, rules)
            _write_samples(texts, separator, write)


Settings = dict[str, Any]  # the values of the filters, by name
Pieces = Iterable[list[str]]  # of texts side by side: each step has one of each
Drawn = list[tuple[Settings, Pieces]]


def _settings(given: dict[str, tuple[float, ...]]) -> Iterator[Settings]:
    """Every combination of the values of the filters."""
    for values in product(*(some or (None,) for some in given.values())):
        yield dict(zip(given, values, strict=True))


def _prime(
    checkpoint: Checkpoint, prime: str, prime_file: str | None, escapes: bool
) -> str | bytes:
    """What the texts go on from."""
    rules = checkpoint.format.rules
    if prime_file is None:
        return unescaped(prime, in_bytes=rules.encoding is None) if escapes else prime
    if prime:
        raise click.UsageError("--prime and --prime-file exclude each other")
    start = read_text(prime_file, checkpoint)
    if not rules.of_lines:
        return start
    # Every file of lines ends with a newline, or CRLF
    return (rules.normalize(start) if isinstance(start, str) else start)[:-1]


def _prime_shown(checkpoint: Checkpoint, start: str | bytes, unknown: Unknown) -> str:
    """The prime as the model reads it; what of it is left out or unknown is said."""
    text_format = checkpoint.format
    start = text_format.without_implied(start)
    ids = text_format.ids(start, unknown)
    if unknown == "skip":
        say_left_out(text_format.length(start) - len(ids), checkpoint)
    if unknowns := text_format.unknowns(ids):
        say_line(f"of the prime {share(unknowns, len(ids), text_format.noun)} are <unk>")
    return text_format.text(ids)


def _draw(
    checkpoint: Checkpoint, start: str | bytes, novel: bool, options: dict[str, Any]
) -> Pieces:
    """The texts of one setting, as they are drawn; new lines at once, and it is said of how many."""
    from ..api.sampling import novel_lines, samples

    if not novel:
        return samples(checkpoint, start, **options)
    lines, number = novel_lines(checkpoint, start, **options)
    known = number - len(lines)
    say_line(f"{counted(number, 'line')} drawn, {known:,} of them in the training text")
    return [lines]


def _headed(drawn: Drawn, n: int, shown: str, rules: TextRules) -> Iterator[tuple[str, str]]:
    """Each text with its prime, and the heading over it."""
    settings = [values for values, _ in drawn]
    for values, pieces in drawn:
        for number, text in enumerate(_whole(pieces, n), 1):
            numbered = n > 1 and not rules.of_lines
            heading = _heading(values, settings, number if numbered else None)
            yield heading, text + shown if rules.reverse else shown + text


def _heading(values: Settings, settings: list[Settings], number: int | None) -> str:
    """What a text is drawn with, as far as that differs from others, and its number."""
    parts = [
        f"{name.replace('_', '-')} {value:g}"
        for name, value in values.items()
        if value is not None and len({other[name] for other in settings}) > 1
    ]
    return ", ".join(parts + ([] if number is None else [f"sample {number}"]))


def _whole(pieces: Pieces, n: int) -> list[str]:
    """The texts whole, from their pieces."""
    texts: list[list[str]] = [[] for _ in range(n)]
    for step in pieces:
        for text, piece in zip(texts, step, strict=True):
            text.append(piece)
    return ["".join(text) for text in texts]


def _write_json(drawn: Drawn, n: int, known: dict[str, Any], write: Write) -> None:
    """An object for each text, with what it was drawn with."""
    for values, pieces in drawn:
        given = {name: value for name, value in values.items() if value is not None}
        for number, text in enumerate(_whole(pieces, n), 1):
            write(json.dumps({"text": text, **known, "sample": number, **given}) + "\n")


def _write_sample(pieces: Pieces, shown: str, write: Write) -> None:
    """One text, as it is drawn."""
    write(shown)
    ends = shown[-1:]
    for (piece,) in pieces:
        write(piece)
        ends = piece[-1:] or ends
    if ends != "\n":
        write("\n")


def _write_samples(texts: Iterable[tuple[str, str]], separator: str | None, write: Write) -> None:
    """Several texts, each under its heading if it has one, or with a separator between them."""
    for k, (heading, text) in enumerate(texts):
        if separator is None and heading:
            write(f"=== {heading} ===\n")
        elif separator is not None and k:
            write(separator)
        write(text if text.endswith("\n") else f"{text}\n")
