"""Evaluation: one exact figure, equal to a float64 oracle whatever a run is configured with."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from cases import every_cell
from oracles import all_cells, model_losses

from rnnlm.backend.params import Parameters
from rnnlm.cells import Cell
from rnnlm.errors import DataError
from rnnlm.inference.evaluation import Evaluation, evaluate, perplexity
from rnnlm.models.recurrent import Recurrent


def small(cell: Cell, V: int = 11) -> tuple[Recurrent, Parameters]:
    model = Recurrent(V, cell, 16, 2)
    params = model.init(np.random.default_rng(3))
    params.flat *= 0.9  # so that the identity RNN, too, stays in range
    return model, params


@every_cell
def test_the_figure_is_a_float64_oracles(cell: Cell) -> None:
    """Within 1e-6 nats, over several chunks, the last one short."""
    model, params = small(cell)
    ids = np.random.default_rng(0).integers(11, size=2500).astype(np.uint8)
    result = evaluate(model, params, ids)
    wide = {name: array.astype(np.float64) for name, array in params.items()}
    state = model.zero_state(1, np.float64)
    losses, _ = model_losses(cell, wide, ids[:-1, None], ids[1:, None], state)
    expected = losses.mean()
    assert result.symbols == 2499
    assert abs(result.nats_per_symbol - expected) < 1e-6, (result.nats_per_symbol, expected)


def test_a_uniform_model_has_perplexity_v() -> None:
    """With all parameters zero every symbol is equally probable."""
    model = Recurrent(37, all_cells()[0], 8, 1)
    ids = np.arange(37, dtype=np.uint8).repeat(3)
    result = evaluate(model, Parameters(model.shapes), ids)
    assert result.perplexity == pytest.approx(37, rel=1e-6)
    assert result.bits_per_symbol == pytest.approx(math.log2(37), rel=1e-6)


def test_every_character_but_the_first_counts_once() -> None:
    """The nats of a text are the sum over its continuations, however it is cut."""
    model, params = small(all_cells()[0])
    ids = np.random.default_rng(1).integers(11, size=700)
    whole = evaluate(model, params, ids)
    longer = evaluate(model, params, np.append(ids, 5))
    assert whole.symbols == 699
    assert longer.symbols == 700
    assert 0 < longer.nats - whole.nats < 30


def test_streams_are_an_approximation_of_the_same_text() -> None:
    """More streams start from the zero state more often, and count what they predict."""
    model, params = small(all_cells()[0])
    ids = np.random.default_rng(1).integers(11, size=1001)
    exact, quick = evaluate(model, params, ids), evaluate(model, params, ids, streams=10)
    assert quick.symbols == 1000
    assert quick.nats != exact.nats
    assert quick.nats_per_symbol == pytest.approx(exact.nats_per_symbol, abs=0.1)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_predict_is_an_error(n: int) -> None:
    """One character has no continuation."""
    model, params = small(all_cells()[0])
    with pytest.raises(DataError, match="nothing to predict"):
        evaluate(model, params, np.zeros(n, np.uint8))


def test_sums_do_not_drift() -> None:
    """The sum over chunks is the exact rational sum of the chunks, rounded once."""
    rng = np.random.default_rng(0)
    chunks = [float(c) for c in rng.uniform(1000, 4000, 50_000)]
    exact = sum((Fraction(c) for c in chunks), Fraction(0))
    assert math.fsum(chunks) == float(exact)
    assert Evaluation(100_000_000, math.fsum(chunks)).nats_per_symbol == float(exact) / 1e8


def test_perplexity_beyond_floats_is_none() -> None:
    """exp overflows from 710 nats."""
    assert perplexity(709.0) is not None
    assert perplexity(710.0) is None
