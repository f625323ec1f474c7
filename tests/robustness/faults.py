"""Faults, for test_faults.py and soak.py: trainings in processes of their own, broken on purpose.

As a script it is such a process: `python tests/robustness/faults.py HANDICAP VALUE ARGUMENTS...` is
`rnnlm ARGUMENTS...` with something against it (see HANDICAPS).
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parent.parent.parent
TIMINGS = {"seconds", "symbols_per_second"}
# what a checkpoint says of times and places, and of a log whose timings are of other lengths
ELSEWHERE = {"progress": ("seconds", "started", "metrics_bytes"), "data": ("folder",)}
PLACES = {"data": ("path",), "run": ("dir",), "train": ("threads",)}  # in a config


# Comparing


def differences(a: Path, b: Path) -> list[str]:
    """In what two run folders differ, timings and places aside; nothing where they are equal."""
    found = [name for name in ("last.npz", "best.npz") if _arrays(a / name) != _arrays(b / name)]
    if _lines(a) != _lines(b):
        found.append("metrics.jsonl")
    if _config((a / "config.yaml").read_text()) != _config((b / "config.yaml").read_text()):
        found.append("config.yaml")
    names = [{p.name for p in folder.iterdir() if p.suffix != ".npz"} for folder in (a, b)]
    return found + sorted(names[0] ^ names[1])


def same_content(a: Path, b: Path) -> bool:
    """Whether two checkpoints hold the same, to NumPy."""
    try:
        return _arrays(a) == _arrays(b)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return False


def saved_step(run: Path) -> int:
    """The step of a run's last.npz."""
    with (run / "last.npz").open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        step: int = json.loads(str(file["meta"]))["progress"]["step"]
    return step


def _lines(folder: Path) -> list[dict[str, Any]]:
    """The records of a run, each of them whole, and none of them twice."""
    text = (folder / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    records = [json.loads(line) for line in text.splitlines()]
    keys = [(r["event"], r.get("split"), r["step"]) for r in records]
    assert len(set(keys)) == len(keys), "a step appears twice"
    return [{k: v for k, v in record.items() if k not in TIMINGS} for record in records]


def _arrays(path: Path) -> dict[str, Any] | None:
    """Everything in a checkpoint, as NumPy reads it."""
    if not path.exists():
        return None
    with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
        content: dict[str, Any] = {name: file[name] for name in file.files}
    meta = json.loads(str(content.pop("meta")))
    for part, names in ELSEWHERE.items():
        for name in names:
            del meta[part][name]
    del meta["arrays"], meta["environments"]
    config = _config(str(content.pop("config")))
    bits = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in content.items()}
    return {**bits, "meta": meta, "config": config}


def _config(text: str) -> Any:
    config = yaml.safe_load(text)
    for section, names in PLACES.items():
        for name in names:
            del config[section][name]
    return config


# Processes


def command(*args: object, handicap: tuple[str, object] | None = None) -> list[str]:
    """The command line of `rnnlm`, or of this script."""
    program = ["-m", "rnnlm"] if handicap is None else [__file__, *map(str, handicap)]
    return [sys.executable, *program, *map(str, args)]


def environment() -> dict[str, str]:
    """Of a process of its own: this tree's package, and warnings that nobody may overlook."""
    warnings = "error,ignore::ResourceWarning"  # of what a signal cuts short
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": warnings}


