"""What is measured on what: the lines before the tables."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

from .bench import Bench
from .process import tuning_variables


def describe(bench: Bench) -> dict[str, Any]:
    """The machine, the versions, and the sgemm peak before anything else ran."""
    bench.progress("sgemm peak")
    sgemm = bench.contender("machine", "sgemm")
    worker = bench.worker("machine")
    assert sgemm is not None and worker is not None
    peaks = [sgemm.turn()["rate"] for _ in range(bench.rounds)]
    bench.clear()
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "sgemm GFLOP/s, all cores": round(median(peaks), 1),
        "load before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": worker.about["numpy"],
        "blas": worker.about["blas"],
        **{name: version(name) for name in ("torch", "jax", "optax")},
        "environment": "as it is, without " + (", ".join(tuning_variables()) or "any BLAS tuning"),
    }


def processor() -> str:
    """The name of the processor."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version(name: str) -> str:
    """The version of an installed package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
