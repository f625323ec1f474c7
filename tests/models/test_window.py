"""The windowed feed-forward model against a model in plain NumPy that sees one window at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import both_depths, both_dtypes, masks
from conftest import TEXT
from oracles import PHI, Other, Problem, Result, assert_is_gradient, cross_entropy
from resumed import resumed

from rnnlm import evaluate, make_config
from rnnlm.arrays import Array
from rnnlm.assembly import build_model
from rnnlm.backend.params import Parameters
from rnnlm.backend.workspace import Workspace
from rnnlm.errors import ConfigError, TrainingError
from rnnlm.models import window
from rnnlm.models.window import Window
from rnnlm.text.batches import IGNORED, Batch
from rnnlm.training.resume import adopt_config

pytestmark = pytest.mark.usefixtures("one_blas_thread")

V, T, B, c, E, H = 7, 6, 4, 4, 3, 5
both_activations = pytest.mark.parametrize("activation", ["tanh", "relu"])
stream_and_lines = pytest.mark.parametrize("lines", [False, True], ids=["stream", "lines"])


def window_loss(
    model: Window, p: Any, batch: Batch, state: Array, kept: list[Array] | None = None
) -> tuple[Array, Array]:
    """The loss of every symbol (T, B) and the final state, one window after another.

    The text of each stream is a list, which is emptied where a text begins. `kept` are the dropout
    masks (T, B, H) of the layers.
    """
    steps, streams = batch.ids.shape
    losses, final = np.empty(batch.ids.shape), np.empty_like(state)
    for b in range(streams):
        text = [int(i) for i in state[b] if i >= 0]
        for t in range(steps):
            if batch.fresh is not None and batch.fresh[t, b]:
                text = []
            text.append(int(batch.ids[t, b]))
            seen = [None] * (model.context - len(text)) + text[-model.context :]
            nothing = np.zeros(model.embedding_size)
            x = np.concatenate([nothing if i is None else p["embedding"][i] for i in seen])
            for layer in range(model.num_layers):
                z = x @ p[f"layers.{layer}.W"] + p[f"layers.{layer}.b"]
                x = PHI[model.activation](z)
                if kept is not None:
                    x = x * kept[layer][t, b]
            logits = x @ p["Wy"] + p["by"]
            (losses[t, b],) = cross_entropy(logits[None], batch.targets[t, b : b + 1])
        last = text[-(model.context - 1) :] if model.context > 1 else []
        final[b] = [-1] * (model.context - 1 - len(last)) + last
    return losses, final


def problem(
    *, lines: bool = False, dtype: Any = np.float64, streams: int = B, **options: Any
) -> Problem:
    """Random parameters and text; with `lines`, texts begin inside, some targets do not count, and some
    streams are at their beginning.
    """
    sizes = {"context": c, "embedding_size": E, "hidden_size": H, "num_layers": 1} | options
    model, rng = Window(V, **sizes), np.random.default_rng(0)
    params = model.init(rng, np.float64)
    params.flat += rng.normal(0, 0.3, params.flat.size)
    params = Parameters(params.shapes, dtype, params.flat.astype(dtype))
    ids, targets = rng.integers(V, size=(2, T, streams))
    state = rng.integers(V, size=model.state_shape(streams)).astype(dtype)
    batch = Batch(ids, targets)
    if lines:
        fresh = np.zeros((T, streams), np.bool_)
        for place in ((3, 1), (0, 2), (2, 2), (3, 2), (5, 3)):  # as in test_texts.py
            fresh[place] = True
        batch = Batch(ids, np.where(rng.random(ids.shape) < 0.2, IGNORED, targets), fresh)
        state[0, : model.context // 2] = state[3] = -1
    return Problem(model, params, batch, state)


def loss(p: Problem) -> float:
    """The summed loss of a window."""
    result: float = p.model.loss(p.weights(), p.batch, p.state.copy(), p.workspace())
    return result


@stream_and_lines
@both_depths
@both_activations
@pytest.mark.parametrize("context", [1, 2, c, 9])
def test_loss_and_state_are_those_of_one_window_after_another(
    lines: bool, depth: int, activation: str, context: int
) -> None:
    """From `loss` and from `loss_and_grad`, with windows shorter and longer than the batch."""
    p = problem(lines=lines, num_layers=depth, activation=activation, context=context)
    expected, final = window_loss(p.model, p.params, p.batch, p.state)
    state, losses = p.state.copy(), np.full((T, B), np.nan)
    found = p.model.loss(p.weights(), p.batch, state, p.workspace(), losses)
    np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found, expected.sum(), rtol=1e-12)
    np.testing.assert_array_equal(state, final)
    result = p.gradients()
    assert result.loss == found
    np.testing.assert_array_equal(result.state, final)


@stream_and_lines
@both_depths
@both_activations
@pytest.mark.parametrize("context", [1, c])
def test_gradients_are_those_of_differences(
    lines: bool, depth: int, activation: str, context: int
) -> None:
    """Every parameter, along a random direction."""
    p = problem(lines=lines, num_layers=depth, activation=activation, context=context)
    result = p.gradients()
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], lambda: loss(p), array, name)


@both_depths
def test_dropout_scales_the_outputs_of_each_layer(depth: int) -> None:
    """The loss is the oracle's with the masks given, the gradients those of its differences."""
    p = problem(lines=True, num_layers=depth, dropout=0.4)
    shape = (T, B, H)
    kept = [(masks(layer).random(shape) >= 0.4) / 0.6 for layer in range(depth)]
    result = p.gradients(masks=masks)

    def dropped() -> float:
        return float(window_loss(p.model, p.params, p.batch, p.state, kept)[0].sum())

    np.testing.assert_allclose(result.loss, dropped(), rtol=1e-12)
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], dropped, array, name)
    np.testing.assert_allclose(loss(p), window_loss(p.model, p.params, p.batch, p.state)[0].sum())


