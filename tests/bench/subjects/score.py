"""Speed of scoring lines, with the share of the sgemm peak."""

from __future__ import annotations

from dataclasses import asdict

from ..bench import Bench
from ..models import Case
from ..table import Columns, Report, Table, percent, whole

LINES, LENGTH = 5000, 60
CASES = [Case("lstm", H, batch=LINES, window=LENGTH) for H in (128, 512)]

COLUMNS: Columns = {"model": str, "rnnlm": whole, "sgemm": whole, "of it": percent}


def run(bench: Bench) -> Report:
    """A row for each model."""
    report = Report(
        "score: characters per second",
        Table(COLUMNS),
        [
            f"{LINES:,} lines of about {LENGTH} characters; sgemm: the peak in GFLOP/s, as in `train`."
        ],
    )
    for case in CASES[: 1 if bench.quick else None]:
        bench.progress(f"score: {case.label}")
        rates = bench.interleave(
            {
                "rnnlm": bench.contender("ours", "score", case=asdict(case)),
                "peak": bench.contender("machine", "sgemm"),
            }
        )
        share = (rates.ratio("rnnlm", "peak") or 0.0) * 2 * case.weights / 1e9
        report.table.add(case.label, rates.median("rnnlm"), rates.median("peak"), share)
        report.rounds[case.label] = rates
    return report
