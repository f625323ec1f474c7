"""Fuzzing: `python tests/robustness/fuzz.py --cases 10000` breaks every kind of file that rnnlm reads.

Each case changes a checkpoint, a prepared folder, a config or a text, and opens it. It must be refused
by one of rnnlm's own errors, in one line, or give what the original gives; within a few seconds and a
bounded memory. Others train for a few steps under options that nobody would choose: what is saved must
be finite. `make fuzz` is this at full length.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import itertools
import json
import lzma
import math
import os
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
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from click.testing import CliRunner
from mutations import (
    CHECKPOINT_CHANGES,
    UNITS,
    YAML_CHANGES,
    WrongError,
    change_byte,
    change_tree,
    changed_bytes,
    changed_header,
    first_version,
    npy,
    read_members,
    with_manifest,
)

from rnnlm import Checkpoint, Corpus, RnnlmError, generate, make_config, prepare, resume, train
from rnnlm.api.facts import describe
from rnnlm.assembly import TABLES, build_model
from rnnlm.cells import CELLS
from rnnlm.cli.main import cli
from rnnlm.config.kinds import options
from rnnlm.config.parse import parse_config
from rnnlm.config.schema import Config
from rnnlm.errors import ConfigError, TrainingError
from rnnlm.optim.optimizers import OPTIMIZERS, state_names
from rnnlm.optim.schedules import SCHEDULES
from rnnlm.runs.checkpoint import Progress
from rnnlm.runs.history import read_metrics
from rnnlm.text.corpus import SPLITS
from rnnlm.text.format import LEVELS, TextFormat, TextRules, vocabulary_from_json

SECONDS = 5  # of the processor, for a case
WAIT = 60  # seconds that it may last, however busy the machine is
TIMERS = {signal.ITIMER_PROF: SECONDS, signal.ITIMER_REAL: WAIT}
MEMORY = 1 << 29  # bytes beyond what the process has when it begins
TEXT = "Die Fähre fährt um acht. The ferry leaves at eight,\r\nand Old Ib rings 鐘 the bell.\n" * 20


class Target:
    """Something that is broken, again and again; `kind` says how it was, the last time."""

    kind = ""

    def __call__(self, rng: random.Random) -> str:
        """Break it and open it: `refused`, `equal` or `accepted`. Raises where it is none of them."""
        raise NotImplementedError


# Checkpoints


def make_checkpoints(folder: Path) -> list[Path]:
    """A small one of every cell, with and without what is optional."""
    optional = (
        ("model.num_layers=2",),
        ("model.embedding_size=3", "train.optimizer=sgd"),
        ("data.level=byte", "train.optimizer=rmsprop"),
    )
    made: list[Path] = []
    for cell, keys in zip(reversed(CELLS), cycle(optional)):
        common = (f"model.cell={cell}", "model.hidden_size=3", "train.batch_size=2")
        config = make_config(None, *common, *keys)
        vocabulary = LEVELS[config.data.level]([10, 27, 65, 97])
        model = build_model(config, 4)
        params = model.init(np.random.default_rng(1))
        vectors = state_names(OPTIMIZERS[config.train.optimizer["name"]])
        checkpoint = Checkpoint(
            config=config,
            format=TextFormat(TextRules.of(config.data), vocabulary),
            params=params,
            counts=np.arange(1, 5),
            progress=Progress(step=3, epoch=0.25, best_loss=1.5, best_step=2, started=9.5),
            data={"folder": "/nowhere", "fingerprint": "0" * 64} if not made else {},
            optimizer_state=dict.fromkeys(vectors, params.flat**2),
            state=model.zero_state(2) + 1 if not made else None,
        )
        made.append(folder / f"{cell}.npz")
        checkpoint.save(made[-1])
    return made


def essence(checkpoint: Checkpoint) -> Any:
    """Arrays, vocabulary, and how text is read."""
    vectors = {**checkpoint.params, **checkpoint.optimizer_state, "counts": checkpoint.counts}
    if checkpoint.state is not None:
        vectors["state"] = checkpoint.state
    bits = {name: (a.dtype.str, a.shape, a.tobytes()) for name, a in vectors.items()}
    return bits, checkpoint.format.to_json(), checkpoint.config


def as_version_1(data: bytes) -> bytes:
    """A checkpoint as rnnlm 0.1.0 wrote it: its symbols are an array, its rules those of the config."""
    members = read_members(data)
    text = json.loads(np.load(io.BytesIO(members.pop("text.npy"))).tobytes())
    symbols = vocabulary_from_json(text["vocabulary"]).symbols
    members["vocabulary.npy"] = npy(symbols)
    return with_manifest(members, first_version)


class Checkpoints(Target):
    """Mutated checkpoints, of this version and of the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = make_checkpoints(folder)
        self.files = [path.read_bytes() for path in made]
        self.files += [as_version_1(data) for data in self.files]
        self.loaded = [essence(Checkpoint.load(path)) for path in made] * 2
        self.path = folder / "mutated.npz"

    def __call__(self, rng: random.Random) -> str:
        which = rng.randrange(len(self.files))
        kind = rng.choice((*CHECKPOINT_CHANGES, "bytes", "bytes", "header", "splice"))
        data, original, self.kind = self.files[which], self.loaded[which], kind
        if kind == "bytes":
            name, data = changed_bytes(rng, data)
            self.kind = f"bytes: {name}"
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
            return refused(error, self.path)
        if kind == "splice":
            ok = essence(checkpoint) in self.loaded
        elif kind in ("another config", "another text"):
            ok = essence(checkpoint)[0] == original[0]
        elif kind == "another array":
            ok = True  # if it fits, it is a checkpoint
        else:
            ok = essence(checkpoint) == original
        if not ok:
            raise WrongError("loaded, and is not the original")
        list(describe(checkpoint))
        generate(checkpoint, length=4)
        return "equal"


