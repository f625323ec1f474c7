"""`rnnlm check`: every gradient is checked, and a wrong one is caught."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner
from conftest import TINY, tiny_config

from rnnlm.cli.check import _table
from rnnlm.cli.main import cli
from rnnlm.training.check import STATE, Derivative, GradientCheck
from rnnlm.training.loop import Training


def check(*args: object) -> tuple[int, str]:
    """The exit code and all that is shown."""
    result = CliRunner().invoke(cli, ["check", *map(str, args)])
    return result.exit_code, result.output


def keys(text: Path, *more: str) -> list[str]:
    """A tiny config as options."""
    every = (f"data.path={text}", *TINY, "model.hidden_size=3", *more)
    return [word for key in every for word in ("--set", key)]


def test_right_gradients_agree_and_a_wrong_one_is_named(text_file: Path) -> None:
    """With dropout, two layers, and lines that begin inside the window."""
    more = ("model.num_layers=2", "model.dropout=0.3", "data.unit=line", "model.embedding_size=2")
    code, output = check(*keys(text_file, *more))
    assert (code, "WRONG" in output) == (0, False), output
    names = [line.split()[0] for line in output.splitlines()[3:-1]]
    assert len(names) == 2 * len({name.split("[")[0] for name in names})
    assert {"embedding", "layers.1.Wh", "by", STATE} <= set(names)
    code, output = check(*keys(text_file, *more), "--break", "layers.1.Wh")
    assert code == 1
    assert "2 of 20 derivatives wrong: layers.1.Wh, layers.1.Wh[" in output


def test_any_single_wrong_gradient_is_caught(text_file: Path, tmp_path: Path) -> None:
    """Both its rows fail, and no other does."""
    config = tiny_config(text_file, tmp_path / "run", "model.cell=gru", "model.hidden_size=3")
    subject = GradientCheck.of_config(config)
    for wrong in subject.arrays:
        failed = [row.name.split("[")[0] for row in subject.derivatives(wrong) if not row.agrees]
        assert failed == [wrong, wrong]


def test_the_table_is_no_wider_than_a_terminal() -> None:
    """Of 80 columns, for a network of two layers of 128."""
    at = Derivative("layers.1.Wx[3,127,127]", (4, 128, 128), -1.234567891e-05, -1.234567892e-05)
    assert max(map(len, _table([at]))) <= 80


def test_a_run_is_checked_as_it_is(text_file: Path, tmp_path: Path) -> None:
    """Its own parameters and text; it takes no keys."""
    run = tmp_path / "run"
    with Training.start(tiny_config(text_file, run), "run"):
        code, output = check(run)
        assert code == 0 and "all agree" in output
        assert check(run, "--set", "train.seed=1")[0] == 2
        assert check(run, "--break", "Wz") == (
            1,
            "Error: 'Wz' is not a gradient of this model; they are layers.0.Wx, layers.0.b, "
            "layers.0.Wh, Wy, by, state\n",
        )


def test_a_model_that_counts_has_no_gradients(text_file: Path) -> None:
    """One line says so."""
    args = ["--set", f"data.path={text_file}", "--set", "model.kind=ngram"]
    code, output = check(*args)
    assert code == 1 and output.startswith(
        "Error: gradient descent cannot train this model: n-gram"
    )
