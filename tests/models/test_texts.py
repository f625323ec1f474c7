"""Texts that begin inside a window, and targets that do not count."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import both_depths, both_dtypes, both_inputs, every_cell, every_model, masks
from oracles import Other, Problem, Result, assert_is_gradient, batch_losses, cross_entropy, texts
from processes import forking

from rnnlm.arrays import Array
from rnnlm.backend import workers, workspace
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import LSTM, Cell
from rnnlm.models.layers import LOGITS_BLOCK, OutputGradients, logits_rows, softmax_cross_entropy
from rnnlm.optim.optimizers import adam, sgd
from rnnlm.text.batches import IGNORED, Batch
from rnnlm.training.engine import Engine

pytestmark = pytest.mark.usefixtures("one_blas_thread")

# Where texts begin: nowhere in stream 0, at several steps of stream 2, one of a single symbol
BEGINS = ((3, 1), (0, 2), (2, 2), (3, 2), (5, 3))
T, B = 6, 4


def begins(*places: tuple[int, int], shape: tuple[int, int] = (T, B)) -> Array:
    """`Batch.fresh` with texts that begin at these steps of these streams."""
    fresh = np.zeros(shape, np.bool_)
    for place in places:
        fresh[place] = True
    return fresh


def with_texts(p: Problem, *places: tuple[int, int]) -> Problem:
    """The problem with texts that begin at these places."""
    return replace(p, batch=replace(p.batch, fresh=begins(*places, shape=p.batch.ids.shape)))


def counting(p: Problem, counts: Array) -> Problem:
    """The problem with targets that count only where `counts` (T, B) is true."""
    targets = np.where(counts, p.batch.targets, IGNORED)
    return replace(p, batch=replace(p.batch, targets=targets))


def problem(cell: Cell | Other, **size: Any) -> Problem:
    """A problem with texts that begin in different places of different streams."""
    return with_texts(Problem.of(cell, T=T, B=B, **size), *BEGINS)


def some_count(p: Problem) -> Array:
    """About half of the targets, at least one in every stream."""
    return np.random.default_rng(7).random(p.batch.ids.shape) < 0.5


every_pair = pytest.mark.parametrize(  # every two values come together
    ("depth", "embedding", "dropout"), [(1, None, 0.0), (1, 4, 0.4), (2, None, 0.4), (2, 4, 0.0)]
)

# Texts that begin inside a window


def test_the_oracle_cuts_streams_where_texts_begin() -> None:
    """Every step of every stream is in one text, and the state before it is zero where it begins."""
    p = problem(LSTM())
    parts = [(b, s.start, s.stop, bool(state.any())) for b, s, state in texts(p.batch, p.state)]
    assert parts == [
        *[(0, 0, 6, True), (1, 0, 3, True), (1, 3, 6, False)],
        *[(2, 0, 2, False), (2, 2, 3, False), (2, 3, 6, False), (3, 0, 5, True), (3, 5, 6, False)],
    ]


@every_cell
@every_pair
def test_each_text_is_read_from_the_zero_state(
    cell: Cell, depth: int, embedding: int | None, dropout: float
) -> None:
    """Loss and final state are the oracle's, which reads every text by itself."""
    p = problem(cell, layers=depth, embedding=embedding, dropout=dropout)
    shape = (T * B, p.model.hidden_size)
    explicit = [(masks(layer).random(shape) >= dropout) / (1 - dropout) for layer in range(depth)]
    losses, final = batch_losses(cell, dict(p.params), p.batch, p.state, explicit)
    result = p.gradients(masks=masks)
    np.testing.assert_allclose(result.loss, losses.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.state, final, rtol=0, atol=1e-12)
    if not dropout:
        state = p.state.copy()
        loss = p.model.loss(p.weights(), p.batch, state, p.workspace())
        assert loss == result.loss
        np.testing.assert_array_equal(state, result.state)
    assert result.loss != replace(p, batch=replace(p.batch, fresh=None)).gradients(masks=masks).loss


