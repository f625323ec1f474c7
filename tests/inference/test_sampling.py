"""Sampling: filters keep what they promise, seeds repeat, sample i does not depend on its company."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import every_cell
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from oracles import all_cells
from processes import children, forking

from rnnlm import Checkpoint, ConfigError, make_config, samples, stream
from rnnlm import generate as generate_text
from rnnlm.assembly import build_model
from rnnlm.backend.workers import ForkedWorkers
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import Cell
from rnnlm.cli.sample import command as sample_command
from rnnlm.inference import sampling
from rnnlm.inference.filters import FILTERS, temperature, top_k, top_p
from rnnlm.inference.sampling import draw, generate, texts
from rnnlm.models.recurrent import Recurrent
from rnnlm.text.batches import Batch
from rnnlm.text.format import LEVELS, TextFormat, TextRules

LOGITS = arrays(np.float32, (3, 9), elements=st.floats(-30, 30, width=32))


def softmax(logits: np.ndarray) -> np.ndarray:
    wide = logits.astype(np.float64)
    p = np.exp(wide - wide.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@given(LOGITS, st.integers(1, 12))
def test_top_k_keeps_the_k_largest(logits: np.ndarray, k: int) -> None:
    """What is kept is at least as large as what is not, and k or, with ties, more are kept."""
    out = logits.copy()
    top_k(out, k)
    for before, after in zip(logits, out, strict=True):
        kept = np.isfinite(after)
        assert kept.sum() >= min(k, 9)
        assert (after[kept] == before[kept]).all()
        if not kept.all():
            assert before[kept].min() > before[~kept].max()
            assert (before > before[kept].min()).sum() < k


@given(LOGITS, st.floats(0.01, 1))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: np.ndarray, p: float) -> None:
    """The nucleus reaches p, and without its least member it does not."""
    out = logits.copy()
    top_p(out, p)
    for probabilities, after in zip(softmax(logits), out, strict=True):
        kept = np.isfinite(after)
        mass = probabilities[kept].sum()
        assert mass >= p - 1e-5
        assert mass - probabilities[kept].min() <= p + 1e-5
        if not kept.all():
            assert probabilities[kept].min() >= probabilities[~kept].max() - 1e-9


@given(LOGITS, st.floats(1e-30, 100))
def test_temperature_divides_differences(logits: np.ndarray, value: float) -> None:
    """The distribution is softmax(logits / T), without overflow at tiny T."""
    out = logits.copy()
    temperature(out, value)
    wide = logits.astype(np.float64)
    expected = softmax((wide - wide.max(axis=1, keepdims=True)) / value)
    assert np.allclose(softmax(out), expected, atol=1e-4)


@pytest.mark.parametrize("value", [1e-44, 1e-46, 1e-300])
def test_a_temperature_too_small_for_the_precision_is_greedy(value: float) -> None:
    """Not the opposite."""
    out = np.array([[1.0, 3.0, 2.0]], np.float32)
    with np.errstate(all="ignore"):
        temperature(out, value)
    assert draw(out, np.array([0.999]))[0] == 1


@given(LOGITS)
def test_temperature_zero_is_greedy(logits: np.ndarray) -> None:
    """Only the largest logit is left, the first of equals."""
    out = logits.copy()
    temperature(out, 0)
    u = np.array([0.0, 0.5, 0.999999])
    assert draw(out, u).tolist() == logits.argmax(axis=1).tolist()


def test_draws_follow_the_probabilities() -> None:
    """Over an even grid of uniforms each id is drawn in proportion to its probability."""
    logits = np.log(np.array([[0.5, 0.0, 0.125, 0.375]]) + 1e-30)
    grid = (np.arange(8000) + 0.5) / 8000
    drawn = draw(np.tile(logits, (8000, 1)), grid)
    assert np.bincount(drawn, minlength=4).tolist() == [4000, 0, 1000, 3000]


@pytest.mark.parametrize("u", [0.0, np.nextafter(1.0, 0.0)])
def test_an_excluded_id_is_never_drawn(u: float) -> None:
    """Not even at the ends of the interval."""
    logits = np.array([[-np.inf, 0.0, -np.inf, 0.0, -np.inf]], np.float32)
    assert draw(logits, np.array([u]))[0] in (1, 3)


@pytest.mark.parametrize("shift", [-2000.0, -800.0, 0.0, 800.0, 1e30])
@pytest.mark.parametrize("n", [1, 3])
def test_draws_do_not_depend_on_the_size_of_the_logits(shift: float, n: int) -> None:
    """Where exp overflows or underflows, too, only differences count."""
    logits = np.array([[0.0, -np.inf, 1.0]], np.float32) + np.float32(shift)
    expected = [0, 0, 2, 2] if abs(shift) < 1e6 else [0, 0, 0, 2]  # beyond: 1 more is nothing
    with np.errstate(over="ignore"):  # as generate has it
        drawn = [
            draw(np.tile(logits, (n, 1)), np.full(n, u)).tolist() for u in (0.0, 0.26, 0.48, 0.9)
        ]
    assert drawn == [[k] * n for k in expected]


@pytest.mark.parametrize("embedding", [None, 5])
@every_cell
def test_steps_give_the_logits_of_a_window(cell: Cell, embedding: int | None) -> None:
    """One character at a time is the same function as the training forward pass."""
    model = Recurrent(7, cell, 20, 2, embedding)
    params = model.init(np.random.default_rng(0))
    ids = np.random.default_rng(1).integers(7, size=(9, 3))
    weights = model.weights(params, 3)
    top = model.forward(weights, Batch(ids, ids), model.zero_state(3), Workspace())[-1].output
    expected = (top @ params["Wy"] + params["by"]).reshape(9, 3, 7)
    texts = model.begin(params, 3)
    for row, logits in zip(ids, expected, strict=True):
        assert np.allclose(texts.step(row), logits, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 4])
@every_cell
def test_a_sample_does_not_depend_on_how_many_there_are(
    cell: Cell, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sample i alone, and among 9, to the bit of every logit, hence to the character."""
    monkeypatch.setattr("rnnlm.backend.blas.rows_at_once", lambda: rows)
    model = Recurrent(13, cell, 24, 2)
    params = model.init(np.random.default_rng(0))
    ids = np.random.default_rng(1).integers(13, size=(6, 9))
    together, alone = model.begin(params, 9), model.begin(params, 1)
    for row in ids:
        many, one = together.step(row).copy(), alone.step(row[:1]).copy()
        assert (many[0] == one[0]).all()
    few = np.stack(list(generate(model, params, [1, 2], 40, seed=5, num_samples=2)))
    more = np.stack(list(generate(model, params, [1, 2], 40, seed=5, num_samples=9)))
    assert (few == more[:, :2]).all()
    assert not (more[:, 0] == more[:, 1]).all()


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    """Another seed or another position gives other numbers."""
    model = Recurrent(13, all_cells()[0], 8, 1)
    params = model.init(np.random.default_rng(0))

    def run(**kwargs: object) -> list[int]:
        return [int(i[0]) for i in generate(model, params, [1], 60, **kwargs)]  # type: ignore[arg-type]

    assert run(seed=1) == run(seed=1)
    assert run(seed=1) != run(seed=2)
    assert run(seed=1) != run(seed=1, position=(3,))


