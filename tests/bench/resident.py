"""How much memory a process has had at most, and how much it has now."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

MB = 1e6


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
