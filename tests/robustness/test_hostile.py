"""Hostile and broken files: what is refused, in how little memory and time, and what it may say."""

from __future__ import annotations

import io
import os
import random
import re
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from conftest import TEXT
from faults import command, environment, rnnlm
from fuzz import Checkpoints, fuzz, make_checkpoints
from mutations import npy, read_members, with_manifest, write_members

from rnnlm import (
    Checkpoint,
    CheckpointError,
    Config,
    Corpus,
    DataError,
    RnnlmError,
    evaluate,
    generate,
    load,
    make_config,
    prepare,
    read_metrics,
    resume,
    samples,
    stream,
    train,
)
from rnnlm.cells import CELLS
from rnnlm.cli.main import cli
from rnnlm.runs.checkpoint import Progress
from rnnlm.storage.npz import read_npz

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as Linux has it")


@LINUX
def test_a_hundred_mutated_files_are_refused_or_load_the_original() -> None:
    """Checkpoints, prepared folders, configs and texts: the short form of `make fuzz`."""
    assert fuzz(range(100), seed=0) == 0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint's bytes."""
    return make_checkpoints(tmp_path_factory.mktemp("sound"))[0].read_bytes()


def refusal(path: Path, data: bytes) -> str:
    """What is said of a checkpoint of these bytes."""
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert said.isprintable()
    assert len(said) < 500
    return said


def with_array(data: bytes, name: str, array: object) -> bytes:
    """A checkpoint with another array, in agreement with its manifest."""
    members = read_members(data)
    members[f"{name}.npy"] = npy(array)
    return with_manifest(members, lambda meta: None)


def with_meta(data: bytes, change: Callable[[dict[str, object]], None]) -> bytes:
    """A checkpoint whose manifest says something else."""
    return with_manifest(read_members(data), change)  # type: ignore[arg-type]


# Three nested mappings of 400 keys: 64 million where aliases are followed
BOMB = "a: &a {{{}}}\nb: &b {{{}}}\ntrain: {{{}}}\n".format(
    *(", ".join(f"k{i}: {value}" for i in range(400)) for value in ("1", "*a", "*b"))
)

# Checkpoints


def records(data: bytes | bytearray, signature: bytes) -> list[int]:
    """Where the zip's records of a kind start."""
    return [m.start() for m in re.finditer(re.escape(signature), data)]


@pytest.mark.parametrize("size", [1 << 31, (1 << 32) - 2])
def test_sizes_that_lie_are_found_before_memory_is_taken(
    size: int, sound: bytes, tmp_path: Path
) -> None:
    """A member that calls itself gigabytes, in the directory, in its header, in both."""
    central, local = records(sound, b"PK\x01\x02")[0], records(sound, b"PK\x03\x04")[0]
    patched = struct.pack("<LL", size, size)
    for places in ((central + 20,), (local + 18,), (central + 20, local + 18)):
        data = bytearray(sound)
        for at in places:
            data[at : at + 8] = patched
        (tmp_path / "c.npz").write_bytes(data)
        try:
            Checkpoint.load(tmp_path / "c.npz")
        except CheckpointError as error:
            assert str(error).isprintable()
        else:  # the directory's size counts, and the header's is not used
            assert places == (local + 18,)


def test_a_directory_of_millions_is_refused_unread(tmp_path: Path) -> None:
    """Names without arrays, of which zipfile would make an object each."""
    entry = b"PK\1\2".ljust(46, b"\0")
    directory = entry * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFE, 0xFFFE, len(directory), 0, 0)
    said = refusal(tmp_path / "c.npz", directory + end)
    assert "its directory is too large" in said


