"""The code in exchange/README.md runs, and gives what rnnlm gives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import says
from conftest import ROOT
from exchanged import oracle_logits, random_checkpoint

from rnnlm.cells import LSTM
from rnnlm.exchange import FORMATS

README = (ROOT / "rnnlm" / "exchange" / "README.md").read_text("utf-8")


def test_it_has_every_format() -> None:
    """Under a heading each, in the order of the table; the help of the command names them too."""
    shown = says("export", "--help")
    assert all(re.search(rf"\b{name}\b", shown) for name in FORMATS)
    assert re.findall(r"^## `(\w+)`", README, re.M) == list(FORMATS)


@pytest.mark.parametrize(
    ("layers", "embedding", "tie"), [(1, None, False), (2, 4, False), (1, 4, True), (1, 5, True)]
)
def test_the_loader_in_plain_numpy_gives_the_same_logits(
    in_tmp: Path, layers: int, embedding: int | None, tie: bool
) -> None:
    """Of the symbol after the text that stands there, from a checkpoint, without rnnlm."""
    checkpoint, text = random_checkpoint(LSTM(), layers, embedding, tie), 'aéa"a\n'
    Path("runs/my-run").mkdir(parents=True)
    checkpoint.save("runs/my-run/best.npz")
    (code,) = (c for c in re.findall(r"```python\n(.*?)```", README, re.S) if "np.load" in c)
    assert "rnnlm" not in code and '"The "' in code
    found: dict[str, Any] = {}
    exec(compile(code.replace('"The "', repr(text)), "README", "exec"), found)
    expected = oracle_logits(checkpoint, checkpoint.ids(text)[:, None])[-1, 0]
    assert np.abs(expected).max() > 0.2
    np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=1e-5)
