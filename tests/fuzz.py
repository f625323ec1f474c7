"""Fuzzing: `python tests/fuzz.py --cases 10000` breaks every kind of file that rnnlm reads.

Each case changes a checkpoint, a prepared folder, a config or a text, and opens it. It must be refused
by one of rnnlm's own errors, in one line, or give what the original gives; within a few seconds and a
bounded memory. `make fuzz` is this at full length.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import lzma
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from click.testing import CliRunner

from rnnlm import Checkpoint, Corpus, RnnlmError, generate, make_config, prepare
from rnnlm.api import describe
from rnnlm.checkpoint import Progress
from rnnlm.choices import CHOICES
from rnnlm.cli import cli
from rnnlm.config import Config, parse_config
from rnnlm.corpus import SPLITS
from rnnlm.errors import ConfigError
from rnnlm.model import build_model
from rnnlm.optim import OPTIMIZERS, state_names
from rnnlm.vocabulary import LEVELS

SECONDS = 5  # for a case
MEMORY = 1 << 29  # bytes beyond what the process has when it begins
TEXT = "Die Fähre fährt um acht. The ferry leaves at eight,\r\nand Old Ib rings 鐘 the bell.\n" * 20
NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFE, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1)
JUNK = (None, True, 0, -1, 1.5, 1e308, 10**30, "", "x", "\n", "\x1b[31m", "\ud800", [], {}, [[]])

Refusal = str
Case = Callable[[random.Random, Path], "tuple[str, Callable[[], object]]"]


class WrongError(Exception):
    """A case that came out as it must not."""


# Bytes


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def drop(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 600)]


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randint(1, 300))


def double(rng: random.Random, data: bytearray) -> None:
    a, b = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    at = rng.randrange(len(data))
    data[at:at] = data[a:b]


def blank(rng: random.Random, data: bytearray) -> None:
    """A sector that was never written."""
    at = rng.randrange(len(data)) // 512 * 512
    data[at : at + 512] = bytes(len(data[at : at + 512]))


def number(rng: random.Random, data: bytearray) -> None:
    """A number of 2, 4 or 8 bytes, as sizes and offsets are, replaced by another."""
    kind = rng.choice(("<H", "<L", "<Q"))
    at = rng.randrange(max(1, len(data) - struct.calcsize(kind)))
    value = struct.pack(kind, rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(kind)))
    data[at : at + len(value)] = value


BYTES = (cut, flip, drop, insert, double, blank, number)


def changed_bytes(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """The name of a change, and the data with it, where that is something else."""
    change, changed = rng.choice(BYTES), bytearray(data)
    change(rng, changed)
    return change.__name__, bytes(changed)


# Trees of JSON


def change_tree(rng: random.Random, node: Any) -> None:
    """Replace, remove, double or rename one thing somewhere in a tree."""
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = rng.choice(list(keys))
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        break
    match rng.randrange(4):
        case 0:
            node[key] = rng.choice(JUNK)
        case 1:
            del node[key]
        case 2:
            value = node[key]
            node[key] = value + 1 if type(value) is int else [value]
        case 3 if isinstance(node, dict):
            node[rng.choice(("x", "step", "../../x", "é\n"))] = node[key]
        case _:
            node.append(node[key])


# Checkpoints


def make_checkpoints(folder: Path) -> list[Path]:
    """Three small ones, with and without what is optional."""
    made = []
    for name, keys in (
        ("a", ("model.cell=lstm", "model.num_layers=2")),
        ("b", ("model.cell=gru", "model.embedding_size=3", "train.optimizer=sgd")),
        ("c", ("model.cell=rnn", "data.level=byte", "train.optimizer=rmsprop")),
    ):
        config = make_config(None, "model.hidden_size=3", "train.batch_size=2", *keys)
        vocabulary = LEVELS[config.data.level]([10, 27, 65, 97])
        model = build_model(config.model, 4)
        params = model.init(np.random.default_rng(1))
        vectors = state_names(OPTIMIZERS[config.train.optimizer["name"]])
        checkpoint = Checkpoint(
            config=config,
            vocabulary=vocabulary,
            params=params,
            counts=np.arange(1, 5),
            progress=Progress(step=3, epoch=0.25, best_loss=1.5, best_step=2, started=9.5),
            data={"folder": "/nowhere", "fingerprint": "0" * 64} if name == "a" else {},
            optimizer_state=dict.fromkeys(vectors, params.flat**2),
            state=model.zero_state(2) + 1 if name == "a" else None,
        )
        made.append(folder / f"{name}.npz")
        checkpoint.save(made[-1])
    return made


def essence(checkpoint: Checkpoint) -> Any:
    """Arrays, vocabulary, and how text is read."""
    vectors = {**checkpoint.params, **checkpoint.optimizer_state, "counts": checkpoint.counts}
    if checkpoint.state is not None:
        vectors["state"] = checkpoint.state
    bits = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in vectors.items()}
    return bits, checkpoint.vocabulary.to_json(), checkpoint.config


class Checkpoints:
    """Mutated checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = [path.read_bytes() for path in make_checkpoints(folder)]
        self.loaded = [essence(Checkpoint.load(folder / f"{n}.npz")) for n in "abc"]
        self.path = folder / "mutated.npz"

    def __call__(self, rng: random.Random) -> tuple[str, str]:
        which = rng.randrange(3)
        kind = rng.choice((*CHECKPOINT_CHANGES, "bytes", "bytes", "header", "splice"))
        data, original = self.files[which], self.loaded[which]
        if kind == "bytes":
            name, data = changed_bytes(rng, data)
            kind = f"bytes: {name}"
        elif kind == "header":
            data = changed_header(rng, data)
        elif kind == "splice":
            other = rng.choice(self.files)
            data = data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]
        else:
            data = CHECKPOINT_CHANGES[kind](rng, data)
        self.path.write_bytes(data)
        try:
            checkpoint = Checkpoint.load(self.path)
        except RnnlmError as error:
            return kind, refused(error, self.path)
        if kind == "splice":
            ok = essence(checkpoint) in self.loaded
        elif kind == "another config":
            ok = essence(checkpoint)[0] == original[0]
        elif kind == "another array":
            ok = True  # if it fits, it is a checkpoint
        else:
            ok = essence(checkpoint) == original
        if not ok:
            raise WrongError("loaded, and is not the original")
        list(describe(checkpoint))
        list(generate(checkpoint, length=4))
        return kind, "equal"


