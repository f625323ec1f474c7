"""One HTML file that is whole: style, script and numbers are in it, and nothing is loaded.

Whatever comes from a text or a checkpoint is escaped: in HTML by `html.escape`, in the JSON of the
numbers by writing `<` as an escape; the script sets it as text only. A policy in the file lets no other
script run than ours, and nothing be loaded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..arrays import Array
from ..errors import DataError
from ..storage.atomic import atomic_write, check_new, writing
from . import colours

MARK = b'<meta name="generator" content="rnnlm">'  # in the first bytes of every page
BEGINNING = 256
REFRESH = 20  # seconds after which a page of a run that is trained loads itself again


@dataclass(frozen=True)
class Section:
    """A part of the page: its name for links, its title, what it says and shows, as HTML."""

    name: str
    title: str
    html: str


def page(
    title: str,
    head: str,
    sections: Sequence[Section],
    data: Mapping[str, Any],
    live: bool = False,
) -> bytes:
    """The file. `title` is plain text, `head` HTML, `data` what the script shows."""
    script, css = _own("page.js"), _own("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    links = "".join(f'<a href="#{s.name}">{escape(s.title)}</a>' for s in sections)
    parts = {
        "hash": f"sha256-{digest}",
        "refresh": f'<meta http-equiv="refresh" content="{REFRESH}">\n' if live else "",
        "title": escape(title),
        "style": css + colours.style(),
        "header": f"<h1>{escape(title)}</h1>{head}<nav>{links}</nav>",
        "sections": "\n".join(
            f'<section id="{s.name}"><h2>{escape(s.title)}</h2>{s.html}</section>' for s in sections
        ),
        "version": escape(__version__),
        "data": in_script(data),
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _own("page.html")).encode()


def _own(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def in_script(data: Mapping[str, Any]) -> str:
    """JSON that no text in it can end or turn into HTML."""
    numbers = {"levels": colours.LEVELS, "sides": colours.SIDES}
    return json.dumps({**numbers, **data}, separators=(",", ":")).replace("<", "\\u003c")


def packed(values: Array, kind: str) -> list[str]:
    """Integers for the script: their type (u1, i1, u2, u4), and their bytes in base64; values outside
    the type become the nearest in it.
    """
    dtype = np.dtype(kind)
    limits = np.iinfo(dtype)
    whole = np.clip(np.nan_to_num(np.rint(values), posinf=limits.max), limits.min, limits.max)
    return [kind, base64.b64encode(whole.astype(dtype.newbyteorder("<")).tobytes()).decode()]


def check_place(path: Path) -> None:
    """Raise DataError where a page cannot be written: something is there that is no page of ours."""
    with writing(path):
        if os.path.lexists(path):
            with path.open("rb") as file:
                if MARK not in file.read(BEGINNING):
                    check_new(path)
        elif not path.parent.is_dir():
            raise DataError(f"{path.parent}: no such folder: make it, or name another file")


def write_page(path: Path, content: bytes) -> None:
    """Write a page, whole or not at all; an older page of ours is replaced.

    Raises DataError as `check_place` does, and where it cannot be written.
    """
    check_place(path)
    with writing(path), atomic_write(path) as file:
        file.write(content)
