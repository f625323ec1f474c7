"""The stacked model and what stands around the recurrence, against oracles and differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import both_depths, both_dtypes, both_inputs, every_cell, masks
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import Problem, assert_is_gradient, cross_entropy, model_losses, one_hot

from rnnlm.arrays import Array, Shape
from rnnlm.backend import workspace
from rnnlm.backend.params import Parameters
from rnnlm.backend.tape import Tape, Unrecorded
from rnnlm.backend.tiles import SMALL_PRODUCT, PackedMatrix, tile_width
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import GRU, RNN, SRU, Cell
from rnnlm.cells.lstm import LSTM
from rnnlm.models import layers
from rnnlm.models.layers import OutputGradients, one_hot_projection, one_hot_projection_backward
from rnnlm.models.recurrent import Recurrent
from rnnlm.text.batches import Batch

pytestmark = pytest.mark.usefixtures("one_blas_thread")

# Forward


@every_cell
@both_depths
@both_inputs
def test_loss_and_state_are_those_of_the_oracle(
    cell: Cell, depth: int, embedding: int | None
) -> None:
    """The summed loss and the final state, from `loss` and from `loss_and_grad`."""
    p = Problem.of(cell, layers=depth, embedding=embedding)
    losses, final = model_losses(cell, dict(p.params), p.batch.ids, p.batch.targets, p.state)
    state = p.state.copy()
    loss = p.model.loss(p.weights(), p.batch, state, p.workspace())
    np.testing.assert_allclose(loss, losses.sum(), rtol=1e-12)
    np.testing.assert_allclose(state, final, rtol=0, atol=1e-12)
    result = p.gradients()
    np.testing.assert_allclose(result.loss, losses.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.state, final, rtol=0, atol=1e-12)


@every_cell
def test_dropout_scales_the_outputs_of_each_layer_and_not_the_recurrence(cell: Cell) -> None:
    """Loss and state are the oracle's with the masks given explicitly."""
    p = Problem.of(cell, layers=2, dropout=0.4)
    shape = (p.batch.ids.size, p.model.hidden_size)
    explicit = [(masks(layer).random(shape) >= 0.4) / 0.6 for layer in range(2)]
    assert all(0 < np.count_nonzero(mask) < mask.size for mask in explicit)
    losses, final = model_losses(
        cell, dict(p.params), p.batch.ids, p.batch.targets, p.state, explicit
    )
    result = p.gradients(masks=masks)
    np.testing.assert_allclose(result.loss, losses.sum(), rtol=1e-12)
    np.testing.assert_allclose(result.state, final, rtol=0, atol=1e-12)


def test_without_masks_nothing_is_dropped() -> None:
    """A model with a dropout rate evaluates like the same model without."""
    dropping, plain = (Problem.of(LSTM(), layers=2, dropout=rate) for rate in (0.5, 0.0))
    losses = [p.model.loss(p.weights(), p.batch, p.state, p.workspace()) for p in (dropping, plain)]
    assert losses[0] == losses[1]


@every_cell
@both_inputs
def test_two_carried_windows_equal_one_long_window(cell: Cell, embedding: int | None) -> None:
    """Losses add up, the state is carried on, and so is the gradient that goes the other way."""
    whole = Problem.of(cell, layers=2, embedding=embedding, T=7)
    ids, targets = whole.batch.ids, whole.batch.targets
    first = Problem(whole.model, whole.params, Batch(ids[:3], targets[:3]), whole.state)
    carried = first.gradients().state
    second = Problem(whole.model, whole.params, Batch(ids[3:], targets[3:]), carried)
    b = second.gradients()
    a = first.gradients(dstate=b.dstate)
    expected = whole.gradients()
    np.testing.assert_allclose(a.loss + b.loss, expected.loss, rtol=1e-12)
    np.testing.assert_allclose(b.state, expected.state, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.d.flat + b.d.flat, expected.d.flat, rtol=0, atol=1e-12)
    np.testing.assert_allclose(a.dstate, expected.dstate, rtol=0, atol=1e-12)


