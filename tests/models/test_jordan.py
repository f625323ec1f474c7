"""The Jordan network, against loops in plain NumPy and differences."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import both_depths, both_dtypes, both_inputs, masks
from conftest import TEXT
from oracles import PHI, STEPS, Problem, Result, assert_is_gradient, cross_entropy, name_of
from processes import forking
from resumed import resumed

from rnnlm import evaluate, generate, score
from rnnlm.arrays import Array
from rnnlm.backend import workspace
from rnnlm.backend.params import Parameters
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import GRU
from rnnlm.models import jordan, recurrent
from rnnlm.models.jordan import Jordan
from rnnlm.optim.optimizers import sgd
from rnnlm.text.batches import IGNORED, Batch
from rnnlm.training.engine import Engine

pytestmark = pytest.mark.usefixtures("one_blas_thread")

T, B, H, V = 6, 4, 5, 7
both_feedbacks = pytest.mark.parametrize("feedback", ["output", "target"])
both_decays = pytest.mark.parametrize("decay", [0.0, 0.5])
stream_and_lines = pytest.mark.parametrize("lines", [False, True], ids=["stream", "lines"])


def jordan_loss(
    model: Jordan, p: Any, batch: Batch, state: Array, kept: list[Array] | None = None
) -> tuple[Array, Array]:
    """The loss of every symbol (T, B) and the final state, stream by stream and step by step.

    `kept` are the dropout masks (T, B, H) of the layers.
    """
    losses, final = np.empty(batch.ids.shape), np.empty_like(state)
    last, cell = model.num_layers - 1, model.cell
    top = {name: p[f"layers.{last}.{name}"][0] for name in ("Wx", "Wh", "b")}
    for b in range(batch.ids.shape[1]):
        s = state[b, :V].copy()
        below = state[b, V:].reshape(last, len(cell.states), 1, H)
        for t in range(len(batch.ids)):
            if batch.fresh is not None and batch.fresh[t, b]:
                s, below = np.zeros_like(s), np.zeros_like(below)
            came = np.eye(V)[batch.ids[t, b]]
            x = came if model.embedding_size is None else p["embedding"][batch.ids[t, b]]
            now = []
            for layer in range(last):
                own = {n.split(".")[-1]: a for n, a in p.items() if f"layers.{layer}." in n}
                now.append(STEPS[name_of(cell)](cell, own, x[None], list(below[layer])))
                x = now[layer][0][0] * (1 if kept is None else kept[layer][t, b])
            below = np.array(now).reshape(below.shape)
            c = model.decay * s + came if model.feedback == "target" else s
            h = PHI[model.activation](x @ top["Wx"] + c @ top["Wh"] + top["b"])
            h = h * (1 if kept is None else kept[last][t, b])
            logits = h @ p["Wy"] + p["by"]
            y = np.exp(logits) / np.exp(logits).sum()
            s = c if model.feedback == "target" else model.decay * c + y
            (losses[t, b],) = cross_entropy(logits[None], batch.targets[t, b : b + 1])
        final[b] = np.concatenate([s, below.reshape(-1)])
    return losses, final


def problem(
    *,
    lines: bool = False,
    dtype: Any = np.float64,
    streams: int = B,
    steps: int = T,
    **options: Any,
) -> Problem:
    """Random parameters and text and a state after some text; with `lines`, texts begin inside, and
    some targets do not count.
    """
    rng = np.random.default_rng(0)
    model = Jordan(V, **{"cell": GRU(), "hidden_size": H} | options)
    params = model.init(rng, np.float64)
    params.flat += rng.normal(0, 0.3, params.flat.size)
    ids, targets = rng.integers(V, size=(2, steps, streams))
    state = rng.dirichlet(np.ones(V), streams)
    below = rng.normal(0, 0.5, (streams, model.state_shape(1)[1] - V))
    batch = Batch(ids, targets)
    if lines:
        fresh = np.zeros((steps, streams), np.bool_)
        for place in ((3, 1), (0, 2), (2, 2), (3, 2), (5, 3)):  # as in test_texts.py
            fresh[place] = True
        batch = Batch(ids, np.where(rng.random(ids.shape) < 0.2, IGNORED, targets), fresh)
    params = Parameters(params.shapes, dtype, params.flat.astype(dtype))
    return Problem(model, params, batch, np.hstack([state, below]).astype(dtype))


def kept(p: Problem) -> list[Array] | None:
    """The masks that `masks` makes."""
    rate, shape = p.model.dropout, (*p.batch.ids.shape, p.model.hidden_size)
    return [
        (masks(layer).random(shape) >= rate) / (1 - rate) for layer in range(p.model.num_layers)
    ]


@both_feedbacks
@both_decays
@pytest.mark.parametrize(
    ("depth", "embedding", "lines", "dropout"),
    [
        (1, None, False, 0.0),
        (1, None, True, 0.0),
        (1, 4, True, 0.4),
        (2, None, True, 0.4),
        (3, 4, False, 0.0),
    ],
)
def test_loss_state_and_gradients_are_those_of_the_oracle(
    feedback: str, decay: float, depth: int, embedding: int | None, lines: bool, dropout: float
) -> None:
    """Of every parameter and the initial state, along random directions, with a gradient given for the
    final state; from `loss`, part by part, and from `loss_and_grad`.
    """
    p = problem(
        lines=lines,
        feedback=feedback,
        decay=decay,
        num_layers=depth,
        embedding_size=embedding,
        dropout=dropout,
        activation="relu" if lines and depth == 1 else "tanh",
    )
    expected, final = jordan_loss(p.model, p.params, p.batch, p.state, kept(p))
    dstate = np.random.default_rng(5).standard_normal(p.state.shape)
    result = p.gradients(masks=masks, dstate=dstate)
    np.testing.assert_allclose(result.loss, expected.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.state, final, rtol=0, atol=1e-12)

    def loss() -> float:
        losses, final = jordan_loss(p.model, p.params, p.batch, p.state, kept(p))
        return float(losses.sum() + np.vdot(dstate, final))

    for name, array in p.params.items():
        assert_is_gradient(result.d[name], loss, array, name)
    if feedback == "target" and depth == 1 and not decay:
        assert not result.dstate.any()  # nothing is carried
    else:
        assert_is_gradient(result.dstate, loss, p.state, "state")
    if lines:
        assert not result.dstate[2].any()  # a text begins at its first step


@both_feedbacks
@both_decays
@stream_and_lines
@pytest.mark.parametrize("block", [1, 2 * B * V, 1 << 20])
def test_the_loss_of_a_window_is_that_of_its_parts(
    feedback: str, decay: float, lines: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However large the vocabulary, and each target by itself."""
    p = problem(lines=lines, feedback=feedback, decay=decay, num_layers=2)
    monkeypatch.setattr(jordan, "LOGITS_BLOCK", block)
    expected, final = jordan_loss(p.model, p.params, p.batch, p.state)
    state, losses = p.state.copy(), np.full((T, B), np.nan)
    found = p.model.loss(p.weights(), p.batch, state, p.workspace(), losses)
    np.testing.assert_allclose(losses, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found, expected.sum(), rtol=1e-12)
    np.testing.assert_allclose(state, final, rtol=0, atol=1e-12)


