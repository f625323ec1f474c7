"""A prepared folder, opened memory-mapped.

It holds the ids of each split in train.npy, val.npy and test.npy, in the smallest unsigned type that
fits the vocabulary, and corpus.json, which says what they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import DataError
from ..storage.atomic import as_path
from ..storage.npy import map_ids, smallest
from ..wording import counted
from .sources import Name, Source
from .vocabulary import NEWLINES, SHOWN, Vocabulary

FORMAT, VERSION = "rnnlm-corpus", 2  # version 1, of rnnlm 0.1.0, has no checksum
SPLITS = ("train", "val", "test")
CORPUS_FILE = "corpus.json"
FILES = (*(f"{split}.npy" for split in SPLITS), CORPUS_FILE)  # in the order in which they appear
LOCK = ".lock.0.rnnlm-tmp"  # while a folder is written to
ASIDE = re.compile(rf"\.({'|'.join(map(re.escape, FILES))})\.([0-9a-f]{{8}})\.rnnlm-(tmp|old)")
MARK = f'{{"format": "{FORMAT}", '.encode()  # how corpus.json starts
JSON_LIMIT = 1 << 28  # bytes of corpus.json: enough for all of Unicode and a million sources


@dataclass(frozen=True, eq=False)
class Split:
    """A share of the text: its length, the hash of its ids, and the count (V,) of each symbol."""

    chars: int
    sha256: str
    counts: Array


@dataclass(frozen=True, eq=False)
class Corpus:
    """A prepared text; `corpus["train"]` are the ids (n,) of a split, read-only: a copy, or mapped."""

    folder: Path
    vocabulary: Vocabulary
    encoding: str | None  # None where nothing was decoded
    newlines: str | None  # one of NEWLINES; None where nothing was decoded
    newlines_replaced: int
    sources: Sequence[Source]
    splits: Mapping[str, Split]
    fingerprint: str  # of text rules, vocabulary and ids, wherever the text came from
    _ids: dict[str, Array] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, folder: Name, verify: bool = True) -> Corpus:
        """The corpus in a prepared folder. Raises DataError where anything is not as written.

        Structure, sizes and the range of every id are always checked; `verify` adds the hashes.
        """
        folder = as_path(folder, DataError)
        index = _read_index(folder)
        try:
            corpus = cls(folder=folder, **_parse_index(index))
        except (KeyError, TypeError, ValueError, RecursionError, DataError) as error:
            raise DataError(
                f"{folder / CORPUS_FILE}: not as this version writes it ({error}): prepare again"
            ) from None
        for name, split in corpus.splits.items():
            path = folder / f"{name}.npy"
            corpus._ids[name] = map_ids(
                path, split.chars, len(corpus.vocabulary), split.sha256 if verify else None
            )
        return corpus

    def __getitem__(self, split: str) -> Array:
        return self._ids[split]

    def chars(self, split: str) -> int:
        """The length of a split in symbols."""
        return self.splits[split].chars

    def sha256(self, split: str) -> str:
        """The hash of the bytes of a split's ids, little-endian."""
        return self.splits[split].sha256

    @property
    def level(self) -> str:
        """What a symbol is: a name in LEVELS."""
        return self.vocabulary.level

    @property
    def counts(self) -> Array:
        """How often each symbol occurs in the whole text; (V,) int64."""
        counts: Array = np.add.reduce([split.counts for split in self.splits.values()])
        return counts

    @property
    def train_counts(self) -> Array:
        """How often each symbol occurs in the training text; (V,) int64."""
        return self.splits["train"].counts

    @property
    def entropy(self) -> float:
        """Bits per symbol of the frequencies in the whole text: what a model without memory pays."""
        counts = self.counts[self.counts > 0]
        p = counts / counts.sum()
        return float(p @ -np.log2(p))

    @property
    def unseen(self) -> Array:
        """The symbols of the vocabulary that do not occur in the training text; (n,) uint32."""
        unseen: Array = self.vocabulary.symbols[self.train_counts == 0]
        return unseen

    def summary(self) -> list[str]:
        """What a person wants to know of a corpus, line by line."""
        noun, counts, unseen = self.vocabulary.noun, self.counts, self.unseen.tolist()
        lines = [
            f"{counted(int(counts.sum()), noun)}, {np.count_nonzero(counts):,} distinct, "
            f"entropy {self.entropy:.3f} bits per {noun}",
            ", ".join(f"{name} {self.chars(name):,}" for name in SPLITS),
        ]
        if self.newlines_replaced:
            ends = counted(self.newlines_replaced, "line end")
            lines.append(f"{ends} (CRLF or CR) turned into LF")
        if unseen:
            shown = ", ".join(self.vocabulary.spell(symbol) for symbol in unseen[:SHOWN])
            more = f" and {counted(len(unseen) - SHOWN, 'other')}" if len(unseen) > SHOWN else ""
            lines.append(f"never seen in training ({len(unseen):,}): {shown}{more}")
        return lines


