"""Sampling speed, against PyTorch and against the time it takes to read the weights."""

from __future__ import annotations

from dataclasses import asdict

from ..bench import Bench
from ..models import Case
from ..table import Columns, Report, Table, tenths, times, whole
from ..timing import Rates

SIZES = (128, 512)
BATCHES = (1, 64)

COLUMNS: Columns = {
    "model": str,
    "texts": whole,
    "rnnlm": whole,
    "PyTorch": whole,
    "its loop": str,
    "rnnlm/PyTorch": times,
    "step us": tenths,
    "read us": tenths,
    "step / read": times,
}


def run(bench: Bench) -> Report:
    """A row for each model and number of texts drawn side by side."""
    report = Report(
        "sample: characters per second",
        Table(COLUMNS),
        [
            "PyTorch: the faster of a loop over nn.LSTM and one over nn.LSTMCell (GRU and RNN alike),",
            "in inference mode. The GRU is the one with reset after the product.",
            "read: the weights of a step read once by one thread; what a step cannot be faster than.",
        ],
    )
    for cell in ("gru", "lstm") if bench.quick else ("rnn", "gru", "lstm"):
        for H in SIZES[: 1 if bench.quick else None]:
            for batch in BATCHES:
                case = Case(cell, H, batch=batch)
                bench.progress(f"sample: {case.label}, {batch} texts")
                rates = measure(bench, case)
                add_row(report.table, case, rates)
                report.rounds[f"{case.label}, {batch} texts"] = rates
    return report


def measure(bench: Bench, case: Case) -> Rates:
    """rnnlm, both of PyTorch's loops, and reading."""
    values = asdict(case)
    return bench.interleave(
        {
            "rnnlm": bench.contender("ours", "sample", case=values),
            "layers": bench.contender("pytorch", "sample", case=values, cells=False),
            "cells": bench.contender("pytorch", "sample", case=values, cells=True),
            "read": bench.contender("machine", "read", numbers=case.weights_read),
        }
    )


def add_row(table: Table, case: Case, rates: Rates) -> None:
    """One model and number of texts."""
    torch = rates.best("layers", "cells")
    loop = f"nn.{case.cell.upper()}" + ("Cell" if torch == "cells" else "")
    table.add(
        case.label,
        case.batch,
        rates.median("rnnlm"),
        rates.median(torch),
        loop if torch in rates else None,
        rates.ratio("rnnlm", torch),
        1e6 * case.batch / (rates.median("rnnlm") or 1.0),
        1e6 / (rates.median("read") or 1.0),
        (rates.ratio("read", "rnnlm") or 0.0) * case.batch,
    )
