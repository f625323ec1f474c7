"""Seconds until the validation loss of tiny Shakespeare is down to 1.60 nats per character."""

from __future__ import annotations

import tempfile
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from ..bench import Bench
from ..corpora import SkipError, corpus
from ..table import Columns, Report, Table, hundredths, tenths, times, whole
from ..timing import Contender

LOSS = 1.60
SEEDS = (0, 1, 2)
MOST_STEPS = 20_000

# Settings as `rnnlm train --set` takes them. The same recipe in both libraries: char-rnn's
SAME = {
    "model.cell": "lstm",
    "model.hidden_size": 128,
    "model.num_layers": 2,
    "train.batch_size": 50,
    "train.seq_length": 50,
    "train.epochs": 100,
    "train.optimizer.learning_rate": 2e-3,
    "train.grad_clip.norm": 5.0,
    "train.eval_every": 100,
}

# The best that was found for rnnlm; what is evaluated is the average of the weights
BEST = {
    "model.cell": "gru",
    "model.hidden_size": 128,
    "model.num_layers": 2,
    "train.batch_size": 64,
    "train.seq_length": 32,
    "train.epochs": 100,
    "train.optimizer.name": "muon",
    "train.optimizer.learning_rate": 1.2e-2,
    "train.optimizer.momentum": 0.8,
    "train.average.name": "ema",
    "train.average.decay": 0.98,
    "train.grad_clip.norm": 5.0,
    "train.eval_every": 100,
}

OURS, TORCH, BEST_OURS = "rnnlm", "PyTorch", "rnnlm, best recipe"
TORCH_SAME = "PyTorch, rnnlm's weights"

COLUMNS: Columns = {
    "run": str,
    "batch": whole,
    "window": whole,
    "rate": str,
    "seconds": tenths,
    "of them evaluation": tenths,
    "steps": whole,
    "loss there": hundredths,
    "PyTorch / this": times,
}


def run(bench: Bench) -> Report:
    """A row for each run: medians over seeds."""
    if bench.quick:
        raise SkipError("it takes minutes: leave --quick out")
    text = str(corpus("tinyshakespeare.txt"))
    results: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            for name, result in race(bench, text, Path(folder), seed).items():
                results.setdefault(name, []).append(result)
    report = Report(f"target: seconds until validation loss {LOSS:.2f}", Table(COLUMNS), notes())
    for name in results:
        add_row(report.table, name, BEST if name == BEST_OURS else SAME, results)
    report.rounds = {"same": SAME, "best": BEST, **results}
    return report


def notes() -> list[str]:
    """What is and is not measured."""
    return [
        f"Medians over {len(SEEDS)} seeds; the runs take turns, from evaluation to evaluation.",
        "Imports and reading the text are left out; evaluation is counted: the validation split",
        f"(5 % of the text) as one stream, every {SAME['train.eval_every']} steps; with the best "
        f"recipe every {BEST['train.eval_every']}.",
        "rnnlm also saves its best checkpoint each time. LSTM 128x2, one-hot input, Adam, gradient",
        "norm at most 5. PyTorch begins with the weights that it makes by itself and, in a second",
        "run, with those that rnnlm begins with: what is left then is speed. The best recipe is a GRU",
        "128x2 with Muon, and a moving average of its weights is what is evaluated.",
    ]


def race(bench: Bench, text: str, folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """All runs with one seed, in turns, each until it is there."""
    values: dict[str, Any] = {"text": text, "seed": seed}
    ours, best = str(folder / "same"), str(folder / "best")
    first = str(folder / "same" / "last.npz")  # as it is before the first step
    contenders = {
        OURS: bench.contender("ours", "target", folder=ours, recipe=SAME, **values),
        TORCH: bench.contender("pytorch", "target", recipe=SAME, weights=None, **values),
        TORCH_SAME: bench.contender("pytorch", "target", recipe=SAME, weights=first, **values),
        BEST_OURS: bench.contender("ours", "target", folder=best, recipe=BEST, **values),
    }
    running = {name: each for name, each in contenders.items() if each is not None}
    results: dict[str, dict[str, Any]] = {
        name: {"seed": seed, "seconds": 0.0, "evaluation": 0.0, "losses": []} for name in running
    }
    for turn in count(1):
        for name in list(running):
            bench.progress(f"target: seed {seed}, turn {turn}, {name}")
            bench.rest()
            if advance(running[name], results[name]):
                del running[name]
        if not running:
            break
    bench.clear()
    return results


def advance(contender: Contender, result: dict[str, Any]) -> bool:
    """On to the next evaluation; whether the run has come to its end."""
    turn = contender.turn()
    result["seconds"] += turn["seconds"]
    result["evaluation"] += turn["evaluation"]
    result["steps"], result["loss"] = turn["step"], turn["loss"]
    result["losses"].append(turn["loss"])
    result["reached"] = reached = turn["loss"] <= LOSS
    return bool(reached or turn["step"] >= MOST_STEPS)


def add_row(
    table: Table, name: str, recipe: dict[str, Any], results: dict[str, list[dict[str, Any]]]
) -> None:
    """A run's medians; its time only where every seed reached the loss."""
    own = results[name]
    there = all(result["reached"] for result in own)
    peers = results.get(TORCH, [])
    ratios = [p["seconds"] / r["seconds"] for p, r in zip(peers, own, strict=False)]
    there_too = there and all(result["reached"] for result in peers)
    table.add(
        name,
        recipe["train.batch_size"],
        recipe["train.seq_length"],
        f"{recipe['train.optimizer.learning_rate']:g}",
        median(result["seconds"] for result in own) if there else None,
        median(result["evaluation"] for result in own) if there else None,
        median(result["steps"] for result in own),
        median(result["loss"] for result in own),
        median(ratios) if ratios and there_too else None,
    )
