"""`rnnlm train`: prints what is trained, each evaluation, and what can follow; a bar on a terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..backend.launchers import started_as
from ..config.kinds import Interval
from ..errors import DivergedError, RnnlmError, TrainingError
from ..interrupts import end_cleanly, stop
from ..watching import watching
from ..wording import counted
from .arguments import (
    FILE,
    UNKNOWN,
    KeyGuesser,
    Name,
    argument,
    example,
    new_symbols,
    settings,
)
from .bars import StepsBar, passes_shown
from .terminal import be_silent, figure, lenient_output, say, say_in_handler, show, show_lines

if TYPE_CHECKING:
    from ..text.vocabulary import NewSymbols
    from ..training.at_once import AtOnce
    from ..training.loop import Event, Training


RUINED = 2  # times the loss of a guess among all symbols: more is not for want of training
LOWER = 3  # by what the learning rate of a run that diverged is divided
NEWEST = Path("newest\0")  # stands for no name: no file can have this one


class RunName(Name):
    """The name of a run folder, or NEWEST."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value is NEWEST else super().convert(value, param, ctx)


class Together(KeyGuesser):
    """A command that all ranks under mpiexec run together: rank 0 does what it says, and the others
    follow it in silence.
    """

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        if started_as()[0]:
            be_silent()
        return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        if started_as()[1] == 1:
            return super().invoke(ctx)
        from ..backend.ranks import join
        from ..training.engine import follow

        ranks = join()
        if ranks.number:
            stop.at_first = _leave_to_rank_0
            ctx.exit(follow(ranks))
        code = 1
        try:
            result = super().invoke(ctx)
            code = 0
            return result
        except (SystemExit, click.exceptions.Exit) as error:
            code = getattr(error, "exit_code", None) or getattr(error, "code", None) or 0
            raise
        except click.ClickException as error:
            code = error.exit_code
            raise
        finally:
            ranks.lead_out(code)


def _leave_to_rank_0(_signal: int) -> None:
    """What another rank does at a signal: all of them get it, and rank 0 says when to stop."""


@click.command("train", cls=Together, epilog=example("rnnlm train my.txt --set train.epochs=3"))
@click.argument("config_or_text", required=False, type=FILE)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a key.")
@click.option("--run-dir", type=FILE, help="The run folder, as run.dir.")
@click.option(
    "--resume",
    type=RunName(path_type=Path),
    is_flag=False,
    flag_value=NEWEST,
    metavar="[RUN]",
    help="Go on with a run folder, or the newest unfinished one.",
)
@click.option(
    "--resume-or-start", is_flag=True, help="Go on with --run-dir if it is a run, else start it."
)
@click.option("--init-from", type=FILE, metavar="CHECKPOINT", help="Start from these weights.")
@click.option("--extend-vocab", is_flag=True, help="With --init-from: add the text's new symbols.")
@UNKNOWN
@click.option(
    "--report", is_flag=True, help="Keep report.html in the run folder; whole at the end."
)
@click.option("--dry-run", is_flag=True, help="Show config, size, memory and steps, and stop.")
def command(
    config_or_text: Path | None,
    overrides: tuple[str, ...],
    run_dir: Path | None,
    resume: Path | None,
    resume_or_start: bool,
    init_from: Path | None,
    extend_vocab: bool,
    unknown: NewSymbols,
    report: bool,
    dry_run: bool,
) -> None:
    """Train a model on a prepared folder or a raw text, or as a YAML file says."""
    from ..api.checkpoints import load
    from ..training import start
    from ..training.loop import Training
    from .corpus import ready

    stop.at_first = end_cleanly
    with _memory_error_named():
        if resume is not None:
            beside = (config_or_text, run_dir, init_from, extend_vocab, dry_run, resume_or_start)
            if any(beside) or unknown != "error":
                raise click.UsageError("--resume takes nothing beside it but --set and --report")
            folder = _newest() if resume is NEWEST else resume
            _train(lambda: Training.resume(folder, overrides), report)
            return
        unknown = new_symbols(unknown, extend_vocab, "--init-from", init_from)
        config, name = settings(config_or_text, overrides, run_dir)
        if resume_or_start and (config.run.dir is None or dry_run):
            raise click.UsageError("--resume-or-start needs --run-dir, and excludes --dry-run")
        weights = None if init_from is None else load(init_from)
        if config.data.path is not None:
            ready(config.data.path)
        if dry_run:
            _show_plan(start.preview(config, weights, unknown))
        else:
            opened = start.resume_or_start if resume_or_start else start.start
            _train(lambda: opened(config, name, weights, unknown), report)


