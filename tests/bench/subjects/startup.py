"""How long until something happens: `rnnlm --help`, and the first character of `rnnlm sample`."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from ..bench import Bench
from ..models import Case
from ..process import BenchError, launch
from ..table import Columns, Report, Table, whole

CASE = Case("lstm", 128)
COLUMNS: Columns = {"command": str, "ms": whole}


def run(bench: Bench) -> Report:
    """A row for each command."""
    report = Report(
        "startup: milliseconds",
        Table(COLUMNS),
        [
            f"rnnlm sample: until its first character, from a checkpoint of {CASE.label}; the others:",
            "until they end. All start a new Python, whose own start is the first row.",
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.npz")
        bench.contender("ours", "checkpoint", case=asdict(CASE), path=path)
        bench.clear()
        commands: dict[str, Callable[[], float]] = {
            "python -c pass": partial(until_end, "-c", "pass"),
            "import numpy": partial(until_end, "-c", "import numpy"),
            "rnnlm --help": partial(until_end, "-m", "rnnlm", "--help"),
            "rnnlm sample": partial(first_character, "-m", "rnnlm", "sample", path, "--prime", "A"),
        }
        if bench.worker("pytorch") is not None:
            commands["import torch"] = partial(until_end, "-c", "import torch")
        seconds = measure(bench, commands)
    for name, values in seconds.items():
        report.table.add(name, 1e3 * median(values))
    report.rounds = dict(seconds)
    return report


def measure(bench: Bench, commands: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """All commands in turns; a first round, which fills the caches, does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(1 + (2 if bench.quick else 10)):
        for name, command in commands.items():
            bench.progress(f"startup: {name}")
            bench.rest()
            taken = command()
            if number:
                seconds[name].append(taken)
    return seconds


def until_end(*arguments: str) -> float:
    """Seconds until a command has ended."""
    began = perf_counter()
    code = launch(arguments, stdout=subprocess.DEVNULL).wait()
    taken = perf_counter() - began
    if code:
        raise BenchError(f"{' '.join(arguments)}: exit code {code}")
    return taken


def first_character(*arguments: str) -> float:
    """Seconds until a command has written a character that was not in its prime."""
    began = perf_counter()
    command = [*arguments, "--no-prime", "--length", "100000"]
    process = launch(command, stdout=subprocess.PIPE, bufsize=0)
    try:
        assert process.stdout is not None
        if not process.stdout.read(1):
            raise BenchError(f"{' '.join(arguments)}: no output")
        return perf_counter() - began
    finally:
        process.kill()
        process.communicate()
