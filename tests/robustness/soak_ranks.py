"""Soak of ranks: `make soak-ranks`. A run on four ranks is killed in several ways and goes on, on one
to three, again and again; at its end it must be equal to a run of one process, to the bit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from faults import ROOT, differences

sys.path.insert(0, str(ROOT / "tests" / "support"))
from ranks import launched

KEYS = (
    f"data.path={ROOT / 'data' / 'ferry.txt'}",
    "model.hidden_size=64",
    "model.dropout=0.1",
    "train.batch_size=96",
    "train.seq_length=16",
    "train.epochs=2",
    "train.eval_every=40",
    "train.log_every=7",
    "train.sample_every=1 epoch",
    "train.checkpoint_every=9",
)
MOST_RECORDS = 8  # that a session makes, of nearly 30 of the whole run
GONE = 20.0  # seconds in which all processes of a run must have ended, however it was ended
WORDS = [word for key in KEYS for word in ("--set", key)]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def processes(run: Path) -> list[int]:
    """The Python processes that train in a run folder: ranks and their workers."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(OSError):
                words = (path / "cmdline").read_bytes().split(b"\0")
                if words[0] == sys.executable.encode() and str(run).encode() in words:
                    found.append(int(path.name))
    return sorted(found)


def kill_a_rank(launcher: subprocess.Popen[str], run: Path, rng: random.Random) -> None:
    """One rank, or one of its workers."""
    if found := processes(run):
        with suppress(ProcessLookupError):
            os.kill(rng.choice(found), signal.SIGKILL)


def kill_all(launcher: subprocess.Popen[str], run: Path, rng: random.Random) -> None:
    """All at the same moment."""
    for pid in [launcher.pid, *processes(run)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_the_launcher(launcher: subprocess.Popen[str], run: Path, rng: random.Random) -> None:
    """`mpiexec` alone: it cannot tell the ranks."""
    launcher.kill()


def terminate(launcher: subprocess.Popen[str], run: Path, rng: random.Random) -> None:
    """As a job's end does."""
    launcher.terminate()


def interrupt(launcher: subprocess.Popen[str], run: Path, rng: random.Random) -> None:
    """As Ctrl-C does."""
    launcher.send_signal(signal.SIGINT)


ENDS = (kill_a_rank, kill_a_rank, kill_all, kill_the_launcher, terminate, interrupt)


def session(run: Path, ranks: int) -> subprocess.Popen[str]:
    """Start the run on so many ranks, or go on with it."""
    there = (run / "last.npz").exists()
    words = ["--resume", str(run)] if there else ["--run-dir", str(run), *WORDS]
    program = [*(launched(ranks) if ranks > 1 else [sys.executable]), "-m", "rnnlm", "train"]
    threads = ["--set", "train.threads=1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*program, *words, *threads], env=ENVIRONMENT, **pipes)  # type: ignore[call-overload,no-any-return]


def wait_until_gone(run: Path) -> bool:
    """Whether all processes of a run end in time."""
    until = time.monotonic() + GONE
    while found := processes(run):
        if time.monotonic() > until:
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return False
        time.sleep(0.05)
    return True


def records(run: Path) -> int:
    """How many lines metrics.jsonl has."""
    with suppress(OSError):
        return (run / "metrics.jsonl").read_bytes().count(b"\n")
    return 0


def wait_for_records(process: subprocess.Popen[str], run: Path, until: int) -> None:
    """Until there are so many records, or the session ends: however fast the machine is."""
    while records(run) < until and process.poll() is None:
        time.sleep(0.01)


def cycle(folder: Path, whole: Path, number: int, faults: Counter[str]) -> str:
    """One run under fire; what is wrong with it, or nothing."""
    rng, run = random.Random(number), folder / f"run-{number}"
    for ranks in (4, rng.randint(1, 3), rng.randint(2, 3)):
        there = records(run)
        process, end = session(run, ranks), rng.choice(ENDS)
        wait_for_records(process, run, there + rng.randint(1, MOST_RECORDS))
        time.sleep(rng.uniform(0, 0.5))
        end(process, run, rng)
        try:
            said = process.communicate(timeout=GONE)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            wait_until_gone(run)
            return f"{end.__name__} on {ranks} ranks: hangs"
        faults[end.__name__ if process.returncode else "too late"] += 1
        if not wait_until_gone(run):
            return f"{end.__name__} on {ranks} ranks: processes stay"
        if "Traceback" in said:
            return f"{end.__name__} on {ranks} ranks: {said}"
        asked = end in (terminate, interrupt) and "stopping after" in said
        finished = "next: rnnlm sample" in said  # the signal came in the last step
        if asked and not finished and "to go on: rnnlm train --resume" not in said:
            return f"{end.__name__} on {ranks} ranks: nothing says how to go on: {said}"
    process = session(run, rng.randint(1, 3))
    said = process.communicate()[0]
    if process.returncode:
        return f"the last session: {said}"
    differs = differences(whole, run)
    return f"differs in {differs}" if differs else ""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Soak of ranks.")
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faults: Counter[str] = Counter()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = session(folder / "whole", 1)
        assert process.communicate()[1] is None and process.returncode == 0
        for number in range(options.seed, options.seed + options.cycles):
            said = cycle(folder, folder / "whole", number, faults)
            wrong += bool(said)
            print(f"cycle {number}: {said or 'equal'}", flush=True)
    print(dict(faults))
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
