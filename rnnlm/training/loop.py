"""The training loop, as a generator of events.

What a step does, in this order: the update, the `train` record, the `eval` record, best.npz, the
`sample` record, last.npz. Four things are carried from one step to the next: `Progress`, the
parameters with their average, the optimizer's vectors and the recurrent state. Everything else follows
from the config and the number of the step. last.npz holds these four and the length of metrics.jsonl,
so that a resumed run ends with the same bits as one that was never interrupted. An `eval` that is
interrupted is owed: last.npz is saved without it, and a resumed run begins with it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..arrays import Array
from ..assembly import build_model, whole_config
from ..backend.params import Parameters
from ..backend.seeds import Purpose, generator
from ..config.kinds import Interval, chosen_options
from ..config.schema import Config
from ..errors import CheckpointError, DivergedError
from ..inference.evaluation import evaluate_text, figures
from ..inference.sampling import generate, texts
from ..models.base import TrainableModel
from ..optim.averages import AVERAGES, none, remembered
from ..optim.optimizers import OPTIMIZERS
from ..optim.schedules import SCHEDULES, Position
from ..optim.truncation import TRUNCATIONS
from ..runs.checkpoint import WEIGHTS, Checkpoint, Progress
from ..runs.folder import Run, numbered
from ..runs.history import DIVERGED
from ..runs.provenance import recorded
from ..runs.run_data import data_record, open_data, recorded_data, same_data
from ..storage.atomic import as_path, keep_as, patiently
from ..text.corpus import Corpus
from ..text.vocabulary import NewSymbols
from ..watching import watching
from .beginning import about_beginning, first_weights, origin
from .course import Course
from .engine import Engine
from .plan import check_validation, checked_course, limited, plan, trainable
from .reading import is_named, of_a_rank, read
from .resume import adopt_config, resumed_config
from .validation import Validation

SAMPLE_LENGTH = 200  # symbols; of lines, the most of each
SAMPLE_LINES = 5
MOST_UNSAVED = Interval(10, "minutes")  # where train.checkpoint_every is in steps or epochs
ASK_AFTER = 0.1  # seconds of an evaluation between two questions whether to stop
KNOWN_BEST = "best-of-last.npz"  # the best when last.npz was saved, if best.npz is newer


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    `kind` is `step` (after every update), `train`, `eval`, `sample`, `end`, `interrupted` or, before an
    error, `diverged`. `record` holds its values under the names that they have in metrics.jsonl; `step`
    and `interrupted` are not written there. Losses are in nats per symbol.
    """

    kind: str
    record: dict[str, Any]


def _events_since(config: Config, progress: Progress) -> float | None:
    """When the run started, where TensorBoard is to get its log."""
    return progress.started if config.run.tensorboard else None


def never() -> bool:
    """A `stop` that lets a run train to its end."""
    return False


class _StoppedError(Exception):
    """An evaluation was left, since the run is to stop."""


