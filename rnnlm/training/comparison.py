"""What runs differ in; runs side by side, where those that differ only by their seed are one group."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from typing import Any

from ..assembly import make_config
from ..config.schema import Config, flat
from ..errors import CheckpointError
from ..models.base import TrainableModel
from ..runs.checkpoint import Glance, glance
from ..runs.history import last_records, read_metrics
from .resume import LIMITS, RESUMABLE

# Keys that say nothing about what a run computes, and the seed; the text is compared by its content
SEED = "train.seed"
PASSED_OVER = (RESUMABLE | {SEED}) - {*LIMITS}
STOPPED = "stopped_at"  # the step of a run that has not come to its end


@dataclass(frozen=True)
class Group:
    """Runs that differ only by their seed. Losses are in nats per symbol, best validation and test."""

    differs: Mapping[str, Any]  # the dotted keys in which the groups that have them differ
    runs: Sequence[Glance]
    validation: Sequence[float]
    test: Sequence[float]

    @property
    def best(self) -> Glance:
        """The run with the lowest validation loss; the first where none has one."""
        known = [run for run in self.runs if run.progress.best_loss is not None]
        return min(known or self.runs, key=lambda run: run.progress.best_loss or 0.0)


def spread(losses: Sequence[float]) -> float | None:
    """The sample standard deviation; None of fewer than two."""
    return statistics.stdev(losses) if len(losses) > 1 else None


def compare(runs: Iterable[Glance]) -> list[Group]:
    """The groups of some runs, the lowest mean validation loss first.

    Test losses are those in the metrics.jsonl beside each checkpoint.
    """
    grouped: dict[Any, tuple[dict[str, Any], list[Glance]]] = {}
    for run in runs:
        settings = _settings(run)
        # The keys of a mixture do not say of which runs it was made, and with which weights
        alone = str(run.path) if any(key.startswith("model.parts.") for key in settings) else ""
        same = (repr(sorted(settings.items())), alone)
        grouped.setdefault(same, (settings, []))[1].append(run)
    names = differing([settings for settings, _ in grouped.values()])
    groups = [
        group({name: settings.get(name) for name in names}, alike)
        for settings, alike in grouped.values()
    ]
    return sorted(groups, key=lambda g: statistics.fmean(g.validation or [float("inf")]))


def group(differs: Mapping[str, Any], runs: Sequence[Glance]) -> Group:
    """The group of some runs, with their losses."""
    return Group(
        differs,
        runs,
        [run.progress.best_loss for run in runs if run.progress.best_loss is not None],
        [loss for run in runs if (loss := test_loss(run)) is not None],
    )


def _settings(run: Glance) -> dict[str, Any]:
    """What makes a run what it is, besides its seed: keys of the config, the text, where it stopped."""
    last = _last(run)
    ended = next(last_records(run.path.parent), {}).get("event") in ("end", None)  # None: no log
    keys = {k: v for k, v in flat(last.config.to_dict()) if k not in PASSED_OVER}
    if not isinstance(run.model, TrainableModel):  # which takes nothing of it
        keys = {key: value for key, value in keys.items() if not key.startswith("train.")}
    text = run.data.get("fingerprint", "")[:8]
    return {**keys, "text": text, STOPPED: None if ended else last.progress.step}


def _last(run: Glance) -> Glance:
    """The last checkpoint of a run. Its best may be of a time when other limits were set."""
    if run.path.name == "best.npz":
        with suppress(CheckpointError):
            return glance(run.path.with_name("last.npz"))
    return run


def differing(every: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which those differ that have them, or leave them out as one of several ways."""
    names = list(dict.fromkeys(name for settings in every for name in settings))
    chosen = {name.rpartition(".")[0] for name in names if name.rpartition(".")[2] in CHOICES}

    def left_out(name: str, settings: Mapping[str, Any]) -> bool:
        # Of a section without a choice, as train.grad_clip, other keys stand there, or it is null
        section, _, _ = name.rpartition(".")
        there = section in settings or any(key.startswith(f"{section}.") for key in settings)
        return there and section not in chosen

    def values(name: str) -> set[str]:
        return {repr(s.get(name)) for s in every if name in s or left_out(name, s)}

    return [name for name in names if len(values(name)) > 1]