# Backward


@every_cell
@both_depths
@both_inputs
@pytest.mark.parametrize(
    ("T", "B", "dropout"), [(5, 3, 0.0), (5, 3, 0.4), (1, 3, 0.0), (5, 1, 0.0)]
)
def test_gradients_are_those_of_differences(
    cell: Cell, depth: int, embedding: int | None, T: int, B: int, dropout: float
) -> None:
    """Every parameter, input tables included, and the initial state of every layer."""
    p = Problem.of(cell, layers=depth, embedding=embedding, T=T, B=B, dropout=dropout)
    result = p.gradients(masks=masks)
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], lambda: p.loss(masks), array, name)
    for layer in range(depth):
        name = f"state.{layer}"
        assert_is_gradient(result.dstate[layer], lambda: p.loss(masks), p.state[layer], name)


@every_cell
@both_inputs
def test_the_final_states_gradient_is_added(cell: Cell, embedding: int | None) -> None:
    """A gradient given for the final state reaches every parameter and the initial state."""
    p = Problem.of(cell, layers=2, embedding=embedding)
    dstate = np.random.default_rng(5).standard_normal(p.state.shape)
    result = p.gradients(dstate=dstate)
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], lambda: p.loss(dstate=dstate), array, name)
    assert_is_gradient(result.dstate, lambda: p.loss(dstate=dstate), p.state, "state")


@every_cell
def test_gradients_are_those_of_scale_times_loss(cell: Cell) -> None:
    """The loss itself is not scaled, the gradient is, and without `dstate` it is the same."""
    p = Problem.of(cell, layers=2)
    d, state = p.params.like(), p.state.copy()
    loss = p.model.loss_and_grad(p.weights(), p.batch, state, d, p.workspace(), scale=0.25)
    whole = p.gradients()
    assert loss == whole.loss
    np.testing.assert_allclose(d.flat, whole.d.flat / 4, rtol=1e-12, atol=1e-14)


@every_cell
@pytest.mark.parametrize(("B", "H"), [(25, 40), (32, 40), (25, 128), (32, 128)])
def test_float32_is_near_float64(cell: Cell, B: int, H: int) -> None:
    """Sizes on and off the tiles' multiples: single precision differs by rounding only."""
    size: dict[str, int] = {"layers": 2, "T": 4, "B": B, "H": H, "V": 30}
    single, double = (Problem.of(cell, dtype=dtype, **size) for dtype in (np.float32, np.float64))
    double.params.flat[:] = single.params.flat
    a, b = single.gradients(), double.gradients()
    np.testing.assert_allclose(a.loss, b.loss, rtol=1e-5)
    for name in a.d:
        error = np.linalg.norm(a.d[name] - b.d[name]) / np.linalg.norm(b.d[name])
        assert error < 1e-5, f"{name}: relative error {error:.1e}"


# Buffers and dtypes


@every_cell
@both_inputs
def test_poisoned_buffers_change_no_bit(cell: Cell, embedding: int | None) -> None:
    """Reused buffers full of NaN, and larger than needed, give what fresh ones give."""
    large = Problem.of(cell, layers=2, embedding=embedding, dropout=0.4, T=6, B=4)
    p = Problem.of(cell, layers=2, embedding=embedding, dropout=0.4)
    ws = p.workspace()
    for previous in (large, p):
        previous.gradients(ws, masks)
        ws.poison()
        p.gradients(ws, masks).assert_same_bits(p.gradients(masks=masks))


@every_cell
def test_a_workspace_serves_windows_of_any_length(cell: Cell) -> None:
    """Recorded steps are of one memory: other lengths, grown buffers, other weights give new ones."""
    ws = Workspace(np.float64)
    for T, seed in [(5, 0), (3, 0), (5, 0), (7, 0), (5, 1), (3, 1), (5, 0)]:
        p = Problem.of(cell, layers=2, T=T, seed=seed)
        p.gradients(ws).assert_same_bits(p.gradients())


