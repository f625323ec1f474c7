"""Steps of one text with a helper process: the same bits, and nothing left behind."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from cases import every_cell
from processes import children, forking

from rnnlm.backend import pair
from rnnlm.cells import GRU, LSTM, Cell
from rnnlm.inference.sampling import generate
from rnnlm.models import steps as single_steps
from rnnlm.models.jordan import Jordan
from rnnlm.models.recurrent import Recurrent


@pytest.fixture(autouse=True)
def small_networks_have_helpers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After a few steps, whatever else runs here; no test leaves a process."""
    monkeypatch.setattr(pair, "may_fork", lambda: True)
    monkeypatch.setattr(pair, "available_cores", lambda: 2)
    monkeypatch.setattr("platform.machine", lambda: pair.ORDERED)
    monkeypatch.setattr(pair, "LARGE", 0)
    monkeypatch.setattr(pair, "BEGIN", 3)
    monkeypatch.setattr(pair, "LOST", math.inf)
    before = children()
    yield
    assert children() == before


def logits(model: Recurrent | Jordan, steps: int = 30) -> list[bytes]:
    """What the model says of each symbol of a text."""
    texts = model.begin(model.init(np.random.default_rng(0)), 1)
    return [texts.step([k * k % 7]).tobytes() for k in range(steps)]


@forking
@pytest.mark.parametrize("rows", [1, 4])
@every_cell
def test_a_helper_does_not_change_a_bit(
    cell: Cell, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of any cell, cut by columns or by gates, also where it sleeps or the caller is impatient."""
    monkeypatch.setattr("rnnlm.backend.blas.rows_at_once", lambda: rows)
    model = Recurrent(7, cell, 80, 3, residual=True, skip=True)
    together = logits(model)
    monkeypatch.setattr(pair, "LOOKS", 1)
    monkeypatch.setattr(pair, "LOST", 0)
    monkeypatch.setattr(pair, "PAUSE", 1)
    hurried = logits(model)
    monkeypatch.setattr(single_steps, "pays", lambda _: False)
    assert logits(model) == together == hurried


@forking
@pytest.mark.parametrize("feedback", ["output", "target"])
def test_what_is_in_other_memory_is_left_to_the_caller(
    feedback: Literal["output", "target"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the context of a Jordan layer is."""
    model = Jordan(7, hidden_size=80, num_layers=2, feedback=feedback)
    together = logits(model)
    monkeypatch.setattr(single_steps, "pays", lambda _: False)
    assert logits(model) == together


@forking
def test_the_helper_sleeps_while_nobody_asks_and_ends_with_the_generator() -> None:
    """Though it was not read to its end."""
    before = children()
    model = Recurrent(7, GRU(), 80, 2)
    steps = generate(model, model.init(np.random.default_rng(0)), [1], 100)
    for _ in range(10):
        next(steps)
    (helper,) = children() - before
    status = Path(f"/proc/{helper}/status")
    deadline = time.monotonic() + 10
    while "State:\tS" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    next(steps)
    del steps
    assert children() == before


@forking
def test_a_killed_helper_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller does its part, with the same bits."""
    model = Recurrent(7, LSTM(), 80, 2)
    params = model.init(np.random.default_rng(0))
    before = children()
    steps = model.begin(params, 1)
    said = []
    for k in range(30):
        if k == 10:
            (helper,) = children() - before
            os.kill(helper, signal.SIGKILL)
        said.append(steps.step([k * k % 7]).tobytes())
    assert children() == before
    monkeypatch.setattr(single_steps, "pays", lambda _: False)
    assert logits(model) == said


@forking
@pytest.mark.parametrize(
    ("name", "value"),
    [("available_cores", 1), ("may_fork", False), ("platform.machine", "aarch64")],
)
def test_no_helper_where_it_cannot_help(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One core, threads beside this one, or cores that see stores in another order."""
    monkeypatch.setattr(f"rnnlm.backend.pair.{name}", lambda: value)
    before = children()
    model = Recurrent(7, LSTM(), 80, 2)
    steps = model.begin(model.init(np.random.default_rng(0)), 1)
    for _ in range(10):
        steps.step([1])
    assert children() == before
