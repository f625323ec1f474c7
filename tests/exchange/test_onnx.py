"""Recurrent models as ONNX graphs, run by ONNX Runtime."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import every_cell
from exchanged import oracle_logits, random_checkpoint

from rnnlm.cells import LSTM, SRU
from rnnlm.errors import DataError
from rnnlm.exchange.exporting import export
from rnnlm.models.recurrent import Recurrent

for package in ("onnx", "onnxruntime"):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install '.[dev]'")


WAYS = ("skip=true", "residual=true")  # past the layers


def session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@every_cell
@pytest.mark.parametrize(("layers", "embedding", "ways"), [(1, None, ()), (2, 4, ()), (3, 4, WAYS)])
def test_the_graph_gives_the_same_logits(
    tmp_path: Path, cell: Any, layers: int, embedding: int | None, ways: tuple[str, ...]
) -> None:
    """Of random texts side by side, in windows of any length, the state carried between them."""
    checkpoint = random_checkpoint(cell, layers, embedding, False, *ways)
    if isinstance(cell, SRU):
        with pytest.raises(DataError, match="ONNX has no operator for the cell SRU"):
            export(checkpoint, "onnx", tmp_path / "m.onnx")
        return
    (path,) = export(checkpoint, "onnx", tmp_path / "m.onnx")
    run, model = session(path), checkpoint.model
    assert isinstance(model, Recurrent)
    ids = np.random.default_rng(1).integers(model.vocabulary_size, size=(11, 3))
    state = {s: np.zeros((layers, 3, model.hidden_size), np.float32) for s in cell.states}
    found = []
    for window in (ids[:7], ids[7:8], ids[8:]):
        logits, *after = run.run(None, {"ids": window, **state})
        state = dict(zip(state, after, strict=True))
        found.append(logits)
    expected = oracle_logits(checkpoint, ids)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=0, atol=1e-5)


def test_the_graph_says_what_its_ids_mean(tmp_path: Path) -> None:
    """Inputs and outputs by name, the symbols and the config in its metadata."""
    checkpoint = random_checkpoint(LSTM(), 2, None)
    run = session(export(checkpoint, "onnx", tmp_path / "m.onnx")[0])
    assert [(v.name, v.shape) for v in run.get_inputs()] == [
        ("ids", ["steps", "texts"]),
        ("h", [2, "texts", 5]),
        ("c", [2, "texts", 5]),
    ]
    assert [v.name for v in run.get_outputs()] == ["logits", "h_out", "c_out"]
    found = run.get_modelmeta().custom_metadata_map
    assert json.loads(found["text"]) == checkpoint.format.to_json()
    assert found["config"] == checkpoint.config.to_yaml()


def test_what_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that ONNX does not know, which is said first; any model without the package."""
    from rnnlm.exchange import onnx

    checkpoint = random_checkpoint(LSTM(), 1, None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DataError, match=r"pip install 'rnnlm\[export\]'"):
        export(checkpoint, "onnx", tmp_path / "m.onnx")
    monkeypatch.delitem(onnx.OPERATORS, LSTM)
    with pytest.raises(DataError, match="no operator for the cell LSTM"):
        export(checkpoint, "onnx", tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
