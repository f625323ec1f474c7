"""Optimizers and schedules as such; test_golden.py holds the optimizers against PyTorch."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from rnnlm.arrays import Array
from rnnlm.config.kinds import Flag, Number, options
from rnnlm.optim.optimizers import (
    BY_MATRIX,
    OPTIMIZERS,
    Optimizer,
    adam,
    adamw,
    muon,
    orthogonal,
    sgd,
    state_names,
)
from rnnlm.optim.schedules import (
    NEEDS_TOTAL,
    SCHEDULES,
    Position,
    constant,
    cosine,
    exponential,
    one_cycle,
    plateau,
)

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=list(SCHEDULES))


def run(
    optimizer: Optimizer,
    pieces: list[slice],
    dtype: Any = np.float32,
    shape: tuple[int, ...] = (1000,),
    **chosen: Any,
) -> list[Array]:
    """The parameters and the state vectors after six steps, worked on piece by piece."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal(shape).astype(dtype)
    state = {name: np.zeros_like(w) for name in state_names(optimizer)}
    for t in range(1, 7):
        g = rng.standard_normal(shape).astype(dtype)
        tmp = np.full_like(w, np.nan)
        for piece in pieces:
            pieces_of_state = {name: vector[piece] for name, vector in state.items()}
            optimizer(w[piece], g[piece], tmp[piece], t, **pieces_of_state, **chosen)
    return [w, *state.values()]


