"""The engine: one update, the same to the bit on any number of threads."""

from __future__ import annotations

import gc
import os
import signal
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from cases import every_cell, every_model
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import Other, Problem, all_cells
from processes import children, forking

from rnnlm.arrays import Array
from rnnlm.backend import blas, workers
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import Cell
from rnnlm.cells.lstm import LSTM
from rnnlm.cells.rnn import RNN
from rnnlm.errors import TrainingError
from rnnlm.models.recurrent import Recurrent
from rnnlm.optim.optimizers import OPTIMIZERS, adagrad, adam, adamw, muon, sgd, state_names
from rnnlm.text.batches import IGNORED, Batch, Borders
from rnnlm.training import engine as parallel
from rnnlm.training.engine import Engine, shard_rows, training_bytes

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
both_vocabularies = pytest.mark.parametrize(
    ("V", "T", "B", "H"), [(65, 36, 15, 32), (4447, 4, 16, 16)], ids=["V=65", "V=4447"]
)


@pytest.fixture(autouse=True)
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No forks, so that tests see what a lane computes; tests that want forks say so."""
    monkeypatch.setattr(workers, "may_fork", lambda: False)


def problem(cell: Cell | Other, B: int, **size: Any) -> Problem:
    """A small model as training begins: fresh parameters, random text, the zero state."""
    sizes: dict[str, Any] = {"layers": 2, "T": 3, "H": 8, "V": 11, "dtype": np.float32} | size
    with blas.one_thread():  # test processes that run side by side would wait for each other
        p = Problem.of(cell, B=B, **sizes)
        p.params.flat[:] = p.model.init(np.random.default_rng(1), np.float64).flat
    p.state = p.model.zero_state(B, p.state.dtype)
    return p


def engine(p: Problem, optimizer: Any = adam, **options: Any) -> Engine:
    """An engine for the problem, which it trains in place."""
    options = {"threads": 1, "batch_size": p.batch.ids.shape[1]} | options
    return Engine(p.model, p.params, optimizer, {}, **options)


def train(
    e: Engine, p: Problem, steps: int = 3, learning_rate: float = 0.05, share: float | None = None
) -> list[Any]:
    """Some updates, numbered from 1; what each returns."""
    return [e.step(p.batch, p.state, t, learning_rate, share) for t in range(1, steps + 1)]


# The same bits


def assert_threads_change_no_bit(make: Callable[[], Problem]) -> None:
    """Losses, norms, parameters, optimizer vectors and state after training on 1, 2 and 4 threads."""
    runs = []
    for threads in (1, 2, 4):
        p = make()
        before = p.params.flat.copy()
        options: dict[str, Any] = {"clip": ("norm", 1.0), "seed": 5, "averages": True}
        with closing(engine(p, threads=threads, **options)) as e:
            losses = train(e, p, share=0.3)
            assert e.shards == shard_rows(p.batch.ids.shape[1])
        assert (p.params.flat != before).any()
        vectors = (p.params.flat, e.average, *e.optimizer_state.values())
        runs.append((np.array(losses), p.state, *vectors))
    for other in runs[1:]:
        for a, b in zip(runs[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@every_model
@pytest.mark.parametrize(
    ("B", "dropout"),
    [(1, 0.0), (7, 0.3), (16, 0.3), (33, 0.0), (50, 0.3), (64, 0.0), (100, 0.0), (300, 0.3)],
)
def test_the_number_of_threads_changes_no_bit(
    cell: Cell | Other, B: int, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For every model, from one shard to more shards than lanes."""
    monkeypatch.setattr(parallel, "CHUNK", 100)  # so that there are chunks for every thread
    assert_threads_change_no_bit(lambda: problem(cell, B, dropout=dropout))


@pytest.mark.parametrize("B", [25, 64])
def test_the_number_of_threads_changes_no_bit_of_a_larger_model(B: int) -> None:
    """Where products run over tiles and the parameters are several chunks."""
    assert_threads_change_no_bit(lambda: problem(LSTM(), B, T=6, H=128, V=65, dropout=0.1))


