"""The run folder: `config.yaml`, `metrics.jsonl`, `last.npz`, `best.npz`, perhaps `data/`, a lock."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .checkpoint import Checkpoint
from .config import Config
from .errors import CheckpointError, RnnlmError
from .files import atomic_write

RUNS = Path("runs")


class Run:
    """A run folder that this process holds the lock of until `close`."""

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self._lock = lock
        self._metrics: int | None = None

    @property
    def last(self) -> Path:
        return self.folder / "last.npz"

    @property
    def best(self) -> Path:
        return self.folder / "best.npz"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @classmethod
    def create(cls, folder: Path) -> Run:
        """Make a run folder. Raises CheckpointError when it already holds something."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            run = cls(folder, _take_lock(folder))
            if any(entry.name != "lock" for entry in folder.iterdir()):
                run.close()
                raise CheckpointError(
                    f"{folder}: already holds something: give another --run-dir, or go on with "
                    f"rnnlm train --resume {folder}"
                )
        except OSError as error:
            raise _failed(folder, "make the run folder", error) from None
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Take hold of an existing run folder. Raises CheckpointError when it is not one."""
        if not (folder / "last.npz").is_file():
            raise CheckpointError(f"{folder}: not a run folder: it has no last.npz")
        try:
            return cls(folder, _take_lock(folder))
        except OSError as error:
            raise _failed(folder, "open the run folder", error) from None

    def close(self) -> None:
        """Let go of the lock and the metrics file."""
        for descriptor in (self._metrics, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._metrics, self._lock = None, None  # type: ignore[assignment]

    def abandon(self) -> None:
        """Take back a folder that `create` made and in which nothing was trained yet."""
        self.close()
        if not self.last.exists():
            for leftover in (self.metrics, self.folder / "config.yaml", self.folder / "lock"):
                leftover.unlink(missing_ok=True)
            with suppress(OSError):  # it holds something else: not ours to delete
                for data in (*(self.folder / "data").glob("*"),):
                    data.unlink()
                (self.folder / "data").rmdir()
            with suppress(OSError):
                self.folder.rmdir()

    def write_config(self, config: Config) -> None:
        """Write `config.yaml` as resolved."""
        try:
            with atomic_write(self.folder / "config.yaml") as file:
                file.write(config.to_yaml().encode())
        except OSError as error:
            raise _failed(self.folder / "config.yaml", "write", error) from None

    def open_metrics(self, length: int) -> None:
        """Open `metrics.jsonl` for appending, after dropping what stands beyond `length` bytes.

        What is beyond was written after the checkpoint that a run goes on from, and is written again.
        """
        try:
            self._metrics = os.open(self.metrics, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            have = os.fstat(self._metrics).st_size
            if have < length:
                raise CheckpointError(
                    f"{self.metrics}: {have} bytes, but last.npz recorded {length}: put the file back, "
                    f"or start a new run with --init-from {self.last}"
                )
            os.ftruncate(self._metrics, length)
        except OSError as error:
            raise _failed(self.metrics, "open", error) from None

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON object as a line."""
        assert self._metrics is not None
        line = json.dumps(record, allow_nan=False) + "\n"
        data = line.encode()
        try:
            while data:
                data = data[os.write(self._metrics, data) :]
        except OSError as error:
            raise _failed(self.metrics, "write", error) from None

    def metrics_length(self) -> int:
        """Bytes of `metrics.jsonl` that are safe on the disk."""
        assert self._metrics is not None
        try:
            os.fsync(self._metrics)
            return os.fstat(self._metrics).st_size
        except OSError as error:
            raise _failed(self.metrics, "write", error) from None

    def prune(self, keep: int) -> None:
        """Delete all but the newest `keep` numbered checkpoints."""
        numbered = sorted(self.folder.glob("step-*.npz"))
        for path in numbered[: max(0, len(numbered) - keep)]:
            path.unlink(missing_ok=True)


def _failed(path: Path, what: str, error: OSError) -> CheckpointError:
    return CheckpointError(f"{path}: cannot {what}: {error.strerror or error}")


def _take_lock(folder: Path) -> int:
    """Lock the folder for this process; the system lets go of the lock when the process ends."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise CheckpointError(
            f"{folder}: another process is training in this folder; wait for it or stop it"
        ) from None
    return descriptor


def new_folder(config: Config, name: str) -> Path:
    """`run.dir`, or `runs/<config name>-<time>`, made unique by a number where needed."""
    if config.run.dir is not None:
        return Path(config.run.dir)
    stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, n = RUNS / stem, 1
    while folder.exists():
        n += 1
        folder = RUNS / f"{stem}-{n}"
    return folder


def find_checkpoint(path: Path | None) -> Path:
    """The checkpoint that a user means: a file, a run folder's best or last, or the newest run's."""
    if path is None:
        return _newest()
    if path.is_dir():
        for candidate in (path / "best.npz", path / "last.npz"):
            if candidate.is_file():
                return candidate
        raise CheckpointError(f"{path}: not a run folder: it has neither best.npz nor last.npz")
    return path


def _newest() -> Path:
    found: list[tuple[float, Path]] = []
    for path in (*RUNS.glob("*/best.npz"), *RUNS.glob("*/last.npz")):
        if not any(path.parent == other.parent for _, other in found):
            with suppress(RnnlmError):
                found.append((Checkpoint.load(path).progress.started, path))
    if not found:
        raise CheckpointError(
            f"no run with a readable checkpoint under ./{RUNS}: train one with rnnlm train, or name a "
            "checkpoint or run folder"
        )
    return max(found)[1]


def numbered(folder: Path, step: int) -> Path:
    """Where a numbered checkpoint of `step` goes."""
    return folder / f"step-{step:09d}.npz"


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a torn last line is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)
