"""A checkpoint written in another program's format."""

from __future__ import annotations

from pathlib import Path

from ..errors import DataError
from ..runs.checkpoint import Checkpoint
from ..storage.atomic import as_path, atomic_write, check_new, writing
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
        check_new(path, ": name another with --out")
    for path, content in zip(paths, files.values(), strict=True):
        with writing(path), atomic_write(path) as file:
            file.writelines(content)
    return paths


def _name(checkpoint: Checkpoint) -> str:
    """The name of the run, or of a checkpoint that is in none."""
    path = (checkpoint.path or Path("model")).absolute()
    return path.parent.name if path.stem in ("best", "last") and path.parent.name else path.stem
