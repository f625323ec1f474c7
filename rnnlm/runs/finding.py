"""Runs and checkpoints that a user means, named or not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import CheckpointError
from .checkpoint import read_progress
from .folder import RUNS, failed
from .history import DIVERGED, last_records

ARCHIVE = b"PK\3\4"  # begins every checkpoint


def find_checkpoint(path: Path | None) -> Path:
    """The checkpoint that a user means: a file, a run folder's best or last, or the newest run's."""
    if path is None:
        return _newest()
    try:
        if is_other_file(path):
            raise CheckpointError(f"{path}: not an rnnlm checkpoint, nor a run folder")
        if not path.is_dir():
            return path
        if found := _checkpoints(path):
            return found[0]
    except OSError as error:
        raise failed(path, "look for a checkpoint", error) from None
    raise CheckpointError(f"{path}: not a run folder: it has neither best.npz nor last.npz")


def is_other_file(path: Path) -> bool:
    """Whether a path is a file that is no checkpoint, nor meant to be one: a text, for instance."""
    with suppress(OSError):
        if path.suffix != ".npz" and path.is_file():
            with path.open("rb") as file:
                return not file.read(len(ARCHIVE)).startswith(ARCHIVE)
    return False


def find_unfinished() -> Path:
    """The folder of the newest run that is not finished, nor diverged."""
    try:
        return _newest(_unfinished).parent
    except CheckpointError:
        if RUNS.is_dir() and any(map(_has_ended, RUNS.iterdir())):
            raise CheckpointError(
                f"every run under ./{RUNS} is finished or has diverged: to make one longer, name it "
                "and raise what limits it, as in --resume RUN --set train.epochs=20"
            ) from None
        raise


def _checkpoints(run: Path) -> list[Path]:
    """The best and the last checkpoint of a run, those that exist."""
    return [path for path in (run / "best.npz", run / "last.npz") if path.is_file()]


def _unfinished(run: Path) -> list[Path]:
    """The last checkpoint of a run that can go on."""
    return [] if _has_ended(run) else [path for path in [run / "last.npz"] if path.is_file()]


def _has_ended(run: Path) -> bool:
    """Whether a run is finished or has diverged."""
    return next(last_records(run), {}).get("event") in ("end", DIVERGED)


def _newest(checkpoints: Callable[[Path], list[Path]] = _checkpoints) -> Path:
    """The checkpoint of the run that started last, even if unreadable: never an older run's."""
    found: list[tuple[float, Path]] = []
    try:
        for run in RUNS.iterdir() if RUNS.is_dir() else ():
            with suppress(OSError):  # no permission, or just deleted
                if paths := checkpoints(run):
                    found.append((_started(paths), paths[0]))
    except OSError as error:
        raise failed(RUNS, "look for runs", error) from None
    if not found:
        below = runs_below(RUNS)
        raise CheckpointError(
            f"no run with a checkpoint under ./{RUNS}: train one with rnnlm train, or name a "
            f"checkpoint or run folder{'' if below is None else f', such as those in {below}'}"
        )
    return max(found)[1]


def runs_below(folder: Path) -> Path | None:
    """A folder in this one that holds runs, as a sweep's; None without one."""
    return next((path.parent.parent for path in sorted(folder.glob("*/*/last.npz"))), None)


def _started(checkpoints: list[Path]) -> float:
    """When a run started; where no checkpoint says so, when one was last written."""
    for path in checkpoints:
        with suppress(CheckpointError):
            return read_progress(path).started
    return max(path.stat().st_mtime for path in checkpoints)