def start(
    *args: object, handicap: tuple[str, object] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """A command that runs while the caller goes on."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        command(*args, handicap=handicap), **{"env": environment(), **pipes, **options}
    )


def finish(process: subprocess.Popen[str], timeout: float = 60) -> tuple[int, str, str]:
    """Wait for the end: exit code, output and errors, in which there is never a traceback.

    But for that of a KeyboardInterrupt while Python itself is loading.
    """
    try:
        out, err = process.communicate(timeout=timeout)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    out, err = out or "", err or ""  # None where the caller reads it, or nobody
    assert "Traceback" not in err or err.rstrip(": \n").endswith("KeyboardInterrupt"), err
    return process.returncode, out, err


def rnnlm(
    *args: object, code: int = 0, handicap: tuple[str, object] | None = None, **options: Any
) -> tuple[str, str]:
    """A command from start to end, which must be with this exit code; its output and errors."""
    ended, out, err = finish(start(*args, handicap=handicap, **options))
    assert ended == code, (ended, out, err)
    if code == 1:
        assert err.splitlines()[-1].startswith("Error: "), err
    return out, err


def here(*args: object, code: int = 0) -> str:
    """A command that nothing befalls, in this process and so without its start; what it said."""
    from click.testing import CliRunner

    from rnnlm.cli.main import cli

    done = CliRunner().invoke(cli, list(map(str, args)), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> bool:
    """Wait until something is so; False where the process ends before."""
    while not condition():
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return True


# Damage


def damage(path: Path, rng: random.Random) -> None:
    """Flip a bit, cut the end off, empty a block or put something in."""
    content = bytearray(path.read_bytes())
    at = rng.randrange(len(content))
    match rng.choice(("flip", "cut", "empty", "insert")):
        case "flip":
            content[at] ^= 1 << rng.randrange(8)
        case "cut":
            del content[at:]
        case "empty":
            block = content[at : at + 512]
            content[at : at + 512] = bytes(byte ^ 0x55 for byte in block)
        case "insert":
            content[at:at] = rng.randbytes(rng.randint(1, 50))
    path.write_bytes(content)


# Handicaps: this file as a script


def _slow(seconds: str) -> None:
    """Every sync takes a while, so that a save does."""

    def fsync(descriptor: int) -> None:
        time.sleep(float(seconds))

    os.fsync = fsync


def _small_files(size: str) -> None:
    """No file may become longer."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))


def _little_memory(size: str) -> None:
    """No more than so many bytes of memory."""
    resource.setrlimit(resource.RLIMIT_AS, (int(size), int(size)))


def _bound_by_modes(_: str) -> None:
    """Permissions hold for this process, root's too (as Linux has it)."""
    if os.geteuid() == 0:
        import ctypes

        drop_from_bounding_set = 24
        for capability in (1, 2):  # of overriding permissions, of reading whatever they say
            ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)
        os.execve(sys.executable, [sys.executable, "-m", "rnnlm", *sys.argv[3:]], os.environ)


def _meet(moment: str) -> None:
    """Before it writes anything it waits for this moment; and any time that it shows is the same."""
    waited = False

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal waited
        if not waited and _writes(event, args):
            waited = True
            time.sleep(max(0, float(moment) - time.time()))

    time.strftime = lambda *_: "20010203-040506"
    sys.addaudithook(hook)


def _host_threads(folder: str) -> None:
    """Other threads of this process train, evaluate and draw, and their BLAS may use threads.

    What they get must be what they got alone.
    """
    sys.path.insert(0, str(ROOT))
    from rnnlm import Checkpoint, evaluate, generate, make_config, train
    from rnnlm.backend import blas

    text, run = Path(folder, "text.txt"), Path(folder, "run")
    text.parent.mkdir(exist_ok=True)
    text.write_text("".join(f"{n} sheep, {n * n % 97} wolves\n" for n in range(400)))
    control = blas._control()
    if control is not None:
        control[1](4)
    keys = (f"data.path={text}", f"run.dir={run}", "model.hidden_size=96", "model.num_layers=1")
    config = make_config(
        None, *keys, "train.epochs=1", "train.batch_size=16", "train.seq_length=32"
    )

    def trained() -> object:
        shutil.rmtree(run, ignore_errors=True)
        train(config)
        return Checkpoint.load(run / "last.npz").params.flat.tobytes()

    alone: dict[str, object] = {"train": trained()}
    checkpoint = Checkpoint.load(run / "last.npz")
    jobs: dict[str, Callable[[], object]] = {
        "train": trained,
        "evaluate": lambda: evaluate(checkpoint, text.read_text()[:2000]),
        "generate": lambda: generate(checkpoint, length=100),
    }

    def repeat(name: str, times: Iterable[object]) -> None:
        for _ in times:
            try:
                differs = jobs[name]() != alone[name]
            except RuntimeError as error:
                if "shutdown" in str(error):  # Python has begun to end, and makes no more threads
                    return
                raise
            if differs:
                os.write(2, f"{name} in a thread is not what it is alone\n".encode())
                os._exit(70)

    for name, job in jobs.items():
        alone[name] = alone.get(name) or job()
    among_each_other = [threading.Thread(target=repeat, args=(name, range(3))) for name in jobs]
    for thread in among_each_other:
        thread.start()
    for thread in among_each_other:
        thread.join()
    for name in jobs:  # and beside the main thread, until that ends
        times = iter(threading.main_thread().is_alive, False)
        threading.Thread(target=repeat, args=(name, times)).start()


WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


def _writes(event: str, args: tuple[Any, ...]) -> bool:
    """Whether an audit event is one of an operation that changes files, other than Python's own."""
    made = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
    return (bool(made) or event in WRITES) and ".pyc" not in str(args[0])


def _die(number: str) -> None:
    """A SIGKILL at the operation of this number on files; a half-done one, where that can be."""
    tick = Ticks(int(number))

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if _writes(event, args):
            tick()

    write, write_array = os.write, np.lib.format.write_array

    def half_write(descriptor: int, data: bytes) -> int:
        if tick.is_last():
            write(descriptor, data[: len(data) // 2])
        tick()
        return write(descriptor, data)

    def flushed_array(file: Any, *args: Any, **options: Any) -> None:
        write_array(file, *args, **options)
        file._fileobj.flush()  # so that the death leaves so much of the archive
        tick()

    os.write = half_write
    np.lib.format.write_array = flushed_array
    os.fsync = lambda descriptor: tick()  # what is killed is the process, not the machine
    sys.addaudithook(hook)


class Ticks:
    """Counts operations; kills the process at the last one."""

    def __init__(self, last: int) -> None:
        self.count, self.last = 0, last

    def is_last(self) -> bool:
        """Whether the next operation is the last one."""
        return self.count + 1 == self.last

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


HANDICAPS: dict[str, Callable[[str], None]] = {
    "slow": _slow,
    "small-files": _small_files,
    "little-memory": _little_memory,
    "bound-by-modes": _bound_by_modes,
    "die": _die,
    "meet": _meet,
    "host-threads": _host_threads,
}


# A death at every operation


def _in_child(args: list[str], handicap: Callable[[], object]) -> int:
    """Run a command in a fork of this process; its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            handicap()
            from rnnlm.cli.main import cli

            cli(args, prog_name="rnnlm")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 71
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_everywhere(folder: Path, args: list[str], stride: int, seed: int) -> Iterator[str]:
    """Kill a training at one operation after another and go on with it; what was not as it must be.

    Each run is killed a second time, somewhere in the session that goes on with it.
    """
    unhindered = folder / "unhindered"
    assert _in_child(["train", *args, "--run-dir", str(unhindered)], lambda: _die("0")) == 0
    rng = random.Random(seed)
    for number in range(1, 10_000, stride):
        run = folder / f"killed-{number}"
        start_again = ["train", *args, "--run-dir", str(run)]
        codes = [_in_child(start_again, lambda n=number: _die(str(n)))]  # type: ignore[misc]
        if codes == [0]:  # it has no operation of this number
            yield f"{number - 1} operations"
            return
        second = rng.randint(1, number)
        for last in (str(second), "0"):
            resume = ["train", "--resume", str(run)] if (run / "last.npz").exists() else start_again
            codes.append(_in_child(resume, lambda last=last: _die(last)))  # type: ignore[misc]
        if codes[0] != -9 or codes[1] not in (-9, 0) or codes[2] != 0:
            yield f"killed at {number} and {second}: {codes}"
        elif differs := differences(unhindered, run):
            yield f"killed at {number} and {second}: {differs}"


def main() -> None:
    """Run rnnlm with a handicap, or kill it everywhere."""
    sys.path.insert(0, str(ROOT))
    name, value = sys.argv[1:3]
    if name == "die-everywhere":
        from rnnlm.backend import blas

        blas.hold_from_start()
        import tqdm  # noqa: F401  # here, so that its children need not

        import rnnlm.training.start  # noqa: F401  # and the same for all of rnnlm

        with blas.one_thread():
            blas.rows_at_once()
        blas.identity()

        stride, seed = value.split(",")
        for line in die_everywhere(Path(sys.argv[3]), sys.argv[4:], int(stride), int(seed)):
            print(line)
        return
    HANDICAPS[name](value)
    from rnnlm.__main__ import main as rnnlm_main

    sys.argv = ["rnnlm", *sys.argv[3:]]
    rnnlm_main()


if __name__ == "__main__":
    main()
