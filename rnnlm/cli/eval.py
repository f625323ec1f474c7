"""`rnnlm eval`: prints how well models predict a text, as lines or as a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..wording import counted, share
from . import table
from .arguments import CHECKPOINTS, FILE, UNKNOWN, example, found, read_text, say_left_out
from .bars import passes_shown
from .terminal import figure, show_lines

if TYPE_CHECKING:
    from ..inference.evaluation import Evaluation
    from ..runs.checkpoint import Checkpoint
    from ..text.vocabulary import Unknown


@click.command("eval", epilog=example("rnnlm eval runs/my-run --split val"))
@CHECKPOINTS
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Of the run's data.  [default: test]",
)
@click.option("--data", type=FILE, help="A prepared folder instead of the run's own data.")
@click.option("--text", type=click.Path(allow_dash=True), help="Any text: a file or -.")
@UNKNOWN
@table.form
def command(
    checkpoint_or_run: tuple[Path, ...],
    split: str | None,
    data: Path | None,
    text: str | None,
    unknown: Unknown,
    form: str | None,
) -> None:
    """Report nats and bits per symbol and perplexity of a split or of any text.

    Several runs are printed as one table.
    """
    from ..api.evaluation import evaluate, evaluate_split

    if text is not None and (split or data):
        raise click.UsageError("--text excludes --split and --data")
    if text == "-" and len(checkpoint_or_run) > 1:
        raise click.UsageError("standard input can be read only once: name a file for --text")
    rows = []
    for path in checkpoint_or_run or [None]:
        checkpoint = found(path)
        with passes_shown():
            if text is not None:
                result = evaluate(checkpoint, read_text(text, checkpoint), unknown=unknown)
            else:
                result = evaluate_split(checkpoint, split or "test", data, unknown=unknown)
        say_left_out(result.left_out, checkpoint)
        what: dict[str, Any] = {"text": text} if text is not None else {"split": split or "test"}
        if unknown == "skip":
            what["left_out"] = result.left_out
        rows.append({**_which(checkpoint, what, data), **_figures(result)})
    for name in ("lines", "nats_per_line", "source_entropy", "above_source"):
        if all(row[name] is None for row in rows):  # no model of lines, nothing known of a source
            rows = [{k: v for k, v in row.items() if k != name} for row in rows]
    if form is None and len(rows) == 1:
        show_lines(_lines(rows[0], checkpoint.vocabulary.noun))
    else:
        show_lines(table.FORMS[form](rows))


def _which(checkpoint: Checkpoint, what: dict[str, Any], data: Path | None) -> dict[str, Any]:
    """What was evaluated: the checkpoint, its step, and on what."""
    if data is not None:
        what = {**what, "data": str(data)}
    return {"checkpoint": str(checkpoint.path), "step": checkpoint.progress.step, **what}


def _figures(result: Evaluation) -> dict[str, Any]:
    """What was counted, and every figure that an Evaluation has."""
    figures = [name for name, value in vars(type(result)).items() if isinstance(value, property)]
    names = ("symbols", "characters", "unknown", "lines", "source_entropy", *figures)
    return {name: getattr(result, name) for name in names}


def _lines(row: dict[str, Any], noun: str) -> Iterator[str]:
    values = dict(row)
    yield f"checkpoint: {values.pop('checkpoint')}, step {values.pop('step'):,}"
    symbols, characters = values.pop("symbols"), values.pop("characters", None)
    unknown, lines = values.pop("unknown"), values.pop("lines", None)
    values.pop("left_out", None)  # said already
    for name in ("text", "split", "data"):
        if name in values:
            yield f"{name}: {values.pop(name)}"
    yield f"{counted(symbols, noun)} predicted" + (f" in {counted(lines, 'line')}" if lines else "")
    entropy, gap = values.pop("source_entropy", None), values.pop("above_source", None)
    beside: dict[str, Any] = {
        n: values.pop(n) for n in ("nats_per_character", "nats_per_line") if n in values
    }
    if characters == symbols and noun == "character":
        del beside["nats_per_character"]
    for name, value in {**values, **beside}.items():
        yield f"{name.replace('_', ' ').replace('symbol', noun)}: {figure(value)}"
    if gap is not None:
        side = "above" if gap >= 0 else "below"
        yield f"entropy of the source: {figure(entropy)}: {figure(abs(gap))} {side}"
    if unknown:
        what = share(unknown, symbols, noun)
        yield f"{what} are <unk>: nats per character do not compare with those of other models"
