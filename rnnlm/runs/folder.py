"""The run folder: `config.yaml`, `metrics.jsonl`, `last.npz`, `best.npz`, perhaps `data/`, a lock."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from ..config.schema import Config
from ..errors import CheckpointError
from ..storage.atomic import (
    OWN_FILE,
    atomic_write,
    is_temporary,
    make_folder,
    patiently,
    release_lock,
    remove_temporaries,
    take_lock,
)
from ..text.corpus import FILES, is_aside
from ..wording import option, quoted
from .checkpoint import read_progress
from .events import EventFile
from .history import read_metrics

RUNS = Path("runs")
LOCK = "lock"
# Content of every lock; it is written first, so the rest of the folder was made by a run
MARK = b"rnnlm locks this file while it trains in this folder\n"
BEFORE_FIRST = {LOCK, "config.yaml", "metrics.jsonl", "data"}  # made before the first checkpoint
# Files left by a prepare of version 0.1.0 that was killed
PREPARING = re.compile(rf"\.({'|'.join(map(re.escape, FILES))})\.[0-9a-f]{{8}}\.(tmp|old)")


class Run:
    """A run folder, locked by this process until `close`."""

    def __init__(self, folder: Path, lock: int, made: bool = False) -> None:
        self.folder = folder
        self._lock = lock
        self._made = made  # whether this run made the folder
        self._metrics: int | None = None
        self._events: EventFile | None = None

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
        """Make a run folder. Raises CheckpointError when the folder is not empty.

        A folder left by a start that was killed before its first checkpoint counts as empty.
        """
        try:
            return cls._create(folder, make_folder(folder))
        except (OSError, ValueError) as error:
            raise failed(folder, "make the run folder", error) from None

    @classmethod
    def create_for(cls, config: Config, name: str) -> Run:
        """Make the folder `run.dir` or, without one, as `create_unique` does."""
        folder = config.run.dir
        return cls.create_unique(name) if folder is None else cls.create(Path(folder))

    @classmethod
    def create_unique(cls, name: str) -> Run:
        """Make a new run folder `runs/<name>-<time>`, with a number where that name is taken."""
        stem = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        try:
            make_folder(RUNS)
            for n in count(1):
                folder = RUNS / (stem if n == 1 else f"{stem}-{n}")
                if not os.path.lexists(folder) and make_folder(folder):
                    break
            return cls._create(folder, True)
        except (OSError, ValueError) as error:
            raise failed(RUNS / stem, "make the run folder", error) from None

    @classmethod
    def _create(cls, folder: Path, made: bool) -> Run:
        _check_unused(folder)  # before a lock is made in a folder that is not ours
        run = cls(folder, _take_lock(folder), made)
        try:
            _check_unused(folder)  # another process may have trained here since
        except BaseException:
            run.close()
            raise
        with run.starting():
            run._clear()
            os.ftruncate(run._lock, 0)
            os.write(run._lock, MARK)
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """Open and lock an existing run folder. Raises CheckpointError when it is not one."""
        try:
            if not (folder / "last.npz").is_file():
                raise CheckpointError(
                    f"{folder}: not a run folder (no last.npz): if a run was stopped here before its "
                    "first checkpoint, rerun the original command"
                )
            # Before a lock is made in a folder that is not ours
            read_progress(folder / "last.npz")
            run = cls(folder, _take_lock(folder))
        except OSError as error:
            raise failed(folder, "open the run folder", error) from None
        remove_temporaries(folder)
        return run

    def close(self) -> None:
        """Close the metrics file and release the lock."""
        self._close_metrics()
        if self._lock is not None:
            release_lock(self._lock)
        self._lock = None  # type: ignore[assignment]

    def _close_metrics(self) -> None:
        if self._events is not None:
            self._events.close()
        if self._metrics is not None:
            os.close(self._metrics)
        self._metrics = None

    @contextmanager
    def starting(self) -> Iterator[None]:
        """Abandon the run where what is done inside this block fails."""
        try:
            yield
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Close, and delete what was made since `create` unless there is a checkpoint."""
        self._close_metrics()  # Windows deletes no open file
        with suppress(OSError):  # the folder holds something else, or is gone
            if self._lock is not None and not self.last.exists():
                self._clear()
                release_lock(self._lock, delete=self.folder / LOCK)
                self._lock = None  # type: ignore[assignment]
                if self._made:
                    self.folder.rmdir()
        self.close()

    def _clear(self) -> None:
        """Delete what a run makes before its first checkpoint, except the lock."""
        for name in ("metrics.jsonl", "config.yaml"):
            (self.folder / name).unlink(missing_ok=True)
        data = self.folder / "data"
        if data.is_dir():
            for path in filter(_is_of_data, data.iterdir()):
                path.unlink()
            data.rmdir()
        remove_temporaries(self.folder)

    def write_config(self, config: Config) -> None:
        """Write the resolved `config.yaml`."""
        data = config.to_yaml().encode()
        try:
            with atomic_write(self.folder / "config.yaml") as file:
                file.write(data)
        except OSError as error:
            raise failed(self.folder / "config.yaml", f"write {len(data)} bytes", error) from None

    def open_metrics(self, length: int, events_since: float | None = None) -> None:
        """Cut `metrics.jsonl` to `length` bytes, and open it for appending.

        What is cut off was written after the checkpoint that the run resumes; it is written again.
        Where `events_since` says when the run started, in seconds since 1970, an event file has it too.
        """
        if events_since is not None:
            self._events = EventFile(self.folder, events_since)
        try:
            have = self.metrics.lstat().st_size if self.metrics.exists() else 0
            if have < length:
                raise CheckpointError(
                    f"{self.metrics}: {have} bytes, but last.npz recorded {length}: restore the file, "
                    f"or start a new run with {option('init_from')} {quoted(str(self.last))}"
                )
            self._metrics = os.open(self.metrics, os.O_RDWR | os.O_APPEND | OWN_FILE, 0o666)
            os.lseek(self._metrics, max(0, length - 1), os.SEEK_SET)
            if length and os.read(self._metrics, 1) != b"\n":
                raise CheckpointError(
                    f"{self.metrics}: not the log that last.npz recorded: no line ends at byte "
                    f"{length}: restore the file, or start a new run with {option('init_from')} "
                    f"{quoted(str(self.last))}"
                )
            os.ftruncate(self._metrics, length)
        except OSError as error:
            raise failed(self.metrics, "open", error) from None

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one JSON object as a line."""
        assert self._metrics is not None
        line = json.dumps(record, allow_nan=False) + "\n"
        data = line.encode()
        try:
            while data:
                data = data[os.write(self._metrics, data) :]
            if self._events is not None:
                begun = self._events.begin()
                for known in read_metrics(self.metrics) if begun else (record,):
                    self._events.add(known)
        except OSError as error:
            raise failed(self.metrics, f"write {len(data)} bytes", error) from None

    def metrics_length(self) -> int:
        """The length of `metrics.jsonl` in bytes, once they are safe on disk."""
        assert self._metrics is not None
        try:
            os.fsync(self._metrics)
            return os.fstat(self._metrics).st_size
        except OSError as error:
            raise failed(self.metrics, "write", error) from None

    def prune(self, keep: int) -> None:
        """Delete all but the newest `keep` numbered checkpoints."""
        try:
            found = filter(_is_numbered, self.folder.iterdir())
            paths = sorted(found, key=lambda path: int(path.stem[5:]))
            for path in paths[: max(0, len(paths) - keep)]:
                patiently(path.unlink, True)
        except OSError as error:
            raise failed(self.folder, "delete old checkpoints", error) from None


def failed(path: Path, what: str, error: OSError | ValueError) -> CheckpointError:
    """The error for what a system does not do with a file or folder."""
    return CheckpointError(f"{path}: cannot {what}: {getattr(error, 'strerror', None) or error}")


def _check_unused(folder: Path) -> None:
    """Raise CheckpointError unless a folder is empty, or holds only what a killed start left."""
    held = {path.name: path for path in folder.iterdir() if not is_temporary(path)}
    metrics, data = held.get("metrics.jsonl"), held.get("data")
    mark = _read_mark(held[LOCK]) if LOCK in held else None
    unused = (
        not held
        or (held.keys() == {LOCK} and mark is not None and MARK.startswith(mark))
        or (
            mark == MARK
            and held.keys() <= BEFORE_FIRST
            and (metrics is None or metrics.lstat().st_size == 0)
            and (data is None or _is_prepared_alone(data))
        )
    )
    if not unused:
        way = (
            f"go on with rnnlm train --resume {quoted(str(folder))}"
            if "last.npz" in held
            else "empty it"
        )
        raise CheckpointError(
            f"{folder}: already holds something: name another run folder, or {way}"
        )


def _read_mark(lock: Path) -> bytes | None:
    """The content of a lock file; None where it is not a small file."""
    status = lock.lstat()
    if stat.S_ISREG(status.st_mode) and status.st_size <= len(MARK):
        return lock.read_bytes()
    return None


def _is_prepared_alone(data: Path) -> bool:
    """Whether a folder holds nothing but the files of a prepare, finished or not."""
    return data.is_dir() and not data.is_symlink() and all(map(_is_of_data, data.iterdir()))


def _is_of_data(path: Path) -> bool:
    """Whether a file has a name that preparing gives."""
    return path.name in FILES or is_aside(path.name) or PREPARING.fullmatch(path.name) is not None


def _take_lock(folder: Path) -> int:
    """Lock the folder for this process; the system releases it when the process ends."""
    try:
        return take_lock(folder / LOCK)
    except BlockingIOError:
        raise CheckpointError(
            f"{folder}: another process is training in this folder; wait for it or stop it"
        ) from None


def numbered(folder: Path, step: int) -> Path:
    """The path of the numbered checkpoint of `step`."""
    return folder / f"step-{step:09d}.npz"


def _is_numbered(path: Path) -> bool:
    """Whether a path is a file with a name from `numbered`."""
    found = re.fullmatch(r"step-(\d{9,18})\.npz", path.name, re.ASCII)
    return found is not None and numbered(path.parent, int(found[1])) == path and path.is_file()
