"""What the tests of sweeps share: an executor without processes."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import Any


class Here(Executor):
    """Runs every task at once in this process."""

    def submit(self, fn: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **options))
        except Exception as error:
            future.set_exception(error)
        return future


def here(_workers: int) -> Executor:
    """As `make_executor`."""
    return Here()
