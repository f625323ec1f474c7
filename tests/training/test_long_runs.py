"""What a run of hours needs: checkpoints by the clock, early validation, limits, stopping anywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tiny_config
from resumed import assert_same_run, metrics

from rnnlm.api.evaluation import evaluate_split
from rnnlm.assembly import make_config
from rnnlm.config.kinds import Interval
from rnnlm.errors import ConfigError
from rnnlm.inference.evaluation import evaluate
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.text.batches import Streams
from rnnlm.training import loop
from rnnlm.training.course import Course
from rnnlm.training.loop import Training
from rnnlm.training.result import resume, train
from rnnlm.training.validation import Validation

ONE = ("model.hidden_size=4", "train.threads=1", "train.epochs=1")


def asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `stop` asked after every chunk of an evaluation, however short it is."""
    monkeypatch.setattr(loop, "ASK_AFTER", 0)


def stop_at(numbers: set[int]) -> Callable[[], bool]:
    """A `stop` that is true at some of its calls."""
    asked = count(1)
    return lambda: next(asked) in numbers


# Validation


def validation(symbols: int, val: int = 10**9, every: str = "1 epoch", **train: int) -> Validation:
    """Of a training text of so many symbols, in windows of 10 symbols."""
    keys = {"eval_every": every, "batch_size": 2, "seq_length": 5, **train}
    config = make_config(None, *(f"train.{key}={value}" for key, value in keys.items()))
    windows = Streams(np.zeros(symbols + 1, np.uint8), 2, 5)
    return Validation.of(config, Course({0: windows}), val)


@pytest.mark.parametrize("epoch", [600, 601, 1201, 2400, 2401, 4799, 4801, 10_000, 99_999])
def test_validation_comes_early_and_takes_a_tenth_at_most(epoch: int) -> None:
    """Whatever the length of an epoch, at every step of two of them."""
    v = validation(10 * epoch, eval_symbols=100)
    done = [step for step in range(1, 2 * epoch + 1) if v.due(step)]
    assert done[0] == (300 if epoch >= 600 else epoch)
    assert {epoch, 2 * epoch} < set(done) or epoch == 600
    cost = 3 * v.symbols  # of each, in symbols of training
    assert all(cost * n / (cost * n + 10 * step) <= 0.1 for n, step in enumerate(done, 1))
    assert np.diff([0, *done]).max() <= max(16 * 300, 600)


def test_a_short_text_or_a_number_of_steps_has_no_further_validations() -> None:
    """Nor has a run that validates on the whole of a long text."""
    assert validation(5990, eval_symbols=100).first_after is None
    assert validation(10**5, every="9000", eval_symbols=100).first_after is None
    config = make_config(None, "train.eval_symbols=null")
    course = Course({0: Streams(np.zeros(10**7, np.uint8), 32, 64)})
    assert Validation.of(config, course, 10**6).first_after is None
    assert Validation.of(config, course, 10**6).whole


def test_a_long_validation_text_is_read_in_part_and_as_a_whole_at_the_end(
    text_file: Path, tmp_path: Path
) -> None:
    """The same stretch each time, named in the record; the best is measured on all of it."""
    keys = ("train.eval_symbols=100", "train.eval_every=20", "data.test_fraction=0")
    result = train(tiny_config(text_file, tmp_path / "a", *ONE, *keys))
    *parts, whole = [r for r in result.history if r["event"] == "eval"]
    assert [r["stretch"] for r in parts] == [100, 100]
    best = result.checkpoint()
    assert whole["loss"] == evaluate_split(best, "val").nats_per_symbol
    assert whole["checkpoint_step"] == result.best_step
    assert "stretch" not in whole
    with Training.resume(tmp_path / "a") as training:
        ids = training.corpus["val"][:100]
        loss = evaluate(best.model, best.params, ids).nats_per_symbol
    assert result.best_loss == best.progress.best_loss == loss


def test_further_validations_do_not_count_for_patience(text_file: Path, tmp_path: Path) -> None:
    """A run that cannot improve ends after so many epochs as it says."""
    keys = (
        "train.eval_symbols=2",
        "train.patience=2",
        "train.optimizer={name: sgd, learning_rate: 0}",
    )
    result = train(tiny_config(text_file, tmp_path / "a", *ONE, *keys, "train.epochs=9"))
    done = [r["step"] for r in result.history if "stretch" in r]
    assert result.reason == "patience"
    assert len(done) > 10
    assert result.history[-1]["epoch"] == 2