def test_members_that_share_their_bytes_are_refused(sound: bytes, tmp_path: Path) -> None:
    """A bomb of entries that all point to one member."""
    directory = records(sound, b"PK\x01\x02")
    end = records(sound, b"PK\x05\x06")[0]
    first = sound[directory[0] : directory[1]]
    copies = b"".join(
        first.replace(b"layers.0.Wx", b"layers.%d.W%c" % (i, 97 + i)) for i in range(9)
    )
    whole = sound[: directory[0]] + copies
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(copies), directory[0], 0)
    assert end
    refusal(tmp_path / "c.npz", whole + tail)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3L,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 9), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }",
        "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4), }",
        "{'descr': '>f4', 'fortran_order': False, 'shape': (3, 4), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').abort(),), }",
        "(" * 4000,
        "-" * 4000 + "1",
        "{'descr': '\\d', 'fortran_order': 0 is 0, 'shape': 0xfor x in x}",
    ],
    ids=lambda header: header[:60],
)
def test_array_headers_are_compared_not_evaluated(
    header: str, sound: bytes, tmp_path: Path
) -> None:
    """Absurd shapes, other layouts and code, each under a right checksum: no warning, no memory."""
    members = read_members(sound)
    text = header.encode() + b"\n"
    members["Wy.npy"] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(48)
    said = refusal(tmp_path / "c.npz", write_members(list(members.items())))
    assert "'Wy.npy'" in said or "differ from its manifest" in said


def test_names_from_a_file_are_quoted_in_messages(sound: bytes, tmp_path: Path) -> None:
    """Line ends and escape sequences in them do not reach the terminal."""
    members = list(read_members(sound).items())
    for name in ("a\nb.npy", "\x1b[2J.npy", "x" * 5000 + ".npy", "a\nb", "../../a.npy"):
        data = write_members([*members, (name, npy(np.zeros(3)))])
        refusal(tmp_path / "c.npz", data)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("data", []),
        ("data", {"folder": 3, "fingerprint": ""}),
        ("data", {"folder": "x"}),
        ("progress", []),
        ("progress", {**asdict(Progress()), "step": -1}),
        ("progress", {**asdict(Progress()), "step": 1.5}),
        ("progress", {**asdict(Progress()), "seconds": float("nan")}),
        ("progress", {**asdict(Progress()), "epoch": 10**400}),
        ("progress", {**asdict(Progress()), "best_loss": 1.0}),
        ("progress", {**asdict(Progress()), "more\n": 1}),
        ("arrays", {}),
        ("arrays", None),
        ("version", None),
        ("format", []),
    ],
    ids=str,
)
def test_a_manifest_of_other_values_is_refused(
    name: str, value: object, sound: bytes, tmp_path: Path
) -> None:
    """Types, ranges and what belongs together."""
    refusal(tmp_path / "c.npz", with_meta(sound, lambda meta: meta.update({name: value})))


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("counts", np.array([1, 2, -3, 4])),
        ("counts", np.zeros(4, np.int64)),
        ("config", np.array("a: b\n" * 100_000)),
        ("config", np.array(["", ""])),
        ("config", np.array(3)),
        ("config", np.array('"a\\nb": \x1b[31m')),
        ("config", np.array(BOMB)),
        ("config", np.array('data: {path: "\\UFFFFFFFF"}')),
        ("config", np.array("%YAML 1." + "9" * 5000)),
        ("config", np.array("? " + "k" * 60_000)),
        ("vocabulary", np.zeros((0, 10**9), np.uint32)),
        ("text", np.zeros((0, 10**9), np.uint8)),
        ("text", np.zeros(0, np.uint8)),
        ("text", np.zeros(1 << 26, np.uint8)),
        ("text", np.frombuffer(b"[" * (1 << 20), np.uint8)),
        ("text", np.frombuffer(b"9" * 5000, np.uint8)),
        ("text", np.frombuffer(b'{"encoding": "\x1b[31m", "newlines": "a\nb", ', np.uint8)),
        ("Wy", np.zeros((3, 4), ">f4")),
        ("Wy", np.array("text")),
        ("by", np.float32(1)),
        ("by", np.full(4, np.inf, np.float32)),
        ("state", np.float32(1)),
        ("state", np.zeros((2, 2, 0, 3), np.float32)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}{value.shape}",
)
def test_arrays_that_no_run_writes_are_refused(
    name: str, array: object, sound: bytes, tmp_path: Path
) -> None:
    """Each in agreement with the manifest; the long config without reading it as YAML."""
    refusal(tmp_path / "c.npz", with_array(sound, name, array))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", ["config", "meta"])
