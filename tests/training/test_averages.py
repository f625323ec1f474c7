"""Averages of the weights: what they are, and that everything but training reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_config

from rnnlm import read_metrics
from rnnlm.api.evaluation import evaluate
from rnnlm.arrays import Array
from rnnlm.errors import ConfigError
from rnnlm.optim.averages import ema, remembered, triggered
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.training.loop import Training
from rnnlm.training.plan import preview

SHORT = (
    "train.seq_length=256",
    "train.threads=1",
    "data.val_fraction=0.02",
    "data.test_fraction=0",
)
WILD = "train.optimizer={name: sgd, learning_rate: 9.0}"  # validation goes up and down


def trained(text: Path, run: Path, *keys: str) -> tuple[Training, list[Array]]:
    """A run that is finished, and its weights at first and after each update."""
    weights = []
    with Training.start(tiny_config(text, run, *SHORT, *keys), "run") as training:
        weights.append(training._engine.params.flat.astype(np.float64))
        for event in training.events():
            if event.kind == "step":
                weights.append(training._engine.params.flat.astype(np.float64))
    return training, weights


def averaged(weights: list[Array], begin: int) -> Array:
    """The mean of the weights after the updates that follow `begin`."""
    return np.mean(weights[begin + 1 :], axis=0)


@pytest.mark.parametrize(
    ("keys", "begin"),
    [
        (("train.average={name: mean, from_epoch: 1}",), 5),
        (("train.average={name: mean, from_epoch: 2}",), 9),
    ],
)
def test_a_mean_is_that_of_all_weights_once_it_begins(
    text_file: Path, tmp_path: Path, keys: tuple[str, ...], begin: int
) -> None:
    """And the weights themselves before: of the last update, where it would begin after the end."""
    training, weights = trained(text_file, tmp_path / "a", *keys)
    assert len(weights) == 11
    at = Checkpoint.load(tmp_path / "a" / "last.npz")
    np.testing.assert_allclose(at.params.flat, averaged(weights, begin), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(at.optimizer_state["weights"], weights[-1])
    assert training.progress.averaged == (10 - begin if begin < 9 else 0)


def begins(logs: list[float], n: int) -> bool:
    """Whether the last validation begins the average: the condition of NT-ASGD's program."""
    *logs, v = logs
    return len(logs) > n and v > min(logs[:-n])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_condition_is_that_of_the_paper(n: int) -> None:
    """For losses that fall and go up and down; what is remembered of them suffices, and is short."""
    rng = np.random.default_rng(n)
    found = set()
    for _ in range(50):
        logs = (3 / np.arange(1, 31) ** 0.5 + 0.05 * rng.standard_normal(30)).tolist()
        kept: list[float] = []
        for t, loss in enumerate(logs, 1):
            kept = remembered([*kept, loss], n)
            found.add(begins(logs[:t], n))
            assert (triggered(0, 0.0, kept, patience=n) is not None) == begins(logs[:t], n)
        assert len(kept) == n + 2
    assert found == {True, False}


def test_a_mean_is_triggered_by_validation(text_file: Path, tmp_path: Path) -> None:
    """It has the weights after all updates that follow the validation that begins it."""
    keys = ("train.average={name: triggered, patience: 1}", WILD, "train.eval_every=1")
    training, weights = trained(text_file, tmp_path / "a", *keys)
    losses = [r["loss"] for r in read_metrics(tmp_path / "a") if r["event"] == "eval"]
    begin = next(step for step in range(1, 11) if begins(losses[:step], 1))
    assert begin < 9
    at = Checkpoint.load(tmp_path / "a" / "last.npz")
    np.testing.assert_allclose(at.params.flat, averaged(weights, begin), rtol=0, atol=1e-5)
    assert training.progress.averaged == 10 - begin
    assert len(at.progress.val_losses) == 3


