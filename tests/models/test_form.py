"""The form of a recurrent model: ways past its layers, and how its parameters begin."""

from __future__ import annotations

import numpy as np
import pytest
from cases import masks
from oracles import Problem, assert_is_gradient, model_losses, output_matrix

from rnnlm.assembly import build_model, make_config
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import GRU, LSTM, Cell
from rnnlm.errors import ConfigError
from rnnlm.models.initialisation import INITIALISATIONS
from rnnlm.models.recurrent import Recurrent
from rnnlm.text.batches import IGNORED, Batch

pytestmark = pytest.mark.usefixtures("one_blas_thread")

FORMS = [
    (LSTM(), {"skip": True}, None),
    (LSTM(), {"residual": True}, None),
    (GRU(), {"skip": True, "residual": True}, 4),
    (LSTM(), {"skip": True, "residual": True, "tie": True}, 4),
    (LSTM(), {"skip": True, "tie": True}, 18),
]
every_form = pytest.mark.parametrize(("cell", "form", "embedding"), FORMS)


def problem(cell: Cell, form: dict[str, bool], embedding: int | None, **size: object) -> Problem:
    """Three layers of that form."""
    return Problem.of(cell, layers=3, embedding=embedding, **form, **size)  # type: ignore[arg-type]


@every_form
def test_losses_and_gradients_are_those_of_the_oracle(
    cell: Cell, form: dict[str, bool], embedding: int | None
) -> None:
    """With dropout and penalties, of every parameter and the initial state."""
    p = problem(cell, form, embedding, dropout=0.3)
    H, R = p.model.hidden_size, p.batch.ids.size
    explicit = [(masks(layer).random((R, H)) >= 0.3) / 0.7 for layer in range(3)]
    ways = {name: value for name, value in form.items() if name != "tie"}
    losses, final = model_losses(
        cell, dict(p.params), p.batch.ids, p.batch.targets, p.state, explicit, **ways
    )
    ws = p.workspace()
    result = p.gradients(ws, masks)
    np.testing.assert_allclose(result.loss, losses.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.state, final, rtol=0, atol=1e-12)
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], lambda: p.loss(masks), array, name)
    assert_is_gradient(result.dstate, lambda: p.loss(masks), p.state, "state")
    ws.poison()
    p.gradients(ws, masks).assert_same_bits(result)


@every_form
def test_single_steps_give_what_windows_give(
    cell: Cell, form: dict[str, bool], embedding: int | None
) -> None:
    """The log-probability of every target, from the zero state."""
    p = problem(cell, form, embedding, dtype=np.float32)
    p.state[...] = 0
    losses, steps = np.empty(p.batch.ids.shape), p.model.begin(p.params, 3)
    p.model.loss(p.weights(), p.batch, p.state, p.workspace(), losses)
    for ids, targets, expected in zip(p.batch.ids, p.batch.targets, losses, strict=True):
        logits = steps.step(ids).astype(np.float64)
        found = np.log(np.exp(logits).sum(1)) - logits[np.arange(3), targets]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert output_matrix(p.params).shape[0] == p.model.output_size


@every_form
def test_what_a_form_takes_is_counted(
    cell: Cell, form: dict[str, bool], embedding: int | None
) -> None:
    """To the number, beside what a plain window takes; a block of logits is the same."""
    held, said = [], []
    tie = form.get("tie", False)
    for options in ({"tie": tie}, form):
        p = problem(cell, options, embedding)
        ws = p.workspace()
        p.gradients(ws)
        held.append(ws.nbytes // p.params.flat.itemsize)
        said.append(p.model.activation_count(5, 3))
    assert held[1] - held[0] == said[1] - said[0]


@pytest.mark.parametrize("name", INITIALISATIONS)
def test_recurrent_matrices_begin_as_they_are_named(name: str) -> None:
    """Their values, or how they are spread, times the gain; biases with `uniform` alone, too."""
    keys = ("model.embedding_size=9", "model.hidden_size=64", "model.num_layers=1")
    chosen = f"model.initialisation={{name: {name}, gain: 1.5}}"
    found, plain = (
        build_model(make_config(None, *keys, *more), 7).init(np.random.default_rng(3), np.float64)  # type: ignore[attr-defined]
        for more in ((chosen,), ())
    )
    for W in found["layers.0.Wh"] / 1.5:
        if name in ("orthogonal", "chrono"):
            np.testing.assert_allclose(W @ W.T, np.eye(64), atol=1e-12)
        elif name == "identity":
            np.testing.assert_array_equal(W, np.eye(64))
        else:
            limit = {"glorot": np.sqrt(6 / 128), "uniform": 1 / 8}[name]
            assert 0.99 * limit < np.abs(W).max() <= limit
            assert abs(W.std() - limit / np.sqrt(3)) < 0.03 * limit
    np.testing.assert_array_equal(found["embedding"], plain["embedding"])
    assert found["by"].any() == (name == "uniform")
    assert (found["layers.0.b"][1] == 1).all() == (name not in ("uniform", "chrono"))


@pytest.mark.parametrize(
    ("cell", "kept", "new"), [("lstm", 1, 0), ("gru", 1, None), ("sru", 0, None)]
)
def test_units_begin_with_times_of_their_own(cell: str, kept: int, new: int | None) -> None:
    """With `chrono` a gate that keeps a state for T steps is open by T / (T + 1)."""
    chosen = "model.initialisation={name: chrono, longest: 30}"
    config = make_config(None, f"model.cell={cell}", "model.hidden_size=300", chosen)
    params = build_model(config, 3).init(np.random.default_rng(0))  # type: ignore[attr-defined]
    for b in (params["layers.0.b"], params["layers.1.b"]):
        times = np.exp(b[kept])
        assert 1 <= times.min() < 1.5
        assert 28.5 < times.max() <= 29.0001
        assert abs(times.mean() - 15) < 2
        for k in set(range(len(b))) - {kept}:
            np.testing.assert_array_equal(b[k], -b[kept] if k == new else 0)


def test_a_cell_without_gates_has_no_times() -> None:
    """One line."""
    with pytest.raises(ConfigError, match="chrono is for cells with gates"):
        build_model(make_config(None, "model.cell=rnn", "model.initialisation=chrono"), 3).init(  # type: ignore[attr-defined]
            np.random.default_rng(0)
        )


def test_gradients_grow_with_the_gain() -> None:
    """A linear recurrence with an orthogonal matrix: by exactly that factor, at every step back."""
    keys = ("cell={name: rnn, activation: identity}", "initialisation.gain=1.25", "num_layers=1")
    config = make_config(None, *(f"model.{key}" for key in keys), "model.hidden_size=8")
    model = build_model(config, 7)
    assert isinstance(model, Recurrent)
    params = model.init(np.random.default_rng(0), np.float64)
    ids = np.random.default_rng(1).integers(7, size=(6, 2))
    targets = np.full_like(ids, IGNORED)
    targets[-1] = 3
    dh, w = np.empty((1, 6, 2, 8)), model.weights(params, 2)
    state, ws, d = model.zero_state(2, np.float64), Workspace(np.float64), params.like()
    model.loss_and_grad(w, Batch(ids, targets), state, d, ws, 1.0, dh=dh)
    norms = np.linalg.norm(dh[0], axis=-1)
    np.testing.assert_allclose(norms[:-1] / norms[1:], 1.25, rtol=1e-12)
