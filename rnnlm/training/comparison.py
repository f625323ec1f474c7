"""Runs side by side: those that differ only by their seed are one group."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.schema import flat
from ..runs.checkpoint import Checkpoint
from ..runs.folder import read_metrics
from .resume import RESUMABLE

# Keys that say nothing about what a run computes, and the seed; the text is compared by its content
PASSED_OVER = (RESUMABLE | {"train.seed"}) - {"train.epochs", "train.patience"}


@dataclass(frozen=True)
class Group:
    """Runs that differ only by their seed. Losses are in nats per symbol, best validation and test."""

    differs: Mapping[str, Any]  # the dotted keys in which the groups that have them differ
    runs: Sequence[Checkpoint]
    validation: Sequence[float]
    test: Sequence[float]

    @property
    def best(self) -> Checkpoint:
        """The run with the lowest validation loss; the first where none has one."""
        known = [run for run in self.runs if run.progress.best_loss is not None]
        return min(known or self.runs, key=lambda run: run.progress.best_loss or 0.0)


def spread(losses: Sequence[float]) -> float | None:
    """The sample standard deviation; None of fewer than two."""
    return statistics.stdev(losses) if len(losses) > 1 else None


def compare(checkpoints: Iterable[Checkpoint]) -> list[Group]:
    """The groups of some runs, the lowest mean validation loss first.

    Test losses are those in the metrics.jsonl beside each checkpoint. Raises CheckpointError where one
    of these is damaged.
    """
    grouped: dict[str, tuple[dict[str, Any], list[Checkpoint]]] = {}
    for checkpoint in checkpoints:
        settings = _settings(checkpoint)
        grouped.setdefault(repr(sorted(settings.items())), (settings, []))[1].append(checkpoint)
    every = [settings for settings, _ in grouped.values()]
    names = list(dict.fromkeys(name for settings in every for name in settings))
    differing = [name for name in names if len({repr(s[name]) for s in every if name in s}) > 1]
    groups = [
        Group(
            {name: settings.get(name) for name in differing},
            runs,
            [run.progress.best_loss for run in runs if run.progress.best_loss is not None],
            [loss for run in runs if (loss := _test_loss(run)) is not None],
        )
        for settings, runs in grouped.values()
    ]
    return sorted(groups, key=lambda g: statistics.fmean(g.validation or [float("inf")]))


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """What makes a run what it is, besides its seed: keys of the config, and the text."""
    keys = dict(flat(checkpoint.config.to_dict()))
    text = checkpoint.data.get("fingerprint", "")[:8]
    return {name: value for name, value in keys.items() if name not in PASSED_OVER} | {"text": text}


def _test_loss(checkpoint: Checkpoint) -> float | None:
    """The test loss that the run logged at its end."""
    path = checkpoint.path and checkpoint.path.parent / "metrics.jsonl"
    if path is None or not path.is_file():
        return None
    losses = [record.get("loss") for record in read_metrics(path) if record.get("split") == "test"]
    return losses[-1] if losses else None
