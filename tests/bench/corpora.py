"""Where the public corpora are. They are used where they lie and never copied into the project."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("RNNLM_CORPORA") or ROOT.parent / "shared" / "corpora")


class SkipError(Exception):
    """A subject that cannot be measured here, and why."""


def corpus(name: str) -> Path:
    """A corpus by file name. Raises SkipError where it is not on this machine."""
    path = FOLDER / name
    if not path.is_file():
        raise SkipError(f"{name} is not here: put the corpora where RNNLM_CORPORA says")
    return path.resolve()
