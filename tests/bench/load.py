"""What else keeps the machine busy: its own count of busy time while the suite rests."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
IDLE = (3, 4)  # columns of its first line: idle, and waiting for the disk


class Rests:
    """Rests, and how busy the cores were in them. Where the system does not say: not at all."""

    def __init__(self) -> None:
        self._busy, self._seconds = 0.0, 0.0

    def rest(self, seconds: float) -> None:
        """Sleep; what is busy meanwhile is not the suite."""
        before = busy_seconds()
        time.sleep(seconds)
        self._busy += busy_seconds() - before
        self._seconds += seconds * (os.cpu_count() or 1)

    def share(self) -> float:
        """The share of the machine that others took since the last time this was asked."""
        share = self._busy / self._seconds if self._seconds else 0.0
        self._busy, self._seconds = 0.0, 0.0
        return share


def busy_seconds() -> float:
    """Seconds that all cores together have been busy, time taken by a hypervisor included."""
    if not STAT.is_file():
        return 0.0
    columns = STAT.read_text().split("\n", 1)[0].split()[1:9]
    ticks = sum(int(ticks) for k, ticks in enumerate(columns) if k not in IDLE)
    return ticks / os.sysconf("SC_CLK_TCK")