def changed_header(rng: random.Random, data: bytes) -> bytes:
    """A number in one of the zip's own records changed."""
    starts = [m.start() for m in re.finditer(rb"PK(\x03\x04|\x01\x02|\x05\x06)", data)]
    at = rng.choice(starts) + rng.randrange(4, 46, 2)
    kind = rng.choice(("<H", "<L", "<Q"))
    value = struct.pack(kind, rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(kind)))
    return data[:at] + value + data[at + len(value) :]


def read_members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write_members(members: list[tuple[str, bytes]], compression: int = 0) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(buffer, np.asanyarray(array), **options)
    return buffer.getvalue()


def other_members(rng: random.Random, data: bytes) -> bytes:
    """Members renamed, missing, doubled, added, compressed or in another order."""
    members = list(read_members(data).items())
    at = rng.randrange(len(members))
    name, content = members[at]
    match rng.randrange(7):
        case 0:
            members[at] = (rng.choice(("x.npy", "../x.npy", "/etc/x", "a\nb.npy", "Wy")), content)
        case 1:
            del members[at]
        case 2:
            members.append((name, rng.choice(members)[1]))
        case 3:
            members.append(("extra.npy", npy(np.zeros(rng.randrange(5)))))
        case 4:
            return write_members(members, rng.choice((8, 12, 14)))
        case 5:
            bomb = npy(np.zeros(20_000_000, np.float32))
            return write_members([*members[:at], (name, bomb)], zipfile.ZIP_DEFLATED)
        case 6:
            rng.shuffle(members)
    return write_members(members)


SHAPES = (
    *("(1000000000000,)", "(-1,)", f"({1 << 62}, 4)", f"({1 << 64},)", "(0, 99999999999)", "(3L,)"),
    *("(True,)", "((3,),)", "()", f"({'9' * 3000},)", "(1.0,)", f"({'1,' * 1000})"),
)


