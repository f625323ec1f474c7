"""Peak resident memory of a process that trains LSTM 512x2, against PyTorch's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..bench import Bench
from ..models import Case
from ..table import Columns, Report, Table, times, whole

CASE = Case("lstm", 512)
COLUMNS: Columns = {
    "process": str,
    "after imports MB": whole,
    "peak MB": whole,
    "of rnnlm's": times,
}
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnnlm": ("ours", {}),
    "PyTorch, one-hot": ("pytorch", {"embedding": False}),
    "PyTorch, embedding": ("pytorch", {"embedding": True}),
}


def run(bench: Bench) -> Report:
    """A row for each process."""
    report = Report(
        f"memory: training {CASE.label}, batch {CASE.batch}, window {CASE.window}",
        Table(COLUMNS),
        ["Peak resident memory, libraries and forked processes included, after some steps."],
    )
    peaks: dict[str, float] = {}
    tasks = list(TASKS.items())
    for label, (name, options) in tasks[: 2 if bench.quick else None]:
        bench.progress(f"memory: {label}")
        worker = bench.fresh(name)
        task = bench.contender(name, "memory", case=asdict(CASE), **options)
        if worker is None or task is None:
            continue
        peaks[label] = task.turn(seconds=bench.seconds * 4)["peak"]
        imports = worker.about["resident"]
        report.table.add(label, imports, peaks[label], peaks[label] / peaks["rnnlm"])
        report.rounds[label] = {"after imports": imports, "peak": peaks[label]}
        bench.fresh(name)
    return report
