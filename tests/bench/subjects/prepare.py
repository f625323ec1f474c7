"""Preparing a large text: speed and peak memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from statistics import median

from rnnlm.backend.memory import available_memory

from ..bench import Bench
from ..corpora import SkipError, corpus
from ..table import Columns, Report, Table, tenths, times, whole

SIZE = 200_000_000
QUICK_SIZE = 20_000_000
MEMORY = 20  # bytes that the dict-lookup encoder takes for a character, at most
DISK = 5  # bytes of text and ids for a character, at most

ENCODERS = {"ours": "rnnlm", "dict_lookup": "dict lookup"}
COLUMNS: Columns = {
    "encoder": str,
    "MB/s": tenths,
    "peak MB": whole,
    "speed of rnnlm": times,
    "memory": times,
}


def run(bench: Bench) -> Report:
    """A row for each encoder; a new process for each round, so that its peak is its own."""
    size = QUICK_SIZE if bench.quick else SIZE
    source = corpus("text8-prefix.txt")
    have = available_memory()
    if have is not None and have < MEMORY * size:
        raise SkipError(
            f"the dict-lookup encoder may need {MEMORY * size / 1e9:.1f} GB of free memory"
        )
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in ENCODERS}
    with tempfile.TemporaryDirectory() as folder:
        if shutil.disk_usage(folder).free < DISK * size:
            raise SkipError(f"it needs {DISK * size / 1e9:.1f} GB of disk for temporary files")
        text = repeated(source, Path(folder) / "text.txt", size)
        for number in range(1 if bench.quick else 3):
            for name in ENCODERS:
                bench.progress(f"prepare: round {number + 1}, {ENCODERS[name]}")
                out = Path(folder) / "out"
                bench.fresh(name)
                task = bench.contender(name, "prepare", text=str(text), folder=str(out))
                assert task is not None  # both need no more than rnnlm itself
                bench.rest()
                rounds[name].append(task.turn())
                shutil.rmtree(out)
    return report_of(rounds, size)


def repeated(source: Path, path: Path, size: int) -> Path:
    """A file of `size` bytes: the source over and over."""
    content = source.read_bytes()
    with path.open("wb") as file:
        for start in range(0, size, len(content)):
            file.write(content[: size - start])
    return path


def report_of(rounds: dict[str, list[dict[str, float]]], size: int) -> Report:
    """Speed, and memory, of each encoder in relation to rnnlm's."""
    report = Report(
        f"prepare: text8-prefix.txt repeated to {size / 1e6:.0f} MB",
        Table(COLUMNS),
        [
            "The last two columns: rnnlm's speed, and the memory of this encoder, as multiples.",
            "dict lookup: the whole text as one string, a dict looked up for every character, a list,",
            "an array; what small projects do. rnnlm also hashes and counts, and syncs to the disk.",
        ],
    )
    for name, label in ENCODERS.items():
        own, ours = rounds[name], rounds["ours"]
        pairs = list(zip(own, ours, strict=True))
        report.table.add(
            label,
            median(size / 1e6 / each["seconds"] for each in own),
            median(each["peak"] for each in own),
            median(a["seconds"] / b["seconds"] for a, b in pairs),
            median(a["peak"] / b["peak"] for a, b in pairs),
        )
        report.rounds[label] = own
    return report
