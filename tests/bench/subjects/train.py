"""Training speed, whole step: forward, backward, clip, Adam, state carried."""

from __future__ import annotations

from dataclasses import asdict, replace

from ..bench import Bench
from ..models import Case
from ..table import Columns, Report, Table, percent, times, whole
from ..timing import Rates

CHAR_RNN = Case("lstm", 128, batch=50, window=50)
CASES = [Case(cell, H) for cell in ("rnn", "gru", "lstm") for H in (128, 256, 512)] + [CHAR_RNN]
QUICK = [Case(cell, 128) for cell in ("rnn", "gru", "lstm")]

COLUMNS: Columns = {
    "model": str,
    "batch": whole,
    "window": whole,
    "rnnlm": whole,
    "PyTorch": whole,
    "its input": str,
    "JAX": whole,
    "bfloat16": whole,
    "rnnlm/PyTorch": times,
    "rnnlm/JAX": times,
    "rnnlm/bfloat16": times,
    "GFLOP/s": whole,
    "sgemm": whole,
    "of it": percent,
}


def run(bench: Bench) -> Report:
    """A row for each model; two for the GRU, whose forms share their peers."""
    report = Report(
        "train: characters per second",
        Table(COLUMNS),
        [
            "PyTorch: eager, the faster of one-hot and embedding input, fused Adam.",
            "bfloat16: PyTorch under autocast, whose products have less precision; one-hot input.",
            "JAX: jit, lax.scan, optax. Both have the GRU with reset after the product only, and",
            "rnnlm's default form (reset before) stands under it, against the same peers.",
            "GFLOP/s: rnnlm's matrix products, one-hot input counted as nothing; sgemm: the machine's",
            "peak, the sum over cores of products of 2048 x 2048, measured in the same rounds.",
        ],
    )
    for case in QUICK if bench.quick else CASES:
        bench.progress(f"train: {case.label}, batch {case.batch}, window {case.window}")
        own = [case] if case.cell != "gru" else [case, replace(case, reset_after=False)]
        rates = measure(bench, case, own)
        for each in own:
            add_row(report.table, each, rates)
        report.rounds[f"{case.label}, {case.batch} x {case.window}"] = rates
    report.notes += [
        f"{label} ran on {worker.about['threads']} threads."
        for label, name in (("rnnlm", "ours"), ("PyTorch", "pytorch"))
        if (worker := bench.worker(name)) is not None
    ]
    return report


def measure(bench: Bench, case: Case, own: list[Case]) -> Rates:
    """All contenders of one row, side by side."""
    values = asdict(case)
    return bench.interleave(
        {
            **{each.label: bench.contender("ours", "train", case=asdict(each)) for each in own},
            "one-hot": bench.contender("pytorch", "train", case=values, embedding=False),
            "embedding": bench.contender("pytorch", "train", case=values, embedding=True),
            "bfloat16": bench.contender(
                "pytorch", "train", case=values, embedding=False, bfloat16=True
            ),
            "JAX": bench.contender("jax_scan", "train", case=values),
            "peak": bench.contender("machine", "sgemm"),
        }
    )


def add_row(table: Table, case: Case, rates: Rates) -> None:
    """One of rnnlm's models beside its peers."""
    name, torch = case.label, rates.best("one-hot", "embedding")
    share = rates.ratio(name, "peak") or 0.0
    table.add(
        name,
        case.batch,
        case.window,
        rates.median(name),
        rates.median(torch),
        torch if torch in rates else None,
        rates.median("JAX"),
        rates.median("bfloat16"),
        rates.ratio(name, torch),
        rates.ratio(name, "JAX"),
        rates.ratio(name, "bfloat16"),
        (rates.median(name) or 0.0) * case.flops / 1e9,
        rates.median("peak"),
        share * case.flops / 1e9,
    )
