"""Fuzzing: `python tests/fuzz.py --cases 10000` breaks every kind of file that rnnlm reads.

Each case changes a checkpoint, a prepared folder, a config or a text, and opens it. It must be refused
by one of rnnlm's own errors, in one line, or give what the original gives; within a few seconds and a
bounded memory. `make fuzz` is this at full length.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import json
import lzma
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from click.testing import CliRunner
from mutations import (
    CHECKPOINT_CHANGES,
    WrongError,
    absurd_yaml,
    change_tree,
    changed_bytes,
    changed_header,
    changed_yaml,
    random_yaml,
)

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


CROSS = ("option of cell", "leave no text")  # errors of several keys together, which have no line


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


def refused(error: RnnlmError, *paths: Path) -> str:
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
