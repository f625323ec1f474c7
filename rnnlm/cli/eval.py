"""`rnnlm eval`: prints how well the model predicts a text, as lines or as one JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..wording import counted, share
from .arguments import CHECKPOINT, FILE, UNKNOWN, example, found, read_text
from .bars import passes_shown
from .terminal import figure, show_lines

if TYPE_CHECKING:
    from ..inference.evaluation import Evaluation
    from ..text.vocabulary import Unknown


@click.command("eval", epilog=example("rnnlm eval runs/my-run --split val"))
@CHECKPOINT
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Of the run's data.  [default: test]",
)
@click.option("--data", type=FILE, help="A prepared folder instead of the run's own data.")
@click.option("--text", type=click.Path(allow_dash=True), help="Any text: a file or -.")
@UNKNOWN
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(
    checkpoint_or_run: Path | None,
    split: str | None,
    data: Path | None,
    text: str | None,
    unknown: Unknown,
    as_json: bool,
) -> None:
    """Report nats and bits per symbol and perplexity of a split or of any text."""
    from ..api import evaluate, evaluate_split

    if text is not None and (split or data):
        raise click.UsageError("--text excludes --split and --data")
    checkpoint = found(checkpoint_or_run)
    with passes_shown():
        if text is not None:
            result = evaluate(checkpoint, read_text(text, checkpoint), unknown=unknown)
        else:
            result = evaluate_split(checkpoint, split or "test", data, unknown=unknown)
    show_lines(_json(result) if as_json else _lines(result, checkpoint.vocabulary.noun))


def _json(result: Evaluation) -> Iterator[str]:
    from ..inference.evaluation import in_json

    figures = ("nats_per_character", "nats_per_symbol", "bits_per_symbol", "perplexity")
    values = {name: in_json(getattr(result, name)) for name in figures}
    counts = {name: getattr(result, name) for name in ("symbols", "characters", "unknown")}
    if result.lines is not None:
        counts |= {"lines": result.lines, "nats_per_line": in_json(result.nats_per_line)}
    yield json.dumps({**counts, **values})


def _lines(result: Evaluation, noun: str) -> Iterator[str]:
    lines = "" if result.lines is None else f" in {counted(result.lines, 'line')}"
    yield f"{counted(result.symbols, noun)} predicted{lines}"
    if result.nats_per_line is not None:
        yield f"nats per line: {figure(result.nats_per_line)}"
    yield f"nats per {noun}: {figure(result.nats_per_symbol)}"
    yield f"bits per {noun}: {figure(result.bits_per_symbol)}"
    yield f"perplexity: {figure(result.perplexity)}"
    if result.per_character():
        text = counted(result.characters or 0, "character")
        yield f"nats per character: {figure(result.nats_per_character)}, {text}"
    if result.unknown:
        unknown = share(result.unknown, result.symbols, noun)
        yield f"{unknown} are <unk>: nats per character do not compare with those of other models"
