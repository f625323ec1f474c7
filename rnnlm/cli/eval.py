"""`rnnlm eval`: prints how well models predict a text, as lines or as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config.kinds import options
from ..errors import CheckpointError, ConfigError, DataError
from ..inference.learning import Dynamic
from ..wording import counted, share
from . import table
from .arguments import (
    CHECKPOINTS,
    FILE,
    UNKNOWN,
    argument,
    example,
    found,
    named_runs,
    read_text,
    say_left_out,
)
from .bars import passes_shown
from .terminal import figure, say_line, show_lines

if TYPE_CHECKING:
    from ..inference.evaluation import Evaluation
    from ..runs.checkpoint import Checkpoint
    from ..text.vocabulary import Unknown


LEAST = (  # columns that a narrow terminal does not show, the first first
    "unknown", "characters", "step", "bits_per_symbol", "source_entropy", "lines", "data", "symbols",
    "nats_per_line", "nats_per_character",
)  # fmt: skip


def _typed(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _learning(command: Any) -> Any:
    """An option for each option of dynamic evaluation, with its help and default."""
    for name, declared in reversed(list(options(Dynamic).items())):
        text = declared.doc.replace("`", "")
        help_text = f"With --dynamic: {text}.  [default: {_typed(declared.default)}]"
        command = click.option(_flag(name), name, help=help_text)(command)
    return command


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
@click.option("--dynamic", is_flag=True, help="Evaluate too while the model learns from the text.")
@_learning
@click.option(
    "--tune", is_flag=True, help="Try segments and rates on validation, and say which are best."
)
@table.form
def command(
    checkpoint_or_run: tuple[Path, ...],
    split: str | None,
    data: Path | None,
    text: str | None,
    unknown: Unknown,
    dynamic: bool,
    tune: bool,
    form: str | None,
    **given: str | None,
) -> None:
    """Report nats and bits per symbol and perplexity of a split or of any text.

    Several runs are printed as one table; a folder of runs stands for its runs. With --dynamic each is
    evaluated twice: as it is, and while it learns from what it has read.
    """
    from ..api.evaluation import evaluate, evaluate_split

    if text is not None and (split or data):
        raise click.UsageError("--text excludes --split and --data")
    paths: list[Path | None] = [*named_runs(checkpoint_or_run)] or [None]
    if text == "-" and len(paths) > 1:
        raise click.UsageError("standard input can be read only once: name a file for --text")
    learning = _chosen(given)
    if tune and (text is not None or split not in (None, "val")):
        raise click.UsageError(
            "--tune reads the validation text: write rnnlm eval RUN --dynamic --tune, and then add "
            f"{'--split' if text is None else '--text'} to the command that it ends with"
        )
    if tune and len(paths) > 1:
        raise click.UsageError("--tune takes one run: write the command once for each")
    about = [*["tune"] * tune, *(name for name, value in given.items() if value is not None)]
    if about and not dynamic:
        raise click.UsageError(f"{_flag(about[0])} is about --dynamic: add --dynamic")
    if tune:
        _tune(paths[0], data, unknown, learning, form)
        return
    rows, caveats = [], {}
    for path in paths:
        checkpoint = found(path, "eval [RUN] --text")
        with passes_shown():
            given_text = None if text is None else read_text(text, checkpoint)
        for learns in (None, learning) if dynamic else (None,):
            with passes_shown(), _named(path, among=len(paths)):
                if given_text is not None:
                    result = evaluate(checkpoint, given_text, unknown=unknown, dynamic=learns)
                else:
                    result = evaluate_split(
                        checkpoint, split or "test", data, unknown=unknown, dynamic=learns
                    )
            what: dict[str, Any]
            what = {"text": text} if text is not None else {"split": split or "test"}
            if unknown == "skip":
                what["left_out"] = result.left_out
            if dynamic:
                what["dynamic"] = result.dynamic if form == "json" else _in_words(result.dynamic)
            rows.append({**_which(checkpoint, what, data), **_figures(result)})
        say_left_out(result.left_out, checkpoint)
        if result.unknown:
            unread = share(result.unknown, result.symbols, checkpoint.vocabulary.noun)
            caveats[checkpoint.path] = (
                f"{unread} are <unk>: nats per character do not compare with those of other models"
            )
    for name in ("lines", "nats_per_line", "source_entropy", "above_source"):
        if all(row[name] is None for row in rows):  # no model of lines, nothing known of a source
            rows = [{k: v for k, v in row.items() if k != name} for row in rows]
    if form is None and len(rows) == 1:
        show_lines([*_lines(rows[0], checkpoint.vocabulary.noun), *caveats.values()])
        return
    table.show_rows(rows, form, LEAST)
    if form is None:
        for at, caveat in caveats.items():
            say_line(f"{at}: {caveat}")


@contextmanager
def _named(path: Path | None, among: int) -> Iterator[None]:
    """Say which of several models an error is about."""
    try:
        yield
    except (CheckpointError, DataError) as error:
        unnamed = among > 1 and str(path) not in str(error)
        raise type(error)(f"{path}: {error}" if unnamed else str(error)) from None


def _chosen(given: Mapping[str, str | None]) -> Dynamic:
    """The options that were typed. Raises UsageError."""
    try:
        return Dynamic(**{name: v for name, v in given.items() if v is not None})  # type: ignore[arg-type]
    except ConfigError as error:
        raise click.UsageError(f"--{str(error).replace('_', '-', 1)}") from None


def _in_words(dynamic: Mapping[str, Any] | None) -> str | None:
    """The options of a dynamic evaluation in a cell; None for a static one."""
    if dynamic is None:
        return None
    return ", ".join(f"{name} {_typed(value)}" for name, value in dynamic.items()) or "counts"


def _tune(
    path: Path | None, data: Path | None, unknown: Unknown, learning: Dynamic, form: str | None
) -> None:
    """Show what one choice of options after another reaches, and the command with the best."""
    from ..api.evaluation import tune_split

    checkpoint = found(path, "eval [RUN] --text")
    noun = checkpoint.vocabulary.noun
    rows: list[dict[str, Any]] = []
    trials = tune_split(checkpoint, "val", data, unknown=unknown, dynamic=learning)
    while True:
        with passes_shown():
            trial = next(trials, None)
        if trial is None:
            break
        _, result = trial
        rows.append(
            {"split": "val", **(result.dynamic or {}), "nats_per_symbol": result.nats_per_symbol}
        )
        if form is None:
            reached = f"{figure(result.nats_per_symbol)} nats per {noun}"
            show_lines([f"{_in_words(result.dynamic)}: {reached}"])
    if form is not None:
        show_lines(table.FORMS[form](rows))
    best = min(rows, key=lambda row: row["nats_per_symbol"])
    flags = (f"{_flag(k)} {_typed(best[k])}" for k in result.dynamic or ())
    run = checkpoint.path if path is None else path
    said = "" if run is None else f"{argument(run)} "
    said += "" if data is None else f"--data {argument(data)} "
    said += "" if unknown == "error" else f"--unknown {unknown} "
    say_line(f"best: rnnlm eval {said}--dynamic {' '.join(flags)}")


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
    lines = values.pop("lines", None)
    for name in ("unknown", "left_out"):  # said already, or afterwards
        values.pop(name, None)
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
        yield f"{side} the entropy of the source ({figure(entropy)}): {figure(abs(gap))}"
