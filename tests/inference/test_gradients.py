"""How far gradients reach: against differences in a naive forward pass, and against eigenvalues."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cases import every_cell
from commands import rnnlm, says
from conftest import TEXT, tiny_config
from oracles import STEPS, Problem, cross_entropy, name_of, one_hot, output_matrix

from rnnlm import Checkpoint, ConfigError, DataError
from rnnlm.arrays import Array
from rnnlm.backend.params import Parameters
from rnnlm.cells import Cell
from rnnlm.cells.lstm import LSTM
from rnnlm.inference.gradients import gradient_flow
from rnnlm.text.batches import IGNORED, Batch
from rnnlm.training.loop import Training


def loss_at_the_end(p: Problem, nudge: Array) -> float:
    """The loss of the last step, where `nudge` (L, T, B, H) is added to every output h, and
    of a cell that does not read h in the next step, to what it reads.
    """
    cell, V = p.model.cell, p.model.vocabulary_size
    states = [list(layer) for layer in p.state]
    for t, ids in enumerate(p.batch.ids):
        x = one_hot(ids, V)
        for layer, state in enumerate(states):
            own = p.params.group(f"layers.{layer}.")
            state[:] = STEPS[name_of(cell)](cell, own, x, state)
            for k in {0, cell.carried}:
                state[k] = state[k] + nudge[layer, t]
            x = state[0]
    logits = x @ output_matrix(p.params) + p.params["by"]
    return float(cross_entropy(logits, p.batch.targets[-1]).sum())


@every_cell
def test_gradients_of_outputs_are_those_of_differences(cell: Cell) -> None:
    """Of every layer at every step, through time and through the layers above."""
    p = Problem.of(cell, layers=2, T=4, B=2, H=3)
    last = np.full_like(p.batch.targets, IGNORED)
    last[-1] = p.batch.targets[-1]
    dh = np.full((2, 4, 2, 3), np.nan)
    ws, batch = p.workspace(), Batch(p.batch.ids, last)
    for _ in range(2):  # recorded and replayed
        p.model.loss_and_grad(p.weights(), batch, p.state.copy(), p.params.like(), ws, 1.0, dh=dh)
    expected = np.empty_like(dh)
    for at in np.ndindex(dh.shape):
        nudge = np.zeros_like(dh)
        nudge[at] = 1e-5
        above, below = (loss_at_the_end(p, n) for n in (nudge, -nudge))
        expected[at] = (above - below) / 2e-5
    np.testing.assert_allclose(dh, expected, rtol=0, atol=1e-8)
    assert (np.abs(dh[:, 0]).max(axis=(1, 2)) > 1e-5).all()


def started(text: Path, run: Path, *keys: str) -> Checkpoint:
    """The checkpoint that a run begins with; its validation text has 1,000 symbols."""
    keys = (*keys, "model.hidden_size=5", "data.val_fraction=0.1")
    with Training.start(tiny_config(text, run, *keys), "run"):
        return Checkpoint.load(run / "last.npz")


def test_the_eigenvalues_tell_all_of_a_linear_network(text_file: Path, tmp_path: Path) -> None:
    """One that explodes, in which a matrix of radius 1.5 is all that gradients meet; not so in a tanh
    one of the same matrix.
    """
    for activation in ("identity", "tanh"):
        key = f"model.cell={{name: rnn, activation: {activation}}}"
        at = started(text_file, tmp_path / activation, key)
        params = Parameters(at.params.shapes, flat=at.params.flat.copy())
        params["layers.0.Wh"][:] *= 1.5  # orthogonal before
        (layer,) = gradient_flow(replace(at, params=params), 20)
        ((singular, moduli),) = layer.matrices.values()
        np.testing.assert_allclose([*singular, *moduli], 1.5, rtol=1e-6)
        assert layer.linear is not None
        np.testing.assert_allclose(layer.linear, layer.linear[0] * 1.5 ** np.arange(21), rtol=1e-5)
        if activation == "identity":
            np.testing.assert_allclose(layer.quartiles[1], layer.linear, rtol=1e-9)
        else:
            assert layer.quartiles[1][20] < 1e-2 * layer.linear[20]
        (begun,) = gradient_flow(at, 20, at_init=True)
        np.testing.assert_allclose(begun.matrices["Wh h"][0], 1, rtol=1e-6)


def test_nothing_is_measured_across_the_beginning_of_a_text(
    text_file: Path, tmp_path: Path
) -> None:
    """Lines are shorter than 60 symbols; the gates and the output of each layer are counted."""
    keys = ("data.unit=line", "model.num_layers=2", "model.cell=lstm")
    at = started(text_file, tmp_path / "run", *keys)
    longest = max(map(len, TEXT.splitlines()))
    for layer in gradient_flow(at, 59):
        assert np.isnan(layer.norms[longest + 1 :]).all()
        assert (layer.quartiles[:, :10] > 0).all() and layer.linear is None
        assert list(layer.matrices) == [f"Wh {gate}" for gate in LSTM.gates]
        assert list(layer.saturated) == ["i", "f", "o", "h"]
        assert all(0 <= share <= 1 for shares in layer.saturated.values() for share in shares)


def test_an_output_without_a_bound_is_not_saturated(text_file: Path, tmp_path: Path) -> None:
    """Of an SRU only its gates are; the share at 0 is told of every output, as for relu."""
    for cell, named in (("sru", ["f", "r", "h"]), ("{name: rnn, activation: relu}", ["h"])):
        folder = tmp_path / cell[1:2]
        started(text_file, folder, f"model.cell={cell}")
        args = "gradients", folder, "--lags", 6
        shown = says(*args).splitlines()
        (line,) = (line for line in shown if line.startswith("output h"))
        (layer,) = json.loads(says(*args, "--json"))["layers"]
        told = layer["saturated"]
        assert list(told) == named
        assert (told["h"]["low"], told["h"]["high"]) == (None, None)
        assert line == f"output h: {told['h']['zero']:.1%} at 0"
        assert all(told[gate]["low"] is not None for gate in named[:-1])


def test_the_command_prints_a_table_or_json(text_file: Path, tmp_path: Path) -> None:
    """A row with a bar for each lag; the same figures as JSON."""
    at = started(text_file, tmp_path / "run", "model.cell=gru")
    args = "gradients", tmp_path / "run", "--lags", 6
    shown = says(*args).splitlines()
    rows = [line.split() for line in shown if line[:5].strip().isdigit()]
    told = json.loads(says(*args, "--json"))["layers"][0]
    (layer,) = gradient_flow(at, 6)
    assert told["median"] == list(layer.quartiles[1])
    assert [row[1] for row in rows] == [f"{v:.2e}" for v in told["median"]]
    assert [len(row[-1]) for row in rows if row[-1].startswith("#")][:1] == [30]
    assert sum("spectral radius" in line for line in shown) == 3
    both = says(*args, tmp_path / "run", "--json").splitlines()
    assert both[0] == both[1] and json.loads(both[0])["layers"][0] == told


def test_what_cannot_be_measured_is_refused(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that is too short, and a model without a recurrence."""
    at = started(text_file, tmp_path / "run")
    with pytest.raises(DataError, match=r"too few for 5000 lags: at most \d+ works"):
        gradient_flow(at, 5000)
    monkeypatch.setattr(type(at.model), "recurrent_matrices", None)
    with pytest.raises(ConfigError, match="not in this model"):
        gradient_flow(at)


def test_a_plot_needs_an_extra_and_overwrites_nothing(text_file: Path, tmp_path: Path) -> None:
    """Said before anything is measured."""
    started(text_file, tmp_path / "run")
    args = "gradients", tmp_path / "run", "--lags", 5, "--plot"
    if find_spec("matplotlib") is None:
        assert "pip install 'rnnlm[plot]'" in says(*args, "x.png", code=1)
        return
    picture = tmp_path / "picture.svg"
    rnnlm(*args, picture)
    assert "<svg" in picture.read_text("utf-8")
    dangling = tmp_path / "link.svg"
    dangling.symlink_to("nowhere")
    for name, error in (
        (picture, "is not overwritten"),
        (dangling, "is not overwritten"),
        ("x.docx", "must end in one of"),
    ):
        assert error in says(*args, name, code=1)
