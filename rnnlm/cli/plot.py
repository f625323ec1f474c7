"""`rnnlm plot`: draws how training went, in the terminal or into a file."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import click

from ..errors import CheckpointError
from .arguments import FILE, example, named_runs
from .terminal import say_line, show_lines


@click.command("plot", epilog=example("rnnlm plot runs/a runs/b --x minutes --out curves.svg"))
@click.argument("runs", nargs=-1, type=FILE, metavar="[RUN]...")
@click.option("--out", type=FILE, metavar="FILE", help="Draw into a file: SVG, PNG or PDF.")
@click.option("--force", is_flag=True, help="Replace FILE where it exists.")
@click.option("--text", is_flag=True, help="With --out: draw in the terminal too.")
@click.option(
    "--x",
    type=click.Choice(["steps", "symbols", "minutes"]),
    default="steps",
    show_default=True,
    help="What losses are drawn against; symbols are those trained on.",
)
@click.option("--log", is_flag=True, help="Make both axes of the losses logarithmic.")
def command(
    runs: tuple[Path, ...], out: Path | None, force: bool, text: bool, x: str, log: bool
) -> None:
    """Draw training and validation loss, in the terminal or with --out into a file, there with learning
    rate and gradient norm below. Several runs are one picture, each named by the keys in which it
    differs from the others. A run that was made at once is a level line. A folder of runs, as a
    sweep's, stands for its runs; those without a loss yet are left out.
    """
    from ..api.checkpoints import look
    from ..pictures.curves import curves
    from ..pictures.figure import check_picture, draw, write_picture
    from ..pictures.plain import draw_plain
    from ..training.comparison import labels

    if out is not None:
        check_picture(out, "out", force)
    glances, drawn, problems = [], [], []
    for run in map(look, named_runs(runs) if runs else [None]):
        try:
            drawn.append(curves(run))
            glances.append(run)
        except CheckpointError as error:
            problems.append(error)
    if not drawn:
        raise problems[0]
    for problem in problems:
        say_line(f"left out: {problem}")
    drawn = [replace(each, name=name) for each, name in zip(drawn, labels(glances), strict=True)]
    if out is None or text:
        show_lines(draw_plain(drawn, x=x, log=log, width=shutil.get_terminal_size().columns))
    if out is not None:
        write_picture(draw(drawn, x=x, log=log), out)
        show_lines([str(out)])
