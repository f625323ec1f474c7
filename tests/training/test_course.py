"""Windows whose length changes from some epoch on."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, tiny_config
from resumed import assert_same_run, interrupted

from rnnlm import make_config, train
from rnnlm.config.kinds import Interval
from rnnlm.config.schema import differences
from rnnlm.errors import ConfigError
from rnnlm.text.batches import Streams
from rnnlm.training.course import Course
from rnnlm.training.loop import Training
from rnnlm.training.plan import preview

LENGTHS = {0: 10, 3: 15, 4: 30}  # of windows, by epoch
STREAM = 100  # steps of an epoch


def course() -> Course:
    ids = np.arange(2 * STREAM + 1) % 97
    return Course({epoch: Streams(ids, 2, length) for epoch, length in LENGTHS.items()})


def test_every_epoch_is_read_in_windows_of_its_length() -> None:
    """Each update's epoch, window and ids, against a walk through the epochs."""
    c, step = course(), 0
    for epoch in range(7):
        length = LENGTHS[max(e for e in LENGTHS if e <= epoch)]
        assert c.steps(epoch) == step
        for k, begin in enumerate(range(0, STREAM, length)):
            assert c.place(step) == (epoch, k)
            assert c.epochs(step) == pytest.approx(epoch + k / -(-STREAM // length), rel=1e-15)
            steps = np.arange(begin, min(begin + length, STREAM))[:, None]
            ids = np.hstack([steps, steps + STREAM]) % 97
            np.testing.assert_array_equal(c.batch(step).ids, ids)
            step += 1
    assert c.largest.longest == 30


@pytest.mark.parametrize(("amount", "epochs"), [(1, range(1, 9)), (2, (2, 4, 6, 8)), (3, (3, 6))])
def test_an_interval_in_epochs_ends_where_they_end(amount: int, epochs: range) -> None:
    """Counted from the beginning, over changes of length too; intervals in steps are as ever."""
    c, steps = course(), range(1, 56)  # 30 + 7 + 4 · 4 steps are eight epochs
    every = Interval(amount, "epochs")
    due = [step for step in steps if c.due(every, step)]
    assert due == [c.steps(epoch) for epoch in epochs]
    since, passed = 0, []
    for step in steps:
        if c.passed(every, since, step):
            since = step
            passed.append(step)
    assert passed == due
    assert [s for s in steps if c.due(Interval(7), s)] == [7, 14, 21, 28, 35, 42, 49]


def test_a_run_goes_on_over_the_change_as_if_never_stopped(text_file: Path, tmp_path: Path) -> None:
    """Interrupted in the middle; and with an epoch more, that of the longest windows."""
    varied = ("train.vary_length=0.5", "train.offset=random", "train.reset=0.3", "train.threads=1")
    keys = (*varied, "train.seq_length={0: 256, 1: 400, 2: 512}", "train.log_every=1 epoch")
    train(tiny_config(text_file, tmp_path / "whole", *keys, "train.epochs=3"))
    interrupted(tiny_config(text_file, tmp_path / "parts", *keys), 2)
    with Training.resume(tmp_path / "parts", ["train.epochs=3"]) as training:
        assert [e.record["epoch"] for e in training.events() if e.kind == "train"] == [3]
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_the_plan_says_when_windows_become_longer(text_file: Path) -> None:
    """And counts the memory of the longest."""
    keys = (f"data.path={text_file}", *TINY)
    said = {
        length: list(preview(make_config(None, *keys, f"train.seq_length={length}")))
        for length in ("32", "64", "{0: 32, 5: 64}")
    }
    short, long, both = said.values()
    steps = " of 36 windows: 8 streams, 32 characters each, from epoch 5 on 18 windows of 64;"
    assert any(steps in line for line in both)
    assert both[-1] == long[-1] != short[-1]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("{1: 32}", "has no entry for epoch 0"),
        ("{0: 32, ten: 64}", "an epoch of train.seq_length must be an integer, not 'ten'"),
        ("{0: 32, 5: full}", "train.seq_length.5 must be an integer, not 'full'"),
        ("{0: 32, +0: 64}", "takes each epoch once"),
        ("often", "must be an integer, a mapping such as {0: 64, 10: 128} or full"),
    ],
)
def test_a_mapping_that_is_none_by_epoch_is_refused(given: str, why: str) -> None:
    """In one line, with the entry."""
    with pytest.raises(ConfigError, match=re.escape(why)):
        make_config(None, f"train.seq_length={given}")


def test_a_mapping_is_one_value_of_the_config() -> None:
    """It is read back as it was written, in order, and compared as a whole."""
    config = make_config(None, "train.seq_length={10: 128, 0: 64}")
    assert list(config.train.windows.items()) == [(0, 64), (10, 128)]
    assert "seq_length:\n    0: 64\n    10: 128\n" in config.to_yaml()
    assert list(differences(make_config(), config)) == [("train.seq_length", 64, {0: 64, 10: 128})]