# Prepared folders


FIRST_VERSION = 2  # which of the folders has no checksum of more than its ids and vocabulary


class Folders(Target):
    """Mutated prepared folders: of characters, of bytes, and one of rnnlm 0.1.0."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "mutated"
        self.contents: list[dict[str, bytes]] = []
        self.texts: list[Any] = []
        (folder / "text.txt").write_bytes(TEXT.encode())
        made = [folder / "char", folder / "byte"]
        for out in made:
            prepare(folder / "text.txt", out, level=out.name)
        for out in (*made, Path(__file__).parent.parent / "fixtures" / "prepared-0.1.0"):
            self.contents.append({p.name: p.read_bytes() for p in out.iterdir()})
            self.texts.append(corpus_essence(Corpus.open(out)))

    def __call__(self, rng: random.Random) -> str:
        which = rng.randrange(len(self.contents))
        files = dict(self.contents[which])
        name = rng.choice([*files, "corpus.json", "corpus.json"])
        kind = rng.choice(("bytes", "byte", "byte", "tree", "other file", "missing", "more"))
        if kind in ("byte", "tree"):
            name = "corpus.json"
        self.kind = f"{kind}: {name}"
        if kind == "tree":
            index = json.loads(files[name])
            for _ in range(rng.randint(1, 2)):
                change_tree(rng, index)
            files[name] = json.dumps(index).encode()
        elif kind == "byte":
            files[name] = change_byte(rng, files[name])
        elif kind == "bytes":
            _, files[name] = changed_bytes(rng, files[name])
        elif kind == "other file":
            files[name] = rng.choice([*self.contents[which - 1].values(), b"", b"[" * 100_000])
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
            return refused(error, self.path)
        found, original = corpus_essence(corpus), self.texts[which]
        if which == FIRST_VERSION:
            found, original = found[0], original[0]
        if found != original:
            raise WrongError("opened, and is not the original")
        corpus.summary()
        return "equal"


def corpus_essence(corpus: Corpus) -> Any:
    """All that an open corpus says of itself, and the ids of each split."""
    ids = {name: (corpus[name].dtype.str, corpus[name].tobytes()) for name in SPLITS}
    splits = {name: (s.length, s.sha256, s.counts.tolist()) for name, s in corpus.splits.items()}
    made_of = (corpus.newlines_replaced, corpus.sources, corpus.fingerprint)
    meaning = (corpus.vocabulary.to_json(), corpus.newlines, corpus.fingerprint)
    return (ids, meaning), splits, corpus.format.to_json(), made_of


# Configs


# errors of several keys together, and of the whole file, which have no line
CROSS = ("option of cell", "leave no text", "larger than")


class Configs(Target):
    """Mutated configs; those that are accepted must read back, and a dry run must bear them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "plain.txt").write_text(TEXT, encoding="utf-8")
        prepare(folder / "plain.txt", folder / "for-configs")
        self.plain = make_config(None, f"data.path={folder / 'for-configs'}").to_yaml()

    def __call__(self, rng: random.Random) -> str:
        self.kind = rng.choice((*YAML_CHANGES, "grammar", "bytes", "encoding"))
        path, text = self.folder / "mutated.yaml", self.plain
        if self.kind == "bytes":
            data = changed_bytes(rng, text.encode())[1]
        elif self.kind == "encoding":
            data = text.replace("lstm", rng.choice(("lstm", "é")))
            data = data.encode(rng.choice(("utf-16", "utf-32", "latin-1", "utf-8-sig")))
        else:
            text = YAML_CHANGES[self.kind](rng, text)
            data = text.encode("utf-8", "surrogatepass")
        path.write_bytes(data)
        try:
            config = make_config(path)
        except ConfigError as error:
            return refused_config(error, path)
        if parse_config(config.to_yaml(), "again", (), TABLES) != config:
            raise WrongError("reads back as another config")
        if self.kind == "units":
            self._expect_units(text)
        self._dry_run(path, config)
        return "accepted"

    @staticmethod
    def _expect_units(text: str) -> None:
        """An interval is a number and one of the units that there are."""
        for said in re.findall(r"(?m)^  (?:eval|log|checkpoint|sample)_every: (.*)$", text):
            unit = re.sub(r"^[^ \t]*?[\d.]([ \t]|$)", "", said).strip()
            if unit not in (*UNITS, "null", "~"):
                raise WrongError(f"{said!r} was taken for an interval")

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


