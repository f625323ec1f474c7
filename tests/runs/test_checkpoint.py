"""Checkpoints: whole or refused, readable by NumPy alone, written so that the old one survives."""

from __future__ import annotations

import copy
import io
import json
import math
import pickle
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import first_version, with_manifest
from oracles import all_cells, cell_keys

from rnnlm.api.facts import describe
from rnnlm.assembly import build_model, make_config
from rnnlm.errors import CheckpointError
from rnnlm.runs.checkpoint import Checkpoint, Progress
from rnnlm.storage.npz import read_npz, write_npz
from rnnlm.text.format import LEVELS, TextFormat, TextRules


def make(*overrides: str) -> Checkpoint:
    """A checkpoint with an optimizer's state and a carried state."""
    config = make_config(
        None, "model.hidden_size=4", "model.num_layers=2", "train.batch_size=3", *overrides
    )
    vocabulary = LEVELS[config.data.level](np.array([10, 13, 97, 0x1F600]))
    model = build_model(config, 4)
    params = model.init(np.random.default_rng(0))
    return Checkpoint(
        config=config,
        format=TextFormat(TextRules.of(config.data), vocabulary),
        params=params,
        counts=np.arange(4, dtype=np.int64),
        progress=Progress(step=7, epoch=0.5, best_loss=1.25, best_step=5, started=3.5),
        data={"folder": "somewhere", "fingerprint": "0" * 64},
        optimizer_state={"m": params.flat * 2, "v": params.flat**2},
        state=model.zero_state(3) + 1,
    )


def members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write_members(path: Path, content: dict[str, bytes], compression: int = 0) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def npy(array: np.ndarray, **kwargs: bool) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **kwargs)
    return buffer.getvalue()


def assert_equal(a: Checkpoint, b: Checkpoint) -> None:
    assert a.config == b.config
    assert a.format == b.format
    assert a.progress == b.progress
    assert a.data == b.data
    assert (a.params.flat == b.params.flat).all()
    assert (a.counts == b.counts).all()
    assert {k: v.tobytes() for k, v in a.optimizer_state.items()} == {
        k: v.tobytes() for k, v in b.optimizer_state.items()
    }
    assert a.state is not None
    assert b.state is not None
    assert a.state.tobytes() == b.state.tobytes()


@pytest.mark.parametrize(
    "overrides",
    [(), ("model.embedding_size=3",), *map(cell_keys, all_cells())],
    ids=str,
)
def test_what_is_saved_is_loaded(tmp_path: Path, overrides: Iterable[str]) -> None:
    """Every array, the config, the vocabulary and the position."""
    saved = make(*overrides)
    saved.save(tmp_path / "c.npz")
    assert_equal(saved, Checkpoint.load(tmp_path / "c.npz"))


def test_numpy_reads_it_without_pickle(tmp_path: Path) -> None:
    """Readable names, a format, a version, the vocabulary, the config."""
    make().save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        assert file["layers.0.Wh"].shape == (4, 4, 4)
        assert file["layers.1.Wx"].dtype == np.float32
        text = json.loads(file["text"].tobytes())
        assert text["vocabulary"] == {"level": "char", "symbols": ["\n", "\r", "a", "😀"]}
        assert (text["encoding"], text["newlines"]) == ("utf-8", "normalize")
        assert json.loads(str(file["meta"]))["version"] == 2
        assert "hidden_size: 4" in str(file["config"])
        assert {"optimizer.m", "optimizer.v", "state", "counts", "Wy", "by"} <= set(file.files)


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    """No time or order creeps in."""
    for name in "ab":
        make().save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_text_goes_through_the_checkpoints_own_rules() -> None:
    """Line ends are normalised, or kept, as the training text's were."""
    assert make().ids("a\r\n").tolist() == [2, 0]
    assert make("data.newlines=keep").ids("a\r\n").tolist() == [2, 1, 0]


def test_what_is_said_of_a_byte_model_is_said_of_bytes() -> None:
    """Nouns follow the level."""
    at = make()
    config = at.config.with_values("data", level="byte")
    rules = TextRules.of(config.data)
    of_bytes = replace(at, config=config, format=TextFormat(rules, rules.kind([10, 13, 97, 98])))
    said = {kind: "\n".join(describe(c)) for kind, c in (("character", at), ("byte", of_bytes))}
    for noun, text in said.items():
        assert f"vocabulary: 4 {noun}s: " in text
        assert f"best loss: 1.2500 nats per {noun}, " in text


