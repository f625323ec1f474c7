"""`rnnlm eval`: prints how well the model predicts a text, as lines or as one JSON object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..wording import counted
from .arguments import CHECKPOINT, FILE, UNKNOWN, example, found, read_text
from .terminal import figure, show

if TYPE_CHECKING:
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
    """Report nats and bits per character (or byte) and perplexity of a split or of any text."""
    from ..api import evaluate, evaluate_split

    if text is not None and (split or data):
        raise click.UsageError("--text excludes --split and --data")
    checkpoint = found(checkpoint_or_run)
    if text is not None:
        result = evaluate(checkpoint, read_text(text, checkpoint), unknown=unknown)
    else:
        result = evaluate_split(checkpoint, split or "test", data, unknown=unknown)
    figures = {
        "symbols": result.symbols,
        "nats_per_symbol": result.nats_per_symbol,
        "bits_per_symbol": result.bits_per_symbol,
        "perplexity": result.perplexity,
    }
    if as_json:
        show(json.dumps(figures))
        return
    noun = checkpoint.vocabulary.noun
    show(f"{counted(result.symbols, noun)} predicted")
    for name in ("nats_per_symbol", "bits_per_symbol", "perplexity"):
        words = name.replace("symbol", noun).replace("_", " ")
        show(f"{words}: {figure(figures[name])}")
