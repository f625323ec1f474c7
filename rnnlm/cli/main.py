"""The command line: opens a library object, calls it, prints. Nothing else imports click or prints.

Heavy modules are imported inside the commands, so that help and completion come at once.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

import click

from .. import __version__
from ..errors import DataError, RnnlmError, TrainingError
from ..interrupts import end_at_once, end_cleanly, stop
from ..wording import counted, escaped, quoted

if TYPE_CHECKING:
    from tqdm import tqdm

    from ..runs.checkpoint import Checkpoint
    from ..text.vocabulary import Unknown
    from ..training.loop import Event, Training


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
    help="Symbols outside the vocabulary: refused, or left out.",
)


def main() -> None:
    """Run the command line in a process of its own."""
    from ..backend import blas

    stop.catch()
    blas.hold_from_start()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: no other file may take its number
            file = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, file)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot encode is shown escaped
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(prog_name="rnnlm")
    finally:
        stop.at_first = end_at_once
        for stream in (sys.stdout, sys.stderr):
            _flush_or_drop(stream)


class Commands(click.Group):
    """Turns every error into one line on standard error, and ends with an exit code."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        sys.exit(self._exit_code(*args, **{**options, "standalone_mode": False}))

    def _exit_code(self, *args: Any, **options: Any) -> int:
        try:
            return super().main(*args, **options) or 0
        except click.Abort:  # Ctrl-C in a process that is not the command line's own
            return 128 + signal.SIGINT
        except click.ClickException as error:
            message = io.StringIO()
            error.show(message)
            _say(message.getvalue().rstrip("\n"))
            return error.exit_code
        except BrokenPipeError:  # the reader went away, as `| head` does; Click would exit with 1
            return 0
        except RnnlmError as error:
            said = str(error)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            said = f"{where}{error.strerror or error}"
        except MemoryError:
            said = "not enough memory for what is asked"
        _say_line(f"Error: {said}")
        return 1


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
    from ..api import find_vocabulary
    from ..text.corpus import prepare as prepare_corpus

    stop.at_first = end_cleanly
    vocabulary = None if vocab is None else find_vocabulary(vocab)
    newlines = options.pop("newlines")
    if newlines is not None:
        if options["level"] == "byte":
            raise click.UsageError("--newlines has no effect at --level byte")
        options["newlines"] = newlines
    corpus = prepare_corpus(inputs, out, vocabulary=vocabulary, **options)
    _show_lines([*corpus.summary(), f"next: rnnlm train --set {quoted(f'data.path={out}')}"])


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
    from ..api import load
    from ..assembly import make_config
    from ..training.loop import Training
    from ..training.plan import preview

    stop.at_first = end_cleanly
    try:
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
                _show_lines(preview(settings, weights))
                return
            start = Training.start(settings, config.stem if config else "run", weights)
        with start as training:
            stop.at_first = _say_stopping
            _show_training(training)
    except MemoryError:
        raise TrainingError("not enough memory for this model, batch and window") from None


