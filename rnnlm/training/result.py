"""Training from a script: to its end, with a result, or event by event."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.schema import Config
from ..errors import ConfigError
from ..runs.checkpoint import Checkpoint
from ..runs.history import read_metrics
from ..text.vocabulary import NewSymbols
from ..wording import shown
from .at_once import AtOnce
from .loop import Event, Training, never
from .start import start


@dataclass(frozen=True)
class TrainingResult:
    """What a training left: the run folder, what it logged, and where its checkpoints are."""

    folder: Path
    history: list[dict[str, Any]] = field(repr=False)
    """The records of metrics.jsonl, in order: of the whole run, from its first step."""
    best: Path | None
    """The checkpoint with the lowest validation loss; None where the run has no validation text, or its
    loss is infinite."""
    last: Path
    """The checkpoint of the last step."""
    best_loss: float | None
    """The lowest validation loss, in nats per symbol; of a stretch of the text, where all were."""
    best_step: int | None
    """The step of `best`, counted from 1."""
    reason: str
    """Why training ended: `finished`, `patience`, `max_steps`, `max_minutes`, or `interrupted` (by
    `stop`)."""

    def checkpoint(self) -> Checkpoint:
        """Load the best checkpoint, or the last one where there is no best.

        Raises CheckpointError where it is gone or damaged.
        """
        return Checkpoint.load(self.best or self.last)


def train(
    config: Config,
    *,
    callback: Callable[[Event], object] | None = None,
    stop: Callable[[], bool] = never,
    name: str = "run",
    init_from: Checkpoint | None = None,
    unknown: NewSymbols = "error",
) -> TrainingResult:
    """Train a new run to its end.

    `callback` is called with every event, as `train_events` yields them; an exception that it raises
    ends the training. `stop` is asked after every step, and a few times a second during an evaluation:
    once it is true, last.npz is saved, and `resume` goes on from there. The run folder is `run.dir` or,
    without one, `runs/<name>-<time>`. `init_from` is a checkpoint whose weights, vocabulary and text
    rules the run starts with. Symbols that it does not have are left out of the text where `unknown` is
    "skip", and added to the model where that is "extend". Such a run evaluates once before the first
    step.

    Raises ConfigError, DataError or CheckpointError before the first step where the config, the text
    or the folder cannot be used, and leaves no folder then. Raises TrainingError when a loss or
    gradient is not finite; last.npz stays as it was last saved.
    """
    _check_functions(callback=callback or never, stop=stop)
    with start(config, _checked_name(name), init_from, unknown) as training:
        return run_to_end(training, callback, stop)


def train_events(
    config: Config,
    *,
    stop: Callable[[], bool] = never,
    name: str = "run",
    init_from: Checkpoint | None = None,
    unknown: NewSymbols = "error",
) -> Iterator[Event]:
    """Train a new run, as `train` does, and yield each event when it happens.

    Nothing is done before the first event is asked for. A training whose events are no longer asked
    for stands still: close the iterator to release the run folder.
    """
    _check_functions(stop=stop)
    with start(config, _checked_name(name), init_from, unknown) as training:
        yield from training.events(stop)


def resume(
    folder: str | Path,
    *overrides: str,
    callback: Callable[[Event], object] | None = None,
    stop: Callable[[], bool] = never,
) -> TrainingResult:
    """Train the run in `folder` to its end, from its last.npz, with the same bits as if never stopped.

    `overrides` are `section.key=value`, for keys that change no result: `train.epochs=20` makes a run
    longer. `callback` and `stop` are those of `train`. Raises CheckpointError where the folder is no
    run or another process trains in it, ConfigError and DataError for what has changed since.
    """
    _check_functions(callback=callback or never, stop=stop)
    with Training.resume(folder, overrides) as training:
        return run_to_end(training, callback, stop)


def _check_functions(**given: object) -> None:
    """Raise ConfigError for what cannot be called, before a run folder is made."""
    for name, function in given.items():
        if not callable(function):
            raise ConfigError(f"{name} must be a function, not {shown(function)}")


def _checked_name(name: str) -> str:
    """The name of a run. Raises ConfigError where no folder can begin with it."""
    if not isinstance(name, str) or not name or "\0" in name:
        raise ConfigError(f"name must be text that a folder's name begins with, not {shown(name)}")
    return name


def run_to_end(
    training: Training | AtOnce,
    callback: Callable[[Event], object] | None = None,
    stop: Callable[[], bool] = never,
) -> TrainingResult:
    """Let a run that is open go to its end."""
    for event in training.events(stop):
        if callback is not None:
            callback(event)
    run, progress = training.run, training.progress
    return TrainingResult(
        folder=run.folder,
        history=list(read_metrics(run.metrics)),
        best=None if progress.best_step is None else run.best,
        last=run.last,
        best_loss=progress.best_loss,
        best_step=progress.best_step,
        reason="interrupted" if event.kind == "interrupted" else event.record["reason"],
    )
