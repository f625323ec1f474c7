"""Every cell alone: over a window of dense input, forward and back, against its oracle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from cases import every_cell
from oracles import (
    PHI,
    STEPS,
    all_cells,
    assert_is_gradient,
    cell_forward,
    cell_keys,
    lstm_reference,
)

from rnnlm.arrays import Array, Shape
from rnnlm.assembly import build_model, make_config
from rnnlm.backend.params import Parameters
from rnnlm.backend.tape import Tape, Unrecorded
from rnnlm.backend.tiles import PackedMatrix
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import CELLS, GRU, LSTM, RNN, Cell, steps
from rnnlm.cells.rnn import ACTIVATIONS
from rnnlm.models.layers import dense_projection, dense_projection_backward

pytestmark = pytest.mark.usefixtures("one_blas_thread")


def room(ws: Workspace, name: str) -> Callable[[Shape], Array]:
    """Allocates the memory of a packed matrix in a workspace."""
    return lambda shape: ws(name, *shape)


@dataclass
class Window:
    """A cell with its layer's projection, inputs, and a random gradient for all that comes out."""

    cell: Cell
    params: Parameters  # Wx, b and the cell's own
    X: Array  # (T·B, D)
    state: Array  # (S, B, H)
    dh: Array  # (T, B, H)
    dstate: Array  # (S, B, H)

    @classmethod
    def of(
        cls, cell: Cell, T: int = 5, B: int = 3, H: int = 6, D: int = 4, dtype: Any = np.float64
    ) -> Window:
        rng = np.random.default_rng(1)
        G, S = len(cell.gates), len(cell.states)
        own = {name: parameter.shape for name, parameter in cell.parameters(H).items()}
        params = Parameters({"Wx": (G, D, H), "b": (G, H), **own}, dtype)
        params.flat[:] = rng.standard_normal(params.flat.size) / np.sqrt(H)
        shapes = [(T * B, D), (S, B, H), (T, B, H), (S, B, H)]
        return cls(cell, params, *(rng.standard_normal(s).astype(dtype) for s in shapes))

    def weights(self, ws: Workspace) -> dict[str, Any]:
        """The parameters as the steps want them: those declared so packed, and transposed too."""
        B, w = self.dh.shape[1], dict(self.params)
        for name, parameter in self.cell.parameters(self.dh.shape[2]).items():
            if parameter.packed:
                G, K, N = parameter.shape
                W = PackedMatrix.empty((G, K, N), B, room(ws, name))
                WT = PackedMatrix.empty((G, N, K), B, room(ws, name + "T"))
                for k in range(G):
                    W.fill(k, self.params[name][k], self.cell.scale[k])
                    WT.fill(k, self.params[name][k].T)
                w |= {name: W, name + "T": WT}
        return w

    def forward(self, ws: Workspace | None = None) -> tuple[Array, Array, dict[str, Any]]:
        """z, the states s, and the weights as the steps want them."""
        (T, B, H), G = self.dh.shape, len(self.cell.gates)
        ws = ws or Workspace(self.X.dtype)
        w = self.weights(ws)
        z, s = ws("z", G + self.cell.saved, T, B, H), ws("s", len(self.state), T + 1, B, H)
        Wx, b = PackedMatrix.empty(w["Wx"].shape, None, room(ws, "Wx")), ws("b", G, 1, H)
        for k, scale in enumerate(self.cell.scale):
            Wx.fill(k, w["Wx"][k], scale)
            b[k] = w["b"][k] * self.X.dtype.type(scale)
        s[:, 0] = self.state
        run = Tape()
        dense_projection(run, self.X, Wx, b, z[:G].reshape(G, T * B, H))
        assert list(self.cell.forward(run, w, z, s[:, :-1], s[:, 1:], ws)) == list(range(T))
        run.replay()
        return z, s, w

    def loss(self) -> float:
        """⟨dh, outputs⟩ + ⟨dstate, final state⟩."""
        _, s, _ = self.forward()
        return float(np.vdot(self.dh, s[0, 1:]) + np.vdot(self.dstate, s[:, -1]))

    def gradients(self, ws: Workspace | None = None) -> dict[str, Array]:
        """The gradients of the loss for each parameter, X and state."""
        ws = ws or Workspace(self.X.dtype)
        z, s, w = self.forward(ws)
        d, dX, ds = self.params.like(), np.full_like(self.X, np.nan), ws("ds", *self.state.shape)
        d.flat.fill(np.nan)
        ds[:] = self.dstate
        run, s_prev, T = Tape(), s[:, :-1], len(self.dh)
        steps_back = self.cell.backward(run, w, z, s_prev, s[:, 1:], self.dh.copy(), ds, ws)
        assert list(steps_back) == list(reversed(range(T)))
        run.replay()
        self.cell.weight_gradients(d, z, s_prev)
        G, (R, _), H = len(self.cell.gates), dX.shape, ds.shape[-1]
        dz = z[:G].reshape(G, R, H)
        dense_projection_backward(self.X, w["Wx"], dz, d["Wx"], d["b"], dX, ws)
        return dict(d) | {"X": dX, "state": ds}


