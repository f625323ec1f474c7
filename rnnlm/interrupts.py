"""SIGINT, SIGTERM and SIGHUP, from the first line of a process to its last.

The handler is set once and never replaced, so that no signal is lost between two handlers. Instead,
`Stop.at_first` changes: what the first signal does, depending on how much work could be lost. The next
signal ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

# Windows has no SIGHUP, and a SIGBREAK of its own
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
SIGPIPE = 13  # signal.SIGPIPE, which Windows does not have
SAME_REQUEST = 0.1  # seconds; `timeout` and service managers send two signals for one request


def end_at_once(number: int) -> None:
    """End with a shell's exit code for the signal; nothing is cleaned up."""
    os._exit(128 + number)


def end_cleanly(number: int) -> None:
    """End with the same code, after the running functions have cleaned up."""
    sys.exit(128 + number)


class Stop:
    """Whether a signal has come, and what it does; calling it returns whether to stop."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.at_first: Callable[[int], None] = end_at_once
        self._came: float | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    def catch(self) -> None:
        """Set the handler, except for signals that were ignored when this process started."""
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def nobody_reads(self) -> None:
        """Stop as after a signal: the reader of the output is gone, as with `| head`."""
        self.signal = self.signal or SIGPIPE

    def _handle(self, number: int, _frame: object) -> None:
        now = time.monotonic()
        if self._came is None:
            self._came = now
            self.signal = self.signal or number
            self.at_first(number)
        # A closing terminal may send SIGHUP twice; no user sends it to end the process faster
        elif now - self._came > SAME_REQUEST and number != getattr(signal, "SIGHUP", None):
            end_at_once(number)


stop = Stop()  # of this process
