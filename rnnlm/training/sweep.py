"""Many runs in one folder, in processes side by side, and how they stand.

    FOLDER/base.yaml        the base config, which stays
    FOLDER/data/            each text, prepared once for all runs that read it
    FOLDER/<name of a run>/ its run folder
    FOLDER/now/             how far each run is, and whether all are to stop; only while it goes on

The processes know of each other only through these files, so that they may be on several machines that
share the folder. What is finished, and what a run is to go on with, follows from the run folders alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import dropwhile
from pathlib import Path
from typing import Any

from .. import interrupts
from ..assembly import read_config
from ..backend.executors import under_mpi
from ..backend.launchers import neighbours
from ..backend.workers import available_cores
from ..config.schema import Config, DataConfig, differences
from ..config.tree import read_file
from ..corpora.fetch import local
from ..errors import CheckpointError, ConfigError, RnnlmError
from ..runs.checkpoint import Glance, glance
from ..runs.finding import find_checkpoint
from ..runs.folder import LOCK
from ..runs.history import is_finished
from ..runs.run_data import is_prepared, open_data
from ..storage.atomic import (
    as_path,
    atomic_write,
    is_locked,
    make_folder,
    release_lock,
    remove_temporaries,
    take_lock,
)
from ..text.corpus import is_unfinished
from .counting import counts
from .grid import Setting, Sweep
from .resume import LIMITS, RESUMABLE
from .start import preview, resume_or_start

FREE = RESUMABLE - {*LIMITS, "data.path"}  # keys of the base that may change
POLL = 0.2  # seconds between two looks at the runs
TOLD = 0.5  # seconds between two reports of a run
SAVING = 30.0  # seconds that a run waits for a process which another sweep left in its folder

FINISHED, STOPPED, FAILED = "finished", "stopped", "failed"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `finished`, `stopped` or `failed`, then with its error."""

    name: str
    state: str
    error: str | None = None


@dataclass(frozen=True)
class Job:
    """A run for a worker."""

    name: str
    config: Config
    now: Path  # the folder
    workers: int | None  # that share the cores of the machine; None: as the launcher of MPI says


class OpenSweep:
    """The folder of a sweep, locked by this process until the `with` ends.

    Raises CheckpointError where the folder holds something else or another process has it, and
    ConfigError where it is of another base.
    """

    def __init__(self, sweep: Sweep, folder: Path, workers: int | None = None) -> None:
        """`workers`: None: as many as there are cores or, under MPI, processes that wait."""
        self.sweep, self.folder = sweep, as_path(folder, CheckpointError)
        self.workers = workers_for(sweep, workers)
        self._now = folder / "now"
        try:
            made = make_folder(folder)
            if not made and not (folder / "base.yaml").is_file():
                held = [path.name for path in folder.iterdir()]
                if set(held) - {LOCK}:
                    raise CheckpointError(
                        f"{folder}: already holds something that is no sweep: name another folder"
                    )
            self._lock = take_lock(folder / LOCK)
        except BlockingIOError:
            raise CheckpointError(
                f"{folder}: another process runs this sweep; wait for it or stop it"
            ) from None
        except OSError as error:
            raise CheckpointError(
                f"{folder}: cannot hold the runs of a sweep: {error.strerror}"
            ) from None
        try:
            self._check_base()
        except BaseException:
            release_lock(self._lock)
            raise

    def __enter__(self) -> OpenSweep:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
        release_lock(self._lock)

    def _check_base(self) -> None:
        path = self.folder / "base.yaml"
        remove_temporaries(self.folder)
        if path.is_file() and any(self.folder.glob("*/last.npz")):  # without a run all may change
            old = read_config(read_file(path), str(path))
            for key, before, after in differences(old, self.sweep.base):
                if key not in FREE:
                    raise ConfigError(
                        f"{self.folder}: cannot go on with {key} of the base changed from {before} to "
                        f"{after}: set it back, or name another folder with --out"
                    )
        with atomic_write(path) as file:
            file.write(self.sweep.base.to_yaml().encode())

    def state(self, name: str) -> str:
        """How a run stands, as `standing` says."""
        return standing(self.folder / name)

    def events(
        self, executor: Callable[[int], Executor], stop: Callable[[], bool]
    ) -> Iterator[Outcome | None]:
        """Train what is not finished. Yields how each run ends, and None at least every POLL seconds.

        Once `stop` returns true, or a worker gets a signal, all runs save and stop. Before the first
        begins, texts are prepared, and all settings checked: raises DataError, or ConfigError that
        names the setting.
        """
        jobs, workers = self._jobs(), self.workers
        yield None
        stopped = stop()
        while jobs and not stopped:
            self._clear()
            make_folder(self._now)
            dead: set[str] = set()
            pool = executor(min(workers, len(jobs)))
            try:
                futures = {pool.submit(train_one, job): job for job in jobs.values()}
                while futures:
                    done, _ = wait(futures, POLL, "FIRST_COMPLETED")
                    begun = {told["name"] for told in self.running()}
                    for future in done:
                        outcome = _outcome(futures.pop(future), future)
                        if outcome is None:  # a process died, and the pool with it
                            continue
                        stopped |= outcome.state == STOPPED
                        del jobs[outcome.name]
                        yield outcome
                    stopped = stopped or stop()
                    if stopped:
                        (self._now / "stop").touch()
                    if any(isinstance(future.exception(), BrokenExecutor) for future in done):
                        dead = set() if stopped else (begun & jobs.keys()) or set(jobs)
                        break
                    yield None
            finally:
                (self._now / "stop").touch()
                pool.shutdown(wait=True, cancel_futures=True)
            if dead and workers > 1:  # it is not known whose process died: they go on one by one
                workers = 1
                continue
            for name in dead:
                del jobs[name]
                yield Outcome(name, FAILED, "its process was killed, perhaps for want of memory")

    def running(self) -> Iterator[dict[str, Any]]:
        """What each run that is trained now says: `name`, `step`, `total`, `epoch`, `loss`, `left`."""
        with suppress(OSError):
            for path in sorted(self._now.glob("*.json")):
                with suppress(OSError, ValueError):
                    yield json.loads(path.read_text("utf-8"))

    def done(self, setting: Setting) -> list[Glance]:
        """The runs of a setting that are finished. Raises CheckpointError for damaged ones."""
        runs = (self.folder / name for name in setting.runs)
        return [glance(find_checkpoint(run)) for run in runs if is_finished(run)]

    def _clear(self) -> None:
        with suppress(OSError):
            for path in self._now.iterdir():
                path.unlink()
            self._now.rmdir()

    def _jobs(self) -> dict[str, Job]:
        """What there is to train, in the order of the file."""
        jobs = {}
        alone = under_mpi() is None
        for setting in self.sweep.settings:
            new = [name for name in setting.runs if self.state(name) != FINISHED]
            for number, name in enumerate(new):
                config = self._with_shared_text(setting.runs[name])
                if not number:
                    check(setting, config)
                config = config.with_values("run", dir=str(self.folder / name))
                jobs[name] = Job(name, config, self._now, self.workers if alone else None)
        return jobs

    def _with_shared_text(self, config: Config) -> Config:
        """A config that reads the text from a prepared folder, which is made where it is missing."""
        d = config.data
        if d.path is not None and not is_prepared(Path(local(d.path))):
            read = {**vars(d), "reverse": False}  # one folder serves both directions
            folder = self.folder / "data" / sha256(repr(read).encode()).hexdigest()[:8]
            if is_unfinished(folder) or not is_prepared(folder):
                make_folder(folder.parent)
                open_data(config.with_values("data", reverse=False), folder)
            config = replace(config, data=DataConfig(path=str(folder), reverse=d.reverse))
        given = {key for key in config.given if not key.startswith("data.")}
        return replace(config, given=frozenset(given | {"data.path"}))


