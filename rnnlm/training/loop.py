"""The training loop, as a generator of events.

What a step does, in this order: the update, the `train` record, the `eval` record, best.npz, the
`sample` record, last.npz. Four things are carried from one step to the next: `Progress`, the
parameters, the optimizer's vectors and the recurrent state. Everything else follows from the config
and the number of the step. last.npz holds these four and the length of metrics.jsonl, so that a
resumed run ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..assembly import build_model, whole_config
from ..backend.params import Parameters
from ..backend.seeds import Purpose, generator
from ..config.schema import Config
from ..errors import CheckpointError, DataError, TrainingError
from ..inference.evaluation import evaluate, figures
from ..inference.sampling import generate, texts
from ..models.base import TrainableModel
from ..optim.optimizers import OPTIMIZERS
from ..optim.schedules import SCHEDULES
from ..runs.checkpoint import Checkpoint, Progress
from ..runs.folder import Run, numbered
from ..runs.run_data import open_data, recorded_data, same_data
from ..storage.atomic import as_path, keep_as, patiently
from ..text.corpus import Corpus
from .engine import Engine
from .plan import check_memory, check_validation, plan, trainable
from .resume import adopt_config, resumed_config

SAMPLE_LENGTH = 200  # symbols; of lines, the most of each
SAMPLE_LINES = 5
KNOWN_BEST = "best-of-last.npz"  # the best when last.npz was saved, if best.npz is newer


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    `kind` is `step` (after every update), `train`, `eval`, `sample`, `end` or `interrupted`. `record`
    holds its values under the names that they have in metrics.jsonl; `step` and `interrupted` are
    not written there. Losses are in nats per symbol.
    """

    kind: str
    record: dict[str, Any]


def never() -> bool:
    """A `stop` that lets a run train to its end."""
    return False


