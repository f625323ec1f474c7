"""How messages show numbers, values and text from elsewhere."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from textwrap import TextWrapper

typed: ContextVar[bool] = ContextVar("typed", default=False)  # whether a command is running

_configured: ContextVar[bool] = ContextVar("configured", default=False)


def option(name: str, value: str | bool | None = None) -> str:
    """An option as whoever called writes it: `--unknown skip`, or `unknown="skip"` in a script."""
    if typed.get():
        flag = f"--{name.replace('_', '-')}"
        return f"{flag} {value}" if isinstance(value, str) else flag
    if value is None:
        return name
    return f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}"


def setting(text: str) -> str:
    """An override of the config in the words of whoever called: `--set ...`, or text in quotes."""
    return f"--set {text}" if typed.get() else f'"{text}"'


@contextmanager
def by_config() -> Iterator[None]:
    """A config says how text is read."""
    before = _configured.set(True)
    try:
        yield
    finally:
        _configured.reset(before)


def of_text(name: str, value: str) -> str:
    """A setting of how text is read: an option of `prepare`, or a key of a config."""
    return setting(f"data.{name}={value}") if _configured.get() else option(name, value)


def counted(number: int, noun: str) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def share(part: int, whole: int, noun: str) -> str:
    """`3 of 120 words (2.5 %)`."""
    return f"{part:,} of {counted(whole, noun)} ({100 * part / max(1, whole):.3g} %)"


def shown(value: object) -> str:
    """Any value, as an error quotes it: in one short line."""
    try:
        return brief(repr(value))
    except ValueError:  # an integer with thousands of digits
        return f"a {type(value).__name__} too long to show"


def brief(text: str, most: int = 80) -> str:
    """A text as an error shows it: not too long, and unable to control a terminal."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def wrapped(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """Lines of so many characters, if no word is longer; `first` and `others` are their indents."""
    wrapper = TextWrapper(width, initial_indent=first, subsequent_indent=others)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.wrap(text)


def escaped(text: str, keep: str = "\n\t") -> str:
    """Make control characters visible: text from a model or file must not control a terminal."""
    return "".join(
        c
        if c.isprintable() or c in keep or not _is_control(c)
        else c.encode("unicode_escape").decode()
        for c in text
    )


def quoted(word: str, windows: bool = os.name == "nt") -> str:
    """Any word of a command line, quoted so that it can be pasted into a shell."""
    if windows:  # where a backslash is no sign of its own, and cmd.exe knows no other quotes
        return escaped(word if re.fullmatch(r"[\w./\\:=+-]+", word) else f'"{word}"', keep="")
    plain = shlex.quote(word)
    if escaped(plain, keep="") == plain:
        return plain
    shown = (c if (c.isascii() and c.isalnum()) or c in "/._-=" else _octal(c) for c in word)
    return f"$'{''.join(shown)}'"


def _octal(c: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in os.fsencode(c))


def _is_control(c: str) -> bool:
    import unicodedata

    return unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and c != "\u200d"
