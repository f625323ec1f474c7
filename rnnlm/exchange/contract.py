"""What a format is: how a checkpoint becomes files of other programs, and how these are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..arrays import Array
from ..runs.checkpoint import Checkpoint
from ..text.format import TextFormat, TextRules

Files = Mapping[str, Iterable[bytes]]  # suffix -> content in pieces; the first is the model


@dataclass(frozen=True)
class Symbols:
    """The symbols of a file that does not name its own, or names them to be checked."""

    format: TextFormat
    ids: Array  # (V,) the id here of each symbol, in the order of the file


@dataclass(frozen=True)
class Imported:
    """What a file tells of a model."""

    model: Mapping[str, Any]  # keys of the section `model` that the file settles
    format: TextFormat
    params: Mapping[str, Array]  # as the model's `restore` takes them
    first: Array | None = None  # (V,) how probable symbols are without context, where it is known


class Reader(Protocol):
    """Reads a model from a file."""

    def __call__(self, path: Path, symbols: Symbols | None, rules: TextRules) -> Imported:
        """The model. Without `symbols` they are those that the file names, in texts of these `rules`.

        The file is not trusted. Raises DataError or CheckpointError.
        """


@dataclass(frozen=True)
class Format:
    """A format; `kind` is the kind of model that it takes (None: any), by its name in MODELS.

    `write` raises DataError for a model that the format cannot hold, at once or with the first pieces.
    """

    write: Callable[[Checkpoint], Files]
    kind: str | None = None
    read: Reader | None = None
    reads: tuple[str, ...] = ()  # suffixes of files that `read` takes
    refuses: Mapping[str, str] = field(default_factory=dict)  # suffix -> why it is not read
