"""`rnnlm export`: writes a model in another program's format, and prints the names of the files."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import CHECKPOINT, FILE, example, found
from .terminal import show_lines


@click.command("export", epilog=example("rnnlm export runs/my-run --to onnx"))
@CHECKPOINT
@click.option(
    "--to",
    metavar="FORMAT",
    help="arpa (n-grams), onnx or torch (recurrent models), safetensors or json (any model).  "
    "[required]",
)
@click.option("--out", type=FILE, help="The file to write.  [default: named after the run]")
def command(checkpoint_or_run: Path | None, to: str | None, out: Path | None) -> None:
    """Write a model in another program's format. Without a path: the newest run's."""
    from ..exchange import FORMATS
    from ..exchange.exporting import export

    if to is None:
        raise click.UsageError(f"name the format with --to: one of {', '.join(FORMATS)}")
    paths = export(found(checkpoint_or_run), to, out)
    show_lines(f"wrote {path}" for path in paths)
