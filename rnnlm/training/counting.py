"""Runs of models that count: the training text is read once, and the run is finished.

last.npz is saved when the text is counted, and only then is something logged. A run that was stopped
earlier cannot be resumed: rerun the original command.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..assembly import build_model, make_config, whole_config
from ..config.schema import Config, differences
from ..errors import ConfigError
from ..inference.evaluation import evaluate, figures
from ..models.base import CountedModel
from ..runs.checkpoint import Checkpoint, Progress
from ..runs.folder import Run
from ..runs.run_data import open_data
from ..text.corpus import Corpus
from ..wording import option
from .loop import Event, never
from .plan import about, estimated_data


class Counting:
    """A run that is open for counting: `start` makes one. It holds the lock of its folder until the
    `with` ends, and leaves no folder where nothing was counted.
    """

    total_steps = 1

    def __init__(self, config: Config, run: Run, corpus: Corpus, model: CountedModel) -> None:
        self.config, self.run, self.corpus, self.model = config, run, corpus, model
        self.progress = Progress(started=time.time())

    @classmethod
    def start(cls, config: Config, name: str, init_from: Checkpoint | None = None) -> Counting:
        """Make a run folder and prepare its data. The folder is as in `Training.start`.

        Raises ConfigError, DataError or CheckpointError, and leaves no folder, where the config, the
        text or the folder cannot be used.
        """
        config = counting_config(config, init_from)
        folder = config.run.dir
        run = Run.create_unique(name) if folder is None else Run.create(Path(folder))
        try:
            config, corpus = open_data(config, run.folder / "data")
            model = build_model(config, len(corpus.vocabulary))
            assert isinstance(model, CountedModel)
            run.write_config(config)
            run.open_metrics(0)
        except BaseException:
            run.abandon()
            raise
        return cls(config, run, corpus, model)

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        self.run.abandon()

    def summary(self) -> Iterator[str]:
        """Lines that say what this run will do."""
        yield from about(self.model, self.corpus)

    def events(self, stop: Callable[[], bool] = never) -> Iterator[Event]:
        """Count, evaluate, and yield the records when they are logged; `stop` is never asked.

        Raises DataError where there is nothing to count or memory does not suffice.
        """
        p, corpus, val, test = self.progress, self.corpus, self.corpus["val"], self.corpus["test"]
        began = time.perf_counter()
        params = self.model.fit(corpus["train"], val)
        p.step, p.epoch = 1, 1.0
        loss = evaluate(self.model, params, val).nats_per_symbol if len(val) > 1 else None
        if loss is not None and math.isfinite(loss):
            p.val_loss = p.best_loss = loss
            p.best_step = 1
        p.seconds = time.perf_counter() - began
        checkpoint = Checkpoint(
            config=self.config,
            format=corpus.format,
            params=params,
            counts=corpus.train_counts,
            progress=p,
            data={"folder": str(corpus.folder.absolute()), "fingerprint": corpus.fingerprint},
            lead=corpus.lead,
        )
        checkpoint.save(self.run.last)
        if p.best_step is not None:
            checkpoint.save(self.run.best)

        def log(kind: str, loss: float | None = None, **values: Any) -> Event:
            record: dict[str, Any] = {"event": kind, "step": 1, "epoch": 1.0}
            record |= {} if loss is None else figures(loss)
            record |= {"seconds": round(time.perf_counter() - began, 3)} | values
            self.run.log(record)
            return Event(kind, record)

        if loss is not None:
            yield log("eval", loss, split="val", best=p.best_step is not None)
        if len(test) > 1:
            result = evaluate(self.model, params, test)
            yield log("eval", result.nats_per_symbol, split="test", checkpoint_step=1)
        yield log(
            "end",
            p.best_loss,
            reason="finished",
            best_step=p.best_step,
            symbols_left_out=0,
            model=self.model.describe(params),
        )


def counting_config(config: Config, init_from: Checkpoint | None) -> Config:
    """The whole config of a run that counts.

    Raises ConfigError for what means nothing to it: keys of `train` that are not as by default, and a
    checkpoint to start from.
    """
    config = whole_config(config)
    for key, _, _ in differences(make_config(), config):
        if key.startswith("train."):
            key = ".".join(key.split(".")[:2])
            raise ConfigError(
                f"{key}: a model that counts takes no key of train: leave it at its default"
            )
    if init_from is not None:
        way = f"leave {option('init_from')} out"
        raise ConfigError(f"a model that counts starts from no checkpoint: {way}")
    return config


def counts(config: Config) -> bool:
    """Whether the model of a config is one that counts."""
    return isinstance(build_model(whole_config(config), 2), CountedModel)


def preview_counting(config: Config, init_from: Checkpoint | None) -> Iterator[str]:
    """Lines for a dry run, as `plan.preview` has them for training."""
    config, corpus = estimated_data(counting_config(config, init_from))
    yield from config.to_yaml().splitlines()
    yield from about(build_model(config, len(corpus.vocabulary)), corpus)
