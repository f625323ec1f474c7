"""`rnnlm info`: prints what is inside a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import click

from .arguments import CHECKPOINT, example, found
from .terminal import show_lines


@click.command("info", epilog=example("rnnlm info runs/my-run/last.npz"))
@CHECKPOINT
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(checkpoint_or_run: Path | None, as_json: bool) -> None:
    """Say what is inside a checkpoint: config, sizes, parameters and their hash, step, losses,
    vocabulary, and what computed it."""
    from ..api.facts import describe, facts

    checkpoint = found(checkpoint_or_run)
    if as_json:
        show_lines([json.dumps(facts(checkpoint))])
        return
    show_lines([f"checkpoint: {checkpoint.path}", *describe(checkpoint)])
