"""A prepared folder: what it holds, and how it is opened and checked.

train.npy, val.npy and test.npy hold the ids of each split, in the smallest unsigned type that fits the
vocabulary. corpus.json says what they mean.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import DataError
from ..storage.atomic import as_path
from ..storage.npy import map_ids, smallest
from ..wording import counted, share, shown
from .format import TextFormat
from .lead import lead
from .sources import Name, Source
from .vocabulary import SHOWN, Vocabulary

FORMAT, VERSION = "rnnlm-corpus", 2  # version 1 is that of rnnlm 0.1.0
SPLITS = ("train", "val", "test")
CORPUS_FILE = "corpus.json"
FILES = (*(f"{split}.npy" for split in SPLITS), CORPUS_FILE)  # in the order of their renames
LOCK = ".lock.0.rnnlm-tmp"  # there while a prepare writes to the folder
ASIDE = re.compile(rf"\.({'|'.join(map(re.escape, FILES))})\.([0-9a-f]{{8}})\.rnnlm-(tmp|old)")
MARK = f'{{"format": "{FORMAT}", '.encode()  # how corpus.json starts
JSON_LIMIT = 1 << 28  # bytes of corpus.json: enough for all of Unicode and a million sources


@dataclass(frozen=True, eq=False)
class Split:
    """One part of the text: its length, the hash of its ids, and the count (V,) of each symbol."""

    length: int
    sha256: str
    counts: Array


@dataclass(frozen=True)
class Drawn:
    """What a text was drawn from: a source of synthetic.py, and its entropy rate in nats per symbol."""

    name: str
    options: Mapping[str, int]
    size: int  # symbols that were asked for
    seed: int
    entropy: float


@dataclass(frozen=True, eq=False)
class Contents:
    """What corpus.json says about a prepared text."""

    format: TextFormat
    newlines_replaced: int
    newlines_added: int  # at the ends of files, so that lines of two files never merge
    sources: Sequence[Source]
    splits: Mapping[str, Split]
    drawn: Drawn | None = field(default=None, kw_only=True)  # None: nobody knows its entropy

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the ids and of what they mean; it does not depend on where the text came from."""
        content = [*self.format.content(), *(self.splits[name].sha256 for name in SPLITS)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Corpus(Contents):
    """A prepared text. `corpus["train"]` are a split's ids (n,) in the order in which a model of its
    format reads them, read-only: a copy or memory-mapped. On disk they are in the text's order.
    """

    folder: Path
    _ids: Mapping[str, Array] = field(repr=False)
    left_out: int = 0  # symbols of the text, outside a given vocabulary; known after preparing only
    scale: float = 1.0  # how many times longer the text is than its ids here, by an estimate

    @classmethod
    def open(cls, folder: Name, verify: bool = True) -> Corpus:
        """The corpus in a prepared folder. Raises DataError where a file is not as it was written.

        Structure, sizes and the range of every id are always checked, hashes only with `verify`.
        """
        folder = as_path(folder, DataError)
        index = _read_index(folder)
        try:
            contents = _parse_index(index)
        except (KeyError, TypeError, ValueError, RecursionError, DataError) as error:
            raise DataError(
                f"{folder / CORPUS_FILE}: not as this version writes it ({error}): prepare again"
            ) from None
        V = len(contents.format.vocabulary)
        ids = {
            name: map_ids(folder / f"{name}.npy", split.length, V, split.sha256 if verify else None)
            for name, split in contents.splits.items()
        }
        return cls.of(contents, folder, ids)

    @classmethod
    def of(
        cls, contents: Contents, folder: Path, ids: Mapping[str, Array], scale: float = 1.0
    ) -> Corpus:
        """A corpus of ids that are known to match the contents."""
        c = contents
        return cls(
            c.format,
            c.newlines_replaced,
            c.newlines_added,
            c.sources,
            c.splits,
            folder,
            ids,
            scale=scale,
            drawn=c.drawn,
        )

    def __getitem__(self, split: str) -> Array:
        self._check_split(split)
        return self.format.in_reading_order(self._ids[split])

    def units(self, split: str) -> int:
        """How many lines a split has where the unit is a line, else its symbols."""
        newline = self.format.end
        return self.length(split) if newline is None else int(self.splits[split].counts[newline])

    def _check_split(self, split: str) -> None:
        if split not in SPLITS:
            raise DataError(f"{shown(split)} is not a split: there are {', '.join(SPLITS)}")

    def length(self, split: str) -> int:
        """How many symbols a split has, perhaps by an estimate."""
        self._check_split(split)
        return round(self.splits[split].length * self.scale)

    def sha256(self, split: str) -> str:
        """The hash of the bytes of a split's ids, little-endian."""
        self._check_split(split)
        return self.splits[split].sha256

    @property
    def vocabulary(self) -> Vocabulary:
        """The symbols and their ids."""
        return self.format.vocabulary

    @property
    def level(self) -> str:
        """What a symbol is: a name in LEVELS."""
        return self.format.level

    @property
    def encoding(self) -> str | None:
        """The encoding of the files that were read; None where nothing was decoded."""
        return self.format.rules.encoding

    @property
    def newlines(self) -> str | None:
        """The newline rule, a name in NEWLINES; None where nothing was decoded."""
        return self.format.rules.newlines

    @property
    def counts(self) -> Array:
        """How often each symbol occurs in the whole text; (V,) int64."""
        counts: Array = np.add.reduce([split.counts for split in self.splits.values()])
        return counts

    @property
    def train_counts(self) -> Array:
        """How often each symbol occurs in the training text; (V,) int64."""
        return self.splits["train"].counts

    @cached_property
    def lead(self) -> Array:
        """What comes before a sample that has no prime: see lead.py."""
        if self.format.rules.of_lines:  # which begin from the zero state
            return np.zeros(0, np.uint32)
        return lead(self.format, self["train"])

    @property
    def entropy(self) -> float:
        """Entropy of the symbol frequencies in nats: the best loss of a model without context."""
        counts = self.counts[self.counts > 0]
        p = counts / counts.sum()
        return float(p @ -np.log(p))

    @property
    def unseen(self) -> Array:
        """The symbols of the vocabulary that do not occur in the training text; (n,)."""
        unseen: Array = self.vocabulary.symbols[self.train_counts == 0]
        return unseen

    def summary(self) -> list[str]:
        """The lines that describe the corpus to a user."""
        noun, counts, unseen = self.format.noun, self.counts, self.unseen.tolist()
        lines = [
            f"{counted(int(counts.sum()), noun)}, {np.count_nonzero(counts):,} distinct, "
            f"unigram entropy {self.entropy:.4f} nats per {noun}",
            ", ".join(f"{name} {self.length(name):,}" for name in SPLITS),
        ]
        if self.format.rules.of_lines:
            lines.append(f"lines: {', '.join(f'{name} {self.units(name):,}' for name in SPLITS)}")
        if self.drawn is not None:
            options = "".join(f", {name} {value}" for name, value in self.drawn.options.items())
            entropy = f"entropy rate {self.drawn.entropy:.4f} nats per {noun}"
            lines.append(f"source: {self.drawn.name}{options}, seed {self.drawn.seed}: {entropy}")
        if self.newlines_replaced:
            ends = counted(self.newlines_replaced, "line end")
            lines.append(f"{ends} (CRLF or CR) turned into LF")
        if self.newlines_added:
            lines.append(f"{counted(self.newlines_added, 'newline')} added at the end of a file")
        unknown = self.vocabulary.unknown_id
        if unknown is not None:
            lines.append(f"{share(int(counts[unknown]), int(counts.sum()), noun)} are <unk>")
        if unseen:
            named = ", ".join(self.vocabulary.spell(symbol) for symbol in unseen[:SHOWN])
            more = f" and {counted(len(unseen) - SHOWN, 'other')}" if len(unseen) > SHOWN else ""
            lines.append(f"never seen in training ({len(unseen):,}): {named}{more}")
        return lines


# The index (corpus.json); what is read is checked in full


def index_of(contents: Contents) -> str:
    """The content of corpus.json; its checksum covers what the fingerprint leaves out too."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        "text": contents.format.to_json(),
        "newlines_replaced": contents.newlines_replaced,
        **({"newlines_added": contents.newlines_added} if contents.newlines_added else {}),
        "fingerprint": contents.fingerprint,
        "dtype": smallest(len(contents.format.vocabulary)).name,
        "splits": {
            name: {"length": split.length, "sha256": split.sha256, "counts": split.counts.tolist()}
            for name, split in contents.splits.items()
        },
        "sources": [vars(source) for source in contents.sources],
        **({"drawn": vars(contents.drawn)} if contents.drawn else {}),
    }
    checksum = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "checksum": checksum})


def _index_of_version_1(contents: Contents) -> str:
    """As rnnlm 0.1.0 wrote it: a key for each part of the text format, and no checksum."""
    content = {
        "format": FORMAT,
        "version": 1,
        "level": contents.format.level,
        "encoding": contents.format.rules.encoding,
        "newlines": contents.format.rules.newlines,
        "newlines_replaced": contents.newlines_replaced,
        "fingerprint": contents.fingerprint,
        "dtype": smallest(len(contents.format.vocabulary)).name,
        "vocabulary": contents.format.vocabulary.to_json(),
        "splits": {
            name: {"chars": split.length, "sha256": split.sha256, "counts": split.counts.tolist()}
            for name, split in contents.splits.items()
        },
        "sources": [vars(source) for source in contents.sources],
    }
    return json.dumps(content)


INDEXES = {1: _index_of_version_1, VERSION: index_of}


def _read_index(folder: Path) -> Any:
    path = folder / CORPUS_FILE
    try:
        if not path.is_file():
            if is_unfinished(folder):
                raise DataError(
                    f"{folder}: rnnlm prepare is running here, or was killed: wait for it, or run it "
                    "again, which first restores what was here before"
                )
            raise DataError(
                f"{folder}: not a prepared folder (no {CORPUS_FILE}): run rnnlm prepare"
            )
        if path.stat().st_size > JSON_LIMIT:
            raise DataError(f"{path}: larger than any that rnnlm writes: prepare again")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror}): prepare again") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: damaged, not JSON: prepare again") from None


def _parse_index(index: Any) -> Contents:
    """The contents that an index describes. Raises KeyError, TypeError, ValueError or DataError."""
    version = _natural(index["version"])
    _check(index["format"] == FORMAT and version in INDEXES, "format or version")
    text_format = TextFormat.from_json(
        {key: index[key] for key in ("encoding", "newlines", "vocabulary")}
        if version == 1
        else index["text"]
    )
    sources = [
        Source(_string(source["name"]), _natural(source["bytes"]), _string(source["sha256"]))
        for source in index["sources"]
    ]
    splits = {}
    for name in SPLITS:
        split = index["splits"][name]
        length = _natural(split["chars" if version == 1 else "length"])
        counts = [_natural(count) for count in split["counts"]]
        _check(
            len(counts) == len(text_format.vocabulary) and sum(counts) == length, f"{name} split"
        )
        splits[name] = Split(length, _string(split["sha256"]), np.array(counts, np.int64))
    _check(splits["train"].length > 0, "train split")
    _check(not text_format.rules.reverse, "direction")
    replaced = _natural(index["newlines_replaced"])
    added = _natural(index.get("newlines_added", 0))
    drawn = None if "drawn" not in index else _drawn(index["drawn"])
    contents = Contents(text_format, replaced, added, sources, splits, drawn=drawn)
    # Writing these contents must give the same JSON: so nothing was ignored or misread
    _check(json.dumps(index) == INDEXES[version](contents), "content")
    return contents


def _drawn(found: Any) -> Drawn:
    entropy = found["entropy"]
    _check(type(entropy) is float and 0 <= entropy < math.inf, "entropy")
    options = {_string(name): _natural(value) for name, value in found["options"].items()}
    size, seed = _natural(found["size"]), _natural(found["seed"])
    return Drawn(_string(found["name"]), options, size, seed, entropy)


def _check(ok: object, what: str) -> None:
    if not ok:
        raise ValueError(what)


def _string(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("strings")
    return value


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 60:  # the sum of three fits in int64
        raise ValueError("numbers")
    return value


def is_unfinished(folder: Path) -> bool:
    """Whether a prepare is running in a folder, or was killed there."""
    try:
        return any(is_aside(path.name) for path in folder.iterdir())
    except (OSError, ValueError):
        return False


def is_aside(name: str) -> bool:
    """Whether a name is one that a file has only while a prepare writes to the folder."""
    return name == LOCK or ASIDE.fullmatch(name) is not None