def test_characters_beyond_unicode_are_refused(
    name: str, order: str, sound: bytes, tmp_path: Path
) -> None:
    """Of which NumPy makes a str that Python cannot work with."""
    members = read_members(sound)
    points = np.array([123, 0x110000, 0xFFFFFFFF], f"{order}u4")
    members[f"{name}.npy"] = npy(points.view(f"{order}U3").reshape(()))
    data = with_manifest(members, lambda meta: None) if name != "meta" else None
    said = refusal(tmp_path / "c.npz", data or write_members(list(members.items())))
    assert "beyond Unicode" in said


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe that nobody writes to, a device, a folder."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(CheckpointError, match="not a file"):
            read_npz(path)


@LINUX
def test_a_bomb_is_refused_in_little_memory_and_runs_nothing(sound: bytes, tmp_path: Path) -> None:
    """In a process that may not take half a gigabyte, by the command that a user types."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    members = read_members(sound)
    bombs = {
        "pickle": members | {"Wy.npy": npy(np.array([Bomb()], object), allow_pickle=True)},
        "zip": members | {"Wy.npy": npy(np.zeros(5_000_000, np.float32))},
    }
    for name, content in bombs.items():
        path = tmp_path / f"{name}.npz"
        data = bytearray(write_members(list(content.items()), 8 if name == "zip" else 0))
        if name == "zip":  # as if it unfolded to 4 GB, which would take long to make
            at = records(data, b"PK\1\2")[list(content).index("Wy.npy")]
            data[at + 24 : at + 28] = b"\xf0\xff\xff\xff"
        path.write_bytes(data)
        _, err = rnnlm("info", path, code=1, handicap=("little-memory", 1 << 29))
        assert str(path) in err
        assert err.count("\n") == 1
    assert not (tmp_path / "ran").exists()


# Configs


def config_error(path: Path, content: bytes) -> str:
    """What the command line says of a config."""
    path.write_bytes(content)
    done = CliRunner().invoke(cli, ["train", "--dry-run", str(path)])
    assert done.exit_code == 1, done.output
    assert done.stderr.startswith("Error: ")
    return done.stderr.removeprefix("Error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("content", "where", "words"),
    [
        ("model:\n  cell: lstm\n".encode("utf-16"), "1:1", "not UTF-8"),
        ("model:\n  cell: é\n".encode("latin-1"), "2:9", "not UTF-8"),
        (b"model:\n  cell: a\0b\n", "2:10", "bad YAML"),
        (b"\xef\xbb\xbfmodel:\n  cel: gru\n", "2:3", "did you mean model.cell?"),
        (b"train:\n  seed: 1e400\n", "2:3", "an integer"),
        (b"train:\n  seed: " + b"9" * 5000, "2:3", "an integer"),
        (b"data:\n  val_fraction: 1e400\n", "2:3", "a number"),
        (b"model: &m {cell: gru}\nmodel: *m\n", "1:8", "anchors"),
        (b"model:\n  <<: {cell: gru}\n", "2:3", "unknown key"),
        (b"model:\n  !!str cell: gru\n  cell: lstm\n", "3:3", "is given twice"),
        (b"model: *nowhere\n", "1:8", "aliases"),
        (b"%YAML 9.9\n---\nmodel: {}\n", "1:1", "bad YAML"),
        (b"{" * 600, "1:2", "a key must be a word"),
        (b"{a: " * 600, "1:37", "nested too deeply"),
        (b'data: {path: "\\UFFFFFFFF"}', "1:17", "does not exist"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_is_located(
    content: bytes, where: str, words: str, tmp_path: Path
) -> None:
    """Encodings, marks, numbers, duplicates, aliases: line and column in one line."""
    said = config_error(tmp_path / "c.yaml", content)
    assert said.startswith(f"{tmp_path}/c.yaml:{where}: "), said
    assert words in said
    assert "\n" not in said


def test_keys_from_a_config_are_quoted_in_messages(tmp_path: Path) -> None:
    """Line ends, escape sequences and marks that nobody sees do not reach the terminal."""
    for content in (b'"a\\nb": 1', b'"\\e[2J": 1', b'model: {"cell\\u202e": gru}'):
        said = config_error(tmp_path / "c.yaml", content)
        assert said.isprintable()
        assert re.match(rf"{tmp_path}/c\.yaml:1:\d+: ", said)


def test_a_long_config_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """YAML takes seconds for a megabyte."""
    assert "not a config" in config_error(tmp_path / "c.yaml", b"a: b\n" * 200_000)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of 10,000 characters."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT)
    return path


@contextmanager
def little_memory(size: int) -> Iterator[None]:
    """This process can take so many bytes and no more, for as long as that."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@LINUX
