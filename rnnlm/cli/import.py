"""`rnnlm import`: makes a run of another program's model, and prints what it is and what can follow."""

from __future__ import annotations

from pathlib import Path

import click

from .arguments import FILE, argument, example
from .terminal import show_lines


@click.command("import", epilog=example("rnnlm import model.arpa --out runs/imported"))
@click.argument("file", type=FILE)
@click.option("--out", required=True, type=FILE, help="Run folder to make.")
@click.option(
    "--vocab",
    type=FILE,
    help="Its symbols: a checkpoint, run or prepared folder, or a text of them in order.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="A key that the file does not tell.",
)
def command(file: Path, out: Path, vocab: Path | None, overrides: tuple[str, ...]) -> None:
    """Make a run folder of another program's model: n-grams as .arpa, a PyTorch state_dict
    as .safetensors or .npz."""
    from ..exchange.importing import import_model

    checkpoint = import_model(file, out, *overrides, vocabulary=vocab)
    show_lines(
        [
            f"model: {checkpoint.model.describe(checkpoint.params)}",
            f"run folder: {out}",
            f'next: rnnlm sample {argument(out)} --prime "..."',
        ]
    )
