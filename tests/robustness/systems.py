"""Systems that lack what Linux has, for test_elsewhere.py: each in a process of its own, simulated."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from types import ModuleType
from typing import Any

import click.testing
import numpy as np
import tqdm
import yaml
from faults import here

LOADED = (connection, click.testing, np.random, tqdm, yaml)  # while the system still is what it is

PROC = ("/proc", "/sys")
CRLF_ON_WINDOWS = 1 << 30  # O_BINARY, here: a flag that Linux does not have

# Hiding


def load_again() -> None:
    """Where something is asked for when rnnlm is loaded."""
    for name in [name for name in sys.modules if name.split(".")[0] == "rnnlm"]:
        del sys.modules[name]


def module(name: str) -> Callable[[], None]:
    """Without a module."""
    return lambda: sys.modules.__setitem__(name, None)  # type: ignore[arg-type]


def attribute(owner: ModuleType, name: str) -> Callable[[], None]:
    """Without a function, a signal or a flag."""
    return lambda: delattr(owner, name)


def platform(name: str) -> Callable[[], None]:
    """Under another name."""
    return lambda: setattr(sys, "platform", name)


seeing_proc: list[bool] = []  # not empty while the simulation itself looks


def no_proc() -> None:
    """Without what Linux tells of processes and memory."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("open", "os.listdir", "os.scandir") and not seeing_proc:
            path = arguments[0]
            if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(PROC):
                raise FileNotFoundError(2, "not on this system", path)

    sys.addaudithook(refuse)


def no_fcntl() -> None:
    """With the locks of Windows instead: of bytes, which nobody else may read then."""
    import fcntl

    windows: Any = ModuleType("msvcrt")
    windows.LK_UNLCK, windows.LK_NBLCK = 0, 2

    def locking(descriptor: int, mode: int, size: int) -> None:
        assert size == 1
        assert os.lseek(descriptor, 0, os.SEEK_CUR) > os.fstat(descriptor).st_size
        how = fcntl.LOCK_UN if mode == windows.LK_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    windows.locking = locking
    sys.modules["msvcrt"] = windows
    module("fcntl")()


def no_open_folders() -> None:
    """Where a folder cannot be opened, and so not synced."""
    del os.O_DIRECTORY
    real = os.open

    def refusing(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments, **options)

    os.open = refusing