def test_every_cell_has_an_oracle() -> None:
    """A new cell wants its naive step in support/oracles.py, a new activation its line."""
    assert STEPS.keys() == CELLS.keys()
    assert PHI.keys() == ACTIVATIONS.keys()


def test_tests_see_every_cell_with_every_value_of_its_options() -> None:
    """As their types name them: what is tested is all that can be chosen."""
    cells = all_cells()
    assert {type(cell) for cell in cells} == set(CELLS.values())
    assert [cell.activation for cell in cells if isinstance(cell, RNN)] == list(ACTIVATIONS)
    assert [cell.reset_after for cell in cells if isinstance(cell, GRU)] == [False, True]
    for cell in cells:
        assert build_model(make_config(None, *cell_keys(cell)), 9).cell == cell


@every_cell
@pytest.mark.parametrize(("T", "B", "H"), [(5, 3, 6), (1, 3, 6), (5, 1, 6), (1, 1, 1), (3, 25, 32)])
def test_states_are_those_of_the_naive_loop(cell: Cell, T: int, B: int, H: int) -> None:
    """Every state after every step equals the per-gate loop's."""
    window = Window.of(cell, T, B, H)
    expected = cell_forward(cell, dict(window.params), window.X.reshape(T, B, -1), window.state)
    np.testing.assert_allclose(window.forward()[1], expected, rtol=0, atol=1e-12)


@every_cell
def test_rows_in_blocks_step_as_rows_in_one_piece(cell: Cell) -> None:
    """One step over K blocks of R rows, as sampling does it, equals the step over K·R rows."""
    K, R, H = 3, 4, 6
    window = Window.of(cell, 1, K * R, H)
    _, s, _ = window.forward()
    ws = Workspace(np.float64)
    w = Window.of(cell, 1, R, H).weights(ws)  # the same parameters, packed for R rows
    z = ws("z", len(cell.gates) + cell.saved, 1, K, R, H)
    scale = np.array(cell.scale)[:, None, None]
    b = window.params["b"][:, None]
    z[: len(cell.gates)] = (scale * (window.X @ window.params["Wx"] + b)).reshape(-1, 1, K, R, H)
    after = np.full((len(cell.states), 1, K, R, H), np.nan)
    run = Tape()
    assert list(cell.forward(run, w, z, window.state.reshape(-1, 1, K, R, H), after, ws)) == [0]
    assert np.isnan(after).all(), "a step records, and computes when it is replayed"
    run.replay()
    np.testing.assert_allclose(after.reshape(-1, K * R, H), s[:, 1], rtol=0, atol=1e-14)


@every_cell
@pytest.mark.parametrize(("T", "B", "H"), [(5, 3, 6), (1, 3, 6), (5, 1, 6), (3, 25, 32)])
def test_gradients_are_those_of_differences(cell: Cell, T: int, B: int, H: int) -> None:
    """Gradients for every parameter, the input and the initial state, from outputs and final state."""
    window = Window.of(cell, T, B, H)
    variables = dict(window.params) | {"X": window.X, "state": window.state}
    for name, dx in window.gradients().items():
        assert_is_gradient(dx, window.loss, variables[name], name)


@pytest.mark.parametrize(("T", "B", "H"), [(5, 3, 6), (1, 3, 6), (5, 1, 6), (3, 25, 32)])
def test_lstm_computes_the_reference_forward_and_back(T: int, B: int, H: int) -> None:
    """Every state and every gradient is that of the thirty plain lines."""
    window = Window.of(LSTM(), T, B, H)
    X = window.X.reshape(T, B, -1)
    states, gradients = lstm_reference(window.params, X, window.state, window.dh, window.dstate)
    np.testing.assert_allclose(window.forward()[1], states, rtol=0, atol=1e-12)
    found = window.gradients()
    assert found.keys() == gradients.keys()
    for name, expected in gradients.items():
        assert np.linalg.norm(expected) > 1e-3
        expected = expected.reshape(found[name].shape)
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-11, err_msg=name)


@every_cell
def test_every_gate_receives_a_gradient(cell: Cell) -> None:
    """No gate's block of any parameter is left with a gradient of zeros."""
    gradients = Window.of(cell).gradients()
    for name in gradients.keys() & {"Wx", "Wh", "v", "b"}:
        gates = cell.gates[:2] if name == "v" else cell.gates  # the SRU's f and r
        for gate, dgate in zip(gates, gradients[name], strict=True):
            assert np.linalg.norm(dgate) > 1e-3, f"{name} of gate {gate}"