@pytest.mark.parametrize(
    "keys",
    [
        ("model.hidden_size=65536", "model.num_layers=1000"),
        ("model.hidden_size=65536", "model.num_layers=1"),
        ("model.embedding_size=65536", "model.hidden_size=60000"),
    ],
    ids=str,
)
def test_a_model_of_terabytes_is_refused_before_memory_is_taken(
    keys: tuple[str, ...], text: Path, tmp_path: Path
) -> None:
    """With what it needs and what there is, at once, where there is little; nothing is left."""
    sets = [part for key in (f"data.path={text}", *keys) for part in ("--set", key)]
    for options in (("--run-dir", tmp_path / "run"), ("--dry-run",)):
        with little_memory(1 << 28):
            done = run("train", *sets, *options)
        assert done.exit_code == 1
        assert re.search(r"Error: training needs about [\d.]+ [GTP]B .* are free", done.stderr)
    assert not (tmp_path / "run").exists()


def test_intervals_survive_being_written(tmp_path: Path) -> None:
    """To the last digit: a run that goes on reads them from its config.yaml."""
    for amount in ("0.3333333333", "1e-7", "0.1", "2", "123456.789"):
        config = make_config(None, f"train.eval_every={amount} epochs")
        (tmp_path / "c.yaml").write_text(config.to_yaml())
        again = make_config(tmp_path / "c.yaml")
        assert again.train.eval_every.steps(10**9) == config.train.eval_every.steps(10**9)
        assert isinstance(again, Config)


# Prepared folders


def test_a_folder_of_links_and_devices_is_refused(text: Path, tmp_path: Path) -> None:
    """What stands in the place of ids must be the file that was written, wherever it lies."""
    prepare(text, tmp_path / "data")
    ids = tmp_path / "data" / "train.npy"
    ids.rename(tmp_path / "moved.npy")
    ids.symlink_to(tmp_path / "moved.npy")
    assert len(Corpus.open(tmp_path / "data")["train"]) > 1000
    for target in ("/dev/zero", "/dev/null", str(text), str(ids)):
        ids.unlink()
        ids.symlink_to(target)
        with pytest.raises(DataError, match=r"train\.npy"):
            Corpus.open(tmp_path / "data")


# Paths and the terminal


BAD_PATHS = ("n" * 300, "text.txt/x", "shut/x")


def run(*args: object) -> Result:
    """A command in process, without a traceback."""
    done = CliRunner().invoke(cli, list(map(str, args)))
    assert isinstance(done.exception, (SystemExit, type(None))), done.exception
    return done


@pytest.mark.parametrize("bad", BAD_PATHS)
def test_a_path_that_cannot_be_looked_at_is_one_line(bad: str, text: Path, in_tmp: Path) -> None:
    """Too long, through a file, or through a folder that is shut, in every place for a path."""
    (in_tmp / "text.txt").write_text(TEXT)
    (in_tmp / "shut").mkdir(mode=0)
    (in_tmp / "c.npz").write_bytes(make_checkpoints(in_tmp)[0].read_bytes())
    fast = (
        "--set",
        "train.epochs=1",
        "--set",
        "model.hidden_size=4",
        "--set",
        "train.batch_size=4",
    )
    data = ("--set", "data.path=text.txt")
    for args in (
        ("info", bad),
        ("sample", bad),
        ("sample", "c.npz", "--prime-file", bad),
        ("sample", "c.npz", "--output", bad),
        ("eval", bad),
        ("eval", "c.npz", "--data", bad),
        ("eval", "c.npz", "--text", bad),
        ("train", bad),
        ("train", "--resume", bad),
        ("train", *data, *fast, "--init-from", bad),
        ("train", *data, *fast, "--run-dir", bad),
        ("train", *fast, "--set", f"data.path={bad}"),
        ("prepare", bad, "--out", "out"),
        ("prepare", "text.txt", "--out", bad),
        ("prepare", "text.txt", "--out", "out", "--val", bad),
        ("prepare", "text.txt", "--out", "out", "--vocab", bad),
    ):
        if bad == "shut/x" and args[-2:] in (("--run-dir", bad), ("--out", bad), ("--output", bad)):
            continue  # root makes it
        done = run(*args)
        assert done.exit_code == 1, args
        assert re.fullmatch(r"Error: [^\n]+\n", done.stderr), (args, done.stderr)


