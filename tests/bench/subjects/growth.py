"""How cost grows: characters per second against hidden size, batch, window, layers, vocabulary."""

from __future__ import annotations

from dataclasses import asdict

from ..bench import Bench
from ..models import Case
from ..table import Columns, Report, Table, hundredths, percent, whole

BASE = Case("lstm", 128)
AXES = {
    "hidden": (32, 64, 128, 256, 512, 1024),
    "batch": (1, 4, 16, 32, 64, 128, 256),
    "window": (8, 16, 32, 64, 128, 256, 512),
    "layers": (1, 2, 3, 4, 6),
    "vocabulary": (27, 65, 256, 1000, 5000),
}
COLUMNS: Columns = {
    "axis": str,
    "value": whole,
    "chars/s": whole,
    "us/char": hundredths,
    "GFLOP/s": whole,
    "sgemm": whole,
    "of it": percent,
}


def run(bench: Bench) -> Report:
    """A row for each point; the points of an axis are measured side by side."""
    report = Report(
        f"growth: {BASE.label}, batch {BASE.batch}, window {BASE.window}, "
        f"vocabulary {BASE.vocabulary}, one of them changed",
        Table(COLUMNS),
        ["Whole training steps of rnnlm; GFLOP/s and sgemm as in the table of training."],
    )
    for axis, values in AXES.items():
        bench.progress(f"growth: {axis}")
        cases = {
            str(v): Case(**{**asdict(BASE), axis: v})
            for v in (values[::3] if bench.quick else values)
        }
        contenders = {
            name: bench.contender("ours", "train", case=asdict(case))
            for name, case in cases.items()
        }
        rates = bench.interleave(contenders | {"peak": bench.contender("machine", "sgemm")})
        for name, case in cases.items():
            speed = rates.median(name) or 1.0
            share = (rates.ratio(name, "peak") or 0.0) * case.flops / 1e9
            gflops = speed * case.flops / 1e9
            report.table.add(
                axis, int(name), speed, 1e6 / speed, gflops, rates.median("peak"), share
            )
        report.rounds[axis] = rates
    return report
