"""`rnnlm prepare`: prints what was made of the text, and the training that can follow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..interrupts import end_cleanly, stop
from ..wording import counted
from .arguments import FILE, SEED, UNKNOWN, argument, example, new_symbols, unescaped
from .bars import passes_shown
from .terminal import say_line, show, show_lines

if TYPE_CHECKING:
    from ..text.corpus import Corpus

OF_SOURCES = ("size", "seed", "of_source")  # options that need --source
FOR_SOURCES = ("val_fraction", "test_fraction", "force")  # options that it may have too


@click.command("prepare", epilog=example("rnnlm prepare books/ --out data/books"))
@click.argument("inputs", nargs=-1, metavar="INPUT...")
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
@click.option("--source", metavar="NAME", help="Draw a text of known entropy: markov, reber, ...")
@click.option("--size", type=click.IntRange(1, 10**8), metavar="N", help="Symbols of it.")
@click.option("--seed", type=SEED, help="Of the source.  [default: 0]")
@click.option("--set", "of_source", multiple=True, metavar="KEY=VALUE", help="An option of it.")
@click.pass_context
def command(
    context: click.Context,
    /,
    inputs: tuple[str, ...],
    out: Path,
    source: str | None,
    size: int | None,
    seed: int | None,
    of_source: tuple[str, ...],
    **options: Any,
) -> None:
    """Turn text files, folders or standard input (-) into ids, with a vocabulary and three splits.

    With --source, a text that is drawn.
    """
    stop.at_first = end_cleanly
    _check_meant(context, inputs, source, size)
    if source is None:
        corpus = _of_files(inputs, out, **options)
    else:
        from ..text.synthetic import prepare_source

        given = dict(_parted(text) for text in of_source)
        settings = {name: options[name] for name in FOR_SOURCES if name in options}
        with passes_shown():
            corpus = prepare_source(source, size or 0, seed or 0, out, given, **settings)
    if corpus.left_out:
        show(f"{counted(corpus.left_out, corpus.format.noun)} outside the vocabulary left out")
    show_lines([*corpus.summary(), f"next: rnnlm train {argument(out)}"])


def _check_meant(
    context: click.Context, inputs: tuple[str, ...], source: str | None, size: int | None
) -> None:
    """Raise UsageError for options that mean nothing together."""
    given = {
        param.name: param.opts[0]
        for param in context.command.params
        if context.get_parameter_source(param.name or "") is not ParameterSource.DEFAULT
    }
    if source is None:
        wrong = [option for name, option in given.items() if name in OF_SOURCES]
        if wrong:
            raise click.UsageError(f"{wrong[0]} needs --source")
        if not inputs:
            raise click.UsageError("Missing argument 'INPUT...': or name a --source")
        return
    if inputs:
        raise click.UsageError("--source draws its text: leave the input out")
    if size is None:
        raise click.UsageError("--source needs --size")
    allowed = {"inputs", "out", "source", *OF_SOURCES, *FOR_SOURCES}
    wrong = [option for name, option in given.items() if name not in allowed]
    if wrong:
        raise click.UsageError(f"{wrong[0]} has no effect with --source")


def _parted(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set {text}: write KEY=VALUE")
    return key, value


def _of_files(
    inputs: tuple[str, ...], out: Path, vocab: Path | None, skip_unreadable: bool, **options: Any
) -> Corpus:
    from ..api.checkpoints import find_vocabulary
    from ..text.prepare import prepare as prepare_corpus
    from .corpus import ready

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
    return corpus
