"""What several commands take: names of files, a checkpoint, a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..wording import quoted
from .terminal import say_line

if TYPE_CHECKING:
    from ..runs.checkpoint import Checkpoint
    from ..text.vocabulary import NewSymbols


class Name(click.Path):
    """The name of a file or folder; an empty one would be taken for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("a name is empty", param, ctx)
        return super().convert(value, param, ctx)


FILE = Name(path_type=Path)
CHECKPOINT = click.argument("checkpoint_or_run", required=False, type=FILE)
UNKNOWN = click.option(
    "--unknown",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Symbols outside the vocabulary: refused, or left out.",
)


def new_symbols(unknown: NewSymbols, extend: bool, option: str, given: object) -> NewSymbols:
    """What becomes of symbols outside the vocabulary that an option gives. Raises UsageError."""
    if extend and unknown == "skip":
        raise click.UsageError("--extend-vocab and --unknown skip exclude each other")
    if given is None and (extend or unknown == "skip"):
        raise click.UsageError(f"--extend-vocab and --unknown are about the vocabulary of {option}")
    return "extend" if extend else unknown


def example(text: str) -> str:
    """The example that ends a command's help."""
    return f"Example: {text}"


def argument(path: Path) -> str:
    """A path as it is typed after a command: quoted, and not taken for an option."""
    return quoted(f"./{path}" if str(path).startswith("-") else str(path))


def found(path: Path | None) -> Checkpoint:
    """The checkpoint that a user means; where nobody named it, it is said which it is."""
    from ..api import load

    checkpoint = load(path)
    if path is None:
        say_line(f"newest run: {checkpoint.path}")
    return checkpoint


def read_text(name: str, checkpoint: Checkpoint) -> str | bytes:
    """A text for a model, through its encoding and level."""
    from ..text.sources import read_text

    return read_text(name, checkpoint.format.rules)
