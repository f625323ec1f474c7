"""`rnnlm info`: prints what is inside a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import CHECKPOINT, example, found
from .terminal import show_lines


@click.command("info", epilog=example("rnnlm info runs/my-run/last.npz"))
@CHECKPOINT
def command(checkpoint_or_run: Path | None) -> None:
    """Say what is inside a checkpoint: config, sizes, parameters and their hash, step, losses,
    vocabulary, and what computed it."""
    from ..api import describe

    checkpoint = found(checkpoint_or_run)
    show_lines([f"checkpoint: {checkpoint.path}", *describe(checkpoint)])
