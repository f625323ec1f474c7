"""The code in exchange/README.md runs, and gives what rnnlm gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT, TEXT, tiny_config

import rnnlm
from rnnlm.cli.main import cli
from rnnlm.exchange import FORMATS

README = (ROOT / "rnnlm" / "exchange" / "README.md").read_text("utf-8")


def test_it_has_every_format() -> None:
    """Under a heading each, in the order of the table; the help of the command names them too."""
    shown = CliRunner().invoke(cli, ["export", "--help"]).output
    assert all(re.search(rf"\b{name}\b", shown) for name in FORMATS)
    assert re.findall(r"^## `(\w+)`", README, re.M) == list(FORMATS)


@pytest.mark.parametrize("keys", [(), ("model.embedding_size=4", "model.num_layers=2")])
def test_the_loader_in_plain_numpy_gives_the_same_logits(
    text_file: Path, in_tmp: Path, keys: tuple[str, ...]
) -> None:
    """Of the symbol after the text that stands there, from a checkpoint, without rnnlm."""
    rnnlm.train(tiny_config(text_file, in_tmp / "runs/my-run", "train.epochs=1", *keys))
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", README, re.S) if "np.load" in c)
    assert "rnnlm" not in code
    found: dict[str, Any] = {}
    exec(compile(code.replace("The ", TEXT[:20]), "README", "exec"), found)
    checkpoint = rnnlm.load("runs/my-run")
    steps = checkpoint.model.begin(checkpoint.params, 1)
    for i in checkpoint.ids(TEXT[:20]):
        expected = steps.step([i])[0]
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=1e-5)