def other_npy(rng: random.Random, data: bytes) -> bytes:
    """A member that is an array of another kind, or none, under a right checksum."""
    members = read_members(data)
    name = rng.choice(list(members))
    content = members[name]
    start = content.index(b"\n") + 1
    shape = rng.choice(SHAPES)
    header = rng.choice(
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': SHAPE, }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': SHAPE, }",
            "{'descr': '|O', 'fortran_order': False, 'shape': SHAPE, }",
            "{'descr': '<U99999999', 'fortran_order': False, 'shape': SHAPE, }",
            "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': SHAPE, }",
            "{'descr': '|V0', 'fortran_order': False, 'shape': SHAPE, }",
            "__import__('os').abort()",
            "(" * 900,
            "-" * 3000,
            "{'descr': '\\d', 'shape': 1 is 1}",
            "[" * 90 + "]" * 90,
        )
    ).replace("SHAPE", shape)
    text = header.encode() + b"\n"
    match rng.randrange(6):
        case 0 | 1 | 2:
            content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content[start:]
        case 3:
            content = content[:6] + bytes((rng.randrange(5), rng.randrange(3))) + content[8:]
        case 4:
            content = npy(np.array([{}, Exploding()], object), allow_pickle=True)
        case 5:
            content = changed_bytes(rng, content)[1]
    return write_members(list((members | {name: content}).items()))


class Exploding:
    """Code that a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return WrongError, ("a pickle was opened",)


def with_manifest(members: dict[str, bytes], change: Callable[[Any], None]) -> bytes:
    """The members with a manifest that agrees with them, and a further change of it."""
    arrays = {name: np.load(io.BytesIO(content)) for name, content in members.items()}
    meta = json.loads(str(arrays.pop("meta.npy")))
    meta["arrays"] = {
        name[:-4]: [a.dtype.str, list(a.shape), zlib.crc32(np.ascontiguousarray(a).data)]
        for name, a in arrays.items()
    }
    change(meta)
    return write_members(list((members | {"meta.npy": npy(np.array(json.dumps(meta)))}).items()))


def other_meta(rng: random.Random, data: bytes) -> bytes:
    """A manifest that says something else."""
    return with_manifest(read_members(data), lambda meta: change_tree(rng, meta))


def other_config(rng: random.Random, data: bytes) -> bytes:
    """Another config, in agreement with the manifest."""
    members = read_members(data)
    text = str(np.load(io.BytesIO(members["config.npy"])))
    text = rng.choice(
        (
            changed_yaml(rng, text),
            re.sub("hidden_size: 3", f"hidden_size: {rng.choice((4, 65536, 10**9))}", text),
            re.sub(r"num_layers: \d", "num_layers: 1000", text),
            "a: b\n" * 200_000,
        )
    ).encode("utf-8", "replace")
    members["config.npy"] = npy(np.array(text.decode()))
    return with_manifest(members, lambda meta: None)


def other_array(rng: random.Random, data: bytes) -> bytes:
    """An array of another type, shape or content, in agreement with the manifest."""
    members = read_members(data)
    name = rng.choice([name for name in members if name != "meta.npy"])
    array = np.load(io.BytesIO(members[name]))
    changes: list[Callable[[], Any]] = [
        lambda: array[None],
        lambda: array.reshape(-1)[:-1],
        lambda: np.concatenate([array.reshape(-1)] * 2),
        lambda: array.astype(
            ">U9" if array.dtype.kind == "U" else rng.choice((">f4", "<f8", "u1"))
        ),
        lambda: np.asfortranarray(array),
        lambda: np.zeros_like(array),
        lambda: np.negative(array) if array.dtype.kind in "if" else array,
        lambda: (
            np.full_like(array, float(rng.choice(("nan", "inf", "3e38"))))
            if array.dtype.kind == "f"
            else array.reshape(-1)[::-1]
        ),
        lambda: np.zeros((0, 10**12), array.dtype),
    ]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        members[name] = npy(rng.choice(changes)())
    return with_manifest(members, lambda meta: None)


CHECKPOINT_CHANGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "members": other_members,
    "npy": other_npy,
    "another manifest": other_meta,
    "another config": other_config,
    "another array": other_array,
}


# Prepared folders


class Folders:
    """Mutated prepared folders."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mutated"
        self.contents: list[dict[str, bytes]] = []
        self.texts: list[Any] = []
        for level in ("char", "byte"):
            (folder / "text.txt").write_bytes(TEXT.encode())
            out = folder / level
            prepare(folder / "text.txt", out, level=level)
            self.contents.append({p.name: p.read_bytes() for p in out.iterdir()})
            self.texts.append(corpus_essence(Corpus.open(out)))

    def __call__(self, rng: random.Random) -> tuple[str, str]:
        which = rng.randrange(2)
        files = dict(self.contents[which])
        name = rng.choice([*files, "corpus.json", "corpus.json"])
        kind = rng.choice(("bytes", "tree", "other file", "missing", "more"))
        if kind == "tree":
            name = "corpus.json"
            index = json.loads(files[name])
            for _ in range(rng.randint(1, 2)):
                change_tree(rng, index)
            files[name] = json.dumps(index).encode()
        elif kind == "bytes":
            _, files[name] = changed_bytes(rng, files[name])
        elif kind == "other file":
            files[name] = rng.choice([*self.contents[1 - which].values(), b"", b"[" * 100_000])
        elif kind == "missing":
            del files[name]
        else:
            files[f"{rng.randrange(9)}.npy"] = rng.randbytes(50)
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir()
        for file, content in files.items():
            (self.path / file).write_bytes(content)
        try:
            corpus = Corpus.open(self.path)
        except RnnlmError as error:
            return f"{kind}: {name}", refused(error, self.path)
        if corpus_essence(corpus) != self.texts[which]:
            raise WrongError("opened, and is not the original")
        corpus.summary()
        return f"{kind}: {name}", "equal"