def test_a_run_of_the_time_before_stretches_goes_on_without(
    text_file: Path, tmp_path: Path
) -> None:
    """Its validations stay of one kind; a new checkpoint keeps it so."""
    keys = ("train.max_steps=2", "train.eval_symbols=null")
    train(tiny_config(text_file, tmp_path / "a", *ONE, *keys))
    path, old = tmp_path / "a" / "last.npz", "  eval_symbols: null\n"
    at = Checkpoint.load(path)
    text = at.config.to_yaml()
    assert old in text

    class Old(type(at.config)):  # type: ignore[misc]
        def to_yaml(self) -> str:
            return text.replace(old, "")

    replace(at, config=Old(**vars(at.config))).save(path)
    (tmp_path / "a" / "config.yaml").write_text(text.replace(old, ""))
    for steps in (4, 6):
        resume(tmp_path / "a", f"train.max_steps={steps}")
        assert Checkpoint.load(path).config.train.eval_symbols is None


# Checkpoints


def test_a_checkpoint_is_saved_by_the_clock_whatever_the_epoch(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no numbered one, which come when they were asked for."""
    monkeypatch.setattr(loop, "MOST_UNSAVED", Interval(1e-9, "minutes"))
    saved = []
    run = tmp_path / "a"
    config = tiny_config(text_file, run, *ONE, "train.keep=9", "train.checkpoint_every=15")
    config = config.with_values("train", max_steps=16)

    def note(event: Any) -> None:
        if event.kind == "step":
            saved.append(Checkpoint.load(run / "last.npz").progress.step)

    train(config, callback=note)
    assert saved == list(range(16))
    assert [int(p.stem[5:]) for p in sorted(run.glob("step-*"))] == [0, 15, 16]


# Limits


def test_a_run_that_ended_at_a_limit_can_be_made_longer_exactly(
    text_file: Path, tmp_path: Path
) -> None:
    """By steps or by time; why it ended is in its log."""
    long, short = tmp_path / "long", tmp_path / "short"
    train(tiny_config(text_file, long, *ONE, "train.max_steps=20"))
    assert metrics(long)[-1]["reason"] == "max_steps"
    assert train(tiny_config(text_file, short, *ONE, "train.max_steps=7")).reason == "max_steps"
    result = resume(short, "train.max_steps=20", "train.max_minutes=1e-6")
    assert (result.reason, result.history[-1]["step"]) == ("max_minutes", 7)
    resume(short, "train.max_minutes=null")
    assert_same_run(long, short)


def test_a_schedule_ends_where_the_run_does(text_file: Path, tmp_path: Path) -> None:
    """Where max_steps ends it; so these cannot be changed then."""
    keys = ("train.schedule=cosine", "train.max_steps=10", "train.log_every=1")
    result = train(tiny_config(text_file, tmp_path / "a", *ONE, *keys))
    rates = [r["learning_rate"] for r in result.history if r["event"] == "train"]
    assert rates[0] == 0.002
    assert 0 < rates[-1] < 1e-4
    with pytest.raises(ConfigError, match=r"max_steps changed from 10 to 12 \(the cosine"):
        resume(tmp_path / "a", "train.max_steps=12")


# Stopping


def test_evaluations_that_were_interrupted_are_made_when_the_run_goes_on(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the bits and records of a run that was never stopped, in the first chunk or a later one."""
    keys = ("train.eval_every=2", "train.max_steps=4", "train.sample_every=2", "train.log_every=1")
    keys = (*keys, "train.eval_symbols=300")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(tiny_config(text_file, whole, *ONE, *keys))
    asked_often(monkeypatch)
    result = train(tiny_config(text_file, parts, *ONE, *keys), stop=stop_at({3}))
    for next_one, step, kinds in (
        (2, 2, ["train"]),  # in the validation of step 2, of which two chunks were read
        (5, 2, ["train"]),  # in the same, once more
        (5, 4, ["train"]),  # in that of step 4, after its first chunk
        (5, 4, ["eval", "sample"]),  # in that of the whole text
        (0, 4, ["eval", "sample", "eval"]),  # in the test
    ):
        assert result.reason == "interrupted"
        assert Checkpoint.load(parts / "last.npz").progress.step == step
        assert [r["event"] for r in result.history if r["step"] == step][-len(kinds) :] == kinds
        result = resume(parts, stop=stop_at({next_one}))
    assert_same_run(whole, parts)