def test_a_failed_save_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while writing changes nothing on the disk."""
    path = tmp_path / "c.npz"
    make().save(path)
    before = path.read_bytes()

    def write_in_part(file: IO[bytes], arrays: object) -> None:
        file.write(before[:100])
        raise ZeroDivisionError

    monkeypatch.setattr("rnnlm.runs.checkpoint.write_npz", write_in_part)
    with pytest.raises(ZeroDivisionError):
        make().save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.parametrize("where", ["params", "m", "state", "counts", "loss", "data"])
def test_what_could_not_be_loaded_is_not_saved(where: str, tmp_path: Path) -> None:
    """Numbers that are not finite, in any place, and what is no checkpoint's at all."""
    path = tmp_path / "c.npz"
    make().save(path)
    before, at = path.read_bytes(), make()
    assert at.state is not None
    match where:
        case "params":
            at.params["Wy"][-1, -1] = np.nan
        case "m":
            at.optimizer_state["m"][-1] = np.inf
        case "state":
            at.state[0, 0, 0, 0] = -np.inf
        case "counts":
            at.counts.fill(0)
        case "loss":
            at.progress.loss_sum = math.inf
        case "data":
            at = replace(at, data={"folder": "somewhere"})
    with pytest.raises(CheckpointError, match=r"c\.npz: not written"):
        at.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]


def test_a_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    """The message names the path and the need."""
    with pytest.raises(CheckpointError, match=r"gone/c\.npz: cannot write .* MB needed"):
        make().save(tmp_path / "gone" / "c.npz")


def test_a_file_that_is_replaced_while_it_is_opened_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One or the other, not the new one by the size of the old one."""
    path, other = tmp_path / "c.npz", tmp_path / "other.npz"
    make().save(path)
    longer = make("model.embedding_size=3")
    longer.save(other)
    open_file = Path.open

    def replaced_then_opened(self: Path, *args: Any, **options: Any) -> Any:
        if other.exists():
            other.replace(path)
        return open_file(self, *args, **options)

    monkeypatch.setattr(Path, "open", replaced_then_opened)
    assert_equal(Checkpoint.load(path), longer)


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda at: pickle.loads(pickle.dumps(at))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_is_a_checkpoint_like_any_other(copied: Callable[[Checkpoint], Checkpoint]) -> None:
    """Its parameters are views into its own vector still."""
    at = make()
    assert at.model
    other = copied(at)
    assert_equal(at, other)
    assert other.model == at.model
    other.params.flat.fill(3)
    assert all((array == 3).all() for array in other.params.values())


@pytest.mark.parametrize("content", [b"", b"PK", b"text\n" * 100, b"\x00" * 4096])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    """Whatever it is."""
    (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(CheckpointError, match="not an rnnlm checkpoint"):
        Checkpoint.load(tmp_path / "c.npz")


def test_another_archive_is_refused(tmp_path: Path) -> None:
    """An .npz of something else."""
    np.savez(tmp_path / "c.npz", a=np.arange(3))
    with pytest.raises(CheckpointError, match="not an rnnlm checkpoint"):
        Checkpoint.load(tmp_path / "c.npz")


def test_another_version_is_named(tmp_path: Path) -> None:
    """The message says which is read."""
    path = tmp_path / "c.npz"
    make().save(path)
    arrays = read_npz(path)
    meta = json.loads(str(arrays["meta"])) | {"version": 9}
    arrays["meta"] = np.array(json.dumps(meta))
    with path.open("wb") as file:
        write_npz(file, arrays)
    with pytest.raises(CheckpointError, match="format 9, this rnnlm reads 1 and 2"):
        Checkpoint.load(path)


def test_a_pickle_inside_is_not_opened(tmp_path: Path) -> None:
    """An object array is refused before anything in it runs."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    path = tmp_path / "c.npz"
    make().save(path)
    content = members(path)
    content["Wy.npy"] = npy(np.array([Bomb()], object), allow_pickle=True)
    write_members(path, content)
    with pytest.raises(CheckpointError):
        Checkpoint.load(path)
    assert not (tmp_path / "ran").exists()


def test_a_zip_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    """Compressed members are never written, so never read."""
    path = tmp_path / "c.npz"
    make().save(path)
    content = members(path)
    content["Wy.npy"] = npy(np.zeros(30_000_000, np.float32))
    write_members(path, content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(CheckpointError, match="compressed"):
        Checkpoint.load(path)


def change_arrays(path: Path, change: dict[str, np.ndarray]) -> None:
    """Other arrays in a checkpoint, and a manifest that agrees with them."""
    changed = {f"{name}.npy": npy(array) for name, array in change.items()}
    path.write_bytes(with_manifest(members(path) | changed, lambda meta: None))


TEXT_JSON = json.dumps(make().format.to_json())


def as_bytes(text: str) -> np.ndarray:
    """A member of JSON."""
    return np.frombuffer(text.encode(), np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        {"Wy": np.zeros((4, 5), np.float32)},
        {"Wy": np.zeros((4, 4), np.float64)},
        {"Wy": np.full((4, 4), np.nan, np.float32)},
        {"extra": np.zeros(3)},
        {"vocabulary": np.array([10, 13, 97, 98], np.uint32)},
        {"text": as_bytes(TEXT_JSON.replace('"a"', '"\\n"'))},
        {"text": as_bytes(TEXT_JSON.replace('"a"', '"ab"'))},
        {"text": as_bytes(TEXT_JSON.replace('"a", ', ""))},
        {"text": as_bytes(TEXT_JSON.replace("utf-8", "latin-1"))},
        {"text": as_bytes(TEXT_JSON.replace("normalize", "keep"))},
        {"text": as_bytes(TEXT_JSON.replace("utf-8", "klingon"))},
        {"text": as_bytes(TEXT_JSON + " ")},
        {"text": as_bytes(TEXT_JSON[:-1])},
        {"text": as_bytes(TEXT_JSON).view(np.int8)},
        {"text": np.array(TEXT_JSON)},
        {"text": as_bytes("[" * 100_000)},
        {"config": np.array("data: {newlines: keep}")},
        {"state": np.zeros((2, 2, 3, 5), np.float32)},
        {"optimizer.m": np.zeros(3, np.float32)},
        {"config": np.array("model: {hidden_size: 65536, num_layers: 1000}")},
        {"config": np.array("model: [")},
        {"config": np.array("data: {level: byte}")},
    ],
)
def test_a_consistent_lie_is_refused_too(tmp_path: Path, change: dict[str, np.ndarray]) -> None:
    """Arrays that agree with the manifest but not with each other, or with the config."""
    path = tmp_path / "c.npz"
    saved = make()
    saved.save(path)
    change_arrays(path, change)
    with pytest.raises(CheckpointError):
        Checkpoint.load(path)


