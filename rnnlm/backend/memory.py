"""How much memory is available, so that work that does not fit is refused before it starts."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def available_memory() -> int | None:
    """Bytes that this process can still allocate: the limit of the system or of its control group.

    None where neither is known (not Linux).
    """
    limits = []
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024)
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text())
        limits.append(max(0, limit - int((group / "memory.current").read_text())))
    return min(limits, default=None)


def readable(size: float) -> str:
    """A number of bytes for people to read: `12.3 MB`."""
    units = ("bytes", "kB", "MB", "GB", "TB", "PB")
    k = 0
    while size >= 1000 and k < len(units) - 1:
        size, k = size / 1000, k + 1
    return f"{size:.{0 if k == 0 else 1}f} {units[k]}"
