"""Ways past the layers of a recurrent model: to the softmax, and from a layer's input to its output."""

from __future__ import annotations

import numpy as np
import pytest
from cases import masks
from oracles import Problem, assert_is_gradient, model_losses, output_matrix

from rnnlm.cells import GRU, LSTM, Cell

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
