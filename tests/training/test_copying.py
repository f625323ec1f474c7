"""What truncation costs where something must be remembered: copying a symbol over a lag."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from rnnlm import make_config, train
from rnnlm.text.synthetic import prepare_source

LAG = 10


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key, nine letters, the key again: 4,000 times."""
    out = tmp_path_factory.mktemp("copy") / "data"
    prepare_source("copy", 44_000, 0, out, {"lag": str(LAG)}, val_fraction=0.01, test_fraction=0.0)
    return out


def forgotten(corpus: Path, run: Path, *keys: str) -> float:
    """The share of the key's ln 2 nats that an LSTM still pays for the copy, after 270 updates on 160
    symbols each.
    """
    config = make_config(
        None,
        f"data.path={corpus}",
        f"run.dir={run}",
        *("model.hidden_size=24", "model.num_layers=1", "train.epochs=1", "train.threads=1"),
        *("train.optimizer.learning_rate=2e-2", "train.eval_every=1 epoch"),
        *keys,
    )
    losses = [r["loss"] for r in train(config).history if r["event"] == "eval"]
    return float(losses[-1] * (LAG + 1) / math.log(2) - 1)


def test_a_lag_beyond_the_truncation_is_not_learned(corpus: Path, tmp_path: Path) -> None:
    """Windows of 5 symbols fail at a lag of 10, windows of 40 succeed, and windows of 40 with random
    cuts are in between.
    """
    long = ("train.seq_length=40", "train.batch_size=4")
    cuts = "train.truncation={name: random, keep: 0.7}"
    whole = forgotten(corpus, tmp_path / "whole", *long)
    cut = forgotten(corpus, tmp_path / "cut", *long, cuts)
    short = forgotten(corpus, tmp_path / "short", "train.seq_length=5", "train.batch_size=32")
    assert whole < 0.25
    assert short > 0.75
    assert whole < cut < short