def decoded(data: bytes, encoding: str) -> str:
    """As Python has it; one byte order mark is no part of the text."""
    text = data.decode(encoding)
    return text if encoding == "utf-16" else text.removeprefix("\ufeff")


class Texts(Target):
    """Texts of any bytes through `prepare`, against Python's decoding of the whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, rng: random.Random) -> str:
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
        self.kind = f"{source}{', compressed' * bool(suffix)}"
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
            return said
        ids = np.concatenate([corpus[name] for name in SPLITS])
        symbols = corpus.vocabulary.symbols[ids]
        if damaged:
            return "equal"  # the decompressor's own checks let it pass
        if level == "byte":
            ok = bytes(symbols.tolist()) == data
        else:
            text = decoded(data, encoding)
            if newlines == "normalize":
                text = text.replace("\r\n", "\n").replace("\r", "\n")
            ok = "".join(map(chr, symbols.tolist())) == text
        if not ok:
            raise WrongError("another text than Python's")
        return "equal"

    @staticmethod
    def _expect_unreadable(data: bytes, encoding: str, error: RnnlmError) -> None:
        try:
            text = decoded(data, encoding)
        except UnicodeError:
            return
        if encoding == "utf-16" and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            return  # without a mark a file's byte order would be a guess
        if text:
            raise WrongError(f"a readable text was refused: {error}")


# Trainings


EXTREMES = (
    *("0", "-0.0", "1", "1e-50", "1e-45", "1e-38", "1e-320", "0.9999999999999999", "0.999999999"),
    *("1e3", "1e6"),
)
MEANINGLESS = ("-1", "1e30", "1e309", "nan", "inf", "null", "{}", "x", "true", "2.5", "9" * 400)


class Trainings(Target):
    """Tiny trainings under options that nobody would choose; they end, or stop with a message.

    In any case what is in the run folder can be read, and holds finite numbers.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"
        (folder / "text.txt").write_text(TEXT, encoding="utf-8")
        prepare(folder / "text.txt", folder / "data", val_fraction=0.02, test_fraction=0.02)

    def __call__(self, rng: random.Random) -> str:
        optimizer, schedule = rng.choice(list(OPTIMIZERS)), rng.choice(list(SCHEDULES))
        self.kind = optimizer
        path = self.folder / "options.yaml"
        path.write_text(self._config(rng, optimizer, schedule))
        shutil.rmtree(self.run, ignore_errors=True)
        try:
            config = make_config(path, f"run.dir={self.run}")
        except ConfigError as error:
            return refused_config(error, path)
        stop_at, steps = rng.choice((None, 1, 3)), itertools.count(1)
        try:
            train(config, stop=lambda: next(steps) == stop_at)
            if stop_at is not None:
                resume(self.run)
            outcome = "accepted"
        except TrainingError as error:
            one_line(error)
            outcome = "refused"
            self.kind = f"{optimizer}, diverging"
        self._read_run()
        return outcome

    def _config(self, rng: random.Random, optimizer: str, schedule: str) -> str:
        """YAML with options of these two, and some others that make a training diverge."""

        def value(default: object = 0.5) -> str:
            if isinstance(default, bool):
                likely = ["true", "false"]
            elif isinstance(default, int):
                likely = [str(rng.randint(0, 30))]
            else:
                likely = [f"{10 ** rng.uniform(-10, 3):.3g}", f"{rng.random():.3g}"]
            (among,) = rng.choices((likely, EXTREMES, MEANINGLESS), (80, 17, 3))
            return rng.choice(among)

        def chosen(kind: str, name: str) -> str:
            taken = dict(options(TABLES[kind][name]))
            if rng.random() < 0.03:
                taken |= options(TABLES[kind][rng.choice(list(TABLES[kind]))])
            given = [name for name in taken if rng.random() < 0.4]
            return "".join(f"\n    {name}: {value(taken[name].default)}" for name in given)

        clip = rng.choice(("null", "{norm: 5}", f"{{norm: {value()}}}", f"{{value: {value()}}}"))
        cell = rng.choice(("lstm", "gru", "rnn", "rnn\n  activation: relu"))
        return f"""\
data: {{path: {self.folder / "data"}}}
model:
  hidden_size: 3
  num_layers: 1
  dropout: {rng.choice(("0", "0", "0.5", value()))}
  cell: {cell}
train:
  epochs: 2
  batch_size: 4
  seq_length: 32
  threads: 1
  log_every: 1
  eval_every: {rng.choice((1, 7, 11))}
  sample_every: {rng.choice(("null", "null", "9"))}
  checkpoint_every: {rng.choice((1, 7, 11))}
  keep: {rng.randint(0, 2)}
  grad_clip: {clip}
  optimizer:
    name: {optimizer}{chosen("optimizer", optimizer)}
  schedule:
    name: {schedule}{chosen("schedule", schedule)}
"""

    def _read_run(self) -> None:
        """Every checkpoint loads, is finite, and can be drawn from; so is every figure."""
        if not (self.run / "last.npz").exists():
            raise WrongError("there is no last.npz")
        for path in self.run.glob("*.npz"):
            checkpoint = Checkpoint.load(path)
            vectors = (checkpoint.params.flat, *checkpoint.optimizer_state.values())
            if not all(np.isfinite(vector).all() for vector in vectors):
                raise WrongError(f"{path.name} holds numbers that are not finite")
        generate(checkpoint, length=4)
        for record in read_metrics(self.run / "metrics.jsonl"):
            if not math.isfinite(record.get("loss") or 0):
                raise WrongError(f"a figure that is not finite: {record}")


