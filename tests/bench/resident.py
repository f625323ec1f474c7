"""How much memory a process has had at most, and how much it has now."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

MB = 1e6


def peak_with_children() -> float:
    """`peak_resident`, and what the processes forked from this one have for themselves, in MB."""
    private = 0
    for children in Path("/proc/self/task").glob("*/children"):
        for pid in children.read_text().split():
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            private += sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
    return peak_resident() + private * 1024 / MB


def peak_resident() -> float:
    """Peak resident memory of this process, in MB.

    Linux's own count for this program; `getrusage` there would include the process that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / MB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB
