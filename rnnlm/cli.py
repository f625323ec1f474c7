"""The command line: opens a library object, calls it, prints. Nothing else imports click or prints.

Heavy modules are imported inside the commands, so that help and completion come at once.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .errors import RnnlmError

if TYPE_CHECKING:
    from tqdm import tqdm

    from .checkpoint import Checkpoint
    from .training import Event, Training
    from .vocabulary import Unknown


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
    help="Characters outside the vocabulary: refused, or left out.",
)


def main() -> None:
    """Run the command line in a process of its own."""
    from . import blas

    blas.hold_from_start()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: no other file may take its number
            file = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, file)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot encode is shown escaped
            stream.reconfigure(errors="backslashreplace")
    cli(prog_name="rnnlm")


class Commands(click.Group):
    """Turns rnnlm's errors into one line on standard error and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except RnnlmError as error:
            click.echo(f"Error: {_escape(str(error), keep='')}", err=True)
            ctx.exit(1)
        except BrokenPipeError:  # the reader went away, as `| head` does; Click would exit with 1
            _to_nowhere()
            ctx.exit(0)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"Error: {where}{error.strerror}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            ctx.exit(128 + signal.SIGINT)
        except MemoryError:
            click.echo("Error: not enough memory for this model, batch and window", err=True)
            ctx.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rnnlm")
def cli() -> None:
    """Train character-level recurrent language models on your own text, on your own CPU.

    \b
    rnnlm train --set data.path=my.txt
    rnnlm sample --prime "Once "
    rnnlm eval
    """


def example(text: str) -> str:
    """The example that ends a command's help."""
    return f"Example: {text}"


@cli.command(epilog=example("rnnlm prepare books/ --out data/books"))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--out", required=True, type=FILE, help="Folder to make.")
@click.option(
    "--level",
    type=click.Choice(["char", "byte"]),
    default="char",
    show_default=True,
    help="What a symbol is.",
)
@click.option("--encoding", help="Encoding of the text.  [default: utf-8]")
@click.option(
    "--newlines",
    type=click.Choice(["normalize", "keep"]),
    help="CRLF and CR become LF, or stay.  [default: normalize]",
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
@click.option("--force", is_flag=True, help="Replace what an earlier prepare wrote there.")
def prepare(inputs: tuple[str, ...], out: Path, vocab: Path | None, **options: Any) -> None:
    """Turn text files, folders or standard input (-) into ids, with a vocabulary and three splits."""
    from .api import find_vocabulary
    from .corpus import prepare as prepare_corpus

    vocabulary = None if vocab is None else find_vocabulary(vocab)
    newlines = options.pop("newlines")
    if newlines is not None:
        if options["level"] == "byte":
            raise click.UsageError("--newlines has no effect at --level byte")
        options["newlines"] = newlines
    corpus = prepare_corpus(inputs, out, vocabulary=vocabulary, **options)
    _echo_lines(corpus.summary())
    click.echo(f"next: rnnlm train --set data.path={out}")


@cli.command(epilog=example("rnnlm train configs/tinyshakespeare.yaml --set train.epochs=3"))
@click.argument("config", required=False, type=FILE)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key.")
@click.option("--run-dir", type=FILE, help="The run folder, as run.dir.")
@click.option("--resume", type=FILE, metavar="RUN", help="Go on with a run folder.")
@click.option("--init-from", type=FILE, metavar="CHECKPOINT", help="Start from these weights.")
@click.option("--dry-run", is_flag=True, help="Show config, size, memory and steps, and stop.")
def train(
    config: Path | None,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: Path | None,
    init_from: Path | None,
    dry_run: bool,
) -> None:
    """Train a model on a prepared folder or a raw text, as CONFIG says."""
    from .api import load
    from .choices import make_config
    from .training import Training, preview

    if resume is not None:
        if config or run_dir or init_from or dry_run:
            raise click.UsageError("--resume takes nothing beside it but --set")
        start = Training.resume(resume, overrides)
    else:
        settings = make_config(config, *overrides)
        if run_dir is not None:  # a name as it was typed: `null` and ` a ` are names, too
            settings = settings.with_values("run", dir=str(run_dir))
        weights = None if init_from is None else load(init_from)
        if dry_run:
            _echo_lines(preview(settings, weights))
            return
        start = Training.start(settings, config.stem if config else "run", weights)
    with start as training, _stop_signals() as stop:
        _show_training(training, stop)


@cli.command(epilog=example('rnnlm sample runs/my-run --prime "The " --temperature 0.7'))
@CHECKPOINT
@click.option("--prime", default="", help="Text to go on from.")
@click.option("--prime-file", type=click.Path(allow_dash=True), help="The same, from a file or -.")
@click.option(
    "--length", type=click.IntRange(0), default=500, show_default=True, help="Characters to draw."
)
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=1.0,
    show_default=True,
    help="Below 1 is safer, 0 greedy.",
)
@click.option("--top-k", type=click.IntRange(1), help="Draw from the k most probable only.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Nucleus sampling.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The same seed, the same text.",
)
@click.option(
    "--num-samples", type=click.IntRange(1), default=1, show_default=True, help="Texts to draw."
)
@click.option("--stop", default="", metavar="TEXT", help="End before this text.")
@click.option("--no-prime", is_flag=True, help="Leave the prime out of the output.")
@UNKNOWN
@click.option("--output", type=FILE, help="Write here instead of standard output.")
def sample(
    checkpoint_or_run: Path | None,
    prime: str,
    prime_file: str | None,
    no_prime: bool,
    output: Path | None,
    **options: Any,
) -> None:
    """Generate text, character by character. Without a path: from the newest run under ./runs."""
    from .api import load, samples

    checkpoint = load(checkpoint_or_run)
    start: str | bytes = prime
    if prime_file is not None:
        if prime:
            raise click.UsageError("--prime and --prime-file exclude each other")
        start = _read_text(prime_file, checkpoint)
    pieces = samples(checkpoint, start, **options)
    ids = checkpoint.ids(start, options["unknown"])
    shown = "" if no_prime else checkpoint.vocabulary.text(ids)
    with _output(output) as write:
        _write_samples(pieces, shown, options["num_samples"], write)


@cli.command("eval", epilog=example("rnnlm eval runs/my-run --split val"))
@CHECKPOINT
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    help="Of the run's data.  [default: test]",
)
@click.option("--data", type=FILE, help="A prepared folder instead of the run's own data.")
@click.option("--text", type=click.Path(allow_dash=True), help="Any text: a file or -.")
@UNKNOWN
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def eval_(
    checkpoint_or_run: Path | None,
    split: str | None,
    data: Path | None,
    text: str | None,
    unknown: Unknown,
    as_json: bool,
) -> None:
    """Report nats and bits per character and perplexity of a split or of any text."""
    from .api import evaluate, evaluate_split, load

    if text is not None and (split or data):
        raise click.UsageError("--text excludes --split and --data")
    checkpoint = load(checkpoint_or_run)
    if text is not None:
        result = evaluate(checkpoint, _read_text(text, checkpoint), unknown=unknown)
    else:
        result = evaluate_split(checkpoint, split or "test", data, unknown=unknown)
    figures = {
        "chars": result.chars,
        "nats_per_char": result.nats_per_char,
        "bits_per_char": result.bits_per_char,
        "perplexity": result.perplexity,
    }
    if as_json:
        click.echo(json.dumps(figures))
        return
    click.echo(f"{result.chars:,} characters predicted")
    for name in ("nats_per_char", "bits_per_char", "perplexity"):
        click.echo(f"{name.replace('_', ' ')}: {_figure(figures[name])}")


@cli.command(epilog=example("rnnlm info runs/my-run/last.npz"))
@CHECKPOINT
def info(checkpoint_or_run: Path | None) -> None:
    """Say what is inside a checkpoint: config, sizes, parameters, step, losses, vocabulary."""
    from .api import describe, load
    from .runs import find_checkpoint

    path = find_checkpoint(checkpoint_or_run)
    click.echo(f"checkpoint: {path}")
    _echo_lines(describe(load(path)))


# What the commands show

SIGPIPE = 13  # signal.SIGPIPE, where there is one


def _to_nowhere() -> None:
    """What is still to be written, also when Python ends, is lost without a word."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
            continue
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _echo_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(_escape(line, keep="\t"))


def _figure(value: float | None) -> str:
    if value is None:
        return "beyond float range"
    return f"{value:.4f}" if value < 1e9 else f"{value:.4g}"


def _escape(text: str, keep: str = "\n\t") -> str:
    """Control characters made visible: what a model or a file holds must not drive a terminal."""
    return "".join(
        c
        if c.isprintable() or c in keep or not _is_control(c)
        else c.encode("unicode_escape").decode()
        for c in text
    )


def _is_control(c: str) -> bool:
    import unicodedata

    return unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") and c != "\u200d"


def _read_text(name: str, checkpoint: Checkpoint) -> str | bytes:
    """A text for a model, through its encoding and level."""
    from .corpus import read_text

    return read_text(name, checkpoint.config.data.level, checkpoint.config.data.encoding)


@contextmanager
def _output(path: Path | None) -> Iterator[Any]:
    """A function that writes text: to a file, raw; to a pipe, raw; to a terminal, escaped."""
    from .errors import DataError

    if path is None:
        out = sys.stdout
        escape = _escape if out.isatty() else str

        def write(text: str) -> None:
            out.write(escape(text))
            out.flush()

        yield write
        return
    try:
        with path.open("x", encoding="utf-8", newline="", errors="surrogatepass") as file:
            yield file.write
    except FileExistsError:
        raise DataError(f"{path}: exists already, and is not overwritten") from None
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror}") from None


def _write_samples(pieces: Iterable[list[str]], shown: str, n: int, write: Any) -> None:
    """One sample as it is drawn; several one after another, each under a line with its number."""
    if n == 1:
        write(shown)
        ends = shown[-1:]
        for (piece,) in pieces:
            write(piece)
            ends = piece[-1:] or ends
        if ends != "\n":
            write("\n")
        return
    texts = [[shown] for _ in range(n)]
    for step in pieces:
        for text, piece in zip(texts, step, strict=True):
            text.append(piece)
    for number, text in enumerate(texts, 1):
        body = "".join(text)
        write(f"=== sample {number} ===\n{body}" + ("" if body.endswith("\n") else "\n"))


class _Stop:
    """Remembers the first SIGINT or SIGTERM; the second one ends the process at once."""

    signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    @contextmanager
    def where_a_reader_leaves(self) -> Iterator[None]:
        """Take a broken pipe for the signal that other programs get for it."""
        try:
            yield
        except BrokenPipeError:
            _to_nowhere()
            self.signal = self.signal or SIGPIPE


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    stop = _Stop()

    def handle(number: int, _frame: object) -> None:
        stop.signal = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        with suppress(OSError):
            os.write(2, b"\nstopping after this step; once more to stop at once\n")

    before = {each: signal.signal(each, handle) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        if stop.signal is None:  # else the process is about to exit, and once more means at once
            for each, handler in before.items():
                signal.signal(each, handler)


def _show_training(training: Training, stop: _Stop) -> None:
    """Train, with a progress bar on a terminal and sparse lines elsewhere.

    When whoever reads the output goes away, as `| head` does, that stops the run as Ctrl-C would: what
    happens is saved before it is shown to nobody.
    """
    from tqdm import tqdm

    folder = training.run.folder
    with stop.where_a_reader_leaves():
        _echo_lines([*training.summary(), f"run folder: {folder}"])
        if training.progress.step:
            click.echo(f"going on from step {training.progress.step:,}")
    tqdm.monitor_interval = 0  # its thread would keep the training from forking
    bar: tqdm[Any] = tqdm(
        total=training.total_steps,
        initial=training.progress.step,
        unit="step",
        miniters=1,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )
    with stop.where_a_reader_leaves(), bar:
        for event in training.events(stop):
            with stop.where_a_reader_leaves():
                _show_event(event, bar)
    shown = shlex.quote(str(folder))
    if stop.signal is not None and training.progress.step < training.total_steps:
        with suppress(BrokenPipeError):
            click.echo(
                f"stopped at step {training.progress.step}; to go on: rnnlm train --resume {shown}",
                err=True,
            )
        sys.exit(128 + stop.signal)
    click.echo(f'next: rnnlm sample {shown} --prime "..."\n      rnnlm eval {shown}')


def _show_event(event: Event, bar: tqdm[Any]) -> None:
    record = event.record
    if event.kind == "step":
        if bar.update():
            bar.set_postfix_str(_postfix(record), refresh=False)
    elif event.kind == "train" and bar.disable:
        click.echo(f"step {record['step']}/{bar.total}: {_postfix(record)}", err=True)
    elif event.kind in ("eval", "sample"):
        with bar.external_write_mode(sys.stdout):
            click.echo(_event_line(record))


def _postfix(record: dict[str, Any]) -> str:
    figures = f"loss {record['loss']:.3f}, perplexity {_figure(record['perplexity'])}"
    return f"{figures}, {record['chars_per_second']:,.0f} chars/s"


def _event_line(record: dict[str, Any]) -> str:
    if record["event"] == "sample":
        return f"sample at step {record['step']}:\n" + _escape(record["text"])
    figures = (
        f"perplexity {_figure(record['perplexity'])} ({record['loss']:.4f} nats per character)"
    )
    if record["split"] == "test":
        return f"test, checkpoint of step {record['checkpoint_step']}: {figures}"
    note = " (approximate: eval_streams > 1)" if record.get("approximate") else ""
    best = ", best so far" if record["best"] else ""
    return f"epoch {record['epoch']:.4g}, step {record['step']}: validation {figures}{best}{note}"