def newlines_of_text() -> None:
    """Where what is not opened as binary gets other newlines."""
    opened, written = os.open, os.write
    os.O_BINARY = CRLF_ON_WINDOWS  # type: ignore[attr-defined]
    as_text: set[int] = set()

    def open_(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        descriptor = opened(path, flags & ~CRLF_ON_WINDOWS, *arguments, **options)
        (as_text.discard if flags & CRLF_ON_WINDOWS else as_text.add)(descriptor)
        return descriptor

    def write(descriptor: int, data: bytes) -> int:
        crlf = data.replace(b"\n", b"\r\n") if descriptor in as_text else data
        written(descriptor, crlf)
        return len(data)

    os.open, os.write = open_, write


def open_files_stay() -> None:
    """Where a file that is open is neither deleted nor replaced, and temporary files have names."""
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # type: ignore[misc]

    def is_open(path: Any) -> bool:
        try:
            wanted = os.lstat(path)
        except FileNotFoundError:
            return False
        seeing_proc.append(True)
        try:
            for held_open in Path("/proc/self/fd").iterdir():
                try:
                    held = os.fstat(int(held_open.name))
                except OSError:
                    continue
                if os.path.samestat(held, wanted):
                    return True
        finally:
            seeing_proc.pop()
        return False

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def refusing(*paths: Any, **options: Any) -> Any:
            for path in paths[:2]:
                # What tempfile makes is opened so that it goes when it is closed
                if not Path(path).name.startswith("tmp") and is_open(path):
                    raise PermissionError(13, "used by another process", path)
            return real(*paths, **options)

        return refusing

    for name in ("unlink", "remove", "rename", "replace"):
        setattr(os, name, guarded(getattr(os, name)))


HIDDEN: dict[str, tuple[Callable[[], None], ...]] = {
    "nothing": (),
    "fcntl": (load_again, no_fcntl),
    "fork": (attribute(os, "fork"),),
    "proc": (no_proc,),
    "signals": (load_again, attribute(signal, "SIGHUP"), attribute(signal, "SIGPIPE")),
    "masks": (attribute(signal, "pthread_sigmask"),),
    "links": (attribute(os, "link"),),
    "flags": (load_again, attribute(os, "O_NOFOLLOW"), attribute(os, "O_NONBLOCK")),
    "folders": (no_open_folders,),
    "sysconf": (attribute(os, "sysconf"),),
    "pread": (attribute(os, "pread"), attribute(os, "pwrite")),
    "affinity": (attribute(os, "sched_getaffinity"),),
    "modules": (load_again, *map(module, ("termios", "resource", "pwd", "grp"))),
    "binary": (load_again, newlines_of_text),
    "open": (load_again, no_fcntl, open_files_stay),
}
SYSTEMS = {
    **HIDDEN,
    "macos": (platform("darwin"), *HIDDEN["proc"], *HIDDEN["affinity"]),
    "windows": (*{hide: None for hidden in HIDDEN.values() for hide in hidden}, platform("win32")),
}

# A trip


def elsewhere(system: str, folder: Path) -> dict[str, Any]:
    """What a trip in a new folder says, on a system that is forked from this process."""
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        try:
            for hide in SYSTEMS[system]:
                hide()
            said: dict[str, Any] = trip()
        except BaseException:
            said = {"failed": traceback.format_exc()}
        Path("said.json").write_text(json.dumps(said), "utf-8")
        os._exit(0)
    os.waitpid(pid, 0)
    answer: dict[str, Any] = json.loads((folder / "said.json").read_text("utf-8"))
    assert "failed" not in answer, answer["failed"]
    return answer


SMALL = (
    "data.path=data",
    "model.cell=rnn",
    "model.hidden_size=4",
    "model.num_layers=1",
    "train.batch_size=16",  # two lanes
    "train.seq_length=16",
    "train.threads=2",
    "train.epochs=1",
    "train.log_every=2",
    "train.eval_every=2",
    "train.checkpoint_every=2",
    "train.keep=1",
)
STOP_AT = 3  # of 5 steps; what the second evaluation made is undone, and made again


def trip() -> dict[str, Any]:
    """Prepare, train, be stopped, resume, sample, evaluate, fail, in the working folder."""
    from rnnlm.interrupts import stop
    from rnnlm.runs.folder import Run
    from rnnlm.training import engine, loop

    pools = []
    make_pool, update = engine.make_pool, loop.Training._update

    def noted(*arguments: Any) -> Any:
        pools.append(make_pool(*arguments))
        return pools[-1]

    def stopped(training: Any) -> Any:
        if training.progress.step == STOP_AT:
            signal.raise_signal(signal.SIGTERM)
        return update(training)

    engine.make_pool = noted  # type: ignore[assignment]
    loop.Training._update = stopped  # type: ignore[method-assign]
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    stop.signal = stop._came = None
    stop.catch()
    keys = [part for key in SMALL for part in ("--set", key)]
    said = [here("prepare", "text.txt", "--out", "data")]
    here("train", *keys, "--run-dir", "run", code=143)
    loop.Training._update = update  # type: ignore[method-assign]
    stop.signal = stop._came = None
    run = Run.open(Path("run"))
    here("train", "--resume", "run", code=1)  # locked
    run.close()
    here("train", "--resume", "run")
    here("sample", "run", "--seed", 1, "--length", 20, "--output", "sample.txt")
    said += [here("eval", "run", "--json")]
    # What fails leaves nothing behind
    run = Run.create(Path("gone"))
    run.open_metrics(0)
    run.abandon()
    Path("bad.txt").write_bytes(b"\xff" * 99)
    here("prepare", "bad.txt", "--out", "new", code=1)
    here("train", "--set", "data.path=bad.txt", "--run-dir", "new", code=1)
    return {
        "said": said,
        "files": sorted(str(path) for path in Path().rglob("*")),
        "pools": sorted({type(pool).__name__ for pool in pools}),
    }