def test_a_checkpoint_does_not_drive_the_terminal_that_shows_it(
    sound: bytes, tmp_path: Path
) -> None:
    """What it says of its data and losses is shown escaped, and absurd losses are no traceback."""
    progress = asdict(Progress(step=3, best_loss=1e6, best_step=2, train_loss=1e308))
    change = {
        "data": {"folder": "\x1b]0;title\x07\nstep: 9", "fingerprint": "\x1b[2J"},
        "progress": progress,
    }
    (tmp_path / "c.npz").write_bytes(with_meta(sound, lambda meta: meta.update(change)))
    said = run("info", tmp_path / "c.npz")
    assert said.exit_code == 0
    assert "\x1b" not in said.stdout
    assert "\x07" not in said.stdout
    assert "\nstep: 9" not in said.stdout
    missing = run("eval", tmp_path / "c.npz")
    assert re.fullmatch(r"Error: [^\n\x1b\x07]+\n", missing.stderr)


def test_text_that_an_output_cannot_encode_is_no_traceback(tmp_path: Path) -> None:
    """Lone surrogates that some encodings yield, and an output that knows ASCII alone."""
    (tmp_path / "text").write_bytes(b"a+2AA-b+3AA-+7j0-" * 200)
    keys = ("data.encoding=utf-7", "train.epochs=1", "train.batch_size=4", "model.hidden_size=4")
    sets = [part for key in (f"data.path={tmp_path / 'text'}", *keys) for part in ("--set", key)]
    run_dir = tmp_path / "run"
    done = run("train", *sets, "--set", "train.sample_every=1 epoch", "--run-dir", run_dir)
    assert done.exit_code == 0, done.output
    for encoding in ("utf-8:strict", "ascii:strict"):
        script = command("sample", run_dir, "--length", 100)
        environ = {**environment(), "PYTHONIOENCODING": encoding}
        sampled = subprocess.run(script, env=environ, capture_output=True, check=False)
        assert sampled.returncode == 0, sampled.stderr
        assert sampled.stdout.count(b"a") > 5


@pytest.mark.parametrize(
    "options", [(), ("--temperature", "0"), ("--top-k", "2", "--top-p", "0.5")]
)
def test_numbers_that_overflow_are_drawn_from_without_a_word(
    options: tuple[str, ...], sound: bytes, tmp_path: Path
) -> None:
    """Weights at the end of float32's range give characters of the vocabulary, or a message."""
    path = tmp_path / "c.npz"
    path.write_bytes(sound)
    whole = Checkpoint.load(path)
    for size in (1e20, 3e38):
        signs = np.where(np.arange(whole.params.flat.size) % 3, 1, -1)
        whole.params.flat[:] = np.float32(size) * signs
        whole.save(path)
        done = run("sample", path, "--length", 50, *options)
        assert (done.exit_code, done.stderr) == (0, "")
        assert set(done.stdout) <= set(whole.vocabulary.text(range(4)) + "\n")


# A run folder that is gone on with


def test_a_run_with_a_consistent_lie_is_refused_not_continued(text: Path, tmp_path: Path) -> None:
    """A state of another batch, or a config of another text, is found before a step is made."""
    keys = ("model.hidden_size=4", "train.epochs=1", "train.batch_size=4")
    sets = [part for key in (f"data.path={text}", *keys) for part in ("--set", key)]
    assert run("train", *sets, "--run-dir", tmp_path / "run").exit_code == 0
    whole = (tmp_path / "run" / "last.npz").read_bytes()
    state = np.load(io.BytesIO(read_members(whole)["state.npy"]))
    for lie in (state[:, :, :3], np.concatenate([state, state], axis=2)):
        (tmp_path / "run" / "last.npz").write_bytes(with_array(whole, "state", lie))
        done = run("train", "--resume", tmp_path / "run", "--set", "train.epochs=2")
        assert done.exit_code == 1
        assert re.fullmatch(r"Error: [^\n]+\n", done.stderr)


