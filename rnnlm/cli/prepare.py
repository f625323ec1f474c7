"""`rnnlm prepare`: prints what was made of the text, and the training that can follow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..interrupts import end_cleanly, stop
from ..wording import counted
from .arguments import FILE, UNKNOWN, argument, example, new_symbols, unescaped
from .bars import passes_shown
from .terminal import say_line, show, show_lines


@click.command("prepare", epilog=example("rnnlm prepare books/ --out data/books"))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", required=True, type=FILE, help="Folder to make.")
@click.option(
    "--level",
    default="char",
    show_default=True,
    metavar="LEVEL",
    help="What a symbol is: char, byte or word.",
)
@click.option("--encoding", help="Encoding of the text.  [default: utf-8]")
@click.option(
    "--newlines",
    type=click.Choice(["normalize", "keep"]),
    help="CRLF and CR become LF, or stay.  [default: normalize]",
)
@click.option(
    "--unit",
    type=click.Choice(["stream", "line"]),
    default="stream",
    show_default=True,
    help="What a text is: the whole, or every line by itself.",
)
@click.option(
    "--shuffle-lines/--keep-order",
    default=None,
    help="Shuffle lines before they are split, or not.  [default: shuffle]",
)
@click.option(
    "--val-fraction",
    type=float,
    default=0.05,
    show_default=True,
    help="Share at the end for validation.",
)
@click.option(
    "--test-fraction",
    type=float,
    default=0.05,
    show_default=True,
    help="Share after that for the test.",
)
@click.option("--val", metavar="FILE", help="Validation text of its own.")
@click.option("--test", metavar="FILE", help="Test text of its own.")
@click.option("--vocab", type=FILE, help="Reuse the vocabulary of a checkpoint, run or folder.")
@click.option(
    "--min-count",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Words seen less often become <unk>.",
)
@click.option(
    "--max-vocabulary", type=click.IntRange(2), help="Symbols at most: rarer words become <unk>."
)
@click.option("--extend-vocab", is_flag=True, help="With --vocab: add the text's new symbols.")
@UNKNOWN
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Of folders, only such files: *.txt."
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Of folders, no such files.")
@click.option(
    "--separator", default="", metavar="TEXT", help=r"Between two files: \n\n, for example."
)
@click.option("--skip-unreadable", is_flag=True, help="Leave out files that are not text.")
@click.option("--force", is_flag=True, help="Replace what an earlier prepare wrote there.")
def command(
    inputs: tuple[str, ...], out: Path, vocab: Path | None, skip_unreadable: bool, **options: Any
) -> None:
    """Turn text files, folders or standard input (-) into ids, with a vocabulary and three splits."""
    from ..api.checkpoints import find_vocabulary
    from ..text.prepare import prepare as prepare_corpus
    from .corpus import ready

    stop.at_first = end_cleanly
    extend = options.pop("extend_vocab")
    options["unknown"] = new_symbols(options["unknown"], extend, "--vocab", vocab)
    vocabulary = None if vocab is None else find_vocabulary(vocab)
    newlines = options.pop("newlines")
    if newlines is not None:
        if options["level"] == "byte":
            raise click.UsageError("--newlines has no effect at --level byte")
        options["newlines"] = newlines
    options["separator"] = unescaped(options["separator"], in_bytes=options["level"] == "byte")
    left_out: list[object] = []

    def unreadable(error: object) -> None:
        left_out.append(error)
        say_line(f"left out: {error}")

    if skip_unreadable:
        options["unreadable"] = unreadable
    with passes_shown():
        corpus = prepare_corpus([*map(ready, inputs)], out, vocabulary=vocabulary, **options)
    if left_out:
        say_line(f"left out: {counted(len(left_out), 'file')}")
    if corpus.left_out:
        show(f"{counted(corpus.left_out, corpus.format.noun)} outside the vocabulary left out")
    show_lines([*corpus.summary(), f"next: rnnlm train {argument(out)}"])
