"""What is added in one place works everywhere: a cell is a class and a line in CELLS, a filter is a
function and a line in FILTERS.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import TEXT, tiny_config
from oracles import Problem, assert_is_gradient
from resumed import resumed

from rnnlm import Checkpoint, ConfigError, evaluate, generate, make_config, train
from rnnlm.api.facts import describe
from rnnlm.arrays import Array
from rnnlm.backend.params import Parameter
from rnnlm.backend.tape import Tape
from rnnlm.backend.workspace import Workspace
from rnnlm.cells import CELLS, Cell
from rnnlm.cells.contract import Weights
from rnnlm.cells.steps import blocks_back, flat_rows, steps_back
from rnnlm.cli import sample as sample_file
from rnnlm.config.kinds import Number
from rnnlm.inference.filters import FILTERS


@dataclass(frozen=True)
class Independent(Cell):
    """Li et al. 2018 (IndRNN): H = tanh(X Wx + u ⊙ H' + b), each unit with a memory of its own."""

    start: Annotated[float, Number(low=0, high=1)] = 0.5  # of every u

    gates: ClassVar[tuple[str, ...]] = ("h",)
    states: ClassVar[tuple[str, ...]] = ("h",)
    scale: ClassVar[tuple[float, ...]] = (1.0,)
    saved: ClassVar[int] = 0

    def parameters(self, hidden_size: int) -> dict[str, Parameter]:
        return {"u": Parameter((hidden_size,), lambda u, _: u.fill(self.start))}

    def step(self, run: Tape, p: Weights, z: Array, s_prev: Array, s: Array, ws: Workspace) -> None:
        run(np.multiply, s_prev, p["u"], s)
        run(np.add, z, s, z)
        run(np.tanh, z, s)

    def backward(
        self,
        run: Tape,
        p: Weights,
        z: Array,
        s_prev: Array,
        s: Array,
        dh: Array,
        ds: Array,
        ws: Workspace,
    ) -> Iterator[int]:
        _, T, B, H = z.shape
        for block in blocks_back(T, B * H):
            run(np.multiply, s[:, block], s[:, block], z[:, block])
            run(np.subtract, 1.0, z[:, block], z[:, block])
            for t, dz_t, dh_t in steps_back(block, z[:, block], dh[block]):
                run(np.add, ds, dh_t, ds)
                run(np.multiply, dz_t, ds, dz_t)
                run(np.multiply, dz_t, p["u"], ds)
                yield t

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s_prev: Array) -> None:
        np.sum(flat_rows(z[0]) * flat_rows(s_prev[0]), axis=0, out=d["u"])


def min_p(logits: Array, share: Annotated[float, Number(above=0, high=1)]) -> None:
    """Draw from symbols with at least this share of the largest probability."""
    logits[logits < logits.max(axis=1, keepdims=True) + np.log(share)] = -np.inf


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One line in each table; the command is made anew, since its options are the filters' of then."""
    monkeypatch.setitem(CELLS, "independent", Independent)
    monkeypatch.setitem(FILTERS, "min_p", min_p)
    importlib.reload(sample_file)
    yield
    monkeypatch.undo()
    importlib.reload(sample_file)


def test_a_new_cell_has_its_gradients() -> None:
    """In a stack, with texts that begin inside the window, without a word about it elsewhere."""
    p = Problem.of(Independent(), layers=2)
    result = p.gradients()
    for name, array in p.params.items():
        assert_is_gradient(result.d[name], p.loss, array, name)


def test_a_new_cell_trains_resumes_evaluates_and_samples(text_file: Path, tmp_path: Path) -> None:
    """By its name in the config, its option with its limits, to the bit after an interruption."""
    model = ("model.cell={name: independent, start: 0.25}", "model.num_layers=2")
    keys = (*model, "train.batch_size=4")
    a = resumed(text_file, tmp_path, 70, *keys)
    assert a.model.describe().startswith("Independent, start 0.25, 2 x 12")
    assert any("Independent" in line for line in describe(a))
    assert evaluate(a, TEXT).perplexity < 15
    assert len(generate(a, "The ", 20, seed=1)) == 20
    with pytest.raises(ConfigError, match=r"model\.cell\.start must be at most 1"):
        make_config(None, "model.cell.name=independent", "model.cell.start=2")


def test_a_new_filter_is_taken_in_scripts_and_on_the_command_line(
    text_file: Path, tmp_path: Path
) -> None:
    """By its name, with its limits and its help."""
    train(tiny_config(text_file, tmp_path / "run", "train.epochs=1"))
    checkpoint = Checkpoint.load(tmp_path / "run" / "last.npz")
    greedy = generate(checkpoint, "The ", 30, temperature=0)
    assert generate(checkpoint, "The ", 30, min_p=1.0) == greedy
    assert generate(checkpoint, "The ", 30, min_p=1e-9) != greedy
    with pytest.raises(ConfigError, match="min_p must be above 0"):
        generate(checkpoint, "The ", 30, min_p=0)
    with pytest.raises(ConfigError, match="is not a filter"):
        generate(checkpoint, "The ", 30, min_q=0.5)
    shown = CliRunner().invoke(sample_file.command, ["--help"])
    assert "--min-p" in shown.output
    assert "this share of the largest" in " ".join(shown.output.split())
    options = ["--prime", "The ", "--length", "30", "--min-p", "1"]
    drawn = CliRunner().invoke(sample_file.command, [str(tmp_path / "run"), *options])
    assert drawn.output == f"The {greedy}\n"