@cli.command(epilog=example('rnnlm sample runs/my-run --prime "The " --temperature 0.7'))
@CHECKPOINT
@click.option("--prime", default="", help="Text to go on from.")
@click.option("--prime-file", type=click.Path(allow_dash=True), help="The same, from a file or -.")
@click.option(
    "--length", type=click.IntRange(0), default=500, show_default=True, help="Symbols to draw."
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
    from ..api import samples

    checkpoint = _found(checkpoint_or_run)
    start: str | bytes = prime
    if prime_file is not None:
        if prime:
            raise click.UsageError("--prime and --prime-file exclude each other")
        start = _read_text(prime_file, checkpoint)
    pieces = samples(checkpoint, start, **options)
    ids = checkpoint.ids(start, options["unknown"])
    stop.at_first = end_cleanly
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
    """Report nats and bits per character (or byte) and perplexity of a split or of any text."""
    from ..api import evaluate, evaluate_split

    if text is not None and (split or data):
        raise click.UsageError("--text excludes --split and --data")
    checkpoint = _found(checkpoint_or_run)
    if text is not None:
        result = evaluate(checkpoint, _read_text(text, checkpoint), unknown=unknown)
    else:
        result = evaluate_split(checkpoint, split or "test", data, unknown=unknown)
    figures = {
        "symbols": result.symbols,
        "nats_per_symbol": result.nats_per_symbol,
        "bits_per_symbol": result.bits_per_symbol,
        "perplexity": result.perplexity,
    }
    if as_json:
        _show(json.dumps(figures))
        return
    noun = checkpoint.vocabulary.noun
    _show(f"{counted(result.symbols, noun)} predicted")
    for name in ("nats_per_symbol", "bits_per_symbol", "perplexity"):
        words = name.replace("symbol", noun).replace("_", " ")
        _show(f"{words}: {_figure(figures[name])}")


@cli.command(epilog=example("rnnlm info runs/my-run/last.npz"))
@CHECKPOINT
def info(checkpoint_or_run: Path | None) -> None:
    """Say what is inside a checkpoint: config, sizes, parameters, step, losses, vocabulary."""
    from ..api import describe

    checkpoint = _found(checkpoint_or_run)
    _show_lines([f"checkpoint: {checkpoint.path}", *describe(checkpoint)])


def _found(path: Path | None) -> Checkpoint:
    """The checkpoint that a user means; where nobody named it, it is said which it is."""
    from ..api import load

    checkpoint = load(path)
    if path is None:
        _say_line(f"newest run: {checkpoint.path}")
    return checkpoint


# What the commands show: all of it goes through here, and is escaped

SIGPIPE = 13  # signal.SIGPIPE, where there is one


def _show(text: str, keep: str = "\n\t") -> None:
    """Print on standard output."""
    with _standard_output():
        click.echo(escaped(text, keep))


def _show_lines(lines: Iterable[str]) -> None:
    for line in lines:
        _show(line, keep="\t")


def _say(text: str, keep: str = "\n\t") -> None:
    """Print on standard error, if that can be done."""
    with suppress(OSError):
        click.echo(escaped(text, keep), err=True)


def _say_line(text: str) -> None:
    _say(text, keep="")


@contextmanager
def _standard_output() -> Iterator[None]:
    """Name what failed; the operating system does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def _flush_or_drop(stream: TextIO) -> None:
    """Write what a stream still holds; where that fails, this and what follows goes nowhere."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError), Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def _figure(value: float | None) -> str:
    if value is None:
        return "beyond float range"
    return f"{value:.4f}" if value < 1e9 else f"{value:.4g}"


def _read_text(name: str, checkpoint: Checkpoint) -> str | bytes:
    """A text for a model, through its encoding and level."""
    from ..text.corpus import read_text

    return read_text(name, checkpoint.config.data.level, checkpoint.config.data.encoding)


@contextmanager
def _output(path: Path | None) -> Iterator[Any]:
    """A function that writes text: to a file, raw; to a pipe, raw; to a terminal, escaped."""
    if path is None:
        out = sys.stdout
        escape = escaped if out.isatty() else str

        def write(text: str) -> None:
            with _standard_output():
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


class _Lenient:
    """A standard stream on which a training is shown: what becomes of it does not end a run halfway.

    When whoever reads it goes away, as `| head` does, that stops the run as Ctrl-C would. Anything else
    that is wrong (a terminal that was closed, a full disk) only keeps the run from being seen.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._forgiven():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._forgiven():
            self._stream.flush()

    @contextmanager
    def _forgiven(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            _flush_or_drop(self._stream)
            stop.signal = stop.signal or SIGPIPE
        except OSError:
            pass


@contextmanager
def _lenient_output() -> Iterator[None]:
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, _Lenient(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams


def _say_stopping(_number: int) -> None:
    with suppress(OSError):
        os.write(2, b"\nstopping after this step; once more to stop at once\n")


def _show_training(training: Training) -> None:
    """Train, with a progress bar on a terminal and sparse lines elsewhere."""
    shown = quoted(str(training.run.folder))
    with _lenient_output():
        _show_lines([*training.summary(), f"run folder: {training.run.folder}"])
        if training.progress.step:
            _show(f"going on from step {training.progress.step:,}")
        with _bar(training.total_steps, training.progress.step) as bar:
            for event in training.events(stop):
                _show_event(event, bar, training.corpus.vocabulary.noun)
        if stop.signal is not None and training.progress.step < training.total_steps:
            at = f"stopped at step {training.progress.step}"
            _say(f"{at}; to go on: rnnlm train --resume {shown}")
            sys.exit(128 + stop.signal)
        _show(f'next: rnnlm sample {shown} --prime "..."\n      rnnlm eval {shown}')


def _bar(total: int, initial: int) -> tqdm[Any]:
    # A TQDM_ variable that tqdm cannot use would end the run, some only when the bar is drawn
    for name in [name for name in os.environ if name.startswith("TQDM_")]:
        del os.environ[name]
    from tqdm import tqdm

    tqdm.monitor_interval = 0  # its thread would keep the training from forking
    return tqdm(
        total=total,
        initial=initial,
        unit="step",
        miniters=1,
        disable=not sys.stderr.isatty(),
        dynamic_ncols=True,
    )


def _show_event(event: Event, bar: tqdm[Any], noun: str) -> None:
    record = event.record
    if event.kind == "step":
        if bar.update():
            bar.set_postfix_str(_postfix(record, noun), refresh=False)
    elif event.kind == "train" and bar.disable:
        _say(f"step {record['step']}/{bar.total}: {_postfix(record, noun)}")
    elif event.kind in ("eval", "sample"):
        with bar.external_write_mode(sys.stdout):
            _show(_event_line(record, noun))


def _postfix(record: dict[str, Any], noun: str) -> str:
    figures = f"loss {record['loss']:.3f}, perplexity {_figure(record['perplexity'])}"
    return f"{figures}, {record['symbols_per_second']:,.0f} {noun}s/s"


def _event_line(record: dict[str, Any], noun: str) -> str:
    if record["event"] == "sample":
        return f"sample at step {record['step']}:\n{record['text']}"
    figures = f"perplexity {_figure(record['perplexity'])} ({record['loss']:.4f} nats per {noun})"
    if record["split"] == "test":
        return f"test, checkpoint of step {record['checkpoint_step']}: {figures}"
    note = " (approximate: eval_streams > 1)" if record.get("approximate") else ""
    best = ", best so far" if record["best"] else ""
    return f"epoch {record['epoch']:.4g}, step {record['step']}: validation {figures}{best}{note}"