def test_the_fuzzers_checkpoints_load(tmp_path: Path) -> None:
    """Unmutated, each gives what was saved; and a case can be repeated by its number."""
    target = Checkpoints(tmp_path)
    assert len(target.files) == len(target.loaded) == 2 * len(CELLS)
    assert [target(random.Random("1/2")) for _ in range(2)] == [target(random.Random("1/2"))] * 2


# Wrong values in a script

NO_VALUES = (3, None, b"x", "", "a\0b", "\ud800", [], [3], {}, object(), "x" * 300, "text/x")


def api_calls(sound: bytes, folder: Path) -> dict[str, Callable[[Any], object]]:
    """Every function of the package, with a place for one wrong value."""
    (folder / "c.npz").write_bytes(sound)
    whole = Checkpoint.load(folder / "c.npz")
    config = make_config(None, "train.epochs=1")
    return {
        "load": lambda v: load(v if v is not None else 0),
        "Checkpoint.load": Checkpoint.load,
        "Checkpoint.save": lambda v: whole.save(v),
        "Checkpoint.ids": lambda v: whole.ids(v) if v else whole.ids("a", v),
        "make_config": lambda v: make_config(v if v is not None else 0),
        "make_config, override": lambda v: make_config(None, v),
        "with_values": lambda v: config.with_values(v, epochs=3),
        "read_metrics": lambda v: list(read_metrics(v)),
        "evaluate": lambda v: evaluate(v, "a text"),
        "evaluate, text": lambda v: evaluate(whole, v),
        "generate": lambda v: generate(v),
        "generate, prime": lambda v: generate(whole, v or 0),
        "stream": lambda v: list(stream(v)),
        "samples": lambda v: list(samples(v)),
        "train": lambda v: train(v),
        "train, value": lambda v: train(config.with_values("train", epochs=v)),
        "train, section": lambda v: train(Config(data=v)),
        "train, init_from": lambda v: train(config, init_from=v),
        "resume": lambda v: resume(v),
        "Corpus.open": Corpus.open,
        "prepare": lambda v: prepare(v, folder / "out"),
        "prepare, out": lambda v: prepare([folder / "text"], v),
        "prepare, val": lambda v: prepare([folder / "text"], folder / "out", val=v or 0),
        "prepare, level": lambda v: prepare([folder / "text"], folder / "out", level=v),
        "prepare, encoding": lambda v: prepare([folder / "text"], folder / "out", encoding=v or 0),
        "prepare, newlines": lambda v: prepare([folder / "text"], folder / "out", newlines=v),
        "prepare, fraction": lambda v: prepare([folder / "text"], folder / "out", val_fraction=v),
        "prepare, vocabulary": lambda v: prepare(
            [folder / "text"], folder / "out", vocabulary=v or 0
        ),
    }


def test_a_wrong_value_in_a_script_is_an_error_of_rnnlm(sound: bytes, in_tmp: Path) -> None:
    """Wrong types, missing files, names that no file can have: one sentence, nothing is made."""
    (in_tmp / "text").write_text(TEXT)
    for name, call in api_calls(sound, in_tmp).items():
        for value in NO_VALUES:
            if name == "prepare, out" and value is None:
                continue  # a value: files without a name
            try:
                call(value)
            except RnnlmError as error:
                assert str(error).isprintable(), (name, value)
                assert 10 < len(str(error)) < 1000, (name, value)
            else:
                pytest.fail(f"{name} took {value!r:.50}")
    assert {path.name for path in in_tmp.iterdir()} - {"runs"} == {"c.npz", "text"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b'{"step": 1}\n{"step": \n{"step": 3}\n', 2),
        (b"\xff\xfe\n", 1),
        (b"[1]\n", 1),
        (b"9" * 5000 + b"\n", 1),
        (b"[" * 100_000 + b"\n", 1),
        (b"\n", 1),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_log_is_named_with_its_line(content: bytes, line: int, tmp_path: Path) -> None:
    """Torn in the middle, not UTF-8, not objects; a torn end is what a killed run leaves."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step')
    assert list(read_metrics(str(path))) == [{"step": 1}]
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"metrics\.jsonl:{line}: not a JSON object"):
        list(read_metrics(path))
