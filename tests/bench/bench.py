"""One run of the suite: how thorough it is, and the workers that its subjects share."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from .load import Rests
from .process import MissingError, Worker
from .timing import Contender, Rates, interleave

EXTRA = "pip install '.[bench]'"
LABELS = {"pytorch": "PyTorch", "jax_scan": "JAX"}
BUSY = 0.1  # the share of the machine from which others spoil what is measured


class Bench:
    """Settings and workers. A worker is started when it is first asked for, and ended at the end."""

    def __init__(self, quick: bool) -> None:
        self.quick = quick
        self.rounds = 3 if quick else 7
        self.seconds = 0.1 if quick else 0.5  # of a turn
        self.missing: dict[str, str] = {}  # contender -> the module that it lacks
        self._workers: dict[str, Worker] = {}
        self._rests = Rests()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_workers()

    def end_workers(self) -> None:
        """End all workers; they are started anew when they are asked for."""
        while self._workers:
            self._workers.popitem()[1].close()

    def worker(self, name: str) -> Worker | None:
        """The worker of a contender; None where its library is not installed."""
        if name not in self._workers and name not in self.missing:
            try:
                self._workers[name] = Worker(name)
            except MissingError as error:
                self.missing[name] = str(error)
        return self._workers.get(name)

    def fresh(self, name: str) -> Worker | None:
        """A new process in place of the contender's worker, so that its peak memory is its own."""
        if name in self._workers:
            self._workers.pop(name).close()
        return self.worker(name)

    def contender(self, name: str, task: str, **values: Any) -> Contender | None:
        """A task that is ready for its turns; None where its library is not installed."""
        worker = self.worker(name)
        return None if worker is None else Contender(worker, worker.start(task, **values))

    def interleave(self, contenders: Mapping[str, Contender | None]) -> Rates:
        """All rounds of some contenders; their tasks are dropped afterwards."""
        rates = interleave(contenders, self.rounds, self.seconds, self.rest)
        self.clear()
        return rates

    def rest(self) -> None:
        """What stands between turns, for threads that wait a while before they sleep."""
        self._rests.rest(0.02 if self.quick else 0.25)

    def clear(self) -> None:
        """Drop the tasks of all workers."""
        for worker in self._workers.values():
            worker.clear()

    def load_notes(self) -> list[str]:
        """A warning where others kept the machine busy since the last call."""
        share = self._rests.share()
        if share < BUSY:
            return []
        return [
            f"NOT TO BE TRUSTED: between turns others kept {100 * share:.0f} % of the machine busy.",
            "That slows down most those whose threads wait for each other, as PyTorch's do.",
        ]

    def missing_notes(self) -> list[str]:
        """What to install for the columns that are empty."""
        return [
            f"{LABELS.get(name, name)} was not measured: {module} is not installed; {EXTRA} installs it"
            for name, module in self.missing.items()
        ]

    def progress(self, text: str) -> None:
        """Say on a terminal what is being measured."""
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