@every_cell
@every_pair
def test_gradients_of_several_texts_are_those_of_differences(
    cell: Cell, depth: int, embedding: int | None, dropout: float
) -> None:
    """Every parameter and the initial state, with a gradient given for the final state."""
    p = problem(cell, layers=depth, embedding=embedding, dropout=dropout)
    dstate = np.random.default_rng(5).standard_normal(p.state.shape)
    result = p.gradients(masks=masks, dstate=dstate)

    def loss() -> float:
        return p.loss(masks, dstate)

    for name, array in p.params.items():
        assert_is_gradient(result.d[name], loss, array, name)
    assert_is_gradient(result.dstate, loss, p.state, "state")
    np.testing.assert_array_equal(result.dstate[:, :, 2], 0)  # a text begins at its first step


@every_cell
@pytest.mark.parametrize(("begin", "steps"), [(2, 5), (1, 2)])
def test_gradients_of_texts_in_a_single_stream_are_those_of_differences(
    cell: Cell, begin: int, steps: int
) -> None:
    """One row a step, whose activations lie in another order."""
    p = with_texts(Problem.of(cell, layers=2, T=steps, B=1), (begin, 0))
    losses, final = batch_losses(cell, dict(p.params), p.batch, p.state)
    result = p.gradients()
    np.testing.assert_allclose(result.loss, losses.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.state, final, rtol=0, atol=1e-12)
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], p.loss, array, name)
    assert_is_gradient(result.dstate, p.loss, p.state, "state")