def _newest() -> Path:
    from ..runs.finding import find_unfinished

    folder = find_unfinished()
    say(f"newest unfinished run: {folder}")
    return folder


@contextmanager
def _memory_error_named() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise TrainingError("not enough memory for this model, batch and window") from None


def _show_plan(lines: Iterable[str]) -> None:
    with passes_shown():
        lines = list(lines)
    show_lines(lines)


def _train(opened: Callable[[], Training | AtOnce | None], report: bool) -> None:
    with passes_shown():
        training = opened()
    if training is None:
        say("nothing to do: this run is finished")
        return
    with training, lenient_output():
        if training.can_resume:  # else there is nothing to save
            stop.at_first = _say_stopping
        elif started_as()[1] > 1:
            say("this model is made at once: rank 0 makes it, and the other ranks wait")
        show_training(training, _reporting(training) if report else None)
    if report:
        with lenient_output():
            _report_whole(training.run.folder)


def _reporting(training: Training | AtOnce) -> Callable[[Event], object]:
    """What is called with every event to write the report; an error ends the reports, not the run."""
    from ..pictures.live import LiveReport

    write: LiveReport | None = LiveReport(training)

    def reported(event: Event) -> None:
        nonlocal write
        try:
            if write is not None:
                write(event)
        except RnnlmError as error:
            say(f"{error}; no more reports are written")
            write = None

    return reported


def _report_whole(folder: Path) -> None:
    """Write the report of a run that is over, which is whole without it."""
    from ..api.checkpoints import load
    from .report import write

    left = f"the run is finished; for its report: rnnlm report {argument(folder)}"

    def leave(number: int) -> None:
        say_in_handler(left)
        end_cleanly(number)

    stop.at_first = leave
    if stop():  # asked for in the last moments of the training
        say(left)
        return
    say("writing the report ...")
    try:
        write(load(folder))
    except RnnlmError as error:
        say(f"{error}; the report has curves and samples only")


def _say_stopping(_signal: int) -> None:
    say_in_handler("stopping after this step; Ctrl-C or SIGTERM once more to stop at once")


def show_training(
    training: Training | AtOnce, reported: Callable[[Event], object] | None = None
) -> None:
    """Train, with a progress bar on a terminal else sparse lines; `reported` gets each event."""
    folder = argument(training.run.folder)
    show_lines([*training.summary(), f"run folder: {training.run.folder}"])
    if training.progress.step:
        show(f"going on from step {training.progress.step:,}")
    p, t = training.progress, training.config.train
    limit = None if t.max_minutes is None else 60 * t.max_minutes
    steps = StepsBar(training.total_steps, t.epochs, p.step, p.seconds, limit)
    with _divergence_answered(training), steps.bar, watching(steps.watch):
        for event in training.events(stop):
            _show_event(event, steps, training)
            if reported is not None:
                reported(event)
    if event.kind == "interrupted":
        at = f"stopped at step {training.progress.step}"
        say(f"{at}; to go on: rnnlm train --resume {folder}")
        end_cleanly(stop.signal or 0)
    corpus = training.corpus
    text = "" if corpus.format.can_evaluate(corpus["test"]) else " --text FILE"
    show(f'next: rnnlm sample {folder} --prime "..."\n      rnnlm eval {folder}{text}')


