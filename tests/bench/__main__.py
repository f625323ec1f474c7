"""`python -m tests.bench [SUBJECT ...] [--quick] [--json FILE] [--plot FILE]`."""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from pathlib import Path
from typing import Any

from . import chart
from .bench import Bench
from .corpora import SkipError
from .machine import describe
from .process import BenchError
from .subjects import SUBJECTS
from .table import Report


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="rnnlm's benchmarks")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))
    parser.add_argument("--quick", action="store_true", help="small sizes, under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="a chart of `growth`")
    given = parser.parse_args()
    unknown = [name for name in given.subjects if name not in SUBJECTS]
    if unknown:
        parser.error(f"no subject {unknown[0]!r}; there are {', '.join(SUBJECTS)}")
    given.subjects = [name for name in SUBJECTS if not given.subjects or name in given.subjects]
    if given.plot and "growth" not in given.subjects:
        parser.error("--plot is of the subject growth")
    if given.plot and not chart.available():
        parser.error(chart.EXTRA)
    return given


def measure(bench: Bench, name: str) -> dict[str, Any]:
    """Run a subject and print its report, or why there is none; the same for JSON."""
    subject = importlib.import_module(f".subjects.{name}", __package__)
    try:
        report: Report = subject.run(bench)
        report.notes += bench.load_notes()
    except SkipError as reason:
        say(bench, f"{name}: skipped: {reason}")
        return {"skipped": str(reason)}
    say(bench, *report.lines())
    return report.to_json()


def say(bench: Bench, *lines: str) -> None:
    """Print lines and an empty one, where the progress was."""
    bench.progress("")
    print(*lines, sep="\n", end="\n\n", flush=True)


def main() -> int:
    """Run the subjects in order; the exit code."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results: dict[str, Any] = {}
    failed = False
    with Bench(given.quick) as bench:
        machine = describe(bench)
        say(bench, *(f"{name}: {value}" for name, value in machine.items()))
        for name in given.subjects:
            try:
                results[name] = measure(bench, name)
            except BenchError as error:
                print(f"{name}: failed: {error}", file=sys.stderr)
                failed = True
                results[name] = {"failed": str(error)}
                bench.end_workers()
        notes = bench.missing_notes()
    if notes:
        say(bench, *notes)
    everything = {"machine": machine, "quick": given.quick, "notes": notes, "subjects": results}
    if given.json:
        given.json.write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    if given.plot and "rows" in results["growth"]:
        chart.draw(results["growth"]["rows"], given.plot)
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