@every_cell
@both_inputs
def test_a_text_does_not_see_the_one_before_it(cell: Cell, embedding: int | None) -> None:
    """Other symbols before a text begins change no output after it, and get no gradient from it."""
    p = problem(cell, layers=2, embedding=embedding)
    after = np.zeros((T, B), np.bool_)  # where the last text of each stream is, but for stream 0
    for b, steps, _ in texts(p.batch, p.state):
        after[:, b] = False
        after[steps, b] = b > 0
    other = replace(p, batch=replace(p.batch, ids=np.where(after, p.batch.ids, p.batch.ids - 1)))
    other.batch.ids[other.batch.ids < 0] = p.model.vocabulary_size - 1
    assert (other.batch.ids != p.batch.ids).any(axis=0).all()
    a, b = (counting(x, after).gradients() for x in (p, replace(other, state=-p.state)))
    assert a.loss == b.loss
    np.testing.assert_array_equal(a.state[:, :, 1:], b.state[:, :, 1:])
    np.testing.assert_allclose(a.d.flat, b.d.flat, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(a.dstate, np.zeros_like(a.dstate))
    p, other = (replace(x, batch=replace(x.batch, fresh=None)) for x in (p, other))
    assert len({counting(x, after).gradients().loss for x in (p, other)}) == 2


@every_cell
@both_inputs
@both_dtypes
@pytest.mark.parametrize("T", [T, 1])
def test_texts_that_begin_at_the_first_step_only_are_a_plain_batch(
    cell: Cell, embedding: int | None, dtype: Any, T: int
) -> None:
    """To the bit the batch without marks, from zeros for the streams in which one begins."""
    for streams in (range(B), (1, 3)):
        p = Problem.of(cell, layers=2, embedding=embedding, dropout=0.4, T=T, B=B, dtype=dtype)
        plain = replace(p, state=p.state.copy())
        plain.state[:, :, streams] = 0
        marked = with_texts(p, *((0, b) for b in streams))
        expected, found = plain.gradients(masks=masks), marked.gradients(masks=masks)
        assert np.any(expected.dstate[:, :, streams])
        expected.dstate[:, :, streams] = 0
        found.assert_same_bits(expected)


@every_cell
@both_inputs
@pytest.mark.parametrize(("streams", "H"), [(3, 24), (25, 40), (32, 128)])
def test_texts_that_begin_in_one_stream_change_no_bit_of_another(
    cell: Cell, embedding: int | None, streams: int, H: int
) -> None:
    """In float32: where stream 0 does not count, all that the others give has the bits that it has
    when no text begins.
    """
    size: dict[str, Any] = {"layers": 2, "embedding": embedding, "T": 5, "H": H, "V": 30}
    p = Problem.of(cell, B=streams, dropout=0.2, dtype=np.float32, **size)
    counts = np.ones((5, streams), np.bool_)
    counts[:, 0] = False
    p = counting(p, counts)
    plain = p.gradients(masks=masks)
    marked = with_texts(p, (1, 0), (4, 0)).gradients(masks=masks)
    assert (plain.state[:, :, 0] != marked.state[:, :, 0]).any()
    marked.state[:, :, 0] = plain.state[:, :, 0]
    marked.assert_same_bits(plain)


def shuffled(p: Problem, seed: int) -> Problem:
    """The problem with texts that begin at other places."""
    fresh = np.random.default_rng(seed).random(p.batch.ids.shape) < 0.3
    return replace(p, batch=replace(p.batch, fresh=fresh))


@every_cell
@both_inputs
@pytest.mark.parametrize("longest", [workspace.LONGEST_TAPE, 2])
def test_a_workspace_serves_windows_with_texts_wherever_they_begin(
    cell: Cell, embedding: int | None, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded or not, over poisoned buffers, with and without texts: the bits of a new workspace."""
    monkeypatch.setattr(workspace, "LONGEST_TAPE", longest)
    ws = Workspace(np.float64)
    p, longer = (
        Problem.of(cell, layers=2, embedding=embedding, dropout=0.4, T=steps, B=B)
        for steps in (T, T + 3)
    )
    w = p.weights()
    for x in (p, shuffled(p, 1), shuffled(p, 2), p, shuffled(longer, 3), shuffled(p, 4), p, longer):
        gradients_with(x, w, ws).assert_same_bits(x.gradients(masks=masks))
        ws.poison()


def gradients_with(p: Problem, w: Any, ws: Workspace) -> Result:
    """`p.gradients()` with copies of the weights that are kept from window to window."""
    d, state, dstate = p.params.like(), p.state.copy(), np.zeros_like(p.state)
    loss = p.model.loss_and_grad(w, p.batch, state, d, ws, 1.0, masks, dstate)
    return Result(loss, d, state, dstate)


@every_cell
def test_a_workspace_serves_models_of_different_sizes(cell: Cell) -> None:
    """A window that is longer and narrower gives new room for the marks alone."""
    p = Problem.of(cell, layers=2, dropout=0.4, T=4, B=3, H=12)
    narrow = Problem.of(cell, layers=2, dropout=0.4, T=8, B=3, H=2)
    w, ws = p.weights(), Workspace(np.float64)
    for x in (shuffled(p, 1), shuffled(narrow, 2), shuffled(p, 3), shuffled(narrow, 4)):
        weights = w if x.model is p.model else x.weights()
        gradients_with(x, weights, ws).assert_same_bits(x.gradients(masks=masks))


# Targets that do not count


@every_cell
@both_depths
@both_inputs
def test_what_does_not_count_is_left_out_of_loss_and_gradients(
    cell: Cell, depth: int, embedding: int | None
) -> None:
    """The loss is the oracle's sum over what counts; the gradients are its differences."""
    whole = problem(cell, layers=depth, embedding=embedding)
    counts = some_count(whole)
    p = counting(whole, counts)
    assert p.batch.counted == counts.sum() < whole.batch.counted == T * B
    losses, final = batch_losses(cell, dict(p.params), whole.batch, p.state)
    result = p.gradients()
    np.testing.assert_allclose(result.loss, losses[counts].sum(), rtol=1e-12)
    np.testing.assert_allclose(result.state, final, rtol=0, atol=1e-12)
    np.testing.assert_allclose(p.loss(), losses[counts].sum(), rtol=1e-12)
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], p.loss, array, name)
    assert_is_gradient(result.dstate, p.loss, p.state, "state")
    state = p.state.copy()
    assert p.model.loss(p.weights(), p.batch, state, p.workspace()) == result.loss


@every_model
def test_a_batch_in_which_nothing_counts_gives_zeros(cell: Cell | Other) -> None:
    """The state is carried on all the same."""
    p = problem(cell, layers=2)
    result = counting(p, np.zeros((T, B), np.bool_)).gradients()
    assert result.loss == 0
    np.testing.assert_array_equal(result.d.flat, np.zeros_like(p.params.flat))
    np.testing.assert_array_equal(result.state, p.gradients().state)