def test_an_exponential_average_is_read_by_everybody(text_file: Path, tmp_path: Path) -> None:
    """Against the recurrence in float64; the loss that was logged is that of the saved average."""
    keys = ("train.average={name: ema, decay: 0.6}",)
    training, weights = trained(text_file, tmp_path / "a", *keys)
    expected = weights[0]
    for n, w in enumerate(weights[1:]):
        decay = min(0.6, (2 + n) / (11 + n))
        expected = decay * expected + (1 - decay) * w
    at = Checkpoint.load(tmp_path / "a" / "best.npz")
    np.testing.assert_allclose(at.params.flat, expected, rtol=0, atol=1e-6)
    assert np.abs(expected - weights[-1]).max() > 1e-4
    val = training.corpus.format.text(training.corpus["val"])
    assert evaluate(at, val).nats_per_symbol == pytest.approx(
        training.progress.best_loss, rel=1e-12
    )


def test_the_start_is_forgotten_before_the_decay_is_reached() -> None:
    """After 100 updates hardly anything of the first weights is left, where 0.999^100 is 0.9."""
    left = np.prod([1 - ema(n, 0.0, 0) for n in range(100)])
    assert left < 1e-9


def test_a_plan_says_how_training_reads_and_what_it_saves(text_file: Path, tmp_path: Path) -> None:
    """In few words, beside the number of windows; nothing is said of what is as by default."""
    keys = ("train.vary_length=0.5", "train.offset=random", "train.reset=0.01", "train.average=ema")
    plain, varied = (
        " ".join(preview(tiny_config(text_file, tmp_path / "a", *given))).rsplit(" steps: ")[-1]
        for given in ((), keys)
    )
    said = (
        "32 characters each, 48 at most, from another place in each epoch, "
        "one in 100 from the zero state",
        "weights: their average (ema) is validated and saved",
    )
    assert all(words in varied for words in said)
    assert not any(word in plain for word in ("at most", "another place", "zero state", "average"))


def test_what_comes_after_the_end_of_the_run_is_said(text_file: Path, tmp_path: Path) -> None:
    """An average that does not begin in it, and a warm-up that is longer; not one that fits."""
    mean, warm = "train.average={name: mean, from_epoch: %d}", "train.schedule.warmup_steps=%d"

    def said(*keys: str) -> str:
        config = tiny_config(text_file, tmp_path / "a", "train.epochs=2", *keys)
        return "\n".join(preview(config)).rsplit("steps: ")[-1]

    steps = int(said().split("of ")[1].split()[0]) * 2
    assert "(mean) would begin after" in said(mean % 2)
    assert "(mean) would begin after" in said(mean % 1, f"train.max_steps={steps // 2}")
    assert "(mean) is validated" in said(mean % 1, f"train.max_steps={steps // 2 + 1}")
    assert "(triggered), once it begins," in said("train.average=triggered")
    assert f"the run has {steps} steps" in said(warm % (steps + 1))
    assert "learning rate" not in said(warm % steps)


@pytest.mark.parametrize(
    ("key", "unit"),
    [("vary_length=0.5", "stream"), ("offset=random", "line"), ("reset=0.1", "line")],
)
def test_what_means_nothing_to_a_text_is_refused(
    text_file: Path, tmp_path: Path, key: str, unit: str
) -> None:
    """One line that says why, before the run begins."""
    keys = (f"train.{key}", f"data.unit={unit}", "train.seq_length=full")
    with pytest.raises(ConfigError, match=f"train.{key.split('=')[0]}: .*: leave the key out"):
        Training.start(tiny_config(text_file, tmp_path / "a", *keys), "run")


@pytest.mark.parametrize("key", ["average=triggered", "schedule=plateau"])
def test_what_waits_for_validation_needs_a_text(text_file: Path, tmp_path: Path, key: str) -> None:
    """One line that says so, before the run begins."""
    keys = (f"train.{key}", "data.val_fraction=0")
    with pytest.raises(ConfigError, match=f"train.{key.replace('=', ' ')} needs a validation text"):
        Training.start(tiny_config(text_file, tmp_path / "a", *keys), "run")