def nearly(a: Result, b: Result, tolerance: float) -> None:
    """Loss and gradients are equal but for rounding, the state to the bit."""
    np.testing.assert_allclose(a.loss, b.loss, rtol=tolerance)
    np.testing.assert_allclose(a.d.flat, b.d.flat, rtol=0, atol=100 * tolerance)
    np.testing.assert_array_equal(a.state, b.state)


@stream_and_lines
@pytest.mark.parametrize("rows", [1, 5, 23])
def test_blocks_of_rows_change_nothing(
    lines: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a block ends, with dropout too."""
    p = problem(lines=lines, num_layers=2, dropout=0.4)
    whole = p.gradients(masks=masks)
    monkeypatch.setattr(window, "ROWS", rows)
    nearly(p.gradients(masks=masks), whole, 1e-13)
    assert p.gradients().loss == loss(p)


def test_two_carried_windows_equal_one_long_window() -> None:
    """Also where the first has fewer steps than the model sees symbols."""
    p = problem(lines=True)
    for cut in (1, 2, 5):
        state, total = p.state.copy(), 0.0
        for steps in (slice(cut), slice(cut, None)):
            part = Batch(*(a[steps] for a in vars(p.batch).values()))
            total += p.model.loss(p.weights(), part, state, p.workspace())
        np.testing.assert_allclose(total, loss(p), rtol=1e-12)
        np.testing.assert_array_equal(state, p.gradients().state)


def test_a_text_does_not_see_the_one_before_it() -> None:
    """Other symbols before it change no bit of its losses, other symbols in it do."""
    p = problem(context=T)
    fresh = np.zeros((T, B), np.bool_)
    fresh[3] = True
    losses = []
    for first, begins in ((0, True), (1, True), (0, False), (1, False)):
        ids = p.batch.ids.copy()
        ids[:3] = first
        batch = Batch(ids, p.batch.targets, fresh if begins else None)
        losses.append(np.empty((T, B)))
        p.model.loss(p.weights(), batch, p.state.copy(), p.workspace(), losses[-1])
    np.testing.assert_array_equal(losses[0][3:], losses[1][3:])
    assert (losses[2][3:] != losses[3][3:]).all()


@stream_and_lines
def test_poisoned_buffers_change_no_bit(lines: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace that was used for other windows, then filled with NaN, gives what a new one gives."""
    monkeypatch.setattr(window, "ROWS", 10)
    p = problem(lines=lines, num_layers=2, dropout=0.4, dtype=np.float32)
    expected, ws = p.gradients(masks=masks), Workspace(np.float32)
    problem(lines=True, num_layers=2, streams=5).gradients(ws)
    p.gradients(ws, masks=masks).assert_same_bits(expected)
    ws.poison()
    p.gradients(ws, masks=masks).assert_same_bits(expected)


@both_dtypes
def test_everything_has_the_dtype_of_the_parameters(dtype: Any) -> None:
    """And float32 is near float64."""
    p = problem(lines=True, num_layers=2, dtype=dtype)
    result, ws = p.gradients(), p.workspace()
    assert result.d.flat.dtype == p.model.zero_state(B, dtype).dtype == dtype
    assert p.model.begin(p.params, 1).step([0]).dtype == dtype
    p.gradients(ws)
    assert {a.dtype.kind for a in ws._flat.values()} == {"f", "i", "b"}
    assert {a.dtype for a in ws._flat.values() if a.dtype.kind == "f"} == {np.dtype(dtype)}
    nearly(result, replace(problem(lines=True, num_layers=2), state=p.state).gradients(), 1e-6)


@both_depths
@pytest.mark.parametrize("context", [1, c])
def test_single_steps_predict_what_windows_predict(depth: int, context: int) -> None:
    """From the beginning of a text on, to float64's tolerance."""
    p = problem(num_layers=depth, context=context)
    losses = np.empty((T, B))
    p.model.read(p.params, B)(p.batch, losses)
    steps = p.model.begin(p.params, B)
    for t in range(T):
        logits = steps.step(p.batch.ids[t])
        np.testing.assert_allclose(losses[t], cross_entropy(logits, p.batch.targets[t]), rtol=1e-12)


def test_the_bits_of_a_text_do_not_depend_on_the_others() -> None:
    """Drawn alone, or among ten, in float32."""
    p = problem(num_layers=2, hidden_size=48, dtype=np.float32, streams=10)
    alone, among = p.model.begin(p.params, 1), p.model.begin(p.params, 10)
    for ids in p.batch.ids:
        np.testing.assert_array_equal(alone.step(ids[7:8])[0], among.step(ids)[7])


def test_ids_in_a_state_that_no_symbol_has_harm_nothing() -> None:
    """As in a checkpoint that somebody made: they count as the nearest, in memory of their own."""
    p = problem()
    for bad, near in ((1e30, V - 1), (V, V - 1), (-5.0, -1), (2.5, 2)):
        p.state[:] = bad
        found = p.gradients()
        p.state[:] = near
        found.assert_same_bits(p.gradients())


def test_weights_that_are_too_large_are_an_error() -> None:
    """Where a text is read: there is no loss to be reported."""
    p = problem()
    p.params["Wy"][:] = 1e308
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="weights are too large"):
        p.model.read(p.params, B)(p.batch)


