"""The runs in a folder, each at a glance, in whatever condition it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..runs.checkpoint import Glance, glance, read_progress
from ..runs.finding import is_other_file
from ..runs.folder import LOCK
from ..runs.history import DIVERGED, last_records
from ..storage.atomic import is_locked
from ..training.comparison import model_name, test_loss, unusual

TRAINING, STOPPED, FINISHED, DAMAGED = "training", "stopped", "finished", "damaged"
ENDS = {"end": FINISHED, DIVERGED: DIVERGED}  # states by the event with which a log ends


@dataclass(frozen=True)
class Listed:
    """A run. Losses are in nats per symbol; what is not known is None."""

    path: Path
    state: str  # one of those above
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # keys that are not as by default
    step: int | None = None
    best: float | None = None  # validation loss
    test: float | None = None
    started: float | None = None  # seconds since 1970
    problem: str | None = None  # of a damaged run, in one line


def listed(folder: Path) -> Iterator[Listed]:
    """The runs right below a folder, by name, or the run that it is; what else is there is passed over.

    Raises CheckpointError where the folder cannot be read.
    """
    try:
        found = sorted(filter(_is_run, [folder] if _is_run(folder) else folder.iterdir()))
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot look for runs: {error.strerror}") from None
    yield from map(_listed, found)


def runs_among(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The runs and checkpoints among what a shell's `runs/*` names, and what is neither.

    A folder of runs, as a sweep's, stands for those in it that have a checkpoint. What is not there, or
    cannot be read, is among the runs, so that whoever reads it says so.
    """
    found = {path: _runs_of(path) for path in paths}
    runs = [run for each in found.values() for run in each]
    return runs, [path for path, each in found.items() if not each]


def _runs_of(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            own = (path / "best.npz").is_file() or (path / "last.npz").is_file()
            return [path] if own else sorted(run.parent for run in path.glob("*/last.npz"))
        return [] if is_other_file(path) else [path]
    except OSError:
        return [path]


def _is_run(path: Path) -> bool:
    """Whether a run was made here, even if nothing of it but its log is left."""
    try:
        return any((path / name).is_file() for name in ("last.npz", "best.npz", "metrics.jsonl"))
    except OSError:  # no permission to look
        return True


def _listed(path: Path) -> Listed:
    locked = is_locked(path / LOCK)
    try:
        run = glance(path / "last.npz")
        model = model_name(run)
    except CheckpointError as error:
        preparing = locked and not (path / "last.npz").exists()
        return Listed(path, TRAINING) if preparing else Listed(path, DAMAGED, problem=str(error))
    p = run.progress
    ending = next(last_records(path), {})
    last = ending.get("step")
    return Listed(
        path,
        TRAINING if locked else ENDS.get(str(ending.get("event")), STOPPED),
        model,
        unusual(run.config),
        max(p.step, last) if locked and type(last) is int else p.step,
        _best(run),
        test_loss(run),
        p.started or (path / "last.npz").stat().st_mtime,
    )


def _best(run: Glance) -> float | None:
    """The best validation loss: a validation after last.npz was saved is in best.npz alone."""
    try:
        return read_progress(run.path.parent / "best.npz").best_loss
    except CheckpointError:
        return run.progress.best_loss
