"""One matrix for input and output: the oracle, the sum of both gradients, and all that reads Wy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cases import masks
from exchanged import oracle_logits, random_checkpoint
from oracles import Problem, assert_is_gradient, model_losses

from rnnlm import ConfigError, make_config
from rnnlm.assembly import build_model
from rnnlm.cells.gru import GRU
from rnnlm.cells.lstm import LSTM
from rnnlm.cells.rnn import RNN
from rnnlm.exchange.exporting import export
from rnnlm.exchange.importing import import_model
from rnnlm.models import layers
from rnnlm.models.recurrent import Recurrent

pytestmark = pytest.mark.usefixtures("one_blas_thread")
both_sizes = pytest.mark.parametrize("embedding", [4, 6], ids=["projected", "as large"])


def tied(embedding: int, **size: object) -> Problem:
    """A tied LSTM of 6 units."""
    sizes: dict[str, object] = {"layers": 2, "dropout": 0.4} | size
    return Problem.of(LSTM(), embedding=embedding, tie=True, **sizes)  # type: ignore[arg-type]


@both_sizes
def test_logits_are_products_with_the_embeddings(embedding: int) -> None:
    """Loss and state are the oracle's, which takes o · e_y for every symbol y."""
    p = tied(embedding)
    assert "Wy" not in p.params and ("Wo" in p.params) == (embedding != 6)
    losses, final = model_losses(
        p.model.cell, dict(p.params), p.batch.ids, p.batch.targets, p.state
    )
    state = p.state.copy()
    loss = p.model.loss(p.weights(), p.batch, state, p.workspace())
    np.testing.assert_allclose(loss, losses.sum(), rtol=1e-12)
    np.testing.assert_allclose(state, final, rtol=0, atol=1e-12)
    np.testing.assert_allclose(p.gradients().loss, loss, rtol=1e-12)


@both_sizes
@pytest.mark.parametrize("rows", [512, 4])
def test_the_gradients_of_both_uses_add_up(
    embedding: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every parameter and the initial state, whether logits are computed in one block or four."""
    monkeypatch.setattr(layers, "LOGITS_ROWS", rows)
    p = tied(embedding)
    ws = p.workspace()
    result = p.gradients(ws, masks)
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], lambda: p.loss(masks), array, name)
    assert_is_gradient(result.dstate, lambda: p.loss(masks), p.state, "state")
    ws.poison()
    p.gradients(ws, masks).assert_same_bits(result)


@both_sizes
def test_single_steps_give_the_logits_of_the_oracle(embedding: int) -> None:
    """Also the state-dict and the matrices that other programs read."""
    checkpoint = random_checkpoint(GRU(reset_after=True), 2, embedding, tie=True)
    model = checkpoint.model
    assert isinstance(model, Recurrent)
    ids = np.random.default_rng(0).integers(model.vocabulary_size, size=(7, 3))
    steps = model.begin(checkpoint.params, 3)
    np.testing.assert_allclose(
        [steps.step(row).copy() for row in ids], oracle_logits(checkpoint, ids), atol=1e-5
    )


@pytest.mark.parametrize("embedding", [4, 5], ids=["projected", "as large"])
def test_a_tied_model_is_exported_as_an_equal_one_with_two_matrices(
    in_tmp: Path, embedding: int
) -> None:
    """PyTorch's modules have one matrix each."""
    checkpoint = random_checkpoint(RNN(), 1, embedding, tie=True)
    back = import_model(export(checkpoint, "torch", "m.safetensors")[0], "back")
    ids = np.random.default_rng(0).integers(6, size=(5, 2))
    a, b = oracle_logits(checkpoint, ids), oracle_logits(back, ids)
    np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_new_symbol_has_the_mean_embedding() -> None:
    """As input and as output; the others keep theirs, and the projection stays."""
    old, new = (Recurrent(V, LSTM(), 6, 1, 4, tie=True) for V in (3, 4))
    params = old.init(np.random.default_rng(1))
    taken = new.with_symbols(params, np.array([2, -1, 0, 1]), np.log([0.2, 0.1, 0.3, 0.4]))
    e = params["embedding"]
    np.testing.assert_allclose(taken["embedding"], [e[2], e.mean(0), e[0], e[1]], atol=1e-7)
    np.testing.assert_array_equal(taken["Wo"], params["Wo"])
    assert "tied embedding of 4" in new.describe()


def test_a_tied_table_begins_between_an_input_and_an_output() -> None:
    """Its variance is 1 / √E."""
    params = Recurrent(200, LSTM(), 6, 1, 16, tie=True).init(np.random.default_rng(1), np.float64)
    assert abs(params["embedding"].var() - 0.25) < 0.02


def test_what_a_tied_window_takes_is_counted() -> None:
    """The table's gradient, o and its gradient: to the number, beside what another one takes."""
    held, said = [], []
    for tie in (False, True):
        p = Problem.of(LSTM(), embedding=4, tie=tie, T=5, B=3)
        ws = p.workspace()
        p.model.loss_and_grad(p.weights(), p.batch, p.state, p.params.like(), ws, 1.0)
        held.append(ws.nbytes // p.params.flat.itemsize)
        said.append(p.model.activation_count(5, 3))
    assert held[1] - held[0] == said[1] - said[0] > 0


def test_only_an_embedding_can_be_tied() -> None:
    """The error says what to set."""
    with pytest.raises(ConfigError, match=r"no embedding to tie: set model\.embedding_size"):
        build_model(make_config(None, "model.tie=true"), 5)
