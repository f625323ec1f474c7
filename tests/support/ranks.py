"""What the tests of ranks share: a launcher of MPI, and `rnnlm train` under it.

Run under `mpiexec`, this is `rnnlm train` with a fault: where FAULT is "rank step", that rank has no
memory left at that step.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def mpiexec() -> str | None:
    """The launcher of the MPI that mpi4py uses: the one beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


under_mpiexec = pytest.mark.skipif(
    mpiexec() is None or find_spec("mpi4py") is None,
    reason="mpiexec and mpi4py are not there: pip install '.[mpi]'",
)


def train_on(ranks: int, *args: object, fault: str = "") -> subprocess.CompletedProcess[str]:
    """`rnnlm train` on so many ranks, from start to end."""
    return subprocess.run(
        [*launched(ranks), __file__, *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "FAULT": fault},
        capture_output=True,
        text=True,
        timeout=120,
    )


def launched(ranks: int) -> list[str]:
    """The words before a Python program that start it on so many ranks."""
    launcher = mpiexec()
    assert launcher is not None
    return [launcher, "-n", str(ranks), sys.executable]


def main() -> None:
    """`rnnlm train`, with the fault that the environment asks for."""
    from rnnlm.__main__ import main as rnnlm
    from rnnlm.backend.launchers import started_as
    from rnnlm.training import engine

    rank, _, at = os.environ["FAULT"].partition(" ")
    run_lane = engine.Engine._run_lane

    def failing(self, lane, T, step, scale):  # type: ignore[no-untyped-def]
        if step == int(at):
            raise MemoryError
        return run_lane(self, lane, T, step, scale)

    if at and started_as()[0] == int(rank):
        engine.Engine._run_lane = failing  # type: ignore[method-assign]
    sys.argv[1:1] = ["train"]
    rnnlm()


if __name__ == "__main__":
    main()
