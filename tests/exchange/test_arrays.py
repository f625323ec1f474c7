"""Models as safetensors and JSON: every number and symbol, read by others' code and by ours."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import says
from conftest import TEXT
from exchanged import random_checkpoint

import rnnlm
from rnnlm.cells import GRU, LSTM
from rnnlm.errors import DataError
from rnnlm.exchange import FORMATS, safetensors
from rnnlm.exchange.exporting import export
from rnnlm.text.format import TextFormat


def models(tmp_path: Path) -> dict[str, rnnlm.Checkpoint]:
    """One of each kind."""
    (tmp_path / "t.txt").write_text(TEXT[:1000])
    ngram = rnnlm.train(
        rnnlm.make_config(
            data={"path": str(tmp_path / "t.txt")},
            model={"kind": "ngram", "order": 3},
            run={"dir": str(tmp_path / "run")},
        )
    )
    return {"gru": random_checkpoint(GRU(), 2, 4), "ngram": ngram.checkpoint()}


def assert_same(arrays: dict[str, Any], checkpoint: rnnlm.Checkpoint) -> None:
    assert arrays.keys() == checkpoint.params.keys()
    for name, array in checkpoint.params.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


def test_safetensors_hold_every_number_and_symbol(tmp_path: Path) -> None:
    """Read by the library of that name, and by our own code."""
    library = pytest.importorskip("safetensors", reason="safetensors is not installed: '.[dev]'")
    for name, checkpoint in models(tmp_path).items():
        (path,) = export(checkpoint, "safetensors", tmp_path / f"{name}.safetensors")
        with library.safe_open(path, "numpy") as file:
            arrays, texts = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118
        assert_same(arrays, checkpoint)
        again, own = safetensors.read(path)
        assert_same(again, checkpoint)
        assert own == texts and texts["config"] == checkpoint.config.to_yaml()
        assert TextFormat.from_json(json.loads(texts["text"])) == checkpoint.format


def test_json_holds_every_number_and_symbol(tmp_path: Path) -> None:
    """As one object that any reader of JSON takes."""
    for name, checkpoint in models(tmp_path).items():
        (path,) = export(checkpoint, "json", tmp_path / f"{name}.json")
        found = json.loads(path.read_text("ascii"))
        arrays = {
            key: np.frombuffer(base64.b64decode(p["base64"]), p["dtype"]).reshape(p["shape"])
            for key, p in found["parameters"].items()
        }
        assert_same(arrays, checkpoint)
        assert found["config"] == checkpoint.config.to_dict()
        assert TextFormat.from_json(found["text"]) == checkpoint.format


def test_cuts_and_changed_bytes_of_safetensors_are_refused_or_read(tmp_path: Path) -> None:
    """Never another error, and no more memory than the file has bytes."""
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(0, np.float32)}
    path, whole = tmp_path / "m.safetensors", b"".join(safetensors.pieces(arrays, {"t": "é"}))
    rng = np.random.default_rng(0)
    places = range(0, len(whole), 3)
    changed = [whole[:i] + bytes([rng.integers(256)]) + whole[i + 1 :] for i in places]
    refused = 0
    for data in [*(whole[:i] for i in places), *changed]:
        path.write_bytes(data)
        try:
            found, _ = safetensors.read(path)
        except DataError as error:
            assert str(error).startswith(f"{path}: not a safetensors") and "\n" not in str(error)
            refused += 1
        else:
            assert sum(array.nbytes for array in found.values()) <= 24
    assert len(places) < refused < 2 * len(places)


def test_a_file_is_named_after_its_run(in_tmp: Path) -> None:
    """Or after the checkpoint, where that is another than the run's best and last."""
    checkpoint = random_checkpoint(LSTM(), 1, None)
    for path, name in (("runs/a/best.npz", "a"), ("runs/a/last.npz", "a"), ("b.npz", "b")):
        (in_tmp / path).parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(in_tmp / path)
        loaded = rnnlm.load(in_tmp / path)
        assert [str(p) for p in export(loaded, "json")] == [f"{name}.json"]
        with pytest.raises(DataError, match=rf"{name}\.json: exists already"):
            export(loaded, "json")
        (in_tmp / f"{name}.json").unlink()


def test_export_without_a_format_names_them_all() -> None:
    """Nobody has to look them up."""
    said = says("export", "runs/a", code=2)
    assert all(name in said for name in FORMATS)
