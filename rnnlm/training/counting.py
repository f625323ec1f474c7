"""Runs of models that count: the training text is read once, and the run is finished."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ..assembly import build_model, make_config, whole_config
from ..config.schema import Config, differences
from ..errors import ConfigError
from ..models.base import CountedModel
from ..runs.checkpoint import Checkpoint
from ..runs.folder import Run
from ..runs.run_data import open_data
from ..wording import option
from .at_once import AtOnce
from .plan import about, estimated_data


class Counting(AtOnce):
    """A run that is open for counting: `start` makes one."""

    @classmethod
    def start(cls, config: Config, name: str, init_from: Checkpoint | None = None) -> Counting:
        """Make a run folder and prepare its data. The folder is as in `Training.start`.

        Raises ConfigError, DataError or CheckpointError, and leaves no folder, where the config, the
        text or the folder cannot be used.
        """
        config = counting_config(config, init_from)
        run = Run.create_for(config, name)
        with run.starting():
            config, corpus = open_data(config, run.folder / "data")
            model = build_model(config, len(corpus.vocabulary))
            run.write_config(config)
            run.open_metrics(0, time.time() if config.run.tensorboard else None)
        return cls(config, run, corpus, model)

    def make(self) -> Any:
        """Count. Raises DataError where there is nothing to count or memory does not suffice."""
        assert isinstance(self.model, CountedModel)
        splits = (self.corpus[split] for split in ("train", "val"))
        (ids, fresh), (other, other_fresh) = map(self.corpus.format.to_count, splits)
        return self.model.fit(ids, other, fresh=fresh, validation_fresh=other_fresh)


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