@every_cell
def test_the_final_states_gradient_alone_flows_back(cell: Cell) -> None:
    """With no gradient at the outputs, all comes from the final state, and from each part of it."""
    for part in range(len(cell.states)):
        window = Window.of(cell)
        window.dh[:] = 0
        window.dstate[np.arange(len(cell.states)) != part] = 0
        gradients = window.gradients()
        for name in cell.parameters(6).keys() & {"Wh", "v"}:
            assert_is_gradient(gradients[name], window.loss, window.params[name], name)
        assert_is_gradient(gradients["state"], window.loss, window.state, "state")


@every_cell
def test_the_states_gradient_is_at_hand_before_every_step(cell: Cell) -> None:
    """When step t is yielded, ds is what a window that begins there gives for its initial state."""
    whole = Window.of(cell, T=4)
    ws = Workspace(np.float64)
    z, s, w = whole.forward(ws)
    ds, yielded = whole.dstate.copy(), []
    parts = (z, s[:, :-1], s[:, 1:], whole.dh.copy(), ds)
    for t in cell.backward(Unrecorded(), w, *parts, ws):
        yielded.append(t)
        rest = replace(whole, X=whole.X[t * 3 :], state=s[:, t].copy(), dh=whole.dh[t:])
        np.testing.assert_allclose(ds, rest.gradients()["state"], rtol=0, atol=1e-12)
    assert yielded == [3, 2, 1, 0]


@every_cell
@pytest.mark.parametrize("steps_per_block", [1, 2, 3])
def test_backward_blocks_change_no_bit(
    cell: Cell, steps_per_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients do not depend on how many steps are prepared at a time."""
    T, B, H = 7, 3, 6
    window = Window.of(cell, T, B, H)
    whole = window.gradients()
    monkeypatch.setattr(steps, "BLOCK_SIZE", steps_per_block * B * H)
    assert len(list(steps.blocks_back(T, B * H))) > 1
    for name, dx in window.gradients().items():
        np.testing.assert_array_equal(dx, whole[name], err_msg=name)


def test_backward_blocks_cover_every_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are slices of steps from the last to the first, whatever their size."""
    for block_size in (1, 10, 25, 69, 1000):
        monkeypatch.setattr(steps, "BLOCK_SIZE", block_size)
        blocks = [list(range(7))[block] for block in steps.blocks_back(7, 10)]
        assert [t for block in reversed(blocks) for t in block] == list(range(7))
        assert all(len(block) <= max(1, block_size // 10) for block in blocks)


@every_cell
@pytest.mark.parametrize("B", [25, 32])
def test_float32_over_tiles_is_near_float64(cell: Cell, B: int) -> None:
    """At H=128 the products run over several tiles; single precision differs by rounding only."""
    single = Window.of(cell, 4, B, 128, 16, np.float32)
    double = Window.of(cell, 4, B, 128, 16, np.float64)
    tiled = [W for W in single.forward()[2].values() if isinstance(W, PackedMatrix)]
    assert all(W.tiles.shape[1] > 1 for W in tiled)
    expected = double.gradients()
    for name, dx in single.gradients().items():
        error = np.linalg.norm(dx - expected[name]) / np.linalg.norm(expected[name])
        assert error < 2e-6, f"{name}: relative error {error:.1e}"


class Watched(np.ndarray[Any, Any]):
    """An array that notes each function of arrays in another precision than its own."""

    mixed: list[str]

    def __array_finalize__(self, source: Any) -> None:
        self.mixed = getattr(source, "mixed", [])

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any
    ) -> Any:
        arrays = [x for x in (*inputs, *(out or ())) if isinstance(x, np.ndarray | np.generic)]
        kinds = {x.dtype for x in arrays if x.dtype.kind == "f"}
        if kinds != {self.dtype}:
            self.mixed.append(f"{ufunc.__name__} of {kinds}")

        def bare(xs: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(x.view(np.ndarray) if isinstance(x, Watched) else x for x in xs)

        if out is not None:
            kwargs["out"] = bare(out)
        return getattr(ufunc, method)(*bare(inputs), **kwargs)


class WatchedWorkspace(Workspace):
    """A workspace whose arrays are watched."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(dtype)
        self.mixed: list[str] = []

    def __call__(self, name: str, *shape: int, dtype: Any = None) -> Array:
        array = super().__call__(name, *shape, dtype=dtype).view(Watched)
        array.mixed = self.mixed
        return array


@every_cell
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_computed_in_another_precision(cell: Cell, dtype: Any) -> None:
    """Not even in between: every operation of forward and backward is in the parameters' dtype."""
    ws = WatchedWorkspace(dtype)
    gradients = Window.of(cell, dtype=dtype).gradients(ws)
    assert ws.mixed == []
    assert {dx.dtype for dx in gradients.values()} == {np.dtype(dtype)}


def test_the_watch_sees_a_mixed_precision() -> None:
    """The test above can fail: a double-precision scalar is noticed."""
    ws = WatchedWorkspace(np.float32)
    a = ws("a", 3)
    a.fill(1)
    np.multiply(a[1:], np.float64(0.5), a[1:])
    assert len(ws.mixed) == 1
    assert a[1] == 0.5