def corpus_essence(corpus: Corpus) -> Any:
    """The ids of each split, the symbols, and the text rules that the ids came from."""
    ids = {name: (corpus[name].dtype.str, corpus[name].tobytes()) for name in SPLITS}
    return ids, corpus.vocabulary.to_json(), corpus.level, corpus.newlines, corpus.fingerprint


# Configs


YAML_WORDS = (
    *("data", "model", "train", "run", "path", "hidden_size", "optimizer", "name", "grad_clip"),
    *("norm", "epochs", "eval_every", "seq_length", "full", "null", "~", "adam", "1 epoch", "true"),
    *("0", "-1", "1e309", "0x10", "1_000", "9" * 400, ".inf", "12:30:45", "2001-01-01", "٣", "é"),
    *("!!python/object/apply:os.abort []", "!!binary aGk=", "*a", "&a", "<<", "? ", "'", '"', "|"),
    *("{", "}", "[", "]", ": ", "- ", "\n", "\n  ", "\t", "#", "%YAML 9.9\n", "---\n", "...\n"),
    *('"\\e[31m"', '"a\\nb"', '"a\\nb": 1\n', "\x07", "\u2028", "\x85", "\ufeff", "\\"),
)
CROSS = ("option of cell", "leave no text")  # errors of several keys together, which have no line


def changed_yaml(rng: random.Random, text: str) -> str:
    """YAML with words of its grammar put in, doubled, moved or left out."""
    lines = text.splitlines(keepends=True) or [""]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                lines.insert(at, lines[rng.randrange(len(lines))])
            case 1:
                k = rng.randint(0, len(lines[at]))
                lines[at] = lines[at][:k] + rng.choice(YAML_WORDS) + lines[at][k:]
            case 2:
                head, colon, _ = lines[at].partition(": ")
                lines[at] = head + colon + rng.choice(YAML_WORDS) + "\n"
            case 3:
                lines[at] = lines[at].replace("  ", rng.choice(("", " ", "    ", "\t")), 1)
            case 4 if len(lines) > 1:
                del lines[at]
    return "".join(lines)


def random_yaml(rng: random.Random) -> str:
    return "".join(rng.choice(YAML_WORDS) for _ in range(rng.randint(1, 30)))


def absurd_yaml(rng: random.Random) -> str:
    """Aliases that blow up, depth, length, and models of terabytes."""
    big = {
        "laughs": "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(200)),
        "merge": "a: &a {x: 1}\n" + "model:\n" + "  <<: *a\n" * 50,
        "depth": "{a: " * rng.randint(10, 3000),
        "brackets": "[" * rng.randint(10, 5000),
        "length": f"model: {{cell: {'x' * 50_000}}}",
        "keys": "".join(f"k{i}: {i}\n" for i in range(5000)),
        "terabytes": "model: {hidden_size: 65536, num_layers: 1000}",
        "digits": f"train: {{seed: {'9' * 5000}}}",
        "batch": f"train: {{batch_size: {rng.choice((1 << 20, 10**9))}, seq_length: full}}",
        "window": f"train: {{seq_length: {10 ** rng.choice((9, 18, 300, 4000))}}}",
    }
    return rng.choice(list(big.values()))