# The index, whose reader trusts nothing


def fingerprint_of(
    vocabulary: Vocabulary, newlines: str | None, splits: Mapping[str, Split]
) -> str:
    """The hash of a prepared text's symbols and of the rules that made them."""
    content = [vocabulary.to_json(), newlines, *(splits[name].sha256 for name in SPLITS)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def index_of(
    version: int,
    vocabulary: Vocabulary,
    encoding: str | None,
    newlines: str | None,
    newlines_replaced: int,
    sources: Sequence[Source],
    splits: Mapping[str, Split],
) -> str:
    """The content of corpus.json; of what the fingerprint leaves out there is a checksum."""
    content = {
        "format": FORMAT,
        "version": version,
        "level": vocabulary.level,
        "encoding": encoding,
        "newlines": newlines,
        "newlines_replaced": newlines_replaced,
        "fingerprint": fingerprint_of(vocabulary, newlines, splits),
        "dtype": smallest(len(vocabulary)).name,
        "vocabulary": vocabulary.to_json(),
        "splits": {
            name: {**vars(split), "counts": split.counts.tolist()} for name, split in splits.items()
        },
        "sources": [vars(source) for source in sources],
    }
    text = json.dumps(content)
    if version > 1:
        text = json.dumps({**content, "checksum": hashlib.sha256(text.encode()).hexdigest()})
    return text


def _read_index(folder: Path) -> Any:
    path = folder / CORPUS_FILE
    try:
        if not path.is_file():
            if is_unfinished(folder):
                raise DataError(
                    f"{folder}: rnnlm prepare is at work here, or was killed: wait for it, or run it "
                    "again, which first puts back what was here before"
                )
            raise DataError(f"{folder}: not a prepared folder (no {CORPUS_FILE}): prepare one")
        if path.stat().st_size > JSON_LIMIT:
            raise DataError(f"{path}: larger than any that rnnlm writes: prepare again")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror}): prepare again") from None
    except (ValueError, RecursionError):
        raise DataError(f"{path}: damaged, not JSON: prepare again") from None


def _parse_index(index: Any) -> dict[str, Any]:
    """The fields of a Corpus. Raises KeyError, TypeError, ValueError or DataError."""
    version = _natural(index["version"])
    _check(index["format"] == FORMAT and version in (1, VERSION), "format or version")
    vocabulary = Vocabulary.from_json(index["vocabulary"])
    encoding, newlines = index["encoding"], index["newlines"]
    decoded = vocabulary.encoding is not None
    _check(_string(encoding) if decoded else encoding is None, "encoding")
    _check(newlines in (NEWLINES if decoded else (None,)), "newlines")
    sources = [
        Source(_string(source["name"]), _natural(source["bytes"]), _string(source["sha256"]))
        for source in index["sources"]
    ]
    splits = {}
    for name in SPLITS:
        split = index["splits"][name]
        chars, counts = _natural(split["chars"]), [_natural(count) for count in split["counts"]]
        _check(len(counts) == len(vocabulary) and sum(counts) == chars, f"{name} split")
        splits[name] = Split(chars, _string(split["sha256"]), np.array(counts, np.int64))
    _check(splits["train"].chars > 0, "train split")
    fields = {
        "vocabulary": vocabulary,
        "encoding": encoding,
        "newlines": newlines,
        "newlines_replaced": _natural(index["newlines_replaced"]),
        "sources": sources,
        "splits": splits,
    }
    # written anew from what was understood it must be the same: nothing more, less or other
    _check(json.dumps(index) == index_of(version, **fields), "content")
    return {**fields, "fingerprint": index["fingerprint"]}


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
    """Whether a prepare is at work in a folder, or was killed there."""
    try:
        return any(is_aside(path.name) for path in folder.iterdir())
    except (OSError, ValueError):
        return False


def is_aside(name: str) -> bool:
    """Whether a name is one that a file has only while a folder is written to."""
    return name == LOCK or ASIDE.fullmatch(name) is not None
