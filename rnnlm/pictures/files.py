"""Pictures as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError, DataError
from ..storage.atomic import atomic_write
from ..wording import option


def check_picture(path: Path, name: str, force: bool = False) -> None:
    """Raise ConfigError or DataError where a picture could not be drawn into a file, which the option
    `name` gave: matplotlib is missing, or draws no such files, or, unless `force`, the file exists.
    """
    try:
        from matplotlib.backend_bases import FigureCanvasBase
    except ImportError:
        raise ConfigError(f"{option(name)} needs matplotlib: pip install 'rnnlm[plot]'") from None
    known = FigureCanvasBase.get_supported_filetypes()
    if path.suffix[1:] not in known:
        raise ConfigError(f"{option(name)}: {path} must end in one of .{', .'.join(known)}")
    if path.exists() and not force:
        raise DataError(f"{path}: exists already, and is not overwritten")


def write_picture(figure: Any, path: Path) -> None:
    """Draw a matplotlib Figure into a file, whole or not at all. Raises DataError where that fails."""
    try:
        with atomic_write(path) as file:
            figure.savefig(file, format=path.suffix[1:], dpi=150)
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror or error}") from None
