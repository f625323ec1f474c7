"""What a run's log says, as parts of a page: figures, curves, samples. Quick enough to be made after
every evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from ..runs.checkpoint import Checkpoint
from ..runs.history import DIVERGED, read_metrics
from .charts import Series, chart
from .labels import readable
from .page import Section

Record = dict[str, Any]
SAMPLES = 6  # of those that were drawn, the first, the last, and some between


@dataclass(frozen=True)
class Log:
    """The records of a run, the word for its symbols, its model in words, and its config as YAML."""

    name: str
    model: str
    noun: str
    records: Sequence[Record]
    config: str

    def values(self, name: str, event: str, key: str, split: str | None = None) -> Series:
        """A column of the records of an event, of those of one split, by step, under a name."""
        chosen = [
            (r["step"], r[key])
            for r in self.records
            if r.get("event") == event
            and r.get("split") == split
            and "checkpoint_step" not in r
            and isinstance(r.get(key), (int, float))
            and isinstance(r.get("step"), (int, float))
        ]
        steps, values = np.array(chosen, float).reshape(-1, 2).T
        return Series(name, steps, values)

    def last(self, **wanted: object) -> Record:
        """The last record with these values, or an empty one."""
        found = (r for r in reversed(self.records) if wanted.items() <= r.items())
        return next(found, {})


def log_of(checkpoint: Checkpoint) -> Log:
    """What the run of a checkpoint logged; nothing where no log is beside it."""
    folder = None if checkpoint.path is None else checkpoint.path.absolute().parent
    path = folder and folder / "metrics.jsonl"
    return Log(
        folder.name if folder else "a model",
        checkpoint.model.describe(checkpoint.params),
        checkpoint.format.noun,
        list(read_metrics(path)) if path and path.is_file() else [],
        checkpoint.config.to_yaml(),
    )


def head(log: Log, state: str = "stopped or training") -> str:
    """The model in a line, and the figures that people ask for first. `state` is that of a run whose
    log has no end.
    """
    test, end = log.last(event="eval", split="test"), log.last(event="end")
    best = log.last(event="eval", split="val", best=True)
    latest = log.records[-1] if log.records else {}
    state = DIVERGED if latest.get("event") == DIVERGED else state
    figures = [
        ("test perplexity", _figure(test, "perplexity")),
        (f"bits per {log.noun}, test", _figure(test, "bits_per_symbol")),
        ("validation perplexity, best", _figure(best, "perplexity")),
        ("steps", f"{latest['step']:,}" if isinstance(latest.get("step"), int) else None),
        ("training", _duration(latest.get("seconds"))),
        ("state", "finished" if end else state if log.records else None),
    ]
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in figures
        if value
    )
    return f'<p class="soft">{escape(log.model)}</p><dl class="figures">{tiles}</dl>'


def _figure(record: Record, key: str) -> str | None:
    value = record.get(key)
    return f"{value:.4g}" if isinstance(value, (int, float)) else None


def _duration(seconds: object) -> str | None:
    if not isinstance(seconds, (int, float)) or not math.isfinite(seconds):
        return None
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def log_sections(log: Log) -> list[Section]:
    """The curves, the samples that training drew, and the config."""
    found = [Section("training", "Training", _curves(log))]
    if texts := _samples(log):
        found.append(Section("samples", "Samples", texts))
    return found


def config(log: Log) -> Section:
    """The config, as YAML."""
    shown = (
        f"<details><summary>Every key</summary><pre>{escape(readable(log.config))}</pre></details>"
    )
    return Section("config", "Config", shown)


def _curves(log: Log) -> str:
    validation = log.values("validation", "eval", "loss", "val")
    losses = [log.values("training", "train", "loss"), validation]
    rate, norm = (log.values("", "train", key) for key in ("learning_rate", "grad_norm"))
    charts = [
        chart(losses, "steps", f"loss, nats per {log.noun}"),
        chart([rate], "steps", "learning rate"),
        chart([norm], "steps", "norm of the gradient", log=True),
    ]
    notes = [] if len(validation.x) else ["This run has logged no evaluation."]
    if not any(charts):
        notes.append("Its log has no steps to draw.")
    told = "".join(f'<p class="note">{note}</p>' for note in notes)
    return told + (f'<div class="charts">{"".join(charts)}</div>' if any(charts) else "")


def _samples(log: Log) -> str:
    drawn = [
        r for r in log.records if r.get("event") == "sample" and isinstance(r.get("text"), str)
    ]
    if not drawn:
        return ""
    chosen = sorted(
        set(np.linspace(0, len(drawn) - 1, min(SAMPLES, len(drawn))).astype(int).tolist())
    )
    return f'<div class="samples">{"".join(_sample(drawn[k]) for k in chosen)}</div>'


def _sample(record: Record) -> str:
    return (
        f"<div><h3>step {escape(str(record.get('step')))}</h3>"
        f'<pre dir="auto">{escape(readable(record["text"]))}</pre></div>'
    )
