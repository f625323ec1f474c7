"""What the commands show: all of it goes through here, and is escaped."""

from __future__ import annotations

import errno
import io
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from ..interrupts import stop
from ..wording import escaped

Write = Callable[[str], object]


def show(text: str, keep: str = "\n\t") -> None:
    """Print on standard output."""
    with _standard_output():
        _print(sys.stdout, escaped(text, keep))


def show_lines(lines: Iterable[str]) -> None:
    """Print each on a line of its own, whatever it holds."""
    for line in lines:
        show(line, keep="\t")


def say(text: str, keep: str = "\n\t") -> None:
    """Print on standard error, if that can be done."""
    with suppress(OSError):
        _print(sys.stderr, escaped(text, keep))


def say_line(text: str) -> None:
    """Print one line on standard error, whatever the text holds."""
    say(text, keep="")


def _print(stream: TextIO, text: str) -> None:
    """Not by Click, which takes another encoding than the stream's where that is ASCII."""
    stream.write(f"{text}\n")
    stream.flush()


def say_in_handler(text: str) -> None:
    """Say one line in the handler of a signal, where a print may already be at work."""
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


@contextmanager
def _standard_output() -> Iterator[None]:
    """Name what failed; the operating system does not."""
    try:
        yield
    except OSError as error:
        number = errno.EPIPE if _reader_is_gone(error) else error.errno
        raise OSError(number, error.strerror, "standard output") from None


def _reader_is_gone(error: OSError) -> bool:
    """Whether a write failed since nobody reads; Windows may call that an invalid argument."""
    return error.errno in (errno.EPIPE, errno.EINVAL)


def open_streams() -> None:
    """Make the standard streams usable, whatever the process was started with."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: no other file may take its number
            file = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, file)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot encode is shown escaped
            stream.reconfigure(errors="backslashreplace")


def be_silent() -> None:
    """Show nothing from now on: another process of the same command shows it."""
    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def end_streams() -> None:
    """Write what the standard streams still hold, so that Python does not fail to at its end."""
    for stream in (sys.stdout, sys.stderr):
        _flush_or_drop(stream)


def _flush_or_drop(stream: TextIO) -> None:
    """Write what a stream still holds; where that fails, this and what follows goes nowhere."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def figure(value: float | None) -> str:
    """A figure as it is shown; None is one that no float can hold."""
    if value is None:
        return "beyond float range"
    if value == math.inf:
        return "infinite"
    return f"{value:.4f}" if value < 1e9 else f"{value:.4g}"


@contextmanager
def open_output(path: Path | None, append: bool = False) -> Iterator[Write]:
    """A function that writes text: to a file, raw; to a pipe, raw; to a terminal, escaped."""
    if path is None:
        out = sys.stdout
        escape = escaped if out.isatty() else str
        if escape is str and isinstance(out, io.TextIOWrapper):
            out.reconfigure(newline="")  # Windows would write a newline as two characters

        def write(text: str) -> None:
            with _standard_output():
                out.write(escape(text))
                out.flush()

        yield write
        return
    from ..storage.atomic import check_new, writing

    if not append:
        check_new(path, " (--append adds to it)")
    mode = "a" if append else "x"
    with (
        writing(path),
        path.open(mode, encoding="utf-8", newline="", errors="surrogatepass") as file,
    ):
        yield file.write


class Lenient:
    """A standard stream on which a training is shown: what becomes of it does not end a run halfway.

    When whoever reads it goes away, as `| head` does, that stops the run as Ctrl-C would. Anything else
    that is wrong (a terminal that was closed, a full disk) only keeps the run from being seen.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._forgiven():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiven():
            self._stream.flush()

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if _reader_is_gone(error):
                _flush_or_drop(self._stream)
                stop.nobody_reads()


@contextmanager
def lenient_output() -> Iterator[None]:
    """Standard output and standard error cannot fail inside this block."""
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Lenient(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