class Training:
    """A run that is open for training: `start` makes one, `resume` opens one.

        with Training.resume("runs/my-run") as training:
            for event in training.events():
                ...

    It holds the lock of its folder and the workers until the `with` ends.
    """

    can_resume = True  # from where it was stopped

    def __init__(
        self,
        config: Config,
        run: Run,
        corpus: Corpus,
        at: Checkpoint,
        model: TrainableModel,
        course: Course,
    ) -> None:
        self.config, self.run, self.corpus = config, run, corpus
        t = config.train
        self.model, self.course, self.progress = model, course, replace(at.progress)
        average = AVERAGES[t.average["name"]]
        self._share = partial(average, **chosen_options(t.average))
        vectors = dict(at.optimizer_state)
        weights = vectors.pop(WEIGHTS, at.params.flat)
        self._steps_of_epochs = course.steps(t.epochs)
        self.total_steps = limited(self._steps_of_epochs, config)
        self.validation = Validation.of(config, course, len(corpus["val"]))
        self._stop: Callable[[], bool] = never
        clip = next(iter(t.grad_clip.items())) if t.grad_clip else None
        self._engine = Engine(
            self.model,
            Parameters(at.params.shapes, flat=weights),
            OPTIMIZERS[t.optimizer["name"]],
            chosen_options(t.optimizer),
            batch_size=t.batch_size,
            clip=clip,
            threads=t.threads,
            seed=t.seed,
            truncation=partial(TRUNCATIONS[t.truncation["name"]], **chosen_options(t.truncation)),
            averages=average is not none,
            longest=course.largest.longest,
            reduce=t.reduce,
        )
        self._weights: dict[str, Array] = {}
        self.params = self._engine.params
        """What is evaluated, sampled from and saved: the weights, or their average."""
        if average is not none:
            self._engine.average[:] = at.params.flat
            self.params = Parameters(at.params.shapes, flat=self._engine.average)
            self._weights = {WEIGHTS: self._engine.params.flat}
        if is_named(config, corpus):
            self._engine.let_read(of_a_rank(config, corpus))
        self._engine.restore(vectors)
        self.state = self.model.zero_state(t.batch_size) if at.state is None else at.state.copy()
        self._stretch = corpus.format.beginning(corpus["val"], self.validation.symbols)
        self._evaluates = corpus.format.can_evaluate(self._stretch, t.eval_streams)
        self._environments, self._origin = at.environments, at.origin
        self._beginning: list[str] = []
        self._session_start = time.perf_counter() - self.progress.seconds
        self._line_seconds, self._line_symbols = 0.0, 0
        self._saved_at = time.monotonic()

    @classmethod
    def start(
        cls,
        config: Config,
        name: str,
        init_from: Checkpoint | None = None,
        unknown: NewSymbols = "error",
    ) -> Training:
        """Make a run folder, prepare its data, initialise the parameters and save last.npz.

        The folder is `run.dir` or, without one, `runs/<name>-<time>`. Raises ConfigError, DataError or
        CheckpointError, and leaves no folder, where the config, the text or the folder cannot be used.
        """
        config = whole_config(config)
        if init_from is not None:
            config = adopt_config(config, init_from)
        run = Run.create_for(config, name)
        with run.starting():
            config, corpus = open_data(config, run.folder / "data", init_from, unknown)
            check_validation(config, corpus)
            model = trainable(build_model(config, len(corpus.vocabulary)), config)
            course = checked_course(model, config, corpus)
            if init_from is None:
                params = model.init(generator(config.train.seed, Purpose.INIT))
            else:
                params = first_weights(model, init_from, corpus)
            at = Checkpoint(
                config=config,
                format=corpus.format,
                params=params,
                counts=corpus.train_counts,
                progress=Progress(started=time.time()),
                origin={} if init_from is None else origin(init_from),
            )
            training = cls(config, run, corpus, at, model, course)
            if init_from is not None:
                training._beginning = [*about_beginning(init_from, corpus)]
            run.write_config(config)
            run.open_metrics(0, _events_since(config, at.progress))
            training.save(run.last)
        return training

    @classmethod
    def resume(
        cls, folder: str | Path, overrides: Iterable[str] = (), given: Config | None = None
    ) -> Training:
        """Open a run folder to go on from its last.npz, with other values as `resumed_config` has them.

        Raises CheckpointError where it is no run folder or another process trains in it, ConfigError
        or DataError, naming what has changed since.
        """
        folder = as_path(folder, CheckpointError)
        run = Run.open(folder)
        try:
            at = Checkpoint.load(run.last)
            if not isinstance(at.model, TrainableModel):
                raise CheckpointError(
                    f"{folder}: this run is finished, its model was made at once: "
                    f"{at.model.describe()}"
                )
            config = resumed_config(at.config, folder, list(overrides), given)
            path = config.data.path
            if path != at.config.data.path:
                corpus = same_data(at, Path(path or ""))
            else:
                corpus = recorded_data(at, folder / "data", *([Path(path)] if path else []))
            if config.train.patience is not None:  # runs of 0.1.0 may go on without validation
                check_validation(config, corpus)
            model = trainable(at.model, config)
            training = cls(config, run, corpus, at, model, checked_course(model, config, corpus))
            training._restore_best()
            run.write_config(config)
            run.open_metrics(at.progress.metrics_bytes, _events_since(config, at.progress))
        except BaseException:
            run.close()
            raise
        return training

    def __enter__(self) -> Training:
        return self

    def __exit__(self, *_: object) -> None:
        self._engine.close()
        self.run.close()

    def events(self, stop: Callable[[], bool] = never) -> Iterator[Event]:
        """Train to the end and yield each event when it happens.

        `stop` is called after every step, and a few times a second during an evaluation; once it
        returns true, last.npz is saved and `interrupted` is the last event. Raises DivergedError when
        the loss or the gradient is not finite, after `diverged`; last.npz stays as it was last saved.
        """
        try:
            yield from self._events(stop)
        except DivergedError:
            yield self._log(DIVERGED)
            raise

    def _events(self, stop: Callable[[], bool]) -> Iterator[Event]:
        p, t = self.progress, self.config.train
        self._saved_at = time.monotonic()
        self._session_start = time.perf_counter() - p.seconds
        self._stop = stop
        # Weights from elsewhere are evaluated before the first step
        brought = self._evaluates and self._origin and p.step == 0 and p.val_loss is None
        owed = brought or 0 < p.owed_step == p.step
        while owed or (reason := self._ending()) is None:
            if not owed:
                step = self._update()
                yield step
                if self.course.due(t.log_every, p.step):
                    yield self._train_line(step)
            owed = False
            if self._evaluates and self.validation.due(p.step):
                try:
                    yield self._evaluate()
                except _StoppedError:
                    owed, p.owed_step = True, p.step
                else:
                    every = t.sample_every
                    if every and self.course.passed(every, p.sampled_step, p.step):
                        yield self._sample()
            stopping = owed or (stop() and self._ending() is None)
            planned = self._save_is_due(t.checkpoint_every)
            late = t.checkpoint_every.unit != "minutes" and self._save_is_due(MOST_UNSAVED)
            if stopping or planned or late:
                self.save(self.run.last, keep=stopping or planned)
            if stopping:
                yield Event("interrupted", self._record("interrupted"))
                return
        self.save(self.run.last)
        try:
            yield from self._finish(reason)
        except _StoppedError:  # a resumed run finishes again, from the last.npz that was just saved
            yield Event("interrupted", self._record("interrupted"))

    def _update(self) -> Event:
        """Read one window and update the parameters."""
        p = self.progress
        began = time.perf_counter()
        batch = read(self.corpus, self.course, p.step)
        learning_rate = self.learning_rate(p.step)
        if self.config.train.vary_length:
            learning_rate *= len(batch.ids) / self.course.stage(p.step).windows.seq_length
        share = self._share(p.averaged, p.epoch, p.val_losses)
        loss, norm = self._engine.step(batch, self.state, p.step + 1, learning_rate, share)
        p.averaged += share is not None
        p.step += 1
        p.epoch = self.course.epochs(p.step)
        p.loss_sum += loss * batch.counted
        p.loss_symbols += batch.counted
        seconds = time.perf_counter() - began
        self._line_seconds += seconds
        self._line_symbols += batch.counted
        return Event(
            "step",
            self._record("step", loss)
            | {
                "learning_rate": learning_rate,
                "grad_norm": norm,
                "symbols_per_second": self._line_symbols / self._line_seconds,
            },
        )

    def summary(self) -> Iterator[str]:
        """Lines that say what this run will do."""
        yield from plan(self.model, self.config, self.corpus, self.course)
        yield from self._beginning

    def learning_rate(self, step: int) -> float:
        """The learning rate that the schedule gives to the update after `step` updates."""
        t = self.config.train
        epoch, _ = self.course.place(step)
        at = Position(step, epoch, self.total_steps, self.progress.drops)
        schedule = SCHEDULES[t.schedule["name"]]
        return schedule(at, t.optimizer["learning_rate"], **chosen_options(t.schedule))

    def _train_line(self, step: Event) -> Event:
        """Log the mean loss since the last `train` record."""
        p = self.progress
        p.train_loss = p.loss_sum / p.loss_symbols
        p.loss_sum, p.loss_symbols = 0.0, 0
        self._line_seconds, self._line_symbols = 0.0, 0
        extra = {k: step.record[k] for k in ("learning_rate", "grad_norm", "symbols_per_second")}
        return self._log("train", p.train_loss, **extra)

    def _evaluate(self) -> Event:
        """Log the validation loss; save best.npz when it is the lowest so far."""
        p, streams = self.progress, self.config.train.eval_streams
        with self._watched("validation"):
            result = evaluate_text(
                self.model,
                self.params,
                self.corpus.format,
                self._stretch,
                streams,
                self.config.train.threads,
            )
        p.owed_step = 0
        p.val_loss = loss = result.nats_per_symbol
        better = p.best_loss is None or loss < p.best_loss
        extra = result.per_character()
        exact = streams == 1 or self.corpus.format.rules.of_lines
        extra |= {} if exact else {"approximate": True}
        if not self.validation.whole:
            extra["stretch"] = len(self._stretch)
        event = self._log("eval", loss, split="val", best=better, **extra)
        if self.validation.counts(p.step):
            patience = self.config.train.average.get("patience", 0)
            p.val_losses = remembered([*p.val_losses, loss], patience) if patience else []
        if better:
            p.best_loss, p.best_step, p.bad_evals = loss, p.step, 0
            with suppress(OSError):  # there is no best.npz yet, or the link is there already
                keep_as(self.run.best, self.run.folder / KNOWN_BEST)
            self.save(self.run.best)
        elif self.validation.counts(p.step):
            p.bad_evals += 1
            p.drops += p.bad_evals % self.config.train.schedule.get("patience", math.inf) == 0
        return event

    @contextmanager
    def _watched(self, what: str) -> Iterator[None]:
        """Say what an evaluation inside this block is of, and leave it when the run is to stop.

        One that is over before `stop` would be asked is not worth leaving.
        """
        asked = time.monotonic()

        def watch(_: str, done: int, total: int) -> None:
            nonlocal asked
            outside(what, done, total)
            if done < total and time.monotonic() - asked >= ASK_AFTER:
                asked = time.monotonic()
                if self._stop():
                    raise _StoppedError

        with watching(watch) as outside:
            yield

    def _restore_best(self) -> None:
        """Put back the best.npz of the time when last.npz was saved.

        A newer one comes from steps that are now trained again, or not at all where the run is to end
        before them.
        """
        known = self.run.folder / KNOWN_BEST
        with suppress(CheckpointError):  # best.npz is the one of that time
            if Checkpoint.load(known).progress.step == self.progress.best_step:
                patiently(known.replace, self.run.best)
            else:
                known.unlink()

    def _ending(self) -> str | None:
        """Why the run ends after this step; None where it goes on."""
        p, t = self.progress, self.config.train
        if p.step >= self._steps_of_epochs:
            return "finished"
        if t.patience is not None and p.bad_evals >= t.patience:
            return "patience"
        if p.step >= self.total_steps:
            return "max_steps"
        seconds = time.perf_counter() - self._session_start
        return "max_minutes" if seconds >= 60 * (t.max_minutes or math.inf) else None

    def _sample(self) -> Event:
        """Log a text drawn from the model."""
        p = self.progress
        p.sampled_step = p.step
        counts, text_format = self.corpus.train_counts, self.corpus.format
        n = SAMPLE_LINES if text_format.rules.of_lines else 1
        steps = generate(
            self.model,
            self.params,
            [*text_format.start, *self.corpus.lead.tolist()],
            SAMPLE_LENGTH,
            seed=self.config.train.seed,
            num_samples=n,
            position=(p.step,),
            first=counts / counts.sum(),
            end=text_format.end,
        )
        drawn = texts(steps, n, text_format.end)
        return self._log("sample", text="\n".join(map(text_format.text, drawn)))

    def _finish(self, reason: str) -> Iterator[Event]:
        """Log the last evaluation, the losses of the best checkpoint on the whole texts, and the `end`
        record.

        last.npz was saved before: a resume of a finished run drops these records and writes new ones.
        """
        p = self.progress
        if self._evaluates and not self.validation.due(p.step):
            yield self._evaluate()
        splits = ["test"] if self.validation.whole else ["val", "test"]
        can_evaluate = self.corpus.format.can_evaluate
        if splits := [split for split in splits if can_evaluate(self.corpus[split])]:
            best = None if p.best_step is None else Checkpoint.load(self.run.best)
            if best is not None and best.progress.step != p.best_step:  # someone replaced it
                best = None
            params, step = (self.params, p.step) if best is None else (best.params, p.best_step)
        for split in splits:
            with self._watched("test" if split == "test" else "whole validation"):
                result = evaluate_text(
                    self.model,
                    params,
                    self.corpus.format,
                    self.corpus[split],
                    workers=self.config.train.threads,
                )
            extra = {"checkpoint_step": step, **result.per_character()}
            yield self._log("eval", result.nats_per_symbol, split=split, **extra)
        yield self._log(
            "end",
            p.best_loss,
            reason=reason,
            best_step=p.best_step,
            symbols_left_out=self.course.left_out(p.step),
        )

    def _save_is_due(self, every: Interval) -> bool:
        if every.unit == "minutes":
            return time.monotonic() - self._saved_at >= every.amount * 60
        return self.course.due(every, self.progress.step)

    def save(self, path: Path, keep: bool = True) -> None:
        """Save a checkpoint of this step, `last.npz` also as a numbered one where `train.keep` asks for
        it and `keep` is true. Raises CheckpointError where it cannot be written.
        """
        p = self.progress
        p.seconds = time.perf_counter() - self._session_start
        p.metrics_bytes = self.run.metrics_length()
        checkpoint = Checkpoint(
            config=self.config,
            format=self.corpus.format,
            params=self.params,
            counts=self.corpus.train_counts,
            progress=p,
            data=data_record(self.corpus),
            optimizer_state=self._engine.collect(self.state) | self._weights,
            state=self.state,
            environments=recorded(self._environments),
            origin=self._origin,
            lead=self.corpus.lead,
        )
        checkpoint.save(path)
        if path == self.run.last:
            self._saved_at = time.monotonic()
            (self.run.folder / KNOWN_BEST).unlink(missing_ok=True)
            if self.config.train.keep and keep:
                checkpoint.save(numbered(self.run.folder, p.step))
                self.run.prune(self.config.train.keep)

    def _record(self, kind: str, loss: float | None = None) -> dict[str, Any]:
        p = self.progress
        record: dict[str, Any] = {"event": kind, "step": p.step, "epoch": p.epoch}
        if loss is not None:
            record |= figures(loss)
        return record | {"seconds": round(time.perf_counter() - self._session_start, 3)}

    def _log(self, kind: str, loss: float | None = None, **values: Any) -> Event:
        record = self._record(kind, loss) | values
        if loss is not None and not math.isfinite(loss):
            raise DivergedError(
                f"step {self.progress.step}: the {values.get('split', kind)} loss is {loss}: training "
                "diverged; lower train.optimizer.learning_rate"
            )
        self.run.log(record)
        return Event(kind, record)
