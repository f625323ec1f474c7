"""Characters that look alike: word processors write “ ” ’ — where a plain text has " ' -."""

from __future__ import annotations

from collections.abc import Callable

GROUPS = (
    "\"“”„‟«»″",
    "'’‘‚‛‹›′`´",
    "-–—‐‑‒―−",
    " \u00a0\u2002\u2003\u2007\u2009\u200a\u202f\u3000",
    "\n\r\u0085\u2028\u2029",
)  # fmt: skip
SPELT = {"…": "...", "ﬁ": "fi", "ﬂ": "fl", "ﬀ": "ff", "ﬃ": "ffi", "ﬄ": "ffl"}


def alike(character: str, has: Callable[[str], bool]) -> str | None:
    """What looks like a character, of characters that `has` allows; None without one."""
    spelt = SPELT.get(character)
    if spelt and all(map(has, spelt)):
        return spelt
    group = next((group for group in GROUPS if character in group), "")
    return next((other for other in group if other != character and has(other)), None)
