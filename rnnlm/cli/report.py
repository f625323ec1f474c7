"""`rnnlm report`: writes a page about a run, and says how to open it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .arguments import FILE, UNKNOWN, argument, example, found
from .bars import passes_shown
from .terminal import show

if TYPE_CHECKING:
    from ..runs.checkpoint import Checkpoint
    from ..text.vocabulary import Unknown

LENGTH, MOST = 20_000, 100_000  # symbols; more are slow to look at


@click.command("report", epilog=example("rnnlm report runs/my-run --against runs/ngram"))
@click.argument("run", required=False, type=FILE, metavar="[RUN]")
@click.option("--out", type=FILE, metavar="FILE", help="Instead of report.html in the run folder.")
@click.option("--text", type=FILE, metavar="FILE", help="A text instead of the run's test text.")
@click.option(
    "--against", type=FILE, metavar="RUN", help="A model to compare with, on the same text."
)
@click.option(
    "--length",
    type=click.IntRange(2, MOST),
    default=LENGTH,
    show_default=True,
    help="Symbols of the text, at most.",
)
@UNKNOWN
def command(
    run: Path | None,
    out: Path | None,
    text: Path | None,
    against: Path | None,
    length: int,
    unknown: Unknown,
) -> None:
    """Write one HTML file that shows what a run has learnt: its curves and samples, the beginning of a
    text coloured by surprisal, by the activation of a unit, or by its influence on a prediction.

    The file needs no network and no server. An older report at the same place is replaced.
    """
    checkpoint = found(run, "report [RUN] --text")
    other = None
    if against is not None:
        from ..api.checkpoints import load

        other = load(against)
    write(checkpoint, out, text, other, length, unknown)


def write(
    checkpoint: Checkpoint,
    out: Path | None = None,
    text: Path | None = None,
    against: Checkpoint | None = None,
    length: int = LENGTH,
    unknown: Unknown = "error",
) -> None:
    """Write the report about a checkpoint, beside it where `out` is None, and say how to open it."""
    from ..analysis.stretch import of_file, of_split
    from ..pictures.page import check_place, write_page
    from ..pictures.report import report

    if out is None:
        folder = checkpoint.path.parent if checkpoint.path else Path()
        out = folder / "report.html"
    check_place(out)
    with passes_shown():
        if text is None:
            stretch = of_split(checkpoint, length)
        else:
            stretch = of_file(checkpoint, text, length, unknown)
        content = report(checkpoint, stretch, against)
    write_page(out, content)
    show(f"{argument(out)}: {stretch.source}\nopen it in a browser: {out.absolute().as_uri()}")