def test_without_a_prime_the_first_character_follows_the_frequencies() -> None:
    """It is drawn from what the training text holds, from the zero state."""
    model = Recurrent(4, all_cells()[0], 8, 1)
    params = model.init(np.random.default_rng(0))
    first = np.array([0.0, 0.25, 0.0, 0.75])
    steps = generate(model, params, (), 1, num_samples=2000, first=first)
    share = np.bincount(next(iter(steps)), minlength=4) / 2000
    assert share[0] == share[2] == 0
    assert share[3] == pytest.approx(0.75, abs=0.04)


def test_every_filter_is_an_option_of_the_command() -> None:
    """A filter added to the table must be reachable."""
    assert set(FILTERS) <= {option.name for option in sample_command.params}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("length", v) for v in (1 << 63, 10**5000, -1, 1.5, "5", None, True, math.nan)),
        *(("num_samples", v) for v in (1 << 63, 0, 10**5000, 2.0, "2", None)),
        *(("top_k", v) for v in (0, -(10**5000), 1.5, "3", [])),
        *(("top_p", v) for v in (0, 2, math.nan, "0.5", 10**400, [])),
        *(("temperature", v) for v in (-1, math.nan, "1", 1j)),
        *(("seed", v) for v in (-1, 1.5, "0", None)),
        ("stop", None),
        ("stop", b"x"),
        ("unknown", "sikp"),
        ("unknown", []),
    ],
    ids=lambda value: f"{value!s:.20}" if not isinstance(value, int) else "",
)
def test_a_value_out_of_range_or_of_a_wrong_type_is_named(name: str, value: object) -> None:
    """Before anything is drawn or memory is taken; numbers with thousands of digits, too."""
    with pytest.raises(ConfigError, match=f"^{name} must be .*, not ") as caught:
        samples(small_checkpoint(), **{name: value})  # type: ignore[arg-type]
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("level", sorted(LEVELS))
def test_pieces_of_a_stream_are_the_generated_text(level: str) -> None:
    """A text at once, in pieces that are not empty, and beside others: the same."""
    checkpoint = small_checkpoint(level)
    text = generate_text(checkpoint, "a", 40, seed=5, top_p=0.9)
    pieces = list(stream(checkpoint, "a", 40, seed=5, top_p=0.9))
    assert len(text) == 40
    assert "".join(pieces) == text
    assert all(pieces)
    steps = samples(checkpoint, "a", 40, seed=5, top_p=0.9, num_samples=2)
    together = ["".join(pieces) for pieces in zip(*steps, strict=True)]
    assert together[0] == text != together[1]
    before, _, _ = text.partition(text[20:22])
    assert generate_text(checkpoint, "a", 40, seed=5, top_p=0.9, stop=text[20:22]) == before


