"""How numbers, values and text from elsewhere are put into what a user reads."""

from __future__ import annotations

import os
import shlex


def counted(number: int, noun: str) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown(value: object) -> str:
    """A value as an error quotes it: in one short line, whatever it is."""
    try:
        return brief(repr(value))
    except ValueError:  # an integer with thousands of digits
        return f"a {type(value).__name__} too long to show"


def brief(text: str, most: int = 80) -> str:
    """A text as an error shows it: cut where it is long, and nothing that drives a terminal."""
    text = text if len(text) <= most else text[: most - 3] + "..."
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def escaped(text: str, keep: str = "\n\t") -> str:
    """Control characters made visible: what a model or a file holds must not drive a terminal."""
    return "".join(
        c
        if c.isprintable() or c in keep or not _is_control(c)
        else c.encode("unicode_escape").decode()
        for c in text
    )


def quoted(word: str) -> str:
    """A word of a command line, to be pasted into a shell whatever it holds."""
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