# Running


def refused(error: RnnlmError, *paths: Path) -> str:
    """A refusal, which is one line of printable text that names the file."""
    said = one_line(error)
    if not any(str(path) in said for path in paths) and not any(words in said for words in CROSS):
        raise WrongError(f"a message that does not name the file: {said!r}")
    return "refused"


def refused_config(error: ConfigError, path: Path) -> str:
    """The same with line and column."""
    if not re.match(rf"{path}:\d+:\d+: ", str(error)) and not any(
        words in str(error) for words in CROSS
    ):
        raise WrongError(f"no line and column: {error}")
    return refused(error, path)


def one_line(error: RnnlmError) -> str:
    """What an error says, which is short and printable."""
    said = str(error)
    if not said or len(said) > 600 or not said.isprintable():
        raise WrongError(f"a message of another kind: {said[:1000]!r}")
    return said


class TooSlow(BaseException):
    """A case took too long."""


def set_timers(on: int) -> None:
    """Let the alarms run, or stop them."""
    for timer, seconds in TIMERS.items():
        signal.setitimer(timer, seconds * on)


@contextmanager
def limits(memory: int) -> Iterator[None]:
    """Bounded memory, an alarm that ends a case, and no waiting for the disk."""

    def ring(*_: object) -> None:
        raise TooSlow

    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handlers = {number: signal.signal(number, ring) for number in (signal.SIGALRM, signal.SIGPROF)}
    fsync = os.fsync
    os.fsync = lambda descriptor: None
    resource.setrlimit(resource.RLIMIT_AS, (have + memory, before[1]))
    try:
        yield
    finally:
        set_timers(0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.fsync = fsync
        resource.setrlimit(resource.RLIMIT_AS, before)


SHARES = {Checkpoints: 8, Folders: 5, Configs: 4, Texts: 2, Trainings: 1}


def fuzz(cases: Iterable[int], seed: int) -> int:
    """Run cases by their numbers, print what came of them; how many failed."""
    counts: dict[str, Counter[str]] = {}
    failures, slowest = 0, (0.0, "")
    with tempfile.TemporaryDirectory() as name, limits(MEMORY), warnings.catch_warnings():
        warnings.simplefilter("error")
        kinds: list[Target] = []
        for kind, share in SHARES.items():
            folder = Path(name, kind.__name__.lower())
            folder.mkdir()
            kinds += [kind(folder)] * share
        for case in cases:
            rng = random.Random(f"{seed}/{case}")
            target = kinds[case % len(kinds)]
            group, began = type(target).__name__.lower(), time.process_time()
            set_timers(1)
            try:
                outcome = target(rng)
            except (Exception, TooSlow) as error:
                outcome = "failures"
                failures += 1
                where = f"--seed {seed} --case {case} ({group}: {target.kind})"
                print(f"{where}: {type(error).__name__}: {str(error)[:1000]}")
                if not isinstance(error, WrongError):
                    traceback.print_exc(limit=-4, file=sys.stdout)
            set_timers(0)
            slowest = max(slowest, (time.process_time() - began, f"{group}: {target.kind}"))
            counts.setdefault(group, Counter())[outcome] += 1
            counts.setdefault(f"  {group}: {target.kind}", Counter())[outcome] += 1
    print(f"{'':<44} {'cases':>7} {'refused':>8} {'equal':>7} {'accepted':>8} {'failures':>8}")
    for name, each in sorted(counts.items(), key=lambda item: item[0].strip()):
        figures = (each.total(), each["refused"], each["equal"], each["accepted"], each["failures"])
        print(f"{name[:44]:<44} {{:>7}} {{:>8}} {{:>7}} {{:>8}} {{:>8}}".format(*figures))
    total = sum(each.total() for name, each in counts.items() if name[0] != " ")
    print(f"{total} cases, {failures} failures, the slowest ({slowest[1]}) took {slowest[0]:.2f} s")
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