@contextmanager
def _divergence_answered(training: Training | AtOnce) -> Iterator[None]:
    """Say what to change where a run diverges."""
    try:
        yield
    except DivergedError as error:
        t = training.config.train
        rate = f"optimizer.learning_rate={t.optimizer['learning_rate'] / LOWER:.1g}"
        raise DivergedError(
            f"{error}: train again, in another --run-dir, with "
            f"--set train.{rate if t.grad_clip else 'grad_clip.norm=5'}"
        ) from None


def _show_event(event: Event, steps: StepsBar, training: Training | AtOnce) -> None:
    record, noun = event.record, training.corpus.vocabulary.noun
    at = f"step {record['step']}/{training.total_steps}"
    if event.kind == "step":
        steps.step(record, chain(_figures(record, noun), [at]))
    elif event.kind == "train" and steps.bar.disable:
        say(f"{at}: loss {record['loss']:.3f}, {', '.join(_figures(record, noun))}")
    elif event.kind in ("part", "eval", "sample"):
        with steps.bar.external_write_mode(sys.stdout):
            show(_event_line(record, noun))
    elif event.kind == "end":
        with steps.bar.external_write_mode(sys.stdout):
            show_lines(_ending(record, training))


def _ending(record: dict[str, Any], training: Training | AtOnce) -> Iterator[str]:
    t = training.config.train
    if "model" in record:
        yield from f"model: {record['model']}".splitlines()
    patience = counted(t.patience or 0, "validation")
    why = {
        "patience": f"{patience} without a better one (train.patience)",
        "max_steps": f"{counted(t.max_steps or 0, 'step')} (train.max_steps)",
        "max_minutes": f"{Interval(t.max_minutes or 0, 'minutes')} (train.max_minutes)",
    }.get(record["reason"])
    if why is not None:
        yield f"ended at step {record['step']}, after {why}"
    best, guess = training.progress.best_loss, math.log(len(training.corpus.vocabulary))
    if "model" not in record and best is not None and best > RUINED * guess:
        yield f"far worse than a guess ({guess:.4f} nats): lower train.optimizer.learning_rate"
    if (average := t.average["name"]) != "none" and not training.progress.averaged:
        yield f"train.average {average} did not begin: the weights themselves are saved"


def _figures(record: dict[str, Any], noun: str) -> Iterator[str]:
    """Of a step or a `train` line, beside the loss."""
    yield f"{record['symbols_per_second']:,.0f} {noun}s/s"
    yield f"perplexity {figure(record['perplexity'])}"


def _per_character(record: dict[str, Any]) -> str:
    if record.get("nats_per_character") is None:
        return ""
    unknown = "; with <unk>" if "unknown" in record else ""
    return f", {record['nats_per_character']:.4f} nats/character{unknown}"


def _event_line(record: dict[str, Any], noun: str) -> str:
    if record["event"] == "sample":
        return f"sample at step {record['step']}:\n{record['text']}"
    if record["loss"] is None:
        figures = "perplexity infinite: something has probability 0"
    else:
        figures = (
            f"perplexity {figure(record['perplexity'])} ({record['loss']:.4f} nats/{noun}"
            f"{_per_character(record)})"
        )
    if record["event"] == "part":
        return f"{record['part']}: validation {figures}"
    if "checkpoint_step" in record:
        split = "test" if record["split"] == "test" else "whole validation text"
        return f"{split}, checkpoint of step {record['checkpoint_step']}: {figures}"
    if "stretch" in record:
        figures = f"on the first {counted(record['stretch'], noun)}: {figures}"
    note = " (approximate: eval_streams > 1)" if record.get("approximate") else ""
    best = ", best" if record["best"] else ""
    if not record["step"]:
        return f"before the first step: validation {figures}{note}"
    return f"epoch {record['epoch']:.4g}, step {record['step']}: validation {figures}{best}{note}"
