"""`rnnlm train`: prints what is trained, each evaluation, and what can follow; a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import TrainingError
from ..interrupts import end_cleanly, stop
from .arguments import FILE, KeyGuesser, argument, example, settings
from .terminal import (
    figure,
    fitting,
    lenient_output,
    progress_bar,
    say,
    say_in_handler,
    show,
    show_lines,
)

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..training.counting import Counting
    from ..training.loop import Event, Training


@click.command("train", cls=KeyGuesser, epilog=example("rnnlm train my.txt --set train.epochs=3"))
@click.argument("config_or_text", required=False, type=FILE)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key.")
@click.option("--run-dir", type=FILE, help="The run folder, as run.dir.")
@click.option("--resume", type=FILE, metavar="RUN", help="Go on with a run folder.")
@click.option("--init-from", type=FILE, metavar="CHECKPOINT", help="Start from these weights.")
@click.option("--dry-run", is_flag=True, help="Show config, size, memory and steps, and stop.")
def command(
    config_or_text: Path | None,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: Path | None,
    init_from: Path | None,
    dry_run: bool,
) -> None:
    """Train a model on a prepared folder or a raw text, or as a YAML file says."""
    from ..api import load
    from ..training.loop import Training
    from ..training.start import preview, start

    stop.at_first = end_cleanly
    with _memory_error_named():
        if resume is not None:
            if config_or_text or run_dir or init_from or dry_run:
                raise click.UsageError("--resume takes nothing beside it but --set")
            _train(Training.resume(resume, overrides))
            return
        config, name = settings(config_or_text, overrides)
        if run_dir is not None:  # not as an override, which would read `null` as no folder
            config = config.with_values("run", dir=str(run_dir))
        weights = None if init_from is None else load(init_from)
        if dry_run:
            show_lines(preview(config, weights))
        else:
            _train(start(config, name, weights))


@contextmanager
def _memory_error_named() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise TrainingError("not enough memory for this model, batch and window") from None


def _train(start: Training | Counting) -> None:
    with start as training, lenient_output():
        stop.at_first = _say_stopping
        _show_training(training)


def _say_stopping(_signal: int) -> None:
    say_in_handler("stopping after this step; once more to stop at once")


def _show_training(training: Training | Counting) -> None:
    """Train, with a progress bar on a terminal and sparse lines elsewhere."""
    folder = argument(training.run.folder)
    show_lines([*training.summary(), f"run folder: {training.run.folder}"])
    if training.progress.step:
        show(f"going on from step {training.progress.step:,}")
    with progress_bar(training.total_steps, training.progress.step) as bar:
        for event in training.events(stop):
            _show_event(event, bar, training.corpus.vocabulary.noun)
    if stop.signal is not None and training.progress.step < training.total_steps:
        at = f"stopped at step {training.progress.step}"
        say(f"{at}; to go on: rnnlm train --resume {folder}")
        end_cleanly(stop.signal)
    show(f'next: rnnlm sample {folder} --prime "..."\n      rnnlm eval {folder}')


def _show_event(event: Event, bar: tqdm[Any], noun: str) -> None:
    record = event.record
    if event.kind == "step":
        if bar.update():
            bar.set_postfix_str(fitting(_figures(record, noun), bar), refresh=False)
    elif event.kind == "train" and bar.disable:
        say(f"step {record['step']}/{bar.total}: {', '.join(_figures(record, noun))}")
    elif event.kind in ("eval", "sample"):
        with bar.external_write_mode(sys.stdout):
            show(_event_line(record, noun))
    elif "model" in record:
        show(f"model: {record['model']}")


def _figures(record: dict[str, Any], noun: str) -> Iterator[str]:
    """Of a step or a `train` line, in the order in which a narrow terminal shows them."""
    yield f"loss {record['loss']:.3f}"
    yield f"{record['symbols_per_second']:,.0f} {noun}s/s"
    yield f"perplexity {figure(record['perplexity'])}"


def _event_line(record: dict[str, Any], noun: str) -> str:
    if record["event"] == "sample":
        return f"sample at step {record['step']}:\n{record['text']}"
    if record["loss"] is None:
        figures = "perplexity infinite: something has probability 0"
    else:
        figures = (
            f"perplexity {figure(record['perplexity'])} ({record['loss']:.4f} nats per {noun})"
        )
    if record["split"] == "test":
        return f"test, checkpoint of step {record['checkpoint_step']}: {figures}"
    note = " (approximate: eval_streams > 1)" if record.get("approximate") else ""
    best = ", best so far" if record["best"] else ""
    return f"epoch {record['epoch']:.4g}, step {record['step']}: validation {figures}{best}{note}"