def labels(runs: Sequence[Glance]) -> list[str]:
    """A name for each run, by what they differ in; where that is nothing, or only their seeds and how
    they ended, by their folders too.

    A run whose model was made at once has the name of that model.
    """
    trained = [isinstance(run.model, TrainableModel) for run in runs]
    every = [_settings(run) for run in compress(runs, trained)]
    alike = set(differing(every)) <= {*LIMITS, STOPPED}
    said = _said(every)
    if len(set(said)) < len(said):
        seeds = [run.config.train.seed for run in compress(runs, trained)]
        said = _said([s | {"seed": seed} for s, seed in zip(every, seeds, strict=True)])
    rest = iter(said)
    names = [next(rest) if t else model_name(run) for t, run in zip(trained, runs, strict=True)]
    often = Counter(names)
    return [
        name
        if name and often[name] == 1 and not (alike and t)
        else f"{run.path.parent}{': ' * bool(name)}{name}"
        for t, run, name in zip(trained, runs, names, strict=True)
    ]


def _said(every: Sequence[Mapping[str, Any]]) -> list[str]:
    """What some settings differ in, in words for each of them."""
    keys = differing(every)
    return [words({key: s[key] for key in keys if key in s}, " ") for s in every]


def words(settings: Mapping[str, Any], equals: str = "=") -> str:
    """Keys with their values in short: `hidden_size=256, sgd`."""

    def said(key: str, value: Any) -> str:
        parts = key.split(".")
        if parts[-1] in CHOICES:
            if value != "none":  # the choice says enough
                return str(value)
            parts.pop()
        ends = Counter(other.rpartition(".")[2] for other in settings)
        name = parts[-1] if ends[parts[-1]] <= 1 else ".".join(parts[-2:])
        return f"{name}{equals}{_as_written(value)}"

    return ", ".join(said(key, value) for key, value in settings.items())


def _as_written(value: Any) -> str:
    """A value as YAML has it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


CHOICES = ("name", "kind")  # the ends of keys that choose what the other keys are about


def unusual(config: Config) -> dict[str, Any]:
    """The keys, with their values, in which a run is not as by default for what it has chosen; of those
    that change a result, and the seed.
    """
    passed_over = PASSED_OVER - {SEED}
    keys = {name: value for name, value in flat(config.to_dict()) if name not in passed_over}
    chosen = {
        name: value
        for name, value in keys.items()
        if name.rpartition(".")[2] in CHOICES and not name.startswith("model.parts.")
    }
    first, usual = _defaults(()), _defaults(tuple(f"{k}={v}" for k, v in chosen.items()))
    return {
        name: value
        for name, value in keys.items()
        if value != (first if name in chosen else usual).get(name, ...)
    }


@lru_cache(maxsize=256)
def _defaults(chosen: Sequence[str]) -> Mapping[str, Any]:
    return dict(flat(make_config(None, *chosen).to_dict()))


def model_name(run: Glance) -> str:
    """The model of a run in a few words. One that was made at once is described in the log."""
    described = run.model.describe()
    if not isinstance(run.model, TrainableModel):
        end = next(last_records(run.path.parent), {})
        described = str(end.get("model", described))
    return described.partition(":")[0].partition("\n")[0].partition(" (")[0]


def test_loss(run: Glance) -> float | None:
    """The test loss that the run logged at its end."""
    found = (r.get("loss") for r in last_records(run.path.parent) if r.get("split") == "test")
    loss = next(found, None)
    return loss if isinstance(loss, (int, float)) else None


def cost(runs: Sequence[Glance]) -> dict[str, float | None]:
    """What finished runs of a group took, on average: parameters, symbols per second of the updates,
    minutes in all. What is not known of a model that was made at once is None.
    """
    models = [run.model for run in runs[:1] if isinstance(run.model, TrainableModel)]
    logs = [list(read_metrics(run.path.parent)) for run in runs]
    speeds = [r["symbols_per_second"] for log in logs for r in log if r["event"] == "train"]
    return {
        "parameters": models[0].num_parameters if models else None,
        "symbols/s": round(statistics.fmean(speeds)) if speeds else None,
        "minutes": statistics.fmean(log[-1]["seconds"] / 60 for log in logs) if logs else None,
    }