def as_version_1(path: Path, **change: np.ndarray) -> None:
    """A checkpoint as 0.1.0 wrote it, with other arrays."""
    content = members(path)
    symbols = np.array([10, 13, 97, 0x1F600], np.uint32)
    del content["text.npy"]
    for name, array in {"vocabulary": symbols, **change}.items():
        content[f"{name}.npy"] = npy(array)
    path.write_bytes(with_manifest(content, first_version))


def test_a_checkpoint_of_version_1_is_the_same_checkpoint(tmp_path: Path) -> None:
    """Its text rules are those of its config; saved again it is of this version."""
    saved = make("data.newlines=keep", "data.encoding=latin-1")
    saved.save(tmp_path / "c.npz")
    whole = (tmp_path / "c.npz").read_bytes()
    as_version_1(tmp_path / "c.npz")
    loaded = Checkpoint.load(tmp_path / "c.npz")
    assert_equal(loaded, saved)
    assert loaded.format.rules.encoding == "iso8859-1"
    loaded.save(tmp_path / "c.npz")
    assert members(tmp_path / "c.npz")["text.npy"] in whole


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": np.array([10, 13, 97, 97], np.uint32)},
        {"vocabulary": np.array([10, 13, 97, 2**31], np.uint32)},
        {"vocabulary": np.array([10, 13, 97], np.uint32)},
        {"vocabulary": np.array([10, 13, 97, 98], np.int64)},
        {"vocabulary": np.array([[10, 13, 97, 98]], np.uint32)},
        {"vocabulary": np.zeros((0, 10**9), np.uint32)},
        {"text": as_bytes(TEXT_JSON)},
        {"config": np.array("data: {level: byte}")},
        {"config": np.array("data: {encoding: klingon}")},
    ],
    ids=str,
)
def test_a_consistent_lie_of_version_1_is_refused_too(
    tmp_path: Path, change: dict[str, np.ndarray]
) -> None:
    """Symbols that are none, rules that cannot be, members of the other version."""
    make().save(tmp_path / "c.npz")
    as_version_1(tmp_path / "c.npz", **change)
    with pytest.raises(CheckpointError):
        Checkpoint.load(tmp_path / "c.npz")


def test_a_text_format_beside_another_config_is_not_saved(tmp_path: Path) -> None:
    """It would be refused when it is read."""
    at = make()
    other = TextFormat(TextRules.named("char", "latin-1"), at.vocabulary)
    with pytest.raises(CheckpointError, match="not written"):
        replace(at, format=other).save(tmp_path / "c.npz")
    assert not (tmp_path / "c.npz").exists()


def test_a_manifest_that_fits_is_believed(tmp_path: Path) -> None:
    """The test above can fail: what it writes loads where the arrays are those of a model."""
    path = tmp_path / "c.npz"
    saved = make()
    saved.save(path)
    change_arrays(path, {"Wy": saved.params["Wy"] + 1})
    np.testing.assert_array_equal(Checkpoint.load(path).params["Wy"], saved.params["Wy"] + 1)


@settings(max_examples=60)
@given(data=st.data())
def test_a_mutated_file_is_refused_or_loads_the_original(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Flipped bytes, cuts and insertions: never anything else, and no other error."""
    folder = tmp_path_factory.mktemp("mutated")
    saved = make()
    saved.save(folder / "c.npz")
    content = bytearray((folder / "c.npz").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                del content[at : at + data.draw(st.integers(1, 500))]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=50))
        if not content:
            break
    (folder / "c.npz").write_bytes(content)
    try:
        loaded = Checkpoint.load(folder / "c.npz")
    except CheckpointError as error:
        assert "\n" not in str(error)
    else:
        assert_equal(saved, loaded)
