"""Runs that are stopped and resumed, and must be the run that was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import tiny_config

from rnnlm.config.schema import Config
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.runs.history import read_metrics
from rnnlm.training.loop import Training
from rnnlm.training.result import train, train_events

TIMINGS = {"seconds", "symbols_per_second"}


def metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of a run, timings left out."""
    return [
        {k: v for k, v in record.items() if k not in TIMINGS}
        for record in read_metrics(folder / "metrics.jsonl")
    ]


def arrays(path: Path) -> dict[str, bytes]:
    """The bits of everything in a checkpoint that is not a time or a place."""
    at = Checkpoint.load(path)
    return {
        "params": at.params.flat.tobytes(),
        "state": b"" if at.state is None else at.state.tobytes(),
        **{name: vector.tobytes() for name, vector in at.optimizer_state.items()},
        "progress": json.dumps(
            [
                at.progress.step,
                at.progress.loss_sum,
                at.progress.best_loss,
                at.progress.best_step,
                at.progress.bad_evals,
                at.progress.val_loss,
            ]
        ).encode(),
    }


def assert_same_run(a: Path, b: Path) -> None:
    assert metrics(a) == metrics(b)
    assert arrays(a / "last.npz") == arrays(b / "last.npz")
    assert arrays(a / "best.npz") == arrays(b / "best.npz")


def interrupted(config: Config, steps: int, overrides: tuple[str, ...] = ()) -> None:
    """Train, stopping every `steps` steps and going on in a new session."""
    sessions = 0

    def stop_after() -> Any:
        count = iter(range(1, 10**6))
        return lambda: next(count) >= steps

    kinds = [event.kind for event in train_events(config, stop=stop_after())]
    while kinds[-1] == "interrupted":
        sessions += 1
        with Training.resume(Path(config.run.dir or ""), overrides) as training:
            kinds = [event.kind for event in training.events(stop_after())]
    assert sessions > 2
    assert kinds[-1] == "end"


def resumed(text: Path, folder: Path, step: int, *keys: str) -> Checkpoint:
    """The last checkpoint of a tiny run that stops after a step and goes on: the same as without."""
    train(tiny_config(text, folder / "whole", *keys))
    with Training.start(tiny_config(text, folder / "cut", *keys), "cut") as training:
        for event in training.events(lambda: training.progress.step >= step):
            assert event.kind != "end"
    with Training.resume(folder / "cut") as training:
        assert [event.kind for event in training.events()][-1] == "end"
    assert_same_run(folder / "whole", folder / "cut")
    return Checkpoint.load(folder / "cut" / "last.npz")