class Training:
    """A run that is open for training: `start` makes one, `resume` opens one.

        with Training.resume("runs/my-run") as training:
            for event in training.events():
                ...

    It holds the lock of its folder and the workers until the `with` ends.
    """

    def __init__(self, config: Config, run: Run, corpus: Corpus, at: Checkpoint) -> None:
        self.config, self.run, self.corpus = config, run, corpus
        self.model, self.params, self.progress = (
            trainable(at.model),
            at.params,
            replace(at.progress),
        )
        t = config.train
        self.windows = corpus.format.batches(corpus["train"], t.batch_size, t.seq_length, t.seed)
        check_memory(self.model, config, self.windows)
        self.total_steps = t.epochs * len(self.windows)
        clip = next(iter(t.grad_clip.items())) if t.grad_clip else None
        options = {name: value for name, value in t.optimizer.items() if name != "name"}
        self._engine = Engine(
            self.model,
            self.params,
            OPTIMIZERS[t.optimizer["name"]],
            options,
            batch_size=t.batch_size,
            clip=clip,
            threads=t.threads,
            seed=t.seed,
        )
        for name, vector in at.optimizer_state.items():
            self._engine.optimizer_state[name][:] = vector
        self.state = self.model.zero_state(t.batch_size) if at.state is None else at.state.copy()
        self._evaluates = corpus.format.can_evaluate(corpus["val"], t.eval_streams)
        self._session_start = time.perf_counter() - self.progress.seconds
        self._line_seconds, self._line_symbols = 0.0, 0
        self._saved_at = time.monotonic()

    @classmethod
    def start(cls, config: Config, name: str, init_from: Checkpoint | None = None) -> Training:
        """Make a run folder, prepare its data, initialise the parameters and save last.npz.

        The folder is `run.dir` or, without one, `runs/<name>-<time>`. Raises ConfigError, DataError or
        CheckpointError, and leaves no folder, where the config, the text or the folder cannot be used.
        """
        config = whole_config(config)
        if init_from is not None:
            config = adopt_config(config, init_from)
        folder = config.run.dir
        run = Run.create_unique(name) if folder is None else Run.create(Path(folder))
        try:
            config, corpus = open_data(config, run.folder / "data", init_from)
            check_validation(config, corpus)
            model = trainable(build_model(config, len(corpus.vocabulary)))
            t = config.train
            windows = corpus.format.batches(corpus["train"], t.batch_size, t.seq_length, t.seed)
            check_memory(model, config, windows)
            if init_from is None:
                params = model.init(generator(config.train.seed, Purpose.INIT))
            else:
                params = Parameters(model.shapes, flat=init_from.params.flat.copy())
            at = Checkpoint(
                config=config,
                format=corpus.format,
                params=params,
                counts=corpus.train_counts,
                progress=Progress(started=time.time()),
            )
            training = cls(config, run, corpus, at)
            run.write_config(config)
            run.open_metrics(0)
            training.save(run.last)
        except BaseException:
            run.abandon()
            raise
        return training

    @classmethod
    def resume(cls, folder: str | Path, overrides: Iterable[str] = ()) -> Training:
        """Open a run folder to go on from its last.npz.

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
            config = resumed_config(at.config, folder, list(overrides))
            path = config.data.path
            if path != at.config.data.path:
                corpus = same_data(at, Path(path or ""))
            else:
                corpus = recorded_data(at, folder / "data", *([Path(path)] if path else []))
            if config.train.patience is not None:  # runs of 0.1.0 may go on without validation
                check_validation(config, corpus)
            training = cls(config, run, corpus, at)
            training._restore_best()
            run.write_config(config)
            run.open_metrics(at.progress.metrics_bytes)
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

        `stop` is called after every step; once it returns true, last.npz is saved and `interrupted` is
        the last event. Raises TrainingError when the loss or the gradient is not finite; last.npz
        stays as it was last saved.
        """
        p, t = self.progress, self.config.train
        log_every, eval_every = self._steps(t.log_every), self._steps(t.eval_every)
        self._saved_at = time.monotonic()
        self._session_start = time.perf_counter() - p.seconds
        while p.step < self.total_steps and not self._out_of_patience():
            step = self._update()
            yield step
            if p.step % log_every == 0:
                yield self._train_line(step)
            if p.step % eval_every == 0 and self._evaluates:
                yield self._evaluate()
                if t.sample_every and p.step - p.sampled_step >= self._steps(t.sample_every):
                    yield self._sample()
            stopping = stop() and p.step < self.total_steps
            if stopping or self._save_is_due():
                self.save(self.run.last)
            if stopping:
                yield Event("interrupted", self._record("interrupted"))
                return
        self.save(self.run.last)
        yield from self._finish()

    def _update(self) -> Event:
        """Read one window and update the parameters."""
        p = self.progress
        began = time.perf_counter()
        batch = self.windows(*divmod(p.step, len(self.windows)))
        if max(batch.ids.max(), batch.targets.max()) >= len(self.corpus.vocabulary):
            raise DataError(
                f"{self.corpus.folder}: train.npy has changed since this run opened it: put "
                "it back, and go on with --resume"
            )
        learning_rate = self.learning_rate(p.step)
        loss, norm = self._engine.step(batch, self.state, p.step + 1, learning_rate)
        p.step += 1
        p.epoch = p.step / len(self.windows)
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
        yield from plan(self.model, self.config, self.corpus, self.windows)

    def learning_rate(self, step: int) -> float:
        """The learning rate that the schedule gives to the update after `step` updates."""
        t = self.config.train
        options = {name: value for name, value in t.schedule.items() if name != "name"}
        rate: float = SCHEDULES[t.schedule["name"]](
            step, len(self.windows), self.total_steps, t.optimizer["learning_rate"], **options
        )
        return rate

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
        cut, val = self.corpus.format.batches, self.corpus["val"]
        result = evaluate(self.model, self.params, val, streams, cut)
        p.val_loss = loss = result.nats_per_symbol
        better = p.best_loss is None or loss < p.best_loss
        extra = result.of_text(self.corpus.format, val).per_character()
        exact = streams == 1 or self.corpus.format.rules.of_lines
        extra |= {} if exact else {"approximate": True}
        event = self._log("eval", loss, split="val", best=better, **extra)
        if better:
            p.best_loss, p.best_step, p.bad_evals = loss, p.step, 0
            with suppress(OSError):  # there is no best.npz yet, or the link is there already
                keep_as(self.run.best, self.run.folder / KNOWN_BEST)
            self.save(self.run.best)
        else:
            p.bad_evals += 1
        return event

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

    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return patience is not None and self.progress.bad_evals >= patience

    def _sample(self) -> Event:
        """Log a text drawn from the model."""
        p = self.progress
        p.sampled_step = p.step
        counts, text_format = self.corpus.train_counts, self.corpus.format
        n = SAMPLE_LINES if text_format.rules.of_lines else 1
        steps = generate(
            self.model,
            self.params,
            text_format.start,
            SAMPLE_LENGTH,
            seed=self.config.train.seed,
            num_samples=n,
            position=(p.step,),
            first=counts / counts.sum(),
            end=text_format.end,
        )
        drawn = texts(steps, n, text_format.end)
        return self._log("sample", text="\n".join(map(text_format.text, drawn)))

    def _finish(self) -> Iterator[Event]:
        """Log the last evaluation, the test loss of the best checkpoint, and the `end` record.

        last.npz was saved before: a resume of a finished run drops these records and writes new ones.
        """
        p = self.progress
        if self._evaluates and p.step % self._steps(self.config.train.eval_every):
            yield self._evaluate()
        test = self.corpus["test"]
        if self.corpus.format.can_evaluate(test):
            best = None if p.best_step is None else Checkpoint.load(self.run.best)
            if best is not None and best.progress.step != p.best_step:  # someone replaced it
                best = None
            params = self.params if best is None else best.params
            result = evaluate(self.model, params, test, cut=self.corpus.format.batches)
            step = p.step if best is None else best.progress.step
            extra = result.of_text(self.corpus.format, test).per_character()
            loss = result.nats_per_symbol
            yield self._log("eval", loss, split="test", checkpoint_step=step, **extra)
        reason = "patience" if p.step < self.total_steps else "finished"
        yield self._log(
            "end",
            p.best_loss,
            reason=reason,
            best_step=p.best_step,
            symbols_left_out=self.windows.left_out(max(0, math.ceil(p.epoch) - 1)),
        )

    def _save_is_due(self) -> bool:
        every = self.config.train.checkpoint_every
        steps = every.steps(len(self.windows))
        if steps is None:
            return time.monotonic() - self._saved_at >= every.amount * 60
        return self.progress.step % steps == 0

    def save(self, path: Path) -> None:
        """Save a checkpoint of this step; raises CheckpointError where it cannot be written."""
        p = self.progress
        p.seconds = time.perf_counter() - self._session_start
        p.metrics_bytes = self.run.metrics_length()
        checkpoint = Checkpoint(
            config=self.config,
            format=self.corpus.format,
            params=self.params,
            counts=self.corpus.train_counts,
            progress=p,
            data={
                "folder": str(self.corpus.folder.absolute()),
                "fingerprint": self.corpus.fingerprint,
            },
            optimizer_state=self._engine.optimizer_state,
            state=self.state,
        )
        checkpoint.save(path)
        if path == self.run.last:
            self._saved_at = time.monotonic()
            (self.run.folder / KNOWN_BEST).unlink(missing_ok=True)
            if self.config.train.keep:
                checkpoint.save(numbered(self.run.folder, p.step))
                self.run.prune(self.config.train.keep)

    def _steps(self, interval: Any) -> int:
        steps: int = interval.steps(len(self.windows))
        return steps

    def _record(self, kind: str, loss: float | None = None) -> dict[str, Any]:
        p = self.progress
        record: dict[str, Any] = {"event": kind, "step": p.step, "epoch": p.epoch}
        if loss is not None:
            record |= figures(loss)
        return record | {"seconds": round(time.perf_counter() - self._session_start, 3)}

    def _log(self, kind: str, loss: float | None = None, **values: Any) -> Event:
        record = self._record(kind, loss) | values
        if loss is not None and not math.isfinite(loss):
            raise TrainingError(
                f"step {self.progress.step}: the {values.get('split', kind)} loss is {loss}: training "
                "diverged; lower train.optimizer.learning_rate"
            )
        self.run.log(record)
        return Event(kind, record)
