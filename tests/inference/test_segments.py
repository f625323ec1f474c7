"""Segments that are read side by side: the figure of one stream, whatever a network remembers."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import all_cells, model_losses
from processes import children, forking

from rnnlm.arrays import Array
from rnnlm.backend.params import Parameters
from rnnlm.backend.workers import ForkedWorkers
from rnnlm.cells import LSTM, RNN
from rnnlm.errors import TrainingError
from rnnlm.inference.evaluation import Evaluation, evaluate
from rnnlm.models import segments
from rnnlm.models.mixture import Mixture, MixtureParams
from rnnlm.models.ngram import NGram
from rnnlm.models.recurrent import Recurrent
from rnnlm.text.batches import Streams
from rnnlm.watching import watching

V = 5


@pytest.fixture(autouse=True)
def _short_segments() -> object:
    """Texts of 64 symbols or more are cut into four segments, two in a group, of blocks of 8."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SEGMENTS", (4,))
        patch.setattr(segments, "SHORTEST", 4)
        patch.setattr(segments, "WINDOW", 8)
        yield


def oracle(model: Recurrent, params: Parameters, ids: Array) -> float:
    """The mean loss of one stream, in float64."""
    wide = {name: array.astype(np.float64) for name, array in params.items()}
    state = model.zero_state(1, np.float64)
    form = {"skip": model.skip, "residual": model.residual}
    losses, _ = model_losses(model.cell, wide, ids[:-1, None], ids[1:, None], state, **form)
    return float(losses.mean())


def close(result: Evaluation, model: Recurrent, params: Parameters, ids: Array) -> bool:
    return abs(result.nats_per_symbol - oracle(model, params, ids)) < 1e-6


@settings(max_examples=12, deadline=None)
@given(
    cell=st.sampled_from(all_cells()),
    embedding=st.sampled_from([None, 3]),
    n=st.integers(300, 500),
    form=st.sampled_from([{}, {"skip": True}, {"residual": True}, {"tie": True}]),
    gain=st.sampled_from([0.3, 0.6, 0.9]),
    seed=st.integers(0, 99),
)
def test_the_figure_is_that_of_one_stream(
    cell: object, embedding: int | None, n: int, form: dict[str, bool], gain: float, seed: int
) -> None:
    """A float64 oracle has it, of every cell and form, where a network forgets fast and slowly."""
    form = form if embedding or "tie" not in form else {}
    model = Recurrent(V, cell, 6, 2, embedding, **form)  # type: ignore[arg-type]
    rng = np.random.default_rng(seed)
    params = model.init(rng)
    params.flat *= gain
    ids = rng.integers(V, size=n).astype(np.uint8)
    result = evaluate(model, params, ids, workers=1)
    assert result.read_again > 0
    assert close(result, model, params, ids)


def test_what_a_network_forgets_is_not_read_again() -> None:
    """Most of a text stands where the states agree soon."""
    model = Recurrent(V, LSTM(), 6, 2)
    params = model.init(np.random.default_rng(0))
    params.flat *= 0.6
    ids = np.random.default_rng(1).integers(V, size=1603)
    result = evaluate(model, params, ids, workers=1)
    assert 0 < result.read_again < 600
    assert close(result, model, params, ids)


def test_a_network_that_never_forgets_is_read_as_one_stream() -> None:
    """The identity RNN holds the sum of all inputs: nothing but the first segment stands."""
    model = Recurrent(V, RNN("identity"), 4, 1)
    params = model.init(np.random.default_rng(0))
    params["layers.0.Wh"][:] = np.eye(4)
    params["layers.0.Wx"][:] *= 0.005
    ids = np.random.default_rng(1).integers(V, size=401)
    result = evaluate(model, params, ids, workers=1)
    assert result.read_again > 300
    assert close(result, model, params, ids)


def counter(step: Array) -> tuple[Recurrent, Parameters]:
    """An LSTM whose first c is the sum of step[symbol] of all symbols read, for ever."""
    model = Recurrent(len(step), LSTM(), 4, 1)
    params = model.init(np.random.default_rng(0))
    params.flat *= 0.5
    Wx, Wh, b = (params[f"layers.0.{name}"] for name in ("Wx", "Wh", "b"))
    Wx[:, :, 0] = Wh[:, :, 0] = 0
    b[:, 0] = 20, 20, 20, 0  # I, F, O are 1
    Wx[3, :, 0] = np.arctanh(step)
    params["Wy"][0] = np.linspace(-2, 2, len(step))
    return model, params


