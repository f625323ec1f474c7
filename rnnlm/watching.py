"""How far a pass over a text has come, told to whoever watches.

Evaluation, preparing a text and opening a prepared one report; without a watcher that does nothing.
A watcher is that of its own thread. What it raises ends the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watch = Callable[[str, int, int], object]  # what is done, how much of it, and how much there is


def nobody(what: str, done: int, total: int) -> None:
    """Watches nothing."""


_watch: ContextVar[Watch] = ContextVar("watch", default=nobody)


def report(what: str, done: int, total: int) -> None:
    """Tell the watcher how much of a pass is done, after each block; a `total` of 0 is not known."""
    _watch.get()(what, done, total)


@contextmanager
def watching(watch: Watch) -> Iterator[Watch]:
    """Have `watch` called inside this block; the watcher outside it is given, to be told in turn."""
    outside = _watch.get()
    token = _watch.set(watch)
    try:
        yield outside
    finally:
        _watch.reset(token)
