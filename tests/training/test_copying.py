"""What truncation costs where something must be remembered: copying a symbol over a lag."""

from __future__ import annotations

import math
from pathlib import Path

from rnnlm import make_config, train
from rnnlm.text.synthetic import prepare_source

WINDOWS_OF_40 = ("train.seq_length=40", "train.batch_size=4")
WINDOWS_OF_10 = ("train.seq_length=10", "train.batch_size=16")
WINDOWS_OF_5 = ("train.seq_length=5", "train.batch_size=32")
RANDOM = "train.truncation={name: random, keep: 0.7}"


def copies(lag: int, updates: int, out: Path) -> Path:
    """A key, `lag` - 1 letters, the key again, and so on: for so many updates on 160 symbols each."""
    prepare_source(
        "copy", 162 * updates, 0, out, {"lag": str(lag)}, val_fraction=0.01, test_fraction=0.0
    )
    return out


def forgotten(corpus: Path, run: Path, lag: int, *keys: str) -> float:
    """The share of the key's ln 2 nats that an LSTM still pays for the copy after an epoch.

    Its gates begin such that units keep what they hold for up to five steps more. Else it is a matter
    of luck when learning begins.
    """
    config = make_config(
        None,
        f"data.path={corpus}",
        f"run.dir={run}",
        *("model.hidden_size=24", "model.num_layers=1", "train.epochs=1", "train.threads=1"),
        f"model.initialisation={{name: chrono, longest: {lag + 5}}}",
        "train.optimizer={name: adam, learning_rate: 1e-2, beta2: 0.9}",
        *keys,
    )
    losses = [r["loss"] for r in train(config).history if r["event"] == "eval"]
    return float(losses[-1] * (lag + 1) / math.log(2) - 1)


def test_a_lag_beyond_the_truncation_is_not_learned(tmp_path: Path) -> None:
    """Windows of 5 symbols fail at a lag of 10, windows of 40 succeed, and windows of 40 with random
    cuts are in between.
    """
    corpus = copies(10, 300, tmp_path / "data")
    whole = forgotten(corpus, tmp_path / "whole", 10, *WINDOWS_OF_40)
    cut = forgotten(corpus, tmp_path / "cut", 10, *WINDOWS_OF_40, RANDOM)
    short = forgotten(corpus, tmp_path / "short", 10, *WINDOWS_OF_5)
    assert whole < 0.3
    assert short > 0.6
    assert whole < cut < short


def test_a_longer_lag_takes_a_longer_window(tmp_path: Path) -> None:
    """A lag of 20 in windows of 40, and not of 10."""
    corpus = copies(20, 1000, tmp_path / "data")
    assert forgotten(corpus, tmp_path / "long", 20, *WINDOWS_OF_40) < 0.2
    assert forgotten(corpus, tmp_path / "short", 20, *WINDOWS_OF_10) > 0.8