@pytest.mark.parametrize("turn", [0, 250, 450, 800])
def test_a_number_may_count_for_ever_unseen_but_not_come_back(turn: int) -> None:
    """Far beyond what is seen it needs no agreement; where it is counted down again, it did."""
    model, params = counter(np.array([0.5, -0.9, 0.4, 0.6]))
    up, down = np.arange(800) % 4, np.ones(800, np.intp)
    up[up == 1] = 0
    ids = np.append(up[:turn], np.where(np.arange(800 - turn) % 3, down[turn:], up[turn:]))
    ids = ids if turn else up
    result = evaluate(model, params, ids, workers=1)
    assert close(result, model, params, ids)
    assert (result.read_again < 400) == (turn in (0, 800)), result


def test_the_networks_of_a_mixture_are_read_so() -> None:
    """Beside counts with weights by context: the figure is that of the windows of one stream."""
    ids = np.random.default_rng(1).integers(V, size=700)
    net, counts = Recurrent(V, LSTM(), 6, 2), NGram(V, order=3)
    parts = {"net": net.init(np.random.default_rng(0)), "counts": counts.fit(ids[:300])}
    parts["net"].flat *= 0.6
    model = Mixture(V, {"net": net, "counts": counts})
    weights = np.random.default_rng(2).dirichlet([1, 1], size=model.lengths_known(parts))
    params = MixtureParams(weights, parts)
    result = evaluate(model, params, ids, workers=1)
    windows, reader = Streams(ids, 1, 50), model.read(params, 1)
    expected = sum(reader(windows(0, k)) for k in range(len(windows)))
    assert 0 < result.read_again < 699
    assert abs(result.nats - expected) / 699 < 1e-6


def test_no_worker_where_a_process_may_not_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a thread beside it one process reads, to the same bits."""
    monkeypatch.setattr(ForkedWorkers, "__init__", lambda *_: pytest.fail("a fork"))
    model, params = counter(np.array([0.5, -0.9, 0.4, 0.6]))
    ids = np.random.default_rng(1).integers(4, size=300)
    expected, ended = evaluate(model, params, ids, workers=1), threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    try:
        assert evaluate(model, params, ids, workers=2) == expected
    finally:
        ended.set()
        thread.join()


@forking
def test_an_interrupted_reading_leaves_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a watcher raises ends it, and the workers."""
    monkeypatch.setattr(segments, "forked", ForkedWorkers)
    model, params = counter(np.array([0.5, -0.9, 0.4, 0.6]))
    before, seen = children(), []

    def watch(*_: object) -> None:
        seen.append(children() - before)
        raise KeyboardInterrupt

    with watching(watch), pytest.raises(KeyboardInterrupt):
        evaluate(model, params, np.arange(300) % 4, workers=2)
    assert [len(workers) for workers in seen] == [1]
    assert children() == before


@forking
def test_workers_do_not_change_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One to four, for four groups of rows."""
    monkeypatch.setattr(segments, "forked", ForkedWorkers)
    monkeypatch.setattr(segments, "MOST_ROWS", 1)
    model, params = counter(np.array([0.5, -0.9, 0.4, 0.6]))
    ids = np.random.default_rng(1).integers(4, size=300)
    found = [evaluate(model, params, ids, workers=workers) for workers in (1, 2, 3, 4)]
    assert found == [found[0]] * 4
    assert found[0].read_again


def test_progress_goes_up_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the segments, from the first window on, since a block of a long text takes seconds; then,
    where they are given up, of what is read as one stream.
    """
    monkeypatch.setattr(segments, "MOST_BLOCKS", 2)
    model, params = counter(np.array([0.5, -0.9, 0.4, 0.6]))
    seen: list[tuple[int, int]] = []
    with watching(lambda _, done, total: seen.append((done, total))):
        evaluate(model, params, np.random.default_rng(1).integers(4, size=800), workers=1)
    passes = [seen[: k + 1] for k, (done, total) in enumerate(seen) if done == total]
    done = [done for done, _ in passes[0]]
    assert done == sorted(done)
    assert done[0] == 1 and len(set(done)) > 12
    assert len({total for _, total in passes[0]}) == 1
    assert seen[-1][0] == seen[-1][1]


def test_weights_that_are_too_large_are_an_error() -> None:
    """As in one stream."""
    model, params = counter(np.array([0.5, -0.9, 0.4, 0.6]))
    params["Wy"][:] = 3e38
    with pytest.raises(TrainingError, match="not finite"):
        evaluate(model, params, np.arange(300) % 4, workers=1)


def test_records_do_not_grow_with_the_text() -> None:
    """A text ten times as long takes no more memory but for its ids."""
    model, params = counter(np.array([0.5, -0.9, 0.4, 0.6]))
    sizes = []
    for n in (8001, 80001):
        made = segments.Segments(model, params, model.zero_state(1), np.zeros(n, np.uint8), 4, None)
        arrays = [a for name, a in vars(made).items() if isinstance(a, np.ndarray)]
        sizes.append(sum(a.nbytes for a in arrays if a.dtype != np.uint8))
    assert sizes[1] <= sizes[0] < 100_000
