"""The model and the optimizers against PyTorch's values, which support/golden.py made."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import ROOT

from rnnlm.arrays import Array
from rnnlm.backend.params import Parameters
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import CELLS
from rnnlm.config.kinds import options
from rnnlm.models.recurrent import Recurrent
from rnnlm.optim.optimizers import BY_MATRIX, OPTIMIZERS, state_names
from rnnlm.text.batches import Batch

with np.load(ROOT / "tests" / "support" / "golden.npz") as file:
    GOLDEN: dict[str, Array] = dict(file)
CASES = json.loads(str(GOLDEN["cases"]))


def under(prefix: str) -> dict[str, Array]:
    """The golden arrays below a prefix, by the rest of their names."""
    return {k.removeprefix(prefix): a for k, a in GOLDEN.items() if k.startswith(prefix)}


def golden_model(case: str) -> tuple[Recurrent, Parameters]:
    """The model of a case with its parameters."""
    described = CASES["models"][case]
    make, arrays = CELLS[described["cell"]], under(f"{case}/params/")
    cell = make(**{name: described[name] for name in options(make)})
    H, V = arrays["Wy"].shape
    embedding = arrays["embedding"].shape[1] if "embedding" in arrays else None
    model = Recurrent(V, cell, H, described["layers"], embedding)
    params = Parameters(model.shapes, np.float64)
    assert params.keys() == arrays.keys()
    for name, array in arrays.items():
        params[name][:] = array
    return model, params


@pytest.mark.parametrize("case", CASES["models"])
def test_model_gives_pytorchs_loss_state_and_gradients(case: str) -> None:
    """The mean loss, the final state, every parameter's gradient and the initial state's."""
    model, params = golden_model(case)
    g = under(f"{case}/")
    state, dstate, d = g["state"].copy(), np.zeros_like(g["state"]), params.like()
    weights = model.weights(params, rows=g["ids"].shape[1])
    scale = 1 / g["ids"].size
    loss = model.loss_and_grad(
        weights,
        Batch(g["ids"], g["targets"]),
        state,
        d,
        Workspace(np.float64),
        scale,
        dstate=dstate,
    )
    np.testing.assert_allclose(loss * scale, g["loss"], rtol=1e-12)
    np.testing.assert_allclose(state, g["final"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(dstate, g["dstate"], rtol=0, atol=1e-12)
    for name, expected in under(f"{case}/gradients/").items():
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(d[name], expected, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("case", CASES["optimizers"])
def test_optimizer_takes_pytorchs_steps(case: str) -> None:
    """The parameter after each of several steps, with gradients of very different sizes."""
    described = CASES["optimizers"][case]
    optimizer = OPTIMIZERS[described["name"]]
    w = GOLDEN["optimizers/start"].copy()
    state = {name: np.zeros_like(w) for name in state_names(optimizer)}
    steps = GOLDEN[f"{case}/steps"]
    for t, (g, expected) in enumerate(
        zip(GOLDEN["optimizers/gradients"], steps, strict=True), start=1
    ):
        tmp = np.full_like(w, np.nan)
        optimizer(w, g.copy(), tmp, t, **state, **described["options"])
        np.testing.assert_allclose(w, expected, rtol=1e-12, atol=1e-12, err_msg=f"step {t}")
    assert np.abs(steps[-1] - GOLDEN["optimizers/start"]).min() > 1e-6


def test_every_optimizer_has_golden_steps() -> None:
    """A new optimizer wants a line in support/golden.py. Those of matrices, which PyTorch computes in
    bfloat16, have the SVD as an oracle (test_optim.py).
    """
    others = {name for name, optimizer in OPTIMIZERS.items() if optimizer in BY_MATRIX}
    assert {case["name"] for case in CASES["optimizers"].values()} | others == set(OPTIMIZERS)
