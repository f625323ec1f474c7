"""How single symbols are shown on a page: nothing is invisible, and a mark stays with its base."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

NAMES = {" ": "␣", "\n": "⏎", "\t": "⇥", "\x7f": "␡", "": "∅"}
JOINERS = "\u200c\u200d"  # between letters of one cluster; invisible by themselves


def label(symbol: str | int) -> str:
    """A symbol by itself: a character, a word, or a byte as a number."""
    if isinstance(symbol, int):
        return label(chr(symbol)) if symbol < 128 else f"{symbol:02X}"
    if symbol in NAMES:
        return NAMES[symbol]
    return "".join(
        ("◌" + c) if i == 0 and _is_mark(c) else visible(c) for i, c in enumerate(symbol)
    )


def visible(c: str) -> str:
    """A character that has a shape; for others the symbol of a control character, or their number."""
    if ord(c) < 32:
        return NAMES.get(c) or chr(0x2400 + ord(c))
    if unicodedata.category(c)[0] in "CZ" and c != " ":
        return NAMES.get(c) or f"U+{ord(c):04X}"
    return c


def readable(text: str) -> str:
    """A text whose control characters are visible, and whose lines stay lines."""
    return "".join(c if c in "\n\t" or c in JOINERS else visible(c) for c in text)


@dataclass(frozen=True)
class Shown:
    """A text as a page shows it: what stands for each symbol (n,), which of them go into one cluster
    with the symbol before, and which are not shown by their own text.
    """

    pieces: list[str]
    joined: list[int]
    marked: list[int]


def shown(pieces: Sequence[str], labels: Sequence[str]) -> Shown:
    """The pieces (n,) of a text, with the labels of their symbols for those that show nothing."""
    found = Shown([], [], [])
    open_cluster = False  # whether a mark could stand on what comes before
    before = ""
    for i, (piece, name) in enumerate(zip(pieces, labels, strict=True)):
        joins = bool(piece) and (_joins(piece[0]) or before.endswith("\u200d"))
        text = "".join(c if c in "\n " or c in JOINERS else visible(c) for c in piece)
        if joins and open_cluster:
            found.joined.append(i)
        elif not piece or text != piece or piece in JOINERS:
            found.marked.append(i)
            text = text if piece and piece not in JOINERS else name
        elif joins:
            text = "◌" + text
        found.pieces.append(text)
        open_cluster = bool(piece) and not piece[-1].isspace() and text == piece
        before = piece
    return found


def _is_mark(c: str) -> bool:
    return unicodedata.category(c)[0] == "M"


def _joins(c: str) -> bool:
    """Whether a character is drawn together with the one before: a mark, a joiner, a tone of skin, or
    the vowel or last consonant of a Korean syllable.
    """
    code = ord(c)
    return _is_mark(c) or c in JOINERS or 0x1F3FB <= code <= 0x1F3FF or 0x1160 <= code <= 0x11FF