def _outcome(job: Job, future: Future[str]) -> Outcome | None:
    """How a job ended; None where its process did."""
    try:
        return Outcome(job.name, future.result())
    except BrokenExecutor:
        return None
    except RnnlmError as error:
        said = str(error)
    except MemoryError:
        said = "not enough memory for this model, batch and window"
    except Exception as error:  # whatever it is, the other runs go on
        said = f"{type(error).__name__}: {error}"
    return Outcome(job.name, FAILED, " ".join(said.split()))


def standing(run: Path) -> str:
    """How the run in a folder stands: `finished`, `stopped`, or `new`."""
    if is_finished(run):
        return FINISHED
    return STOPPED if (run / "last.npz").is_file() else "new"


def workers_for(sweep: Sweep, given: int | None) -> int:
    """How many workers a sweep has. Raises ConfigError where MPI's are more or fewer than is given."""
    waiting = under_mpi()
    if waiting is not None and given is not None:
        raise ConfigError(
            f"mpiexec started {waiting} workers beside the process that leads: leave --workers out"
        )
    return waiting or given or max(1, min(available_cores(), len(sweep.runs)))


def check(setting: Setting, config: Config) -> list[str]:
    """Lines that say what the runs of a setting will do. Raises ConfigError that names the setting."""
    try:
        lines = list(preview(config))
    except ConfigError as error:
        raise ConfigError(f"setting {setting.name}: {error}") from None
    return list(dropwhile(lambda line: not line.startswith("data: "), lines))  # after the config


def train_one(job: Job) -> str:
    """Start or go on with a run, in this process: to its end, or until all are to stop.

    Returns `finished` or `stopped`, and raises what training does.
    """
    asked = _Asked(job.now)
    if asked():
        return STOPPED
    config = job.config
    if not counts(config):
        cores = available_cores() // (job.workers or neighbours())
        config = config.with_values("train", threads=config.train.threads or max(1, cores))
        config = replace(config, given=config.given | {"train.threads"})
    told = job.now / f"{job.name}.json"
    try:
        _tell(told, {"name": job.name})
        until = time.monotonic() + SAVING
        while is_locked(job.now.parent / job.name / LOCK) and time.monotonic() < until:
            time.sleep(POLL)
        if (opened := resume_or_start(config, job.name)) is None:
            return FINISHED
        with opened as training:
            first, began, last = training.progress.step, time.monotonic(), 0.0
            for event in training.events(asked):
                now = time.monotonic()
                if event.kind == "step" and now - last >= TOLD:
                    last, r = now, event.record
                    left = (now - began) / (r["step"] - first) * (training.total_steps - r["step"])
                    about = {key: r[key] for key in ("step", "epoch", "loss")}
                    total = {"total": training.total_steps, "left": left}
                    _tell(told, {"name": job.name, **about, **total})
        return STOPPED if event.kind == "interrupted" else FINISHED
    finally:
        with suppress(OSError):
            told.unlink()


def _tell(path: Path, about: Mapping[str, Any]) -> None:
    """Write it where the parent reads it, who passes over what is half written."""
    with suppress(OSError):
        path.write_text(json.dumps(about), "utf-8")


class _Asked:
    """Whether a run is to stop: after a signal, when all are, or where its sweep is over."""

    def __init__(self, now: Path) -> None:
        self._now, self._looked, self._found = now, 0.0, False

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self._found and now - self._looked >= POLL:
            self._looked = now
            self._found = not self._now.is_dir() or (self._now / "stop").exists()
        return self._found or interrupts.stop()
