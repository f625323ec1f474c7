"""Runs that mix models that are there already: what is fitted are the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..assembly import build_model, whole_config
from ..backend import blas
from ..config.schema import Config, RunConfig, TrainConfig
from ..errors import CheckpointError, ConfigError, DataError
from ..inference.evaluation import CHUNK
from ..models.mixture import Mixture, MixtureParams, PartsReading, fit_weights
from ..runs.checkpoint import Checkpoint, check_checkpoint
from ..runs.folder import Run
from ..runs.run_data import recorded_data
from ..storage.atomic import as_path
from ..text.corpus import Corpus
from ..text.format import TextFormat
from ..wording import option, shown
from .at_once import AtOnce
from .loop import Event
from .result import TrainingResult, run_to_end

BUCKETS = ("context",)
FILES_ONLY = ("encoding", "newlines")  # rules that say nothing about the ids


class Mixing(AtOnce):
    """A run that is open for mixing: `start` makes one."""

    def __init__(
        self,
        config: Config,
        run: Run,
        corpus: Corpus,
        model: Mixture,
        checkpoints: Sequence[Checkpoint],
        by_context: bool,
    ) -> None:
        super().__init__(config, run, corpus, model)
        self._mixture, self._checkpoints, self._by_context = model, checkpoints, by_context

    @classmethod
    def start(
        cls,
        checkpoints: Sequence[Checkpoint],
        out: str | Path,
        *,
        data: str | Path | None = None,
        buckets: str | None = None,
    ) -> Mixing:
        """Make the run folder `out`; the rest is as in `mix`."""
        first, *others = _several(checkpoints)
        for number, other in enumerate(others, 2):
            if difference := _difference(first.format, other.format):
                raise ConfigError(
                    f"{_name(other, number)}: differs from {_name(first, 1)}, in its {difference}: "
                    "only models of the same symbols can be mixed"
                )
        if buckets not in (None, *BUCKETS):
            raise ConfigError(f"buckets must be {' or '.join(BUCKETS)}, not {shown(buckets)}")
        corpus = recorded_data(first, instead="data") if data is None else Corpus.open(data)
        if difference := _difference(first.format, corpus.format):
            raise DataError(
                f"{corpus.folder}: differs from {_name(first, 1)}, in its {difference}: prepare it "
                "with --vocab, and with the same unit"
            )
        corpus = replace(corpus, format=first.format)
        if not corpus.format.can_evaluate(corpus["val"]):
            raise DataError(
                f"{corpus.folder}: no validation text, on which the weights are fitted: name data that "
                "has one"
            )
        out = as_path(out, CheckpointError)
        parts = {str(number): dict(c.config.model) for number, c in enumerate(checkpoints, 1)}
        config = whole_config(
            replace(
                first.config,
                data=replace(first.config.data, path=str(corpus.folder)),
                model={"kind": "mixture", "parts": parts},
                train=TrainConfig(),
                run=RunConfig(dir=str(out)),
            )
        )
        model = build_model(config, len(first.vocabulary))
        assert isinstance(model, Mixture)
        if buckets is not None and model.knows_context is None:
            raise ConfigError(
                f"{option('buckets')}: no part knows what context it has seen: add an n-gram; of a "
                "mixture, name its parts"
            )
        run = Run.create(out)
        with run.starting():
            run.write_config(config)
            run.open_metrics(0)
        return cls(config, run, corpus, model, checkpoints, buckets is not None)

    def notes(self) -> Iterator[str]:
        """Lines that say what may not be as it was meant."""
        for number, checkpoint in enumerate(self._checkpoints, 1):
            if checkpoint.data.get("fingerprint") != self.corpus.fingerprint:
                yield f"{_name(checkpoint, number)}: trained on other data than {self.corpus.folder}"

    def make(self) -> MixtureParams:
        """Read the validation text with every part, and fit the weights.

        Raises DataError where all parts give a symbol probability 0.
        """
        mixture, val = self._mixture, self.corpus["val"]
        params = [checkpoint.params for checkpoint in self._checkpoints]
        parts = dict(zip(mixture.parts, params, strict=True))
        batches = self.corpus.format.batches(val, 1, min(CHUNK, max(1, len(val) - 1)))
        losses, context = [], []
        with blas.one_thread(), np.errstate(all="ignore"):  # the readers check their sums
            reading = PartsReading(mixture, parts, batches.streams)
            for k in range(len(batches)):
                batch = batches(0, k)
                counted = batch.targets >= 0
                losses.append(reading(batch)[:, counted])
                if self._by_context:
                    context.append(reading.context[counted])
        all_losses = np.concatenate(losses, axis=1)
        self._losses = all_losses.mean(axis=1)
        if not self._by_context:
            return MixtureParams(fit_weights(all_losses), parts)
        lengths = mixture.lengths_known(parts)
        weights = fit_weights(all_losses, np.concatenate(context), lengths)
        return MixtureParams(weights, parts)

    def made(self) -> Iterator[Event]:
        """A record for each part: its own validation loss."""
        pairs = zip(self._checkpoints, self._losses.tolist(), strict=True)
        for number, (checkpoint, loss) in enumerate(pairs, 1):
            yield self.log("part", loss, split="val", part=_name(checkpoint, number))


def mix(
    checkpoints: Sequence[Checkpoint],
    out: str | Path,
    *,
    data: str | Path | None = None,
    buckets: str | None = None,
) -> TrainingResult:
    """Mix models of the same symbols into one, in a new run folder `out`: p(w | h) = Σ λ_k p_k(w | h).

    The weights λ are those that predict the validation text best (by expectation maximisation: Jelinek
    and Mercer 1980). That is the text that the first checkpoint recorded, checked by its hash, or the
    one in the prepared folder `data`. `buckets="context"`: weights for each length of the context that
    the first n-gram among the parts has seen. The checkpoints are not needed any more afterwards.

    Raises ConfigError for fewer than two checkpoints, for ones that differ in vocabulary or text rules,
    and for buckets without an n-gram; DataError where there is no validation text, or all parts give a
    symbol of it probability 0; CheckpointError where the folder cannot be made.
    """
    with Mixing.start(checkpoints, out, data=data, buckets=buckets) as mixing:
        return run_to_end(mixing)


def _several(checkpoints: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
    if not isinstance(checkpoints, (list, tuple)):
        raise CheckpointError(f"expected a list of checkpoints, not {shown(checkpoints)}")
    for number, checkpoint in enumerate(checkpoints, 1):
        check_checkpoint(checkpoint, f"part {number}: ")
    if len(checkpoints) < 2:
        raise ConfigError(f"a mixture is of two models or more, not of {len(checkpoints)}")
    return checkpoints


def _name(checkpoint: Checkpoint, number: int) -> str:
    return f"part {number}" if checkpoint.path is None else f"part {number}, {checkpoint.path}"


def _difference(first: TextFormat, other: TextFormat) -> str | None:
    """The first difference, in words, that keeps models from being mixed; None without one."""
    a, b = first.rules.settings(), other.rules.settings()
    for rule in a:
        if rule not in FILES_ONLY and a[rule] != b.get(rule):
            return f"{rule} ({b.get(rule)}, not {a[rule]})"
    return other.difference(first)