def test_large_values_that_mean_something_are_taken() -> None:
    """A k beyond the vocabulary keeps all of it; a seed is any natural number."""
    checkpoint = small_checkpoint()
    drawn = generate_text(checkpoint, "a", 9, top_k=1 << 64, seed=10**30)
    assert len(drawn) == 9
    assert drawn != generate_text(checkpoint, "a", 9, seed=10**30 + 1)


def small_checkpoint(level: str = "char") -> Checkpoint:
    """An untrained model of seven letters."""
    config = make_config(None, "model.hidden_size=8", "model.num_layers=1")
    params = build_model(config, 7).init(np.random.default_rng(0))
    vocabulary = LEVELS["char"](np.arange(97, 104))
    text_format = TextFormat(TextRules.of(config.data), vocabulary)
    return Checkpoint(config, text_format, params, counts=np.ones(7, np.int64))


@forking
@pytest.mark.parametrize("end", [None, 0])
def test_workers_draw_what_one_process_draws(
    end: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two or three of them, to the end of the longest text; none is left when nobody reads on."""
    model = Recurrent(9, all_cells()[0], 16, 1)
    params = model.init(np.random.default_rng(0))
    before = children()

    def drawn(workers: int, length: int = 37) -> list[list[int]]:
        monkeypatch.setattr(sampling, "available_cores", lambda: workers)
        steps = generate(model, params, [3], length, num_samples=26, seed=5, end=end, begin=2)
        return texts(steps, 26, end)

    alone = drawn(1)
    monkeypatch.setattr(sampling, "forked", ForkedWorkers)
    monkeypatch.setattr(sampling, "FEWEST", 0)
    assert drawn(2) == drawn(3) == alone
    monkeypatch.setattr(sampling, "DRAWN", 26 * 37)  # all in one go
    assert drawn(2) == alone
    steps = generate(model, params, [3], 100, num_samples=26)
    next(steps)
    assert len(children() - before) == 2 - 1
    del steps
    assert children() == before
