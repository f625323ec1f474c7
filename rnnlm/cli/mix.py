"""`rnnlm mix`: prints how well each part and the mixture predict, the weights, and what can follow."""

from __future__ import annotations

from pathlib import Path

import click

from ..interrupts import end_cleanly, stop
from .arguments import FILE, example
from .terminal import lenient_output, say_line


@click.command("mix", epilog=example("rnnlm mix runs/my-lstm runs/my-ngram --out runs/mixed"))
@click.argument("run", nargs=-1, required=True, type=FILE)
@click.option("--out", type=FILE, required=True, help="The run folder to make.")
@click.option("--data", type=FILE, help="A prepared folder instead of the first run's own data.")
@click.option(
    "--buckets",
    type=click.Choice(["context"]),
    help="Weights for each length of the context that an n-gram has seen.",
)
def command(run: tuple[Path, ...], out: Path, data: Path | None, buckets: str | None) -> None:
    """Mix runs or checkpoints into one model, with the weights that suit the validation text best."""
    from ..api.checkpoints import load
    from ..training.mixing import Mixing
    from .train import show_training

    stop.at_first = end_cleanly
    checkpoints = [load(path) for path in run]
    mixing = Mixing.start(checkpoints, out, data=data, buckets=buckets)
    with mixing, lenient_output():
        for note in mixing.notes():
            say_line(note)
        show_training(mixing)
