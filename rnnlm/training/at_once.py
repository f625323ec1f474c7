"""Runs whose model is made at once, not step by step.

last.npz is saved when the model is made and evaluated, and only then is something logged. A run that
was stopped earlier leaves nothing: rerun the original command.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from ..arrays import Array
from ..config.schema import Config
from ..inference.evaluation import Evaluation, evaluate_text, figures
from ..models.base import LanguageModel
from ..runs.checkpoint import Checkpoint, Progress
from ..runs.folder import Run
from ..runs.provenance import recorded
from ..runs.run_data import data_record
from ..text.corpus import Corpus
from .loop import Event, never
from .plan import about


class AtOnce(ABC):
    """A run that is open to make its model. It holds the lock of its folder until the `with` ends, and
    leaves no folder where no model was made.
    """

    total_steps = 1
    can_resume = False

    def __init__(self, config: Config, run: Run, corpus: Corpus, model: LanguageModel) -> None:
        self.config, self.run, self.corpus, self.model = config, run, corpus, model
        self.progress = Progress(started=time.time())
        self._began = time.perf_counter()

    @abstractmethod
    def make(self) -> Any:
        """The parameters of the model."""

    def made(self) -> Iterator[Event]:
        """What is logged of how they were made, by `log`."""
        yield from ()

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None:
        self.run.abandon()

    def summary(self) -> Iterator[str]:
        """Lines that say what this run will do."""
        yield from about(self.model, self.corpus)

    def events(self, stop: Callable[[], bool] = never) -> Iterator[Event]:
        """Make the model, evaluate it, and yield the records when they are logged; `stop` is never
        asked.

        Raises what `make` does.
        """
        p, corpus, val, test = self.progress, self.corpus, self.corpus["val"], self.corpus["test"]
        self._began = time.perf_counter()
        params = self.make()
        p.step, p.epoch = 1, 1.0

        def measured(split: Array) -> Evaluation | None:
            if not corpus.format.can_evaluate(split):
                return None
            return evaluate_text(self.model, params, corpus.format, split)

        result = measured(val)
        loss = None if result is None else result.nats_per_symbol
        if loss is not None and math.isfinite(loss):
            p.val_loss = p.best_loss = loss
            p.best_step = 1
        tested = measured(test)
        p.seconds = time.perf_counter() - self._began
        checkpoint = Checkpoint(
            config=self.config,
            format=corpus.format,
            params=params,
            counts=corpus.train_counts,
            progress=p,
            data=data_record(corpus),
            environments=recorded(),
            lead=corpus.lead,
        )
        checkpoint.save(self.run.last)
        if p.best_step is not None:
            checkpoint.save(self.run.best)

        yield from self.made()
        if result is not None:
            extra = result.per_character()
            yield self.log("eval", loss, split="val", best=p.best_step is not None, **extra)
        if tested is not None:
            extra = tested.per_character()
            yield self.log("eval", tested.nats_per_symbol, split="test", checkpoint_step=1, **extra)
        yield self.log(
            "end",
            p.best_loss,
            reason="finished",
            best_step=p.best_step,
            symbols_left_out=0,
            model=self.model.describe(params),
        )

    def log(self, kind: str, loss: float | None = None, **values: Any) -> Event:
        """Write a record, with the figures of a loss where there is one."""
        record: dict[str, Any] = {"event": kind, "step": 1, "epoch": 1.0}
        record |= {} if loss is None else figures(loss)
        record |= {"seconds": round(time.perf_counter() - self._began, 3)} | values
        self.run.log(record)
        return Event(kind, record)