@every_optimizer
def test_chunks_change_no_bit(optimizer: Optimizer) -> None:
    """Whole vectors and odd pieces in any order give the same parameters and the same state."""
    whole = run(optimizer, [slice(None)])
    pieces = [slice(513, 1000), slice(1, 16), slice(0, 1), slice(16, 513)]
    for a, b in zip(whole, run(optimizer, pieces), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.all()


@every_optimizer
def test_single_precision_differs_from_double_by_rounding(optimizer: Optimizer) -> None:
    """float32 vectors, in use, follow float64 vectors, which PyTorch's values are compared with."""
    single, double = (run(optimizer, [slice(None)], dtype) for dtype in (np.float32, np.float64))
    for a, b in zip(single, double, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=0, atol=5e-6)


@every_optimizer
def test_steps_lead_downhill(optimizer: Optimizer) -> None:
    """With default options and a small rate, steps along the gradient of w² / 2 bring w nearer 0."""
    w = np.array([1.0, -2.0, 3.0])
    state = {name: np.zeros(3) for name in state_names(optimizer)}
    for t in range(1, 21):
        before = np.abs(w)
        optimizer(w, w.copy(), np.empty(3), t, **state, learning_rate=0.01)
        assert (np.abs(w) < before).all()


@every_optimizer
def test_every_option_changes_the_steps(optimizer: Optimizer) -> None:
    """No option is accepted and ignored."""
    for name, option in options(optimizer).items():
        base = {"momentum": 0.5} if name == "nesterov" else {}
        other = not option.default if isinstance(option.kind, Flag) else option.default * 0.5 + 0.1
        changed = []
        for shape in [(1000,), (40, 25)] if optimizer in BY_MATRIX else [(1000,)]:
            values = (option.default, other)
            a, b = (run(optimizer, [slice(None)], shape=shape, **base, **{name: v}) for v in values)
            changed.append((a[0] != b[0]).any())
        assert any(changed), name


@every_optimizer
def test_options_at_their_limits_leave_numbers(optimizer: Optimizer) -> None:
    """In float32, also where there was never a gradient; every number has a limit on either side."""
    for name, option in options(optimizer).items():
        if isinstance(option.kind, Flag):
            continue
        kind = option.kind
        assert isinstance(kind, Number), name
        assert kind.low is not None, name
        assert (kind.high is None) != (kind.below is None), name
        most = kind.high if kind.below is None else math.nextafter(kind.below, 0)
        for value in (kind.low, most):
            w = np.ones(3, np.float32)
            state = {name: np.zeros(3, np.float32) for name in state_names(optimizer)}
            chosen = {"learning_rate": 1e-3, name: value}
            for t in (1, 2):
                g = np.array([0, 1, 1e-20], np.float32)
                optimizer(w, g, np.empty(3, np.float32), t, **state, **chosen)
            assert np.isfinite([w, *state.values()]).all(), (name, value)


def test_an_optimizers_state_is_its_keywords_without_a_default() -> None:
    """In order; positional parameters and options are no state, wherever they stand."""

    def decaying(
        w: Array, g: Array, tmp: Array, t: int, more: int, *, a: Array, b: float = 1, c: Array
    ) -> None:
        """An optimizer with two vectors."""

    assert state_names(decaying) == ["a", "c"]
    assert list(options(decaying)) == ["b"]
    assert {name: state_names(optimizer) for name, optimizer in OPTIMIZERS.items()} == {
        "sgd": ["velocity"],
        "rmsprop": ["square"],
        "adagrad": ["square"],
        "adam": ["m", "v"],
        "adamw": ["m", "v"],
        "muon": ["m", "v"],
    }


def test_plain_sgd_subtracts_rate_times_gradient() -> None:
    """w - lr · g, and the velocity is the gradient."""
    w, velocity = np.array([1.0, 2.0]), np.zeros(2)
    sgd(w, np.array([3.0, -4.0]), np.empty(2), 1, velocity=velocity, learning_rate=0.5)
    np.testing.assert_array_equal(w, [-0.5, 4.0])
    np.testing.assert_array_equal(velocity, [3.0, -4.0])


@pytest.mark.parametrize("shape", [(12, 12), (5, 30), (30, 5), (1, 7)])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e17])
def test_muon_takes_a_polynomial_of_each_singular_value(
    shape: tuple[int, int], scale: float
) -> None:
    """An oracle from the SVD, of gradients of any size: the update has the singular vectors of
    g + μ m, and singular values near 1.
    """
    rng = np.random.default_rng(3)
    gradients = scale * rng.standard_normal((2, *shape))
    w, m, v = np.ones(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    expected, momentum = np.ones(shape), np.zeros(shape)
    for t, g in enumerate(gradients, 1):
        tmp = np.empty(shape, np.float32)
        rates = {"learning_rate": 0.01, "matrix_rate": 0.3, "momentum": 0.9, "weight_decay": 0.5}
        muon(w, g.astype(np.float32), tmp, t, m=m, v=v, **rates)
        momentum = 0.9 * momentum + g
        U, sigma, V = np.linalg.svd(g + 0.9 * momentum, full_matrices=False)
        sigma /= np.linalg.norm(sigma)
        for _ in range(5):
            sigma = 3.4445 * sigma - 4.775 * sigma**3 + 2.0315 * sigma**5
        update = 0.3 * math.sqrt(max(shape)) * (U * sigma) @ V
        expected = expected - 0.01 * (update + 0.5 * expected)
    np.testing.assert_allclose(w, expected, rtol=0, atol=2e-6)
    assert not v.any()


def test_singular_values_are_brought_near_one() -> None:
    """Those down to a thirtieth of the largest, and no gradient gives no update."""
    rng = np.random.default_rng(4)
    U, V = (np.linalg.qr(rng.standard_normal((20, 20)))[0] for _ in range(2))
    found = np.linalg.svd(orthogonal((U * np.geomspace(1, 1 / 30, 20)) @ V), compute_uv=False)
    assert found.min() > 0.6
    assert found.max() < 1.3
    assert not orthogonal(np.zeros((3, 4))).any()


def test_adams_first_step_is_the_rate_whatever_the_gradients_size() -> None:
    """The corrected moments are g and g², so that the first step is lr · sign(g)."""
    w = np.zeros(4)
    g = np.array([1e-3, -1.0, 50.0, 1e3])
    adam(w, g.copy(), np.empty(4), 1, m=np.zeros(4), v=np.zeros(4), learning_rate=0.1)
    np.testing.assert_allclose(w, -0.1 * np.sign(g), rtol=2e-5)


def test_adamw_without_decay_is_adam() -> None:
    """Bit for bit; with it, weights shrink even where there is no gradient."""
    for a, b in zip(
        run(adam, [slice(None)]), run(adamw, [slice(None)], weight_decay=0.0), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    w = np.ones(2)
    g, tmp, m, v = np.zeros((4, 2))
    adamw(w, g, tmp, 1, m=m, v=v, learning_rate=0.1, weight_decay=0.5)
    np.testing.assert_allclose(w, 0.95, rtol=1e-15)


# Schedules


def at(step: int, per_epoch: int = 10, total: int = 300, drops: int = 0) -> Position:
    """Where a run is whose epochs have that many updates."""
    return Position(step, step // per_epoch, total, drops)


@every_schedule
def test_rates_fall_from_the_configured_to_above_zero(schedule: Any) -> None:
    """With default options, once they have reached it; they never rise after that, or above it."""
    rates = [schedule(at(step), 0.5) for step in range(300)]
    top = rates.index(max(rates))
    assert rates[top] == 0.5
    assert top == 0 or "warmup_steps" not in options(schedule)
    assert all(later > earlier for earlier, later in pairwise(rates[: top + 1]))
    assert all(later <= earlier for earlier, later in pairwise(rates[top:]))
    assert rates[-1] > 0


@every_schedule
def test_rates_are_proportional_to_the_configured(schedule: Any) -> None:
    """Twice the rate is twice the rate at every step."""
    for step in (0, 7, 150, 299):
        once, twice = (schedule(at(step), rate) for rate in (0.1, 0.2))
        assert math.isclose(2 * once, twice, rel_tol=1e-15)


def test_constant_is_constant() -> None:
    """The same rate at the first update and at any other."""
    assert [constant(at(step), 0.3) for step in (0, 50, 99, 1000)] == [0.3] * 4


def test_exponential_decays_once_an_epoch() -> None:
    """Unchanged for `from_epoch` epochs, then a factor at the start of each epoch, not in between."""
    rates = [exponential(at(step, 4), 1.0, decay=0.5, from_epoch=3) for step in range(24)]
    assert rates == [1.0] * 12 + [0.5] * 4 + [0.25] * 4 + [0.125] * 4


def test_cosine_takes_known_values() -> None:
    """The whole rate at first, half of it half-way, the final rate at the end and after."""
    rates = {step: cosine(at(step, 10, 100), 2.0) for step in (0, 25, 50, 75, 100, 200)}
    expected = {0: 2.0, 25: 1 + math.sqrt(0.5), 50: 1.0, 75: 1 - math.sqrt(0.5), 100: 0, 200: 0}
    assert rates == pytest.approx(expected, abs=1e-15)
    assert cosine(at(100, 10, 100), 2.0, final_learning_rate=0.25) == 0.25
    assert cosine(at(50, 10, 100), 2.0, final_learning_rate=0.5) == pytest.approx(1.25)


@every_schedule
def test_every_schedule_but_one_cycle_warms_up_in_a_straight_line(schedule: Any) -> None:
    """From a share of the rate at the first update to all of it at the end of the warm-up."""
    if schedule is one_cycle:
        assert "warmup_steps" not in options(schedule)
        return
    rates = [schedule(at(step), 1.0, warmup_steps=5) for step in range(300)]
    np.testing.assert_allclose(rates[:6], [0.2, 0.4, 0.6, 0.8, 1.0, 1.0], rtol=1e-15)
    assert all(later <= earlier for earlier, later in pairwise(rates[5:]))


def test_plateau_multiplies_at_every_drop() -> None:
    """Whatever the step."""
    assert [plateau(at(9, drops=n), 0.8, factor=0.25) for n in range(3)] == [0.8, 0.2, 0.05]


def test_one_cycle_takes_known_values() -> None:
    """From a share of the rate to all of it, back as slowly, then to zero; also without a tail."""
    rates = {step: one_cycle(at(step, 10, 100), 2.0, rise=0.4, low=0.1) for step in range(101)}
    expected = {0: 0.2, 20: 1.1, 40: 2.0, 60: 1.1, 80: 0.2, 90: 0.1, 100: 0.0}
    assert {step: rates[step] for step in expected} == pytest.approx(expected, abs=1e-12)
    assert one_cycle(at(99, 10, 100), 1.0, rise=0.5, low=0.1) == pytest.approx(0.118)


def test_schedules_that_need_the_total_are_listed() -> None:
    """Those, and only those, whose rates change when a run is made longer."""
    for name, schedule in SCHEDULES.items():
        short, long = ([schedule(at(s, 10, n), 1.0) for s in range(50)] for n in (50, 500))
        assert (short != long) == (name in NEEDS_TOTAL)