class Configs:
    """Mutated configs; those that are accepted must read back, and a dry run must bear them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "plain.txt").write_text(TEXT, encoding="utf-8")
        prepare(folder / "plain.txt", folder / "for-configs")
        self.plain = make_config(None, f"data.path={folder / 'for-configs'}").to_yaml()

    def __call__(self, rng: random.Random) -> tuple[str, str]:
        kind = rng.choice(("grammar", "grammar", "random", "absurd", "bytes", "encoding"))
        path = self.folder / "mutated.yaml"
        text = {"random": random_yaml, "absurd": absurd_yaml}.get(
            kind, lambda rng: changed_yaml(rng, self.plain)
        )(rng)
        data = text.encode("utf-8", "surrogatepass")
        if kind == "bytes":
            data = changed_bytes(rng, self.plain.encode())[1]
        elif kind == "encoding":
            data = self.plain.replace("lstm", rng.choice(("lstm", "é")))
            data = data.encode(rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig")))
        path.write_bytes(data)
        try:
            config = make_config(path)
        except ConfigError as error:
            said = refused(error, path)
            if not re.match(rf"{path}:\d+:\d+: ", str(error)) and not any(
                words in str(error) for words in CROSS
            ):
                raise WrongError(f"no line and column: {error}") from None
            return kind, said
        if parse_config(config.to_yaml(), "again", (), CHOICES) != config:
            raise WrongError("reads back as another config")
        self._dry_run(path, config)
        return kind, "accepted"

    def _dry_run(self, path: Path, config: Config) -> None:
        """As the command line does it, which may refuse what the machine cannot hold."""
        places = (self.folder, Path(tempfile.gettempdir()))
        wanted = Path(config.data.path or "x").absolute()
        if not any(wanted.is_relative_to(place) for place in places):
            path.write_text(
                config.with_values("data", path=str(self.folder / "for-configs")).to_yaml()
            )
        done = CliRunner().invoke(cli, ["train", "--dry-run", str(path)])
        if not isinstance(done.exception, (SystemExit, type(None))):
            raise done.exception
        if done.exit_code and not re.fullmatch("Error: [^\n]*\n", done.stderr):
            raise WrongError(f"a dry run ends with {done.exit_code}, {done.stderr!r}")


# Texts


ENCODINGS = (
    *("utf-8", "utf-8", "utf-16", "utf-32-be", "utf-7", "latin-1", "cp1252", "ascii", "shift_jis"),
    *("gb18030", "big5", "euc_kr", "cp037", "koi8-r", "mac_roman"),
)
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


class Texts:
    """Texts of any bytes through `prepare`, against Python's decoding of the whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, rng: random.Random) -> tuple[str, str]:
        encoding, suffix = rng.choice(ENCODINGS), rng.choice(("", "", *COMPRESSED))
        level, newlines = rng.choice(("char", "char", "byte")), rng.choice(("normalize", "keep"))
        source = rng.choice(("random bytes", "characters", "damaged text"))
        if source == "random bytes":
            data = rng.randbytes(rng.randint(0, 300))
        elif source == "characters":
            points = [rng.choice((rng.randrange(128), rng.randrange(0x110000), 13, 10, 0xFEFF))
                      for _ in range(rng.randint(1, 60))]  # fmt: skip
            data = "".join(map(chr, points)).encode(encoding, "ignore")
        else:
            data = changed_bytes(rng, TEXT.encode(encoding, "replace"))[1]
        packed = COMPRESSED[suffix](data)
        damaged = suffix and rng.random() < 0.3
        if damaged:
            packed = changed_bytes(rng, packed)[1]
        path, out = self.folder / f"text{suffix}", self.folder / "out"
        path.write_bytes(packed)
        shutil.rmtree(out, ignore_errors=True)
        options: dict[str, Any] = {} if level == "byte" else {"encoding": encoding}
        kind = f"{source}{', compressed' * bool(suffix)}"
        try:
            corpus = prepare(path, out, level=level, newlines=newlines, **options)
        except RnnlmError as error:
            if out.exists():
                raise WrongError("a folder was left behind") from None
            said = refused(error, path, out)
            if not damaged and level == "byte" and data:
                raise WrongError(f"bytes were refused: {error}") from None
            if not damaged and level == "char":
                self._expect_unreadable(data, encoding, error)
            return kind, said
        ids = np.concatenate([corpus[name] for name in SPLITS])
        symbols = corpus.vocabulary.symbols[ids]
        if damaged:
            return kind, "equal"  # the decompressor's own checks let it pass
        if level == "byte":
            ok = bytes(symbols.tolist()) == data
        else:
            text = data.decode(encoding).removeprefix("\ufeff")
            if newlines == "normalize":
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            ok = "".join(map(chr, symbols.tolist())) == text
        if not ok:
            raise WrongError("another text than Python's")
        return kind, "equal"

    @staticmethod
    def _expect_unreadable(data: bytes, encoding: str, error: RnnlmError) -> None:
        try:
            text = data.decode(encoding).removeprefix("\ufeff")
        except UnicodeError:
            return
        if encoding == "utf-16" and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            return  # without a mark a file's byte order would be a guess
        if text:
            raise WrongError(f"a readable text was refused: {error}")


