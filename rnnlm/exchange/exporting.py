"""A checkpoint written in another program's format."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError
from ..runs.checkpoint import Checkpoint
from ..storage.atomic import as_path, atomic_write
from ..wording import shown
from . import FORMATS


def export(checkpoint: Checkpoint, to: str, out: str | Path | None = None) -> list[Path]:
    """Write a checkpoint in a format, a name in FORMATS; the paths of the files, the model's first.

    `out` names that file; the others stand beside it. By default it is named after the run, in the
    working folder. Raises DataError where the format does not take the model, and where a file exists.
    """
    if to not in FORMATS:
        raise DataError(f"{shown(to)} is not a format: use one of {', '.join(FORMATS)}")
    form, kind = FORMATS[to], checkpoint.config.model["kind"]
    if form.kind not in (None, kind):
        raise DataError(
            f"{to} takes a model of kind {form.kind}, and this one is of kind {kind}: "
            f"{checkpoint.model.describe()}"
        )
    files = form.write(checkpoint)
    suffixes = list(files)
    path = Path(_name(checkpoint) + suffixes[0]) if out is None else as_path(out, DataError)
    ends = [suffix[suffix.index(".") :] for suffix in suffixes]
    if path.suffix != ends[0]:
        raise DataError(f"{path}: a file of the format {to} is named *{ends[0]}")
    paths = [path.with_suffix(end) for end in ends]
    for path in paths:
        if os.path.lexists(path):
            raise DataError(
                f"{path}: exists already, and is not overwritten: name another with --out"
            )
    for path, content in zip(paths, files.values(), strict=True):
        _write(path, content)
    return paths


def _name(checkpoint: Checkpoint) -> str:
    """The name of the run, or of a checkpoint that is in none."""
    path = (checkpoint.path or Path("model")).absolute()
    return path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem


def _write(path: Path, content: Iterable[bytes]) -> None:
    try:
        with atomic_write(path) as file:
            for piece in content:
                file.write(piece)
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror or error}") from None
