"""Truncation inside a window: unbiased where it is random, and the same to the bit when resumed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from cases import every_cell
from oracles import Problem
from resumed import resumed

from rnnlm import ConfigError, make_config
from rnnlm.arrays import Array
from rnnlm.cells import Cell
from rnnlm.cells.lstm import LSTM
from rnnlm.cells.rnn import RNN
from rnnlm.models.recurrent import Recurrent
from rnnlm.optim.optimizers import sgd
from rnnlm.optim.truncation import TRUNCATIONS, random, regular
from rnnlm.text.batches import Batch
from rnnlm.training.engine import Engine
from rnnlm.training.plan import trainable


def gradient(p: Problem, batch: Batch, state: Array, flow: Array | None = None) -> Array:
    """The gradient of the summed loss over a window; `state` is carried on."""
    d = p.params.like()
    p.model.loss_and_grad(p.weights(), batch, state, d, p.workspace(), 1.0, flow=flow)
    return d.flat


@every_cell
def test_factors_multiply_what_flows_from_step_to_step(cell: Cell) -> None:
    """A factor of 0 at step 2 gives the sum over two windows, factors of 1 the whole gradient."""
    p = Problem.of(cell, layers=2, T=5)
    flow = np.ones((5, 3))
    np.testing.assert_allclose(
        gradient(p, p.batch, p.state.copy(), flow), gradient(p, p.batch, p.state.copy()), rtol=1e-12
    )
    flow[2] = 0
    state = p.state.copy()
    parts = [
        gradient(p, Batch(p.batch.ids[part], p.batch.targets[part]), state)
        for part in (slice(0, 2), slice(2, 5))
    ]
    np.testing.assert_allclose(
        gradient(p, p.batch, p.state.copy(), flow), sum(parts), rtol=1e-10, atol=1e-13
    )


def test_no_factor_lets_a_gradient_into_another_text() -> None:
    """Where a text begins inside the window, nothing flows back, whatever the factor."""
    p = Problem.of(LSTM(), layers=2, T=5)
    fresh = np.zeros((5, 3), bool)
    fresh[3] = True
    batch, flow = Batch(p.batch.ids, p.batch.targets, fresh), np.full((5, 3), 2.0)
    other = flow.copy()
    other[3] = 7.0
    np.testing.assert_array_equal(
        gradient(p, batch, p.state.copy(), flow), gradient(p, batch, p.state.copy(), other)
    )


def test_the_mean_of_randomly_truncated_gradients_is_the_whole_gradient() -> None:
    """Within its standard error; that of regularly truncated ones, with windows of half the length, is
    not.
    """
    T, B, rounds = 8, 64, 50  # of streams with the same text: each has its own draws
    one = Problem.of(RNN(), layers=2, T=T, B=1)
    batch = Batch(*(np.repeat(a, B, 1) for a in (one.batch.ids, one.batch.targets)))
    state = np.repeat(one.state, B, 2)
    whole = gradient(one, one.batch, one.state.copy())
    rng = np.random.default_rng(5)
    draws = np.array(
        [
            gradient(one, batch, state.copy(), random(T, B, lambda: rng, keep=0.7)) / B
            for _ in range(rounds)
        ]
    )
    before, halves = one.state.copy(), (slice(0, T // 2), slice(T // 2, T))
    halved = sum(
        gradient(one, Batch(one.batch.ids[half], one.batch.targets[half]), before)
        for half in halves
    )
    directions = rng.standard_normal((whole.size, 20))
    errors = (draws @ directions).std(0, ddof=1) / np.sqrt(rounds)
    assert (np.abs((draws.mean(0) - whole) @ directions) < 3.5 * errors).all()
    assert (np.abs((halved - whole) @ directions) > 3.5 * errors).mean() > 0.8


@pytest.mark.parametrize("threads", [2, 4])
def test_cuts_are_the_same_for_any_number_of_threads(threads: int) -> None:
    """Each shard has its own draws; without cuts the parameters are others."""
    results = []
    for number, truncation in ((1, random), (threads, random), (1, regular)):
        p = Problem.of(RNN(), T=6, B=70, H=4, dtype=np.float32)
        with closing(
            Engine(p.model, p.params, sgd, {}, batch_size=70, threads=number, truncation=truncation)
        ) as engine:
            for step in (1, 2):
                engine.step(p.batch, p.state, step, 0.1)
            results.append(p.params.flat.copy())
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_a_run_with_random_cuts_resumes_to_the_bit(text_file: Path, tmp_path: Path) -> None:
    """Its draws depend on the step."""
    keys = ("train.truncation=random", "train.max_steps=5", "train.threads=1")
    resumed(text_file, tmp_path, 2, *keys)


def test_a_truncation_is_chosen_by_its_name() -> None:
    """With its options in their limits."""
    assert make_config().train.truncation == {"name": "regular"}
    assert make_config(None, "train.truncation=random").train.truncation["keep"] == 0.9
    with pytest.raises(ConfigError, match=r"train\.truncation\.keep must be above 0"):
        make_config(None, "train.truncation={name: random, keep: 0}")
    assert TRUNCATIONS["regular"](2, 3, lambda: pytest.fail("drew")) is None


class Stateless(Recurrent):
    """A model without a recurrence."""

    recurrent_matrices = None  # type: ignore[assignment]


def test_random_truncation_needs_a_recurrence() -> None:
    """For a model in which nothing flows back it would do nothing."""
    config = make_config(None, "train.truncation=random")
    with pytest.raises(ConfigError, match="only a recurrent model can be cut"):
        trainable(Stateless(7), config)
    assert trainable(Stateless(7), make_config())
