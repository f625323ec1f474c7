"""PyTorch's state dicts: its own values come in, and ours give the same logits there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import every_cell
from commands import says
from conftest import ROOT
from exchanged import oracle_logits, random_checkpoint

import rnnlm
from rnnlm.arrays import Array
from rnnlm.cells import GRU, LSTM, RNN, SRU
from rnnlm.errors import CheckpointError, ConfigError, DataError
from rnnlm.exchange import safetensors
from rnnlm.exchange.exporting import export
from rnnlm.exchange.importing import import_model

with np.load(ROOT / "tests" / "support" / "golden_torch.npz") as file:
    GOLDEN: dict[str, Array] = dict(file)
CASES = list(dict.fromkeys(name.split("/")[0] for name in GOLDEN))
SYMBOLS = "\nabcde"


def state_of(case: str) -> dict[str, Array]:
    """The state dict of a case."""
    prefix = f"{case}/state/"
    return {n.removeprefix(prefix): a for n, a in GOLDEN.items() if n.startswith(prefix)}


def write(path: str, arrays: dict[str, Array], texts: dict[str, str] | None = None) -> Path:
    Path(path).write_bytes(b"".join(safetensors.pieces(arrays, texts or {})))
    return Path(path)


def logits(checkpoint: rnnlm.Checkpoint, ids: Array) -> Array:
    """(T, B, V), by the steps of sampling."""
    steps = checkpoint.model.begin(checkpoint.params, ids.shape[1])
    return np.array([steps.step(row).copy() for row in ids])


def close(a: Array, b: Array) -> None:
    assert np.abs(b).max() > 0.5
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_pytorchs_models_give_the_same_logits_here(in_tmp: Path, case: str) -> None:
    """From safetensors and from .npz, for symbols in any order; and go back as they came."""
    g = {n.removeprefix(f"{case}/"): a for n, a in GOLDEN.items() if n.startswith(f"{case}/")}
    state = state_of(case)
    overrides = ["model.cell.activation=relu"] if case.startswith("relu") else []
    Path("symbols.txt").write_text(SYMBOLS)
    first = import_model(write("m.safetensors", state), "run", *overrides, vocabulary="symbols.txt")
    close(logits(first, g["ids"]), g["logits"])
    assert (first.config.data.level, len(first.vocabulary)) == ("char", 6)

    order = np.array([3, 0, 5, 1, 4, 2])
    Path("symbols.txt").write_text("".join(SYMBOLS[i] for i in order))
    np.savez("m.npz", **state)
    other = import_model("m.npz", "run2", *overrides, vocabulary="symbols.txt")
    ids = order[g["ids"]]
    close(logits(other, ids)[..., order], g["logits"])

    back, _ = safetensors.read(export(first, "torch")[0])
    renamed = {
        n.replace("encoder", "embedding").replace("recurrent", "rnn").replace("decoder", "out"): a
        for n, a in state.items()
    }
    for name, array in renamed.items():
        if "bias_" not in name:
            np.testing.assert_array_equal(back[name], array)
    for name in (n for n in renamed if "bias_ih" in n):
        hidden = name.replace("bias_ih", "bias_hh")
        total = renamed[name] + renamed[hidden]
        np.testing.assert_allclose(back[name] + back[hidden], total, rtol=0, atol=1e-6)
    assert import_model("run_torch.safetensors", "run3").params.keys() == first.params.keys()


@every_cell
@pytest.mark.parametrize(("layers", "embedding"), [(1, None), (2, 4)])
def test_what_is_exported_comes_back(
    in_tmp: Path, cell: Any, layers: int, embedding: int | None
) -> None:
    """With its symbols and every option of its cell, or is refused with the reason."""
    checkpoint = random_checkpoint(cell, layers, embedding)
    if cell in (GRU(), RNN("identity")) or isinstance(cell, SRU):
        with pytest.raises(
            DataError, match=r"PyTorch('s (GRU applies|RNN has)| has no module for)"
        ):
            export(checkpoint, "torch")
        assert not list(in_tmp.iterdir())
        return
    path, code = export(checkpoint, "torch", "m.safetensors")
    assert str(code) == "m.py" and len(code.read_text().splitlines()) < 40
    back = import_model(path, "back")
    assert back.format == checkpoint.format and back.model == checkpoint.model
    for name, array in checkpoint.params.items():
        np.testing.assert_array_equal(back.params[name], array)


@every_cell
def test_the_module_beside_it_gives_the_same_logits(in_tmp: Path, cell: Any) -> None:
    """In PyTorch, where that is installed, from the two files alone."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[bench]'")
    pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    if cell in (GRU(), RNN("identity")) or isinstance(cell, SRU):
        pytest.skip("PyTorch has no such cell: it is refused, as another test holds")
    for embedding in (None, 4):
        checkpoint = random_checkpoint(cell, 2, embedding)
        _, code = export(checkpoint, "torch", f"m{embedding}.safetensors")
        spec = importlib.util.spec_from_file_location("exported", code)
        assert spec is not None and spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model, symbols = module.load()
        assert symbols == checkpoint.vocabulary.to_json()["symbols"]
        ids = np.random.default_rng(1).integers(len(symbols), size=(11, 3))
        first, state = model(torch.tensor(ids[:4]))
        rest, _ = model(torch.tensor(ids[4:]), state)
        close(torch.cat([first, rest]).detach().numpy(), oracle_logits(checkpoint, ids))