@every_cell
def test_each_kind_of_window_is_recorded_once(cell: Cell) -> None:
    """Whole and last windows, with and without texts that begin inside, in any order."""
    recorded: list[int] = []

    class Noting(Recurrent):
        def record_layer(self, *args: Any, **kwargs: Any) -> None:
            recorded.append(1)
            super().record_layer(*args, **kwargs)

    p = Problem.of(cell, layers=2, T=5)
    model = Noting(p.model.vocabulary_size, p.model.cell, p.model.hidden_size, 2)
    w, d, ws = p.weights(), p.params.like(), p.workspace()
    fresh = np.zeros_like(p.batch.ids, np.bool_)
    fresh[1, 0] = True
    kinds = [(T, marks) for T in (5, 3) for marks in (fresh[:T], None)]
    for T, marks in (*kinds, *reversed(kinds), *kinds[::2], *kinds[1::2]):
        batch = Batch(p.batch.ids[:T], p.batch.targets[:T], marks)
        model.loss_and_grad(w, batch, p.state, d, ws, 1.0)
    assert len(recorded) == 4 * 2  # kinds, layers


@every_cell
@pytest.mark.parametrize("embedding", [None, 7])
def test_what_a_window_keeps_more_where_texts_begin_inside_is_counted(
    cell: Cell, embedding: int | None
) -> None:
    """To the number, beside what it keeps anyway."""
    p = Problem.of(cell, layers=2, T=5, B=3, embedding=embedding)
    fresh = np.zeros_like(p.batch.ids, np.bool_)
    fresh[2, 1] = True
    held = []
    for marks in (None, fresh):
        ws = p.workspace()
        batch = Batch(p.batch.ids, p.batch.targets, marks)
        p.model.loss_and_grad(p.weights(), batch, p.state, p.params.like(), ws, 1.0)
        held.append(ws.nbytes // p.params.flat.itemsize)
    plain, marked = (p.model.activation_count(5, 3, fresh=inside) for inside in (False, True))
    assert marked - plain == held[1] - held[0] > 0
    assert p.model.window_bytes(5, 3, True) - p.model.window_bytes(5, 3) > 4 * (marked - plain)


@every_cell
def test_long_windows_are_not_recorded_and_have_the_same_bits(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their calls are made at once, each time anew."""
    p = Problem.of(cell, layers=2)
    recorded = p.gradients()
    monkeypatch.setattr(workspace, "LONGEST_TAPE", 4)
    tapes: list[Tape] = []

    class Noting(Workspace):
        def tape(self, *args: Any, **kwargs: Any) -> Tape:
            tapes.append(super().tape(*args, **kwargs))
            return tapes[-1]

    ws = Noting(p.params.flat.dtype)
    for _ in range(2):
        p.gradients(ws).assert_same_bits(recorded)
    assert len(tapes) == 2 * 2 * 2  # windows, layers, forward and backward
    assert all(isinstance(run, Unrecorded) for run in tapes)


def test_a_tape_replays_what_it_recorded() -> None:
    """In order, on the memory as it is then."""
    a, b, run = np.ones(2, np.float32), np.zeros(2, np.float32), Tape()
    assert not run.is_recorded
    run(np.add, a, 0.5, b)
    run(np.multiply, b, b, b)
    assert b.tolist() == [0, 0]
    for value, expected in ((1, 2.25), (2, 6.25)):
        a[:] = value
        run.replay()
        assert b.tolist() == [expected] * 2
        assert run.is_recorded


def test_what_is_not_recorded_is_computed_at_once_and_asked_for_again() -> None:
    """A call is made when it is given, and once only."""
    a, run = np.ones(2), Unrecorded()
    for expected in (2, 4):
        assert not run.is_recorded
        run(np.add, a, a, a)
        assert a.tolist() == [expected] * 2
        run.replay()
        assert a.tolist() == [expected] * 2


@pytest.mark.parametrize("position", [0, 1, 2])
@both_dtypes
def test_a_recorded_number_has_the_precision_of_the_arrays(position: int, dtype: Any) -> None:
    """Wherever it stands, it becomes an array without dimensions."""
    arguments: list[Any] = [np.ones(2, dtype), np.zeros(3, dtype)]
    arguments.insert(position, 0.1)
    seen: list[Any] = []
    run = Tape()
    run(lambda *args: seen.extend(args), *arguments)
    run.replay()
    assert seen[position].dtype == dtype
    assert seen[position].shape == ()
    assert seen[position] == dtype(0.1)


def test_a_workspace_keeps_a_tape_for_the_same_memory() -> None:
    """By name, place and shape; the oldest is given up when there are too many."""
    ws = Workspace(np.float32)
    a = ws("a", 4)
    run = ws.tape("steps", 9, a)
    run(np.negative, a, a)
    run.replay()
    assert ws.tape("steps", 9, ws("a", 4)) is run
    assert ws.tape("steps", 9, ws("a", 3)) is not run
    assert ws.tape("other", 9, a) is not run
    assert ws.tape("steps", 9, ws("a", 4)) is run
    ws("b", 99)
    for size in range(5, 5 + workspace.TAPES):
        ws.tape("steps", 9, ws("b", size))
    assert not ws.tape("steps", 9, ws("a", 4)).is_recorded


def test_a_workspace_keeps_no_tape_for_memory_that_it_replaced() -> None:
    """Else windows that grow would hold all the memory that was ever used."""
    ws = Workspace(np.float32)
    run = ws.tape("steps", 9, ws("a", 4))
    run.replay()
    ws("b", 8)
    assert ws.tape("steps", 9, ws("a", 4)) is run
    a = ws("a", 4)
    ws("b", 9)
    assert ws.tape("steps", 9, a) is not run


def test_a_tape_serves_the_copies_of_weights_that_it_was_recorded_with() -> None:
    """Other copies want other calls, though all other memory is the same."""
    ws = Workspace(np.float32)
    a = ws("a", 4)
    run = ws.tape("steps", 9, a, weights=1)
    run.replay()
    assert ws.tape("steps", 9, a, weights=2) is not run
    assert ws.tape("steps", 9, a, weights=1) is run
    p = Problem.of(LSTM())
    assert p.weights().number != p.weights().number


def test_a_recording_that_was_interrupted_is_made_anew() -> None:
    """Half of the calls are not replayed for all."""
    ws = Workspace(np.float32)
    a = ws("a", 4)
    half = ws.tape("steps", 9, a)
    half(np.negative, a, a)
    again = ws.tape("steps", 9, a)
    assert again is not half
    assert not again.is_recorded


def test_poison_reaches_every_buffer() -> None:
    """Floating-point buffers are NaN throughout, integers ones in all bits; the memory is the same."""
    ws = Workspace(np.float32)
    floats, integers = ws("a", 2, 3), ws("b", 4, dtype=np.int32)
    ws.poison()
    assert np.isnan(floats).all()
    assert (integers == -1).all()
    assert np.shares_memory(floats, ws("a", 3))
    assert not np.shares_memory(floats, integers)


@every_cell
@both_inputs
@both_dtypes
def test_everything_has_the_dtype_of_the_parameters(
    cell: Cell, embedding: int | None, dtype: Any
) -> None:
    """Traces, state, gradients and every floating-point buffer; no array is of another precision."""
    p = Problem.of(cell, layers=2, embedding=embedding, dropout=0.4, dtype=dtype)
    requested: set[Any] = set()

    class Noting(Workspace):
        def __call__(self, name: str, *shape: int, dtype: Any = None) -> Array:
            array = super().__call__(name, *shape, dtype=dtype)
            requested.update([array.dtype] if array.dtype.kind == "f" else [])
            return array

    ws = Noting(dtype)
    result = p.gradients(ws, masks)
    for trace in p.model.forward(p.weights(), p.batch, p.state, ws, masks):
        for array in (trace.X, trace.z, trace.s, trace.s_prev, trace.mask, trace.output):
            assert array is None or array.dtype == dtype
    copies: set[Any] = set()

    def noting(shape: Shape, kind: Any) -> Array:
        copies.add(kind)
        return np.empty(shape, kind)

    p.model.weights(p.params, rows=3, empty=noting)
    assert requested == copies == {np.dtype(dtype)}
    assert result.d.flat.dtype == result.state.dtype == result.dstate.dtype == dtype
    assert p.model.init(np.random.default_rng(0), dtype).flat.dtype == dtype
    assert p.model.zero_state(2, dtype).dtype == dtype


# One-hot input


@pytest.mark.parametrize("id_type", [np.uint8, np.uint16, np.int64])
def test_gather_equals_the_one_hot_product(id_type: Any) -> None:
    """onehot @ Wx + b, forward; onehotᵀ @ dz, backward, with zeros for symbols that do not occur."""
    G, V, H, R = 3, 9, 4, 40
    rng = np.random.default_rng(0)
    ids = rng.integers(V - 2, size=R).astype(id_type)
    Wx, b, dz = (rng.standard_normal(shape) for shape in [(G, V, H), (G, 1, H), (G, R, H)])
    z, dWx = np.full((G, R, H), np.nan), np.full((G, V, H), np.nan)
    beside = np.full((R, G, H), np.nan).swapaxes(0, 1)  # a row's gates side by side, z and table
    for table, out in ((Wx + b, z), ((Wx + b).swapaxes(0, 1).copy().swapaxes(0, 1), beside)):
        one_hot_projection(Unrecorded(), ids, table, out)
        np.testing.assert_allclose(out, one_hot(ids, V) @ Wx + b, rtol=1e-12)
    one_hot_projection_backward(ids, dz, dWx, Workspace(np.float64))
    np.testing.assert_allclose(dWx, one_hot(ids, V).T @ dz, rtol=0, atol=1e-12)


# Softmax cross-entropy


def output_problem(R: int, D: int, V: int, size: float = 1.0) -> tuple[Array, Array, Array, Array]:
    """H, Wy, by and targets with logits of about the given size."""
    rng = np.random.default_rng(2)
    H, Wy, by = (rng.standard_normal(shape) for shape in [(R, D), (D, V), (V,)])
    return H, size * Wy, size * by, rng.integers(V, size=R)


def output_gradients(H: Array, Wy: Array, by: Array) -> OutputGradients:
    """Places for the gradients, full of NaN."""
    dH, dWy, dby = (np.full_like(a, np.nan) for a in (H, Wy, by))
    return OutputGradients(dH, dWy, dby, 1.0)


def test_cross_entropy_is_the_naive_one() -> None:
    """The loss, with and without gradients, is the definition's; the gradients are its differences."""
    H, Wy, by, targets = output_problem(9, 4, 6)
    ws, d = Workspace(np.float64), output_gradients(H, Wy, by)

    def naive() -> float:
        return float(cross_entropy(H @ Wy + by, targets).sum())

    for gradients in (None, d):
        loss = layers.softmax_cross_entropy(H, Wy, by, targets, ws, gradients)
        np.testing.assert_allclose(loss, naive(), rtol=1e-13)
    for name, dx, x in (("H", d.dH, H), ("Wy", d.dWy, Wy), ("by", d.dby, by)):
        assert_is_gradient(dx, naive, x, name)


@both_dtypes
def test_cross_entropy_is_right_at_logits_of_ten_thousand(dtype: Any) -> None:
    """Where exp would overflow or vanish, loss and gradient are those of the largest logit."""
    H = np.ones((3, 1), dtype)
    Wy = np.array([[1e4, -1e4, 0.0, 1e4]], dtype)
    by = np.array([0.0, 0.0, 0.0, -1.0], dtype)
    targets = np.array([0, 1, 2])
    d = output_gradients(H, Wy, by)
    loss = layers.softmax_cross_entropy(H, Wy, by, targets, Workspace(dtype), d)
    # softmax = (e, 0, 0, 1) / (e + 1), and -ln p = ln(1 + 1/e) + the distance to the largest logit
    np.testing.assert_allclose(loss, 3 * np.log1p(np.exp(-1)) + 2e4 + 1e4, rtol=1e-7)
    p = np.array([np.e, 0, 0, 1]) / (np.e + 1)
    np.testing.assert_allclose(d.dby, 3 * p - [1, 1, 1, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(d.dWy, d.dby[None], rtol=0, atol=1e-6)


def test_losses_add_up_in_double_precision() -> None:
    """Also for float32 logits: ln 2 for each of many even choices, to the last digits."""
    H, Wy, by = (np.zeros(shape, np.float32) for shape in [(1000, 3), (3, 2), 2])
    targets = np.zeros(1000, np.int64)
    loss = layers.softmax_cross_entropy(H, Wy, by, targets, Workspace(np.float32))
    np.testing.assert_allclose(loss, 1000 * np.log(2), rtol=1e-13)


@pytest.mark.parametrize("R", [1, 63, 64, 65, 150])
def test_row_blocks_do_not_change_the_result(R: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss and gradients are the same however many rows of logits are worked on at a time."""
    H, Wy, by, targets = output_problem(R, 4, 11)
    results = []
    for block, rows in ((1, min(R, 64)), (11 * 100, min(R, 100)), (1 << 20, R)):
        monkeypatch.setattr(layers, "LOGITS_BLOCK", block)
        assert layers.logits_rows(R, 11) == rows
        d = output_gradients(H, Wy, by)
        loss = layers.softmax_cross_entropy(H, Wy, by, targets, Workspace(np.float64), d)
        results.append((np.array(loss), d.dH, d.dWy, d.dby))
    for other in results[:-1]:
        for a, b in zip(other, results[-1], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1.0, 1e4])
def test_gradient_rows_of_the_logits_sum_to_zero(size: float) -> None:
    """softmax - onehot: seen through H = I, where dWy holds the gradient of each row of logits."""
    _, Wy, by, targets = output_problem(8, 8, 5, size)
    d = output_gradients(np.eye(8), Wy, by)
    layers.softmax_cross_entropy(np.eye(8), Wy, by, targets, Workspace(np.float64), d)
    assert np.abs(d.dWy).max() > 0.1
    np.testing.assert_allclose(d.dWy.sum(axis=1), 0, atol=1e-14)


# Dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@both_dtypes
def test_dropout_keeps_the_expectation(rate: float, dtype: Any) -> None:
    """A share `rate` is dropped, the rest scaled by 1 / (1 - rate), so that the mean mask is 1."""
    X = np.random.default_rng(1).standard_normal((1000, 100)).astype(dtype)
    mask, out = np.full((2, *X.shape), np.nan, dtype)
    layers.dropout(X, rate, masks(0), mask, out)
    kept = mask != 0
    np.testing.assert_allclose(1 - kept.mean(), rate, atol=0.006)
    np.testing.assert_allclose(mask[kept], 1 / (1 - rate), rtol=1e-6)
    np.testing.assert_allclose(mask.mean(dtype=np.float64), 1, atol=0.03)
    np.testing.assert_array_equal(out, X * mask)


def test_dropout_follows_its_generator() -> None:
    """The same seed drops the same, another drops differently, and the gradient takes the mask."""
    X = np.ones((50, 20))
    drawn = []
    for layer in (0, 0, 1):
        mask, out = np.empty((2, *X.shape))
        layers.dropout(X, 0.5, masks(layer), mask, out)
        drawn.append(mask)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()
    dX = 3 * X
    layers.dropout_backward(drawn[0], dX)
    np.testing.assert_array_equal(dX, 3 * drawn[0])


# Packed matrices


@settings(derandomize=True, max_examples=60)
@given(
    gates=st.integers(1, 4),
    rows=st.integers(1, 70),
    inner=st.sampled_from([1, 7, 64, 300, 700]),
    columns=st.one_of(st.integers(1, 80), st.sampled_from([96, 128, 144, 160])),
    scale=st.sampled_from([1.0, 0.5]),
    transpose=st.booleans(),
    few=st.booleans(),
    blocks=st.sampled_from([(), (3,)]),
    own_rows=st.booleans(),
)
def test_products_with_a_packed_matrix_equal_plain_products(
    gates: int,
    rows: int,
    inner: int,
    columns: int,
    scale: float,
    transpose: bool,
    few: bool,
    blocks: tuple[int, ...],
    own_rows: bool,
) -> None:
    """One call for all gates is X_k @ W_k · scale: one X or one a gate, whole or in blocks of rows."""
    rng = np.random.default_rng(0)
    shape = (*blocks, rows, inner)
    X = rng.standard_normal((gates, *shape) if own_rows else shape)
    W = rng.standard_normal((gates, inner, columns))
    if transpose:
        W = np.ascontiguousarray(W.swapaxes(1, 2)).swapaxes(1, 2)
    packed = PackedMatrix.empty(W.shape, rows if few else None, np.empty)
    width = packed.tiles.shape[-1]
    assert width == columns or rows * inner * width <= SMALL_PRODUCT
    assert few or width == columns
    for k in range(gates):
        packed.fill(k, W[k], scale)
    out, run = np.full((gates, *blocks, rows, columns), np.nan), Tape()
    run.matmul(X, packed, out)
    assert np.isnan(out).all(), "a product is recorded, and computed when it is replayed"
    run.replay()
    expected = [(X[k] if own_rows else X) @ W[k] * scale for k in range(gates)]
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("columns", [16, 20, 48])
def test_joined_gates_have_the_bits_of_each_alone(columns: int) -> None:
    """One row: all gates in one product, or some of them, or each with a row of its own."""
    rng = np.random.default_rng(0)
    X, W = (rng.standard_normal(n, np.float32) for n in ((3, 1, columns), (3, columns, columns)))
    together, apart = (
        PackedMatrix.empty(W.shape, 1, lambda shape: np.empty(shape, np.float32), joined)
        for joined in (True, False)
    )
    for packed in (together, apart):
        for k in range(3):
            packed.fill(k, W[k])
    for gates in (slice(None), slice(2), slice(2, None)):
        for rows in (X[0], X[gates]):
            found, expected = np.empty((2, len(W[gates]), 1, columns), np.float32)
            together[gates].product(rows, found)()
            apart[gates].product(rows, expected)()
            np.testing.assert_array_equal(found, expected)


def test_some_gates_of_a_packed_matrix_are_a_view() -> None:
    """A slice of gates multiplies alone, and follows what is filled in later."""
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((3, 5)), rng.standard_normal((4, 5, 32))
    packed = PackedMatrix.empty(W.shape, 3, np.empty)
    some, out = packed[1:3], np.full((2, 3, 32), np.nan)
    for k in range(4):
        packed.fill(k, W[k])
    Unrecorded().matmul(X, some, out)
    np.testing.assert_allclose(out, X @ W[1:3], rtol=1e-12)


def test_tiles_are_as_wide_as_small_products_allow() -> None:
    """The widest tile whose product stays small; the whole matrix where there is none."""
    assert tile_width(32, 128, 128) == 64
    assert tile_width(32, 600, 144) == 48
    assert tile_width(32, 1000, 128) == 16
    assert tile_width(32, 2000, 128) == 128
    assert tile_width(32, 128, 100) == 100
    assert tile_width(1, 128, 128) == 128


# Initialisation


@pytest.mark.parametrize("cell", [RNN(), GRU(), LSTM()], ids=repr)
def test_every_gates_recurrence_starts_orthogonal(cell: Cell) -> None:
    """Wh_k Wh_kᵀ = I for every gate of every layer, and the gates differ."""
    p = Recurrent(9, cell, 12, 2).init(np.random.default_rng(0), np.float64)
    gates = [gate for layer in range(2) for gate in p[f"layers.{layer}.Wh"]]
    for gate in gates:
        np.testing.assert_allclose(gate @ gate.T, np.eye(12), atol=1e-12)
    for k, gate in enumerate(gates[1:]):
        assert not np.allclose(gates[k], gate)


@every_cell
@both_inputs
def test_biases_start_at_zero_and_the_forget_gates_at_one(
    cell: Cell, embedding: int | None
) -> None:
    """Only the LSTM's forget gate starts open; no weight matrix starts at zero."""
    p = Recurrent(9, cell, 12, 2, embedding).init(np.random.default_rng(0))
    for name, array in p.items():
        kind = name.rsplit(".", 1)[-1]
        if kind == "b":
            for gate, bias in zip(cell.gates, array, strict=cell.direct == 0):
                np.testing.assert_array_equal(bias, float(gate == "f" and cell == LSTM()))
        elif kind in ("bh", "by", "v"):
            np.testing.assert_array_equal(array, 0)
        else:
            assert np.abs(array).min() < np.abs(array).max(), name


def test_weights_start_within_their_limits() -> None:
    """Uniform, the limits as stated: √(6 / (in + out)) for a matrix, √3 for a table."""
    H, V, E = 60, 70, 50
    shapes = {"Wy": 6 / (H + V), "layers.1.Wx": 6 / (H + H)}
    one_hot_input = {**shapes, "layers.0.Wx": 3}
    embedded = {**shapes, "embedding": 3, "layers.0.Wx": 6 / (E + H)}
    for embedding, squares in ((None, one_hot_input), (E, embedded)):
        p = Recurrent(V, LSTM(), H, 2, embedding).init(np.random.default_rng(0), np.float64)
        for name, square in squares.items():
            limit, largest = np.sqrt(square), np.abs(p[name]).max()
            assert 0.99 * limit < largest <= limit, name


def test_a_highway_takes_an_input_of_its_size_as_it_is() -> None:
    """An embedding of H too, with the oracle's loss and gradient; one-hot input never, even of H."""
    p = Problem.of(SRU(), layers=2, embedding=6)
    assert [len(p.params[f"layers.{k}.Wx"]) for k in range(2)] == [3, 3]
    losses, _ = model_losses(SRU(), dict(p.params), p.batch.ids, p.batch.targets, p.state)
    np.testing.assert_allclose(p.loss(), losses.sum(), rtol=1e-12)
    assert_is_gradient(p.gradients().d["embedding"], p.loss, p.params["embedding"], "embedding")
    one_hot = Recurrent(6, SRU(), 6, 2).shapes
    assert [one_hot[f"layers.{k}.Wx"] for k in range(2)] == [(4, 6, 6), (3, 6, 6)]


@every_cell
def test_the_same_seed_gives_the_same_bits(cell: Cell) -> None:
    """And another seed gives other parameters."""
    model = Recurrent(9, cell, 12, 2)
    first, again, other = (model.init(np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.flat, again.flat)
    assert (first.flat != other.flat).any()


# Parameters


def test_named_arrays_are_views_of_one_vector() -> None:
    """Writing to a name changes the vector, in the order of the shapes, and groups are views too."""
    p = Parameters({"a.x": (2, 2), "a.y": (3,), "b": (1,)}, np.float64)
    p["a.x"][:] = 1
    p.group("a.")["y"][:] = 2
    p["b"][:] = 3
    np.testing.assert_array_equal(p.flat, [1, 1, 1, 1, 2, 2, 2, 3])
    assert list(p.group("a.")) == ["x", "y"]
    np.testing.assert_array_equal(p.like().flat, np.zeros(8))