@stream_and_lines
@pytest.mark.parametrize("rows", [window.ROWS, 20])
def test_the_memory_of_a_window_is_as_stated(
    lines: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All buffers together, within a tenth, of one block and of many."""
    monkeypatch.setattr(window, "ROWS", rows)
    sizes = {"embedding_size": 12, "hidden_size": 40, "num_layers": 2, "dropout": 0.3}
    p = problem(lines=lines, dtype=np.float32, streams=9, **sizes)
    ws = p.workspace()
    p.gradients(ws, masks=masks)
    stated = p.model.window_bytes(T, 9, lines)
    assert 0.9 * stated < ws.nbytes < 1.1 * stated


def test_a_run_of_lines_resumes_to_the_bit_evaluates_and_starts_others(
    text_file: Path, tmp_path: Path
) -> None:
    """With dropout and texts that begin inside windows; what evaluation finds is the oracle's."""
    keys = ("model.kind=window", "model.context=5", "model.embedding_size=6", "model.dropout=0.1")
    keys += ("data.unit=line", "train.seq_length=24", "train.optimizer.learning_rate=0.02")
    a = resumed(text_file, tmp_path, 50, *keys)
    text = TEXT[:300]
    nats = 0.0
    for line in text.splitlines():
        ids = a.format.ids(f"\n{line}\n")[:, None].astype(np.intp)
        batch, state = Batch(ids[:-1], ids[1:]), a.model.zero_state(1, np.float64)
        nats += window_loss(a.model, a.params, batch, state)[0].sum()
    found = evaluate(a, text)
    np.testing.assert_allclose(found.nats, nats, rtol=1e-4)
    assert found.nats_per_symbol < 1.3
    assert adopt_config(make_config(None), a).model == a.config.model
    with pytest.raises(ConfigError, match=r"model\.cell conflicts with init_from, a window model"):
        adopt_config(make_config(None, "model.cell=gru"), a)


def test_its_options_are_those_of_its_kind() -> None:
    """`model.activation`, a key of version 0.1.0 that moved, is this model's own."""
    for key in ("context=3", "activation=relu"):
        config = make_config(None, "model.kind=window", f"model.{key}")
        assert key.replace("=", ": ") in config.to_yaml()
    assert (
        build_model(config, 9).describe().startswith("window of 8, embedding of 64, 2 x 128 relu")
    )
    config = make_config(None, "model.cell=rnn", "model.activation=relu")
    assert build_model(config, 9).cell.activation == "relu"
    with pytest.raises(ConfigError, match="not an option of window"):
        make_config(None, "model.kind=window", "model.order=3")


def test_it_is_among_the_models_that_are_tested_as_trained() -> None:
    """By the walk over the table of kinds."""
    assert type(Problem.of(Other("window")).model) is Window