# Running


def refused(error: RnnlmError, *paths: Path) -> Refusal:
    """A refusal, which is one line of printable text that names the file."""
    said = str(error)
    if not said or len(said) > 600 or not said.isprintable():
        raise WrongError(f"a message of another kind: {said[:1000]!r}")
    if not any(str(path) in said for path in paths) and not any(words in said for words in CROSS):
        raise WrongError(f"a message that does not name the file: {said!r}")
    return "refused"


class TooSlow(BaseException):
    """A case took too long."""


@contextmanager
def limits(memory: int) -> Iterator[None]:
    """Bounded memory, and an alarm that ends a case."""

    def ring(*_: object) -> None:
        raise TooSlow

    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (have + memory, before[1]))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


SHARES = {Checkpoints: 10, Folders: 5, Configs: 3, Texts: 2}


def fuzz(cases: Iterable[int], seed: int) -> int:
    """Run cases by their numbers, print what came of them; how many failed."""
    counts: dict[str, Counter[str]] = {}
    failures, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as name, limits(MEMORY), warnings.catch_warnings():
        warnings.simplefilter("error")
        kinds = []
        for kind, share in SHARES.items():
            folder = Path(name, kind.__name__.lower())
            folder.mkdir()
            kinds += [kind(folder)] * share
        for case in cases:
            rng = random.Random(f"{seed}/{case}")
            target = kinds[case % len(kinds)]
            group, began = type(target).__name__.lower(), time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                what, outcome = target(rng)
            except (Exception, TooSlow) as error:
                what, outcome = "failed", "failures"
                failures += 1
                print(f"--seed {seed} --case {case} ({group}): {type(error).__name__}: {error}")
                if not isinstance(error, WrongError):
                    traceback.print_exc(limit=-4, file=sys.stdout)
            signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, time.monotonic() - began)
            counts.setdefault(group, Counter())[outcome] += 1
            counts.setdefault(f"  {group}: {what}", Counter())[outcome] += 1
    print(f"{'':<44} {'cases':>7} {'refused':>8} {'equal':>7} {'accepted':>8} {'failures':>8}")
    for name, each in sorted(counts.items(), key=lambda item: item[0].strip()):
        figures = (each.total(), each["refused"], each["equal"], each["accepted"], each["failures"])
        print(f"{name[:44]:<44} {{:>7}} {{:>8}} {{:>7}} {{:>8}} {{:>8}}".format(*figures))
    total = sum(each.total() for name, each in counts.items() if name[0] != " ")
    print(f"{total} cases, {failures} failures, the slowest took {slowest:.2f} s")
    return failures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--case", type=int, default=None, help="only the one of this number")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    cases = range(options.cases) if options.case is None else [options.case]
    print(f"fuzz: seed {seed}", flush=True)
    sys.exit(1 if fuzz(cases, seed) else 0)


if __name__ == "__main__":
    main()