@both_feedbacks
def test_two_carried_windows_equal_one_long_window(feedback: str) -> None:
    """Losses add up, the state is carried on, and so is the gradient that goes the other way."""
    whole = problem(feedback=feedback, decay=0.5, num_layers=2)
    ids, targets = whole.batch.ids, whole.batch.targets
    first = replace(whole, batch=Batch(ids[:2], targets[:2]))
    second = replace(whole, batch=Batch(ids[2:], targets[2:]), state=first.gradients().state)
    b = second.gradients()
    a, expected = first.gradients(dstate=b.dstate), whole.gradients()
    np.testing.assert_allclose(a.loss + b.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(b.state, expected.state, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.d.flat + b.d.flat, expected.d.flat, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.dstate, expected.dstate, rtol=0, atol=1e-12)


def test_logits_of_any_size_are_safe() -> None:
    """In float32: loss and gradients stay finite, and a probability of 0 has its loss."""
    p = problem(dtype=np.float32)
    p.params["by"][:] = [300, 0, -300, 0, 0, 0, 0]
    p.batch.targets[:] = 2
    result = p.gradients()
    assert result.loss == pytest.approx(600 * T * B, rel=0.02)
    assert np.isfinite(result.d.flat).all()


@both_feedbacks
@stream_and_lines
@pytest.mark.parametrize("longest", [workspace.LONGEST_TAPE, 2])
def test_poisoned_buffers_change_no_bit(
    feedback: str, lines: bool, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded or not, after other windows, in buffers full of NaN: what new ones give."""
    monkeypatch.setattr(workspace, "LONGEST_TAPE", longest)
    options: dict[str, Any] = {"feedback": feedback, "decay": 0.5, "num_layers": 2}
    p = problem(lines=lines, dropout=0.4, dtype=np.float32, **options)
    w, ws = p.weights(), Workspace(np.float32)
    others = [
        problem(lines=True, dropout=0.4, dtype=np.float32, steps=n, **options) for n in (9, T, 6)
    ]
    for x in (p, *others, p, replace(p, batch=replace(p.batch, fresh=None)), p):
        d, state, dstate = x.params.like(), x.state.copy(), np.zeros_like(x.state)
        loss = x.model.loss_and_grad(w, x.batch, state, d, ws, 1.0, masks, dstate)
        Result(loss, d, state, dstate).assert_same_bits(x.gradients(masks=masks))
        ws.poison()


@both_feedbacks
@both_dtypes
def test_everything_has_the_dtype_of_the_parameters(feedback: str, dtype: Any) -> None:
    """And float32 is near float64; the bytes of a window are about those that are counted."""
    options: dict[str, Any] = {"lines": True, "num_layers": 2, "feedback": feedback, "decay": 0.5}
    p, ws = problem(dtype=dtype, **options), Workspace(dtype)
    result = p.gradients(ws)
    assert result.d.flat.dtype == p.model.zero_state(B, dtype).dtype == dtype
    assert p.model.begin(p.params, 1).step([0]).dtype == dtype
    assert {a.dtype for a in ws._flat.values() if a.dtype.kind == "f"} == {np.dtype(dtype)}
    double = problem(**options).gradients()
    np.testing.assert_allclose(result.loss, double.loss, rtol=1e-5)
    np.testing.assert_allclose(result.d.flat, double.d.flat, rtol=0, atol=1e-4)


@both_feedbacks
@both_decays
@both_depths
@both_inputs
def test_single_steps_predict_what_windows_predict(
    feedback: str, decay: float, depth: int, embedding: int | None
) -> None:
    """From the beginning of a text on; and what is done to the logits changes no later ones."""
    p = problem(feedback=feedback, decay=decay, num_layers=depth, embedding_size=embedding)
    losses, steps = np.empty((T, B)), p.model.begin(p.params, B)
    p.model.read(p.params, B)(p.batch, losses)
    for t in range(T):
        logits = steps.step(p.batch.ids[t])
        np.testing.assert_allclose(losses[t], cross_entropy(logits, p.batch.targets[t]), rtol=1e-12)
        logits.fill(-np.inf)


@both_feedbacks
def test_the_bits_of_a_text_do_not_depend_on_the_others(feedback: str) -> None:
    """Drawn alone, or among ten, in float32."""
    options: dict[str, Any] = {"feedback": feedback, "decay": 0.3, "hidden_size": 48}
    p = problem(dtype=np.float32, streams=10, num_layers=2, **options)
    alone, among = p.model.begin(p.params, 1), p.model.begin(p.params, 10)
    for ids in p.batch.ids:
        np.testing.assert_array_equal(alone.step(ids[7:8])[0], among.step(ids)[7])


def test_teacher_forcing_without_decay_knows_the_last_symbol_only() -> None:
    """As the documentation says; a decay, or the output fed back, knows more."""
    for options, knows in (({}, True), ({"feedback": "target"}, False)):
        p = problem(**options)
        rows = []
        for first in (0, 1):
            steps = p.model.begin(p.params, 1)
            steps.step([first])
            rows.append(steps.step([2]).copy())
        assert (rows[0] != rows[1]).any() == knows


@both_feedbacks
@both_depths
@both_inputs
def test_symbols_of_another_vocabulary_keep_what_was_learned(
    feedback: str, depth: int, embedding: int | None
) -> None:
    """In another order nothing is predicted otherwise. With new ones, the ratios of the others are kept
    at the first step, and with feedback `target` at all.
    """
    p = problem(feedback=feedback, decay=0.5, num_layers=depth, embedding_size=embedding)
    order = np.random.default_rng(1).permutation(V)
    for old in (order, np.insert(order, 3, -1)):
        model = replace(p.model, vocabulary_size=len(old))
        new = model.with_symbols(p.params, old, np.log(np.full(len(old), 1 / len(old))))
        mine, theirs = model.begin(new, 1), p.model.begin(p.params, 1)
        for t, k in enumerate((0, 5, 5, 2)):
            at = np.flatnonzero(old >= 0)[k]
            a, b = mine.step([at])[0][old >= 0], theirs.step([old[at]])[0][old[old >= 0]]
            if len(old) == V or t == 0 or feedback == "target":
                np.testing.assert_allclose(a - a[0], b - b[0], rtol=0, atol=1e-12)
            else:
                np.testing.assert_allclose(a - a[0], b - b[0], rtol=0, atol=0.5)


@forking
@both_feedbacks
def test_the_number_of_threads_changes_no_bit(feedback: str) -> None:
    """Of what training steps make of texts that begin inside windows, with a layer below."""
    results = []
    for threads in (1, 2, 4):
        options: dict[str, Any] = {"feedback": feedback, "decay": 0.5, "num_layers": 2}
        p = problem(lines=True, dropout=0.3, dtype=np.float32, streams=130, **options)
        with closing(Engine(p.model, p.params, sgd, {}, batch_size=130, threads=threads)) as e:
            steps = [e.step(p.batch, p.state, k, 0.1) for k in (1, 2)]
        results.append((steps, p.params.flat.copy(), p.state))
    for steps, flat, state in results[1:]:
        assert steps == results[0][0]
        np.testing.assert_array_equal(flat, results[0][1])
        np.testing.assert_array_equal(state, results[0][2])


@both_feedbacks
@both_decays
@pytest.mark.parametrize("lines", [False, True])
def test_the_bytes_of_a_window_are_about_those_that_are_counted(
    feedback: str, decay: float, lines: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded calls aside."""
    for module in (jordan, recurrent):
        monkeypatch.setattr(module, "TAPE_BYTES", 0)
    for depth, H, dropout in ((1, 64, 0.0), (2, 3, 0.3)):
        options: dict[str, Any] = {"num_layers": depth, "hidden_size": H, "dropout": dropout}
        p = problem(
            lines=lines, streams=40, dtype=np.float32, feedback=feedback, decay=decay, **options
        )
        ws = p.workspace()
        p.gradients(ws, masks)
        assert 0.8 < p.model.window_bytes(T, 40, lines) / ws.nbytes < 1.4


@pytest.mark.parametrize(("feedback", "unit"), [("output", "line"), ("target", "stream")])
def test_a_user_trains_resumes_evaluates_and_samples(
    feedback: str, unit: str, text_file: Path, tmp_path: Path
) -> None:
    """To the bit after an interruption, through the same commands as any model."""
    keys = (
        *("model.kind=jordan", f"model.feedback={feedback}", "model.decay=0.5", "model.cell=rnn"),
        *(f"data.unit={unit}", "train.epochs=1", "train.threads=1"),
        "train.optimizer.learning_rate=1e-2",
    )
    a = resumed(text_file, tmp_path, 9, *keys)
    assert f"feedback of the {feedback}, decay 0.5" in a.model.describe()
    assert evaluate(a, TEXT).perplexity < 15
    assert generate(a, "The ", 20, seed=1) == generate(a, "The ", 20, seed=1)
    lines = ["the ferry", "", "a bell was on it"]
    assert (score(a, lines)[1:] == score(a, lines[1:])).all()