@forking
@pytest.mark.parametrize(("cell", "B"), [*zip(all_cells(), cycle((33, 300)))], ids=repr)
def test_processes_change_no_bit(cell: Cell, B: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and forked processes, windows that grow and shrink: the same losses and vectors."""
    monkeypatch.setattr(parallel, "CHUNK", 100)  # so that there are chunks for every process
    results = []
    for forks in (False, True):
        monkeypatch.setattr(workers, "may_fork", lambda forks=forks: forks)
        p, returned = problem(cell, B, T=6, dropout=0.3), []
        with closing(engine(p, threads=3, clip=("norm", 1.0))) as e:
            for t, length in enumerate((3, 6, 2, 6), 1):
                window = Batch(p.batch.ids[:length], p.batch.targets[:length])
                returned.append(e.step(window, p.state, t, 0.05))
        results.append((np.array(returned), p.params.flat, p.state, *e.optimizer_state.values()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_decay_spares_biases_where_it_is_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """With no step of Adam's, weights shrink by 1 - lr · λ and biases stay; by default both shrink."""
    monkeypatch.setattr(parallel, "CHUNK", 30)  # so that a bias is several chunks
    for spare in (False, True):
        p = problem(LSTM(), 4)
        p.params.flat[:] = 1
        options = {"weight_decay": 0.5, "epsilon": 1e6, "spare_biases": spare}
        with closing(Engine(p.model, p.params, adamw, options, batch_size=4, threads=1)) as e:
            train(e, p, 1, 0.5)
        for name, array in e.params.items():
            kept = spare and name in ("layers.0.b", "layers.1.b", "by")
            np.testing.assert_allclose(array, 1.0 if kept else 0.75, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("embedding", [None, 5])
def test_muon_gets_whole_matrices(embedding: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gate's, and those of the output; tables of symbols and biases come as flat chunks. The bits
    are the same for any number of workers.
    """
    monkeypatch.setattr(parallel, "CHUNK", 30)
    H, V, results = 8, 11, []
    for threads in (1, 2, 3):
        shapes: list[tuple[int, ...]] = []

        def optimizer(w: Array, *arrays: Any, **more: Any) -> None:
            shapes.append(w.shape)  # noqa: B023
            muon(w, *arrays, **more)

        monkeypatch.setattr(parallel, "BY_MATRIX", {optimizer})
        monkeypatch.setattr(parallel, "state_names", lambda _: ["m", "v"])
        p = problem(LSTM(), 20, embedding=embedding)
        with closing(engine(p, optimizer, threads=threads)) as e:
            train(e, p, 1)
        of_input = [] if embedding is None else [(embedding, H)] * 4
        matrices = [*of_input, *[(H, H)] * 12, (H, V)]
        assert sorted(s for s in shapes if len(s) == 2) == sorted(matrices)
        flat = [s[0] for s in shapes if len(s) == 1]
        assert sum(flat) == p.params.flat.size - sum(a * b for a, b in matrices)
        assert max(flat) <= 30
        results.append(p.params.flat.tobytes())
    assert results[0] == results[1] == results[2]


@forking
def test_divergence_in_processes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the same, and the step after it has the bits that it has without."""
    monkeypatch.setattr(workers, "may_fork", lambda: True)
    results = []
    for refused in (False, True):
        p = problem(LSTM(), 20)
        with closing(engine(p, threads=2)) as e:
            train(e, p, 1)
            if refused:
                bad = np.full_like(p.state, np.nan)
                with pytest.raises(TrainingError, match=r"step 2.*diverged"):
                    e.step(p.batch, bad, 2, 0.05)
                assert np.isnan(bad).all()
            results.append((*e.step(p.batch, p.state, 2, 0.05), p.params.flat))
    assert results[0][:2] == results[1][:2]
    np.testing.assert_array_equal(results[0][2], results[1][2])


@forking
def test_a_lost_process_stops_the_step_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when memory runs out: one line that says so, parameters and state as they were."""
    monkeypatch.setattr(workers, "may_fork", lambda: True)
    p = problem(LSTM(), 20)
    with closing(engine(p, threads=2)) as e:
        train(e, p, 2)
        before = p.params.flat.copy(), p.state.copy()
        (child,) = children()
        os.kill(child, signal.SIGKILL)
        with pytest.raises(TrainingError, match=r"was killed by SIGKILL.*last checkpoint"):
            e.step(p.batch, p.state, 3, 0.05)
        np.testing.assert_array_equal(p.params.flat, before[0])
        np.testing.assert_array_equal(p.state, before[1])
    assert children() == set()


@every_model
@pytest.mark.parametrize("B", [33, 300])
def test_poisoned_buffers_change_no_bit(
    cell: Cell | Other, B: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lanes, scratch and all shared memory but what is trained, full of NaN before a step, give what
    they give untouched.
    """
    shared: list[Array] = []
    spaces: list[Workspace] = []

    def noting(*args: Any) -> Array:
        shared.append(workers.shared_zeros(*args))
        return shared[-1]

    class Noting(Workspace):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            spaces.append(self)

    monkeypatch.setattr(parallel, "shared_zeros", noting)
    monkeypatch.setattr(parallel, "Workspace", Noting)
    results = []
    for poison in (False, True):
        shared.clear()
        spaces.clear()
        p = problem(cell, B, dropout=0.3)
        with closing(engine(p, threads=2)) as e:
            train(e, p, 1)
            trained = {id(a) for a in (p.params.flat, *e.optimizer_state.values())}
            buffers = [a for a in shared if id(a) not in trained]
            assert len(shared) - len(buffers) == 3
            assert len(spaces) >= len(e.lanes) + 2
            if poison:
                for a in (*buffers, *(lane.part.flat for lane in e.lanes)):
                    a.fill(np.nan) if a.dtype.kind == "f" else a.view(np.uint8).fill(255)
                for ws in spaces:
                    ws.poison()
                for task in e.weights.tasks:
                    task()
            results.append((*e.step(p.batch, p.state, 2, 0.05), p.params.flat))
    assert results[0][:2] == results[1][:2]
    np.testing.assert_array_equal(results[0][2], results[1][2])


def test_dropout_is_a_function_of_seed_and_step() -> None:
    """The same seed and step drop the same; another seed or another step does not."""

    def first_loss(seed: int, step: int) -> float:
        p = problem(LSTM(), 20, dropout=0.5)
        with closing(engine(p, seed=seed)) as e:
            return e.step(p.batch, p.state, step, 0.1)[0]

    assert first_loss(1, 1) == first_loss(1, 1)
    assert len({first_loss(1, 1), first_loss(2, 1), first_loss(1, 2)}) == 3


def test_every_shard_drops_differently() -> None:
    """Two shards with the same text do not get the same masks."""
    losses = []

    class Noting(Recurrent):
        def loss_and_grad(self, *args: Any, **kwargs: Any) -> float:
            losses.append(super().loss_and_grad(*args, **kwargs))
            return losses[-1]

    p = problem(LSTM(), 32, dropout=0.5)
    p.model = Noting(11, LSTM(), 8, 2, dropout=0.5)
    for whole in (p.batch.ids, p.batch.targets):
        whole[:, 16:] = whole[:, :16]
    with closing(engine(p)) as e:
        e.step(p.batch, p.state, 1, 0.1)
    assert len(losses) == len(set(losses)) == 2


# One update


def plain_training(p: Problem, clip: tuple[str, float] | None, rate: float) -> list[Any]:
    """Three steps of SGD with momentum 0.9, each from one pass over the whole batch."""
    velocity, returned = np.zeros_like(p.params.flat), []
    for _ in range(3):
        d, scale = p.params.like(), 1 / p.batch.ids.size
        loss = p.model.loss_and_grad(p.weights(), p.batch, p.state, d, p.workspace(), scale)
        g, norm = d.flat, float(np.linalg.norm(d.flat))
        if clip is not None and clip[0] == "norm":
            g = g * min(1, clip[1] / norm)
        if clip is not None and clip[0] == "value":
            g = np.clip(g, -clip[1], clip[1])
        velocity = 0.9 * velocity + g
        p.params.flat -= rate * velocity
        returned.append((loss * scale, norm))
    return returned


CLIPS = (None, ("norm", 0.1), ("norm", 1e6), ("value", 0.003))


# every two of a cell, a size of the batch and a limit come together
@pytest.mark.parametrize(
    ("cell", "B", "clip"),
    [
        (cell, (7, 33, 300)[(i + j) % 3], clip)
        for i, cell in enumerate(all_cells())
        for j, clip in enumerate(CLIPS)
    ],
    ids=repr,
)
def test_a_step_is_that_of_one_pass_over_the_whole_batch(
    cell: Cell, B: int, clip: tuple[str, float] | None
) -> None:
    """Loss, norm, parameters and carried state, to float64's tolerance."""
    p, plain = (problem(cell, B, dtype=np.float64) for _ in range(2))
    with closing(Engine(p.model, p.params, sgd, {"momentum": 0.9}, batch_size=B, clip=clip)) as e:
        returned = train(e, p, learning_rate=0.5)
    np.testing.assert_allclose(returned, plain_training(plain, clip, 0.5), rtol=1e-10)
    np.testing.assert_allclose(p.params.flat, plain.params.flat, rtol=0, atol=1e-12)
    np.testing.assert_allclose(p.state, plain.state, rtol=0, atol=1e-12)


def gradient_taken(clip: tuple[str, float] | None) -> tuple[Array, float]:
    """The gradient that one step of SGD at rate 1 subtracts, and the norm that the step returns."""
    p = problem(LSTM(), 20, dtype=np.float64)
    before = p.params.flat.copy()
    with closing(engine(p, sgd, clip=clip)) as e:
        _, norm = e.step(p.batch, p.state, 1, 1.0)
    return before - p.params.flat, norm


def test_clipping_by_norm_shortens_and_keeps_the_direction() -> None:
    """To the limit where the gradient is longer; not at all where it is shorter."""
    g, norm = gradient_taken(None)
    np.testing.assert_allclose(np.linalg.norm(g), norm, rtol=1e-12)
    clipped, returned = gradient_taken(("norm", norm / 3))
    assert returned == norm
    np.testing.assert_allclose(clipped, g / 3, rtol=0, atol=1e-14)
    untouched, _ = gradient_taken(("norm", norm * 1.01))
    np.testing.assert_array_equal(untouched, g)


def test_clipping_by_value_bounds_each_element() -> None:
    """Elements beyond the limit become the limit, with their sign; the others stay."""
    g, norm = gradient_taken(None)
    limit = float(np.median(np.abs(g)))
    clipped, returned = gradient_taken(("value", limit))
    assert returned == norm
    np.testing.assert_allclose(clipped, np.clip(g, -limit, limit), rtol=0, atol=1e-14)


# What diverges


def diverging_state(p: Problem) -> None:
    """A state that is not a number makes the loss NaN."""
    p.state[:] = np.nan


def diverging_loss(p: Problem) -> None:
    """A bias beyond reach makes the loss infinite."""
    p.params["by"][p.batch.targets[0, 0]] = -np.inf


def diverging_gradient(p: Problem) -> None:
    """Very large output weights make the gradient too long, while the loss is still finite."""
    p.params["Wy"][:] *= 1e30


@every_optimizer
@pytest.mark.parametrize("diverge", [diverging_state, diverging_loss, diverging_gradient])
def test_divergence_raises_and_changes_nothing(
    optimizer: Any, diverge: Callable[[Problem], None]
) -> None:
    """Parameters and optimizer vectors keep their bits, and the message names the step."""
    p = problem(LSTM(), 20)
    with closing(engine(p, optimizer)) as e:
        train(e, p, 2)
        diverge(p)
        e.weights.refresh()
        vectors = [p.params.flat, *e.optimizer_state.values()]
        before = [vector.tobytes() for vector in vectors]
        with np.errstate(all="ignore"), pytest.raises(TrainingError, match=r"step 3.*diverged"):
            e.step(p.batch, p.state, 3, 0.05)
        assert [vector.tobytes() for vector in vectors] == before


@forking
@pytest.mark.parametrize("forks", [False, True], ids=["threads", "forks"])
@pytest.mark.parametrize(
    ("optimizer", "options", "where"),
    [
        (sgd, {"momentum": 0.9}, "params"),  # a long way down at a high rate
        (adam, {"epsilon": 0.0}, "params"),  # 0 / 0, where a symbol was not seen
        (adagrad, {}, "square"),  # a divisor beyond the range makes a step of 0, and is kept
    ],
)
def test_an_update_that_makes_what_is_not_finite_is_an_error(
    optimizer: Any,
    options: dict[str, float],
    where: str,
    forks: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Wherever in the vectors it stands; the recurrent state is still that of the step before."""
    monkeypatch.setattr(workers, "may_fork", lambda: forks)
    monkeypatch.setattr(parallel, "CHUNK", 100)
    p = problem(LSTM(), 20, V=300)
    with closing(Engine(p.model, p.params, optimizer, options, batch_size=20, threads=2)) as e:
        for name, value in (("velocity", 1e38), ("square", np.inf)):
            if name in e.optimizer_state:
                e.optimizer_state[name][-1] = value
        with pytest.raises(TrainingError, match=r"step 1: the update made .* not finite"):
            e.step(p.batch, p.state, 1, 1000.0)
        assert not p.state.any()
        vector = p.params.flat if where == "params" else e.optimizer_state[where]
        assert not np.isfinite(vector).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_update_to_very_large_parameters_is_no_error(dtype: Any) -> None:
    """The check of what was made does not itself leave the range of numbers."""
    p = problem(LSTM(), 20, dtype=dtype)
    p.params["by"][:] = np.finfo(dtype).max / 2
    with closing(engine(p, sgd)) as e:
        train(e, p, 1)
    assert np.isfinite(p.params.flat).all()


def test_a_batch_without_a_target_that_counts_is_refused() -> None:
    """There is no mean of nothing; parameters, optimizer state and state keep their bits."""
    p = problem(LSTM(), 20)
    with closing(engine(p)) as e:
        train(e, p, 1)
        vectors = [p.params.flat, p.state, *e.optimizer_state.values()]
        before = [vector.tobytes() for vector in vectors]
        with pytest.raises(AssertionError, match="without a target that counts"):
            e.step(Batch(p.batch.ids, np.full_like(p.batch.targets, IGNORED)), p.state, 2, 0.05)
        assert [vector.tobytes() for vector in vectors] == before


def test_training_goes_on_after_a_step_that_was_refused() -> None:
    """The next step has the bits that it has without the refused one."""
    results = []
    for refused in (False, True):
        p = problem(LSTM(), 20)
        with closing(engine(p)) as e:
            train(e, p, 1)
            if refused:
                bad = np.full_like(p.state, np.nan)
                with pytest.raises(TrainingError):
                    e.step(p.batch, bad, 2, 0.05)
            results.append((*e.step(p.batch, p.state, 2, 0.05), p.params.flat))
    assert results[0][:2] == results[1][:2]
    np.testing.assert_array_equal(results[0][2], results[1][2])


def test_clipping_by_norm_saves_a_step_with_a_very_long_gradient() -> None:
    """What would be refused is taken when shortened; a rate beyond reach is refused again."""
    p = problem(LSTM(), 20)
    diverging_gradient(p)
    with closing(engine(p, sgd, clip=("norm", 1.0))) as e:
        _, norm = e.step(p.batch, p.state, 1, 0.1)
        assert norm > parallel.LARGEST
        assert np.isfinite(p.params.flat).all()
        with pytest.raises(TrainingError):
            e.step(p.batch, p.state, 2, 1e20)


# A steady step allocates nothing of size


def bytes_held_by_ten_steps(p: Problem, optimizer: Any) -> int:
    """How far memory rises above its level after three steps at any time during ten more.

    On one thread, so that the figure does not depend on which lanes happen to run side by side;
    collections empty the lists of tuples that Python keeps for later.
    """
    gc.collect()
    gc.freeze()  # so that collections are quick
    tracemalloc.start()
    try:
        with closing(engine(p, optimizer, clip=("norm", 5.0))) as e:
            train(e, p, 3, 0.001)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            for t in range(4, 14):
                e.step(p.batch, p.state, t, 0.001)
                gc.collect()
            return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@every_cell
def test_steady_steps_allocate_nothing_of_size(cell: Cell) -> None:
    """Less than 64 KiB for every cell, where one array of activations would be more; what a large
    vocabulary needs is the same for all cells, and below.
    """
    p = problem(cell, 15, T=36, H=32, V=65, dropout=0.1)
    held = bytes_held_by_ten_steps(p, adam)
    assert held < 65536, f"{held} bytes"


@both_vocabularies
def test_steady_steps_over_texts_allocate_nothing_of_size(V: int, T: int, B: int, H: int) -> None:
    """Nor when texts begin inside the window and some targets do not count."""
    p = problem(LSTM(), B, T=T, H=H, V=V)
    chosen = np.random.default_rng(0).random((2, T, B)) < 0.3
    targets = np.where(chosen[0], IGNORED, p.batch.targets)
    p.batch = Batch(p.batch.ids, targets, fresh=chosen[1])
    held = bytes_held_by_ten_steps(p, adam)
    assert held < 65536, f"{held} bytes"


@every_optimizer
@both_vocabularies
def test_steady_updates_allocate_nothing_of_size(
    optimizer: Any, V: int, T: int, B: int, H: int
) -> None:
    """Less than 64 KiB for every optimizer, with an embedding; and three copies of a matrix for one
    that works on matrices.
    """
    p = problem(RNN(), B, T=T, H=H, V=V, embedding=H)
    held = bytes_held_by_ten_steps(p, optimizer)
    copies = 3 * p.params["Wy"].nbytes if optimizer in parallel.BY_MATRIX else 0
    assert held < copies + 65536, f"{held} bytes"


# Shards, lanes and threads


@settings(derandomize=True, max_examples=200)
@given(st.integers(1, 5000))
def test_shards_cover_all_rows_evenly(batch_size: int) -> None:
    """In order, without gaps, as even as can be, 40 rows at most; an even number from 16 rows."""
    shards = shard_rows(batch_size)
    assert [row for s in shards for row in range(s.start, s.stop)] == list(range(batch_size))
    sizes = [s.stop - s.start for s in shards]
    assert max(sizes) - min(sizes) <= 1
    assert 1 <= min(sizes) <= max(sizes) <= 40
    assert len(shards) == 1 if batch_size < 16 else len(shards) % 2 == 0


@pytest.mark.parametrize("B", [1, 64, 256, 300, 1000])
def test_every_shard_is_in_one_lane(B: int) -> None:
    """Lanes take turns, there are eight at most, and what they hold does not depend on threads."""
    dealt = []
    for threads in (1, 4):
        with closing(engine(problem(RNN(), B, T=1, layers=1), threads=threads)) as e:
            dealt.append([lane.shards for lane in e.lanes])
            everywhere = [shard for lane in e.lanes for shard in lane.shards]
            assert sorted(everywhere) == list(range(len(e.shards)))
            assert len(e.lanes) == min(8, len(e.shards))
    assert dealt[0] == dealt[1]


@every_optimizer
def test_the_optimizers_vectors_begin_at_zero(optimizer: Any) -> None:
    """One for each that it declares, as long as the parameters."""
    p = problem(RNN(), 4)
    with closing(engine(p, optimizer)) as e:
        assert list(e.optimizer_state) == state_names(optimizer)
        for vector in e.optimizer_state.values():
            np.testing.assert_array_equal(vector, np.zeros_like(p.params.flat))


# BLAS


@pytest.fixture
def blas_threads() -> Iterator[Any]:
    """Functions that read and set BLAS's threads: the loaded BLAS's, left as they were."""
    control = blas._control()
    assert control is not None, "this NumPy's BLAS is neither OpenBLAS nor MKL"
    get, set_ = control
    before = get()
    yield get, set_
    set_(before)


@pytest.mark.parametrize("before", [1, 2])
def test_blas_is_held_to_one_thread_and_given_back(blas_threads: Any, before: int) -> None:
    """Inside the block one thread, after it what was set before, also after an error."""
    get, set_ = blas_threads
    set_(before)
    with blas.one_thread():
        assert get() == 1
        with blas.one_thread():
            assert get() == 1
        assert get() == 1
    assert get() == before
    with pytest.raises(ZeroDivisionError), blas.one_thread():
        raise ZeroDivisionError
    assert get() == before


def test_the_last_thread_to_leave_gives_blas_back(blas_threads: Any) -> None:
    """Whoever leaves first does not take from others, in threads of their own, what they still need."""
    get, set_ = blas_threads
    set_(2)
    first, second = blas.one_thread(), blas.one_thread()
    with ThreadPoolExecutor(1) as other:  # a thread of its own, which the calls wait for
        for leave_here_first in (True, False):
            first.__enter__()
            other.submit(second.__enter__).result()
            leave = [first.__exit__, lambda: other.submit(second.__exit__).result()]
            for step in leave if leave_here_first else leave[::-1]:
                assert get() == 1
                step()
            assert get() == 2


def test_a_step_holds_blas_and_gives_it_back(blas_threads: Any) -> None:
    """Optimizers run inside the hold; the caller's setting is back after the step."""
    get, set_ = blas_threads
    set_(2)
    seen = []

    def watching(w: Array, g: Array, tmp: Array, t: int, *, learning_rate: float = 1.0) -> None:
        seen.append(get())

    p = problem(RNN(), 20)
    with closing(engine(p, watching)) as e:
        train(e, p, 1)
    assert set(seen) == {1}
    assert get() == 2


def test_calls_of_every_length_are_counted() -> None:
    """What the shorter windows of `vary_length` add is about what it is said to be."""
    cut = Borders(10**4, 40, 0.5)
    longest, shorter = cut.longest, cut.shorter
    p = problem(LSTM(), 2, T=longest)
    with closing(engine(p, sgd)) as e:
        ids = p.batch.ids
        e.step(Batch(ids, ids), p.state, 1, 0.1)
        tracemalloc.start()
        for length in shorter:
            e.step(Batch(ids[:length], ids[:length]), p.state, 2, 0.1)
        added = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    one, all_ = (training_bytes(p.model, 2, longest, 0, shorter=s) for s in ((), shorter))
    assert len(shorter) == 8
    assert 0.75 < (all_ - one) / added < 1.33


def test_the_masks_of_weights_are_counted_once() -> None:
    """Whatever the number of lanes."""
    plain, masked = (Recurrent(5, RNN(), 6, 2, weight_dropout=rate) for rate in (0.0, 0.5))
    for streams in (2, 20):
        more = training_bytes(masked, streams, 4, 0) - training_bytes(plain, streams, 4, 0)
        assert more == 2 * 6 * 6 * 4  # two layers of 6 x 6 numbers