def test_ways_past_the_layers_are_refused(in_tmp: Path) -> None:
    """PyTorch's modules have none."""
    for way in ("skip=true", "residual=true"):
        checkpoint = random_checkpoint(LSTM(), 2, None, False, way)
        with pytest.raises(DataError, match="no ways past their layers"):
            export(checkpoint, "torch", "m.safetensors")


def test_state_dicts_that_are_no_models_of_ours_are_refused(in_tmp: Path) -> None:
    """In one line that says what is wrong; and pickles are never read."""
    good = state_of("lstm-2")
    Path("symbols.txt").write_text(SYMBOLS)
    Path("twice.txt").write_text("aab")
    Path("few.txt").write_text("ab")
    hh, hh0 = "recurrent.weight_hh_l1", "recurrent.weight_hh_l0"
    for change, message in (
        ({}, ""),
        ({hh0: None}, "no weight_hh_l0"),
        ({hh: None}, "weight_ih_l1 is of no layer|bias_hh_l1 is of no layer"),
        ({hh: good[hh][:5]}, "cannot reshape"),
        ({hh0: good[hh0][:5]}, r"weight_hh_l0 is \(5, 3\): of no LSTM, GRU or RNN"),
        ({hh: np.full_like(good[hh], np.nan)}, "not finite"),
        ({hh + "_reverse": good[hh]}, "bidirectional"),
        ({"recurrent.weight_hr_l0": good[hh]}, "proj_size"),
        ({"other.weight_hh_l0": good[hh]}, "more than one recurrent module"),
        ({"decoder.weight": None}, "must be one Linear layer"),
        ({"head.weight": good[hh], "head.bias": good[hh]}, "must be one Linear layer"),
        ({"encoder.weight": good["encoder.weight"][:5]}, "embedding is .*there are 6 symbols"),
        ({"decoder.weight": good["decoder.weight"][:, :2]}, "does not hold such a model"),
    ):
        arrays = {n: a for n, a in {**good, **change}.items() if a is not None}
        path = write("m.safetensors", arrays)
        if message:
            with pytest.raises(DataError, match=f"m.safetensors: .*({message})") as caught:
                import_model(path, "new", vocabulary="symbols.txt")
            assert "\n" not in str(caught.value)
    path = write("m.safetensors", good)
    checkpoint = random_checkpoint(LSTM(), 1, None)
    checkpoint.save("ours.npz")
    Path("m.pt").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    for name, overrides, vocabulary, error, message in (
        (path, (), None, DataError, "does not tell its symbols"),
        (path, (), "twice.txt", DataError, "has 'a' U[+]0061 twice"),
        (path, (), "few.txt", DataError, "has 6 symbols, and 2 are named"),
        (path, ("model.cell=gru",), "symbols.txt", ConfigError, "model.cell.name: 'gru' contra"),
        ("m.pt", (), "symbols.txt", DataError, "a pickle, .*safetensors.torch.save_file"),
        ("ours.npz", (), "symbols.txt", CheckpointError, "is a checkpoint of rnnlm already"),
    ):
        with pytest.raises(error, match=message):
            import_model(name, "new", *overrides, vocabulary=vocabulary)
    metadata = {"text": json.dumps({"encoding": "utf-8"}), "config": "model: {cell: lstm"}
    with pytest.raises(DataError, match="the text format is not as rnnlm writes it"):
        import_model(write("m.safetensors", good, {"text": metadata["text"]}), "new")
    with pytest.raises(DataError, match="its metadata: "):
        import_model(write("m.safetensors", good, metadata), "new", vocabulary="symbols.txt")
    assert not Path("new").exists() and not Path("ran").exists()


def test_an_imported_model_is_trained_on(text_file: Path, in_tmp: Path) -> None:
    """From the command line: import, then training from its weights."""
    state, text = state_of("gru-2"), "".join(SYMBOLS[i] for i in np.arange(900) * 7 % 11 % 6)
    write("m.safetensors", state)
    Path("symbols.txt").write_text(SYMBOLS)
    Path("text.txt").write_text(text)
    model = ["model.cell={name: gru, reset_after: true}", "model.hidden_size=3"]
    model += ["model.embedding_size=4", "data.path=text.txt", "train.epochs=1"]
    sets = [part for key in [*model, "train.batch_size=2"] for part in ("--set", key)]
    says("import", "m.safetensors", "--out", "run", "--vocab", "symbols.txt")
    says("train", "--init-from", "run", "--run-dir", "tuned", *sets)
    says("sample", "run", "--length", 5)
