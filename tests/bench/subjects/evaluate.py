"""Speed of exact evaluation: one stream, from the first symbol to the last, beside PyTorch."""

from __future__ import annotations

from dataclasses import asdict

from ..bench import Bench
from ..models import Case
from ..table import Columns, Report, Table, times, whole

SYMBOLS = 55_000  # as many as validation has of tiny Shakespeare
CASES = [Case(cell, H, window=SYMBOLS) for cell in ("rnn", "gru", "lstm") for H in (128, 512)]
QUICK = [Case("lstm", 128, window=SYMBOLS)]

COLUMNS: Columns = {"model": str, "rnnlm": whole, "PyTorch": whole, "rnnlm/PyTorch": times}


def run(bench: Bench) -> Report:
    """A row for each model."""
    report = Report(
        "evaluate: characters per second",
        Table(COLUMNS),
        [f"{SYMBOLS:,} symbols. PyTorch: one call of nn.LSTM or its like, in inference mode."],
    )
    for case in QUICK if bench.quick else CASES:
        bench.progress(f"evaluate: {case.label}")
        rates = bench.interleave(
            {
                "rnnlm": bench.contender("ours", "evaluate", case=asdict(case)),
                "PyTorch": bench.contender("pytorch", "evaluate", case=asdict(case)),
            }
        )
        names = ("rnnlm", "PyTorch")
        report.table.add(case.label, *map(rates.median, names), rates.ratio(*names))
        report.rounds[case.label] = rates
    return report
