"""Worker processes: a contender each, in a clean environment, driven by one line a request."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from .corpora import ROOT

# What tunes a BLAS, OpenMP or a framework: taken away, so that every library runs as it installs
TUNING = (
    "OPENBLAS_",
    "GOTO_",
    "GOTOBLAS_",
    "MKL_",
    "BLIS_",
    "VECLIB_",
    "NVPL_",
    "ARMPL_",
    "OMP_",
    "KMP_",
    "GOMP_",
    "DNNL_",
    "ONEDNN_",
    "ATEN_",
    "TORCH",
    "XLA_",
    "JAX_",
    "NPY_",
)


class BenchError(Exception):
    """What was to be measured failed; the text says how."""


class MissingError(Exception):
    """A worker's library is not installed; the text is its name."""


def tuning_variables() -> list[str]:
    """The variables of this environment that workers do not see."""
    return sorted(name for name in os.environ if name.startswith(TUNING))


def clean_environment() -> dict[str, str]:
    """This environment without them, and with the project importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(TUNING)}
    paths = [str(ROOT), *filter(None, [kept.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths)}


def launch(arguments: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start this Python with arguments, in a clean environment, at the project's root."""
    command = [sys.executable, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=clean_environment(), **options)


class Worker:
    """A process that holds the tasks of one contender (a module of `contenders`).

    It sleeps on its standard input between requests. Raises MissingError where the contender's
    library is not installed.
    """

    def __init__(self, name: str) -> None:
        pipe = subprocess.PIPE
        arguments = ["-m", "tests.bench.worker", name]
        self.name = name
        self._process = launch(arguments, stdin=pipe, stdout=pipe, text=True)
        self._keys = itertools.count()
        try:
            self.about: dict[str, Any] = self._answer()
        except BaseException:
            self.close()
            raise

    def start(self, task: str, **values: Any) -> int:
        """Make a task, ready for its turns; its key."""
        key = next(self._keys)
        self._ask(do="start", key=key, task=task, values=values)
        return key

    def turn(self, key: int, **values: Any) -> dict[str, Any]:
        """One turn of a task; what it measured."""
        return self._ask(do="turn", key=key, values=values)

    def clear(self) -> None:
        """Drop all tasks."""
        self._ask(do="clear")

    def close(self) -> None:
        """End the process. It has nothing to save."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f"{self.name}: the worker ended") from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchError(f"{self.name}: the worker ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        if "error" in answer:
            raise BenchError(f"{self.name}:\n{answer['error']}")
        return answer
