"""Regularisation of recurrent models: masks at every place, against masks that are given explicitly."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
from cases import both_inputs, masks
from oracles import Problem, assert_is_gradient, model_losses

from rnnlm import ConfigError
from rnnlm.arrays import Array
from rnnlm.cells import GRU, LSTM, RNN, SRU, Cell
from rnnlm.models.initialisation import Glorot, Identity, Orthogonal, Uniform
from rnnlm.models.recurrent import Recurrent
from rnnlm.optim.optimizers import sgd
from rnnlm.text.batches import IGNORED, Batch
from rnnlm.training.engine import Engine

pytestmark = pytest.mark.usefixtures("one_blas_thread")

T, B, H, V = 5, 3, 6, 7
both_masks = pytest.mark.parametrize("locked", [False, True], ids=["free", "locked"])


def explicit(number: int, rate: float, size: int, locked: bool) -> Array:
    """The mask (T·B, size) of a place, the same for all steps where it is locked."""
    drawn = masks(number).random((1 if locked else T, B, size)) >= rate
    assert 0 < np.count_nonzero(drawn) < drawn.size
    return np.broadcast_to(drawn / (1 - rate), (T, B, size)).reshape(T * B, size)


@both_masks
@both_inputs
def test_every_place_has_its_mask(embedding: int | None, locked: bool) -> None:
    """Loss, state and gradients with dropout at all places are those of explicit masks."""
    rates = {"dropout": 0.4, "output_dropout": 0.3, "input_dropout": 0.2, "embedding_dropout": 0.25}
    p = Problem.of(LSTM(), layers=2, embedding=embedding, locked=locked, **rates)  # type: ignore[arg-type]
    outputs = [explicit(0, 0.4, H, locked), explicit(1, 0.3, H, locked)]
    size = embedding or (V if locked else 1)
    inputs, symbols = explicit(2, 0.2, size, locked), explicit(3, 0.25, V, True)
    losses, final = model_losses(
        p.model.cell,
        dict(p.params),
        p.batch.ids,
        p.batch.targets,
        p.state,
        outputs,
        symbols,
        inputs,
    )
    result = p.gradients(masks=masks)
    np.testing.assert_allclose(result.loss, losses.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.state, final, rtol=0, atol=1e-12)
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], lambda: p.loss(masks), array, name)
    assert_is_gradient(result.dstate, lambda: p.loss(masks), p.state, "state")


@both_masks
@both_inputs
def test_what_masks_take_is_counted(embedding: int | None, locked: bool) -> None:
    """To the number, beside what a window without them takes."""
    held, said = [], []
    for rate in (0.0, 0.4):
        rates = {"dropout": rate, "input_dropout": rate, "embedding_dropout": rate}
        rates |= {"activation_penalty": rate, "change_penalty": rate}
        p = Problem.of(RNN(), layers=2, embedding=embedding, locked=locked, **rates)  # type: ignore[arg-type]
        ws = p.workspace()
        p.gradients(ws, masks)
        ws.poison()
        p.gradients(ws, masks).assert_same_bits(p.gradients(masks=masks))
        held.append(ws.nbytes // p.params.flat.itemsize)
        said.append(p.model.activation_count(T, B))
    assert held[1] - held[0] == said[1] - said[0] > 0


@pytest.mark.parametrize("cell", [GRU(reset_after=False), LSTM()], ids=repr)
def test_dropped_weights_are_whole_in_the_parameters_alone(cell: Cell) -> None:
    """Loss and gradients are those of a plain model with masked matrices; a refresh ends it."""
    p, plain = (Problem.of(cell, layers=2, weight_dropout=rate) for rate in (0.4, 0.0))
    w, d = p.weights(), p.params.like()

    def loss() -> float:
        for task in w.tasks:
            task()
        for layer, drop in enumerate(w.drops):
            drop(masks(layer))
        return float(p.model.loss_and_grad(w, p.batch, p.state.copy(), d, p.workspace(), 1.0))

    total, dropped = (
        loss(),
        [(masks(k).random(w.masks[k]["Wh"].shape) >= 0.4) / 0.6 for k in (0, 1)],
    )
    for layer, mask in enumerate(dropped):
        plain.params[f"layers.{layer}.Wh"][...] *= mask
    expected = plain.gradients()
    np.testing.assert_allclose(total, expected.loss, rtol=1e-12)
    for layer, mask in enumerate(dropped):
        expected.d[f"layers.{layer}.Wh"][...] *= mask
    np.testing.assert_allclose(d.flat, expected.d.flat, rtol=0, atol=1e-12)
    assert_is_gradient(d["layers.0.Wh"].copy(), loss, p.params["layers.0.Wh"], "Wh")
    whole = Problem.of(cell, layers=2)
    assert p.loss() == whole.loss()  # evaluation


def test_workers_drop_the_same_weights() -> None:
    """One worker or two, and each step others; a step depends on nothing but its number."""
    ends = []
    for threads, steps in ((1, (1, 2)), (2, (1, 2)), (1, (1, 3))):
        p = Problem.of(LSTM(), layers=2, B=20, dtype=np.float32, weight_dropout=0.5)
        with closing(Engine(p.model, p.params, sgd, {}, batch_size=20, threads=threads)) as e:
            for step in steps:
                e.step(p.batch, p.state.copy(), step, 0.1)
        ends.append(p.params.flat.copy())
    np.testing.assert_array_equal(ends[0], ends[1])
    assert (ends[0] != ends[2]).any()


def test_a_cell_without_recurrent_matrices_has_none_to_drop_or_to_begin_otherwise() -> None:
    """The error says what to do."""
    with pytest.raises(ConfigError, match="no recurrent matrices: leave it at 0"):
        Recurrent(V, SRU(), weight_dropout=0.1)
    for way in (Identity(), Glorot(), Orthogonal(gain=1.1)):
        with pytest.raises(ConfigError, match="no recurrent matrices: leave the key out"):
            _ = Recurrent(V, SRU(), initialisation=way).parameters
    assert Recurrent(V, SRU(), initialisation=Uniform()).parameters


def test_penalties_are_means_over_what_counts_and_are_not_in_the_loss() -> None:
    """Their values, where texts begin inside and a target does not count, and all gradients."""
    alpha, beta = 2.0, 3.0
    penalized = {"activation_penalty": alpha, "change_penalty": beta}
    p, plain = (
        Problem.of(LSTM(), layers=2, dropout=0.4, **options)  # type: ignore[arg-type]
        for options in (penalized, {})
    )
    fresh, targets = np.zeros((T, B), np.bool_), p.batch.targets.copy()
    fresh[2, 1] = True
    targets[3, 0] = IGNORED
    batch = Batch(p.batch.ids, targets, fresh)
    w, scale, d, found = p.weights(), 1 / (T * B - 1), p.params.like(), list[float]()

    def objective() -> float:
        found.clear()
        state, ws = p.state.copy(), p.workspace()
        loss = p.model.loss_and_grad(w, batch, state, d, ws, scale, masks, penalties=found)
        return float(loss * scale + sum(found))

    top = p.model.forward(w, batch, p.state.copy(), p.workspace(), masks)[-1]
    y, out = top.y, top.output.reshape(T, B, H)
    rows = [(t, b) for t in range(T) for b in range(B) if targets[t, b] >= 0]
    squares = sum(float((out[row] ** 2).sum()) for row in rows)
    changes = sum(
        float(((y[t, b] - y[t - 1, b]) ** 2).sum()) for t, b in rows if t and not fresh[t, b]
    )
    total, gradient = objective(), d.flat.copy()
    np.testing.assert_allclose(found, [alpha * squares * scale / H, beta * changes * scale / H])
    state, ws = p.state.copy(), p.workspace()
    loss = plain.model.loss_and_grad(w, batch, state, d, ws, scale, masks)
    np.testing.assert_allclose(total, loss * scale + sum(found), rtol=1e-14)

    def refreshed() -> float:
        for task in w.tasks:
            task()
        return objective()

    assert_is_gradient(gradient, refreshed, p.params.flat, "all")
    evaluated = p.gradients()  # without masks
    np.testing.assert_array_equal(evaluated.d.flat, plain.gradients().d.flat)
