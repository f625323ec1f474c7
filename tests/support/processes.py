"""What the tests of forked processes share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")
# pytest's own process has other threads, of BLAS and of xdist: they sleep while it forks
_quiet = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def forking(test):  # type: ignore[no-untyped-def]
    """A test that forks."""
    return _linux(_quiet(test))


def children() -> set[int]:
    """The processes that this one has started and not seen end."""
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}