@both_dtypes
@pytest.mark.parametrize("R", [40, 150])
def test_rows_that_count_have_the_bits_that_they_have_when_all_count(R: int, dtype: Any) -> None:
    """Their gradients to the bit, in blocks with and without rows that do not; the others' are 0."""
    rng = np.random.default_rng(2)
    V = LOGITS_BLOCK // 64  # blocks of 64 rows
    assert logits_rows(R, V) == min(R, 64)
    H, Wy, by = (rng.standard_normal(shape).astype(dtype) for shape in [(R, 3), (3, V), (V,)])
    targets = rng.integers(V, size=R)
    ignored = np.arange(R) % 3 == 1
    ignored[:64] &= R < 64  # the first of three blocks counts wholly
    results = []
    for given in (targets, np.where(ignored, IGNORED, targets)):
        d = OutputGradients(*(np.full_like(a, np.nan) for a in (H, Wy, by)), 1.0)
        loss = softmax_cross_entropy(H, Wy, by, given, Workspace(dtype), d)
        assert loss == softmax_cross_entropy(H, Wy, by, given, Workspace(dtype))
        results.append((loss, d))
    (_, all_count), (loss, d) = results
    np.testing.assert_array_equal(d.dH[~ignored], all_count.dH[~ignored])
    np.testing.assert_array_equal(d.dH[ignored], 0)
    assert np.abs(all_count.dH[ignored]).min(axis=1).max() > 0
    logits = (H @ Wy + by)[~ignored].astype(np.float64)
    expected = cross_entropy(logits, targets[~ignored]).sum()
    np.testing.assert_allclose(loss, expected, rtol=1e-12 if dtype == np.float64 else 1e-5)


# Both, in training


def training_problem(cell: Cell | Other, streams: int, dtype: Any = np.float64) -> Problem:
    """Texts of a few symbols, some of whose targets do not count."""
    p = Problem.of(cell, layers=2, T=T, B=streams, dropout=0.0, H=8, V=11, dtype=dtype)
    p = shuffled(p, 1)
    return counting(p, some_count(p))


@every_model
@pytest.mark.parametrize("streams", [7, 33, 300])
def test_an_update_divides_by_what_counts(cell: Cell | Other, streams: int) -> None:
    """Loss, norm, parameters and state are those of the mean over what counts, in one pass over the
    batch; where no text begins any more, none does.
    """
    p, plain = (training_problem(cell, streams) for _ in range(2))
    counted = int((p.batch.targets >= 0).sum())
    assert 0 < counted < p.batch.ids.size
    with closing(Engine(p.model, p.params, sgd, {}, batch_size=streams, threads=1)) as e:
        for t, fresh in enumerate((p.batch.fresh, None), 1):
            p.batch = plain.batch = replace(p.batch, fresh=fresh)
            loss, norm = e.step(p.batch, p.state, t, 0.5)
            whole = plain.gradients()
            mean = whole.d.flat / counted
            plain.params.flat -= 0.5 * mean
            plain.state = whole.state
            np.testing.assert_allclose(loss, whole.loss / counted, rtol=1e-12)
            np.testing.assert_allclose(norm, np.linalg.norm(mean), rtol=1e-11)
            np.testing.assert_allclose(p.params.flat, plain.params.flat, rtol=0, atol=1e-12)
            np.testing.assert_allclose(p.state, plain.state, rtol=0, atol=1e-12)


@forking
@every_model
def test_threads_and_processes_read_the_same_texts(
    cell: Cell | Other, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread, several, and processes, with marks and windows that come and go: the same bits."""
    results = []
    for threads, forks in ((1, False), (3, False), (3, True)):
        monkeypatch.setattr(workers, "may_fork", lambda forks=forks: forks)
        p, returned = training_problem(cell, 33, np.float32), []
        whole = p.batch
        assert whole.fresh is not None
        with closing(Engine(p.model, p.params, adam, {}, batch_size=33, threads=threads)) as e:
            for t, (steps, marked) in enumerate(((3, 1), (T, 0), (T, 1), (2, 0), (3, 1)), 1):
                fresh = whole.fresh[:steps] if marked else None
                window = Batch(whole.ids[:steps], whole.targets[:steps], fresh)
                returned.append(e.step(window, p.state, t, 0.01))
        results.append((np.array(returned), p.params.flat, p.state, *e.optimizer_state.values()))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
