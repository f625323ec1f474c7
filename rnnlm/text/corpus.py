"""Text prepared for training: streamed from files to ids on disk, and opened memory-mapped.

A prepared folder holds the ids of each split in train.npy, val.npy and test.npy, in the smallest
unsigned type that fits the vocabulary, and corpus.json, which says what they are. Preparing reads
the text once, in blocks, so that memory does not grow with it: symbols go to a spool under
provisional ids and, when all are known, from there to the splits under their final ids.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import json
import lzma
import math
import os
import re
import secrets
import select
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np

from ..arrays import Array
from ..errors import DataError
from ..storage.atomic import as_path, make_folder, sync_folder, take_lock
from ..wording import counted, shown
from .vocabulary import NEWLINES, SHOWN, Vocabulary, level_class

FORMAT, VERSION = "rnnlm-corpus", 2  # version 1, of rnnlm 0.1.0, has no checksum
SPLITS = ("train", "val", "test")
CORPUS_FILE = "corpus.json"
FILES = (*(f"{split}.npy" for split in SPLITS), CORPUS_FILE)  # in the order in which they appear
LOCK = ".lock.0.rnnlm-tmp"  # while a folder is written to
ASIDE = re.compile(rf"\.({'|'.join(map(re.escape, FILES))})\.([0-9a-f]{{8}})\.rnnlm-(tmp|old)")
MARK = f'{{"format": "{FORMAT}", '.encode()  # how corpus.json starts
IDS_MARK = re.compile(rb"'descr': '([|<]u[124])', .* 'shape': \((\d{1,18}),\)")
JSON_LIMIT = 1 << 28  # bytes of corpus.json: enough for all of Unicode and a million sources
CHUNK = 1 << 20  # bytes of text, or ids, worked on at a time
DTYPES = (np.dtype("u1"), np.dtype("<u2"), np.dtype("<u4"))  # of ids on disk
HEADER = 128  # bytes before the ids in a .npy file
IN_MEMORY = 1 << 24  # bytes of a split's ids that are copied, rather than mapped
STDIN = "-"
HELD = 1 << 20  # bytes that a decoder may wait with: one UTF-7 shift can be as long as the file
XZ_MEMORY = 1 << 27  # bytes to unpack .xz with: `xz -9` needs half of them, some files gigabytes

COMPRESSED: Mapping[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lambda raw: _XzFile(raw),
}
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
NOT_FOR_FILES = ("idna", "punycode", "undefined", "unicode-escape")  # not right in pieces, or never

Name: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Source:
    """A file that was read: its name as given, its size and hash as it lies on the disk."""

    name: str
    bytes: int
    sha256: str


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
            corpus._ids[name] = _map_ids(path, split, len(corpus.vocabulary), verify)
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


# The files of a prepared folder: each format with its reader, which trusts nothing


def _smallest(size: int) -> np.dtype[Any]:
    """The smallest type for ids below `size`."""
    return next(dtype for dtype in DTYPES if size <= 1 << 8 * dtype.itemsize)


def _npy_header(dtype: np.dtype[Any], length: int) -> bytes:
    """The first HEADER bytes of a .npy file (format 1.0) of ids (length,), as NumPy writes them."""
    size = HEADER - 10
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({length},), }}"
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + f"{text:{size - 1}}\n".encode()


def _map_ids(path: Path, split: Split, V: int, verify: bool) -> Array:
    """The ids of a .npy file, when each has been read and found to be below V.

    A copy of them, which nobody else can change; memory-mapped where they are too many for that.
    """
    dtype = _smallest(V)
    header = _npy_header(dtype, split.chars)
    try:
        if not path.is_file():
            raise DataError(f"{path}: missing: prepare again")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # the header is compared, not parsed: it can only be the one that was written
            if file.read(HEADER) != header or size != HEADER + split.chars * dtype.itemsize:
                raise DataError(
                    f"{path}: not the {split.chars:,} ids of type {dtype} that {CORPUS_FILE} names: "
                    "prepare again"
                )
            digest = hashlib.sha256()
            mapped = split.chars * dtype.itemsize > IN_MEMORY
            copies = [np.empty(0, dtype)]
            # read, not looked at in the mapping, all of whose pages would then count as memory
            for ids in _read_ids(file, dtype, split.chars):
                if ids.max() >= V:
                    raise DataError(f"{path}: has ids outside the vocabulary: prepare again")
                if verify:
                    digest.update(ids.data)
                if not mapped:
                    copies.append(ids)
            if verify and digest.hexdigest() != split.sha256:
                raise DataError(f"{path}: changed since it was prepared: prepare again")
            if not mapped:
                copy = np.concatenate(copies)
                copy.flags.writeable = False
                return copy
            return _mapped(file, dtype, split.chars)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read ({error}): prepare again") from None


def _mapped(file: Any, dtype: np.dtype[Any], length: int) -> Array:
    """The ids (length,) of an open .npy file, memory-mapped."""
    if length == 0:
        return np.empty(0, dtype)  # nothing to map
    return np.asarray(np.memmap(file, dtype, "r", HEADER, (length,)))


def _read_ids(file: Any, dtype: np.dtype[Any], length: int) -> Iterator[Array]:
    """The next `length` ids of a file, a block at a time. Raises OSError where it is too short."""
    for start in range(0, length, CHUNK):
        ids = np.empty(min(CHUNK, length - start), dtype)
        if file.readinto(ids.data) != ids.nbytes:
            raise OSError("the file became shorter")
        yield ids


def _fingerprint(vocabulary: Vocabulary, newlines: str | None, splits: Mapping[str, Split]) -> str:
    content = [vocabulary.to_json(), newlines, *(splits[name].sha256 for name in SPLITS)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _index(
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
        "fingerprint": _fingerprint(vocabulary, newlines, splits),
        "dtype": _smallest(len(vocabulary)).name,
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
    _check(json.dumps(index) == _index(version, **fields), "content")
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


# Preparing


def prepare(
    inputs: Name | Sequence[Name],
    out: Name | None,
    *,
    level: str = "char",
    encoding: str | None = None,
    newlines: str = "normalize",
    val_fraction: float = 0.05,
    test_fraction: float = 0.05,
    val: Name | Sequence[Name] | None = None,
    test: Name | Sequence[Name] | None = None,
    vocabulary: Vocabulary | None = None,
    force: bool = False,
    stdin: IO[bytes] | None = None,
) -> Corpus:
    """Turn text into the prepared folder `out`, and open it; None: into nameless temporary files.

    Inputs are files (.gz, .bz2 and .xz are decompressed), folders (every file inside, sorted; not
    hidden ones, not `out`, not what `val` or `test` name) and "-", standard input, joined with
    nothing between. Their last symbols are for validation and test, floor(n · fraction) each, test
    last, unless `val` or `test` name a text of its own. The vocabulary covers all splits, unless
    one is given. At level byte nothing is decoded and `newlines` has no effect.

    Raises DataError for text or settings that cannot be used, for symbols outside a given
    vocabulary, and for an `out` that holds something, unless `force`: then the files of an earlier
    prepare are replaced, and only those. After an error `out` is as it was before; after a death it
    is so when the next prepare into it starts. Two at once exclude each other.
    """
    kind = level_class(level)
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        raise DataError(f"a vocabulary is that of a checkpoint or corpus, not {shown(vocabulary)}")
    if vocabulary is not None and vocabulary.level != level:
        raise DataError(
            f"the vocabulary is of level {vocabulary.level}, not {level}: use its level"
        )
    if newlines not in NEWLINES:
        raise DataError(f"newlines {shown(newlines)}: use {' or '.join(NEWLINES)}")
    reader = _Reader(kind, _encoding(kind, encoding), newlines, stdin)
    texts = {"train": _listed(inputs), "val": _listed(val), "test": _listed(test)}
    fractions = {"val": val_fraction, "test": test_fraction}
    shares = _shares({name: f for name, f in fractions.items() if not texts[name]})
    out = None if out is None else as_path(out, DataError)
    if out is not None and not is_unfinished(out):
        _check_free(out, force)  # before a lock is put into a folder that is not ours
    files = _find_files(texts, out)
    try:
        with (
            nullcontext() if out is None else _held(out, force),
            _nameless() if out is None else _appearing_together(out, force) as outputs,
            tempfile.TemporaryFile(dir=out) as spooled,
        ):
            spool = _Spool(kind, spooled)
            ranges = {name: spool.extend(reader.blocks(files[name])) for name in files}
            for name, (start, stop) in ranges.items():
                if start == stop:
                    raise DataError(f"{', '.join(texts[name])}: there is no text to read")
            vocabulary = vocabulary or kind(spool.used)
            ids = vocabulary.lookup(spool.symbols)
            if (ids[spool.counts > 0] < 0).any():
                raise _unknown(vocabulary, spool, ids, ranges)
            ranges |= _tails(ranges["train"][1], shares)
            splits = {
                name: _write_ids(outputs[f"{name}.npy"], spool, *ranges[name], ids, len(vocabulary))
                for name in SPLITS
            }
            outputs[CORPUS_FILE].write(reader.index(vocabulary, splits))
            if out is None:
                return _mapped_corpus(Path(texts["train"][0]), vocabulary, reader, splits, outputs)
    except OSError as error:
        why, where = error.strerror or error, out or tempfile.gettempdir()
        raise DataError(
            f"{where}: cannot write there ({why}): make room, or name another"
        ) from None
    except MemoryError:
        raise DataError(
            "not enough memory to prepare a text, which takes about 100 MB: end other programs"
        ) from None
    return Corpus.open(out, verify=False)


def _mapped_corpus(
    folder: Path,
    vocabulary: Vocabulary,
    reader: _Reader,
    splits: Mapping[str, Split],
    files: Mapping[str, IO[bytes]],
) -> Corpus:
    """A corpus of files that are open, and need no name."""
    dtype, ids = _smallest(len(vocabulary)), {}
    for name, split in splits.items():
        files[f"{name}.npy"].flush()
        ids[name] = _mapped(files[f"{name}.npy"], dtype, split.chars)
    return Corpus(
        folder=folder,
        vocabulary=vocabulary,
        encoding=reader.encoding,
        newlines=reader.newlines,
        newlines_replaced=reader.newlines_replaced,
        sources=reader.sources,
        splits=splits,
        fingerprint=_fingerprint(vocabulary, reader.newlines, splits),
        _ids=ids,
    )


def read_text(name: Name, level: str, encoding: str, stdin: IO[bytes] | None = None) -> str | bytes:
    """One text as `prepare` reads it, line ends kept; bytes at level byte, `encoding` then unused."""
    kind = level_class(level)
    codec = _encoding(kind, encoding if kind.encoding else None)
    files = _find_files({"train": _listed(name)}, None)["train"]
    blocks: Any = _Reader(kind, codec, "keep", stdin).blocks(files)
    try:
        return "".join(blocks) if codec else b"".join(blocks)
    except MemoryError:
        raise DataError(
            f"{os.fspath(name)}: too long for the memory there is: take a part of it"
        ) from None


def _encoding(kind: type[Vocabulary], encoding: str | None) -> str | None:
    """Python's own name of the encoding to read with; None at level byte."""
    if kind.encoding is None:
        if encoding is not None:
            raise DataError(f"level {kind.level} decodes nothing: leave the encoding out")
        return None
    wanted = kind.encoding if encoding is None else encoding
    try:
        io.TextIOWrapper(io.BytesIO(), wanted)  # refuses what is unknown or does not give text
        codecs.getincrementaldecoder(wanted)
        name = codecs.lookup(wanted).name
        if name not in NOT_FOR_FILES:
            return "utf-8" if name == "utf-8-sig" else name  # a mark is dropped in any case
    except (LookupError, TypeError, ValueError):
        pass
    raise DataError(f"{shown(wanted)} is not an encoding of text files: try utf-8 or latin-1")


def _listed(paths: Name | Sequence[Name] | None) -> list[str]:
    if paths is None:
        return []
    listed = [*paths] if isinstance(paths, Iterable) and not isinstance(paths, str) else [paths]
    for path in listed:
        as_path(path, DataError)
    return [os.fspath(path) for path in listed]


def _shares(fractions: Mapping[str, float]) -> dict[str, Fraction]:
    """Fractions as the decimals that were written: 0.29 of 100 is 29, not floor(28.999999999999996)."""
    try:
        shares = {name: Fraction(str(fraction)) for name, fraction in fractions.items()}
        if min(shares.values(), default=0) >= 0 and sum(shares.values()) < 1:
            return shares
    except (ValueError, ZeroDivisionError):  # not a finite number
        pass
    named = " and ".join(f"{name}_fraction {shown(value)}" for name, value in fractions.items())
    raise DataError(f"{named}: use 0 or more, and less than 1 together, to leave training text")


def _tails(total: int, shares: Mapping[str, Fraction]) -> dict[str, tuple[int, int]]:
    """Where the training text, and the shares after it, start and stop among `total` symbols."""
    ranges, stop = {}, total
    for name in reversed(list(shares)):
        start = stop - math.floor(total * shares[name])
        ranges[name], stop = (start, stop), start
    return {**ranges, "train": (0, stop)}


# Finding and reading files


def _find_files(texts: Mapping[str, Sequence[str]], out: Path | None) -> dict[str, list[str]]:
    """The files of each text, folders opened up; a text without paths is left out."""
    if not texts["train"]:
        raise DataError("no input: name a file or folder, or - for standard input")
    own = _identities([out] if out else [])
    held_out = _identities(path for name in texts if name != "train" for path in texts[name])
    files: dict[str, list[str]] = {}
    for name, paths in texts.items():
        for path in paths:
            found = [path]
            try:
                if path != STDIN and Path(path).is_dir():
                    found = list(_files_under(path, own | (held_out if name == "train" else set())))
                elif path != STDIN:
                    Path(path).stat()  # better to miss it now than after an hour of reading
            except (OSError, ValueError) as error:
                raise _unreadable(path, error) from None
            if not found:
                raise DataError(f"{path}: there are no files to read in it: name another")
            files.setdefault(name, []).extend(found)
    if sum(paths.count(STDIN) for paths in texts.values()) > 1:
        raise DataError(f"{STDIN} (standard input) can be read only once: name a file instead")
    return files


def _files_under(folder: str, skip: set[tuple[int, int]]) -> Iterator[str]:
    """The files in a folder and those below, sorted; entered once, so that links may form loops."""
    waiting = [folder]  # the next one last; not by recursion: folders may be thousands deep
    while waiting:
        name = waiting.pop()
        path, here = Path(name), _identities([name])
        if here <= skip:
            continue
        if path.is_dir():
            skip |= here
            with os.scandir(name) as entries:
                visible = (entry.path for entry in entries if entry.name[0] != ".")
                waiting += sorted(visible, reverse=True)
        elif path.is_file():
            yield name


def _identities(paths: Iterable[Name]) -> set[tuple[int, int]]:
    """What tells files and folders apart, whatever path leads to them; those that exist."""
    found = set()
    for path in paths:
        with suppress(OSError, ValueError):
            status = Path(path).stat()
            found.add((status.st_dev, status.st_ino))
    return found


def _unreadable(name: str, error: Exception) -> DataError:
    why = getattr(error, "strerror", None) or error
    return DataError(f"{name}: cannot read ({why}): check the file, or leave it out")


class _Reader:
    """Reads files into blocks of text, or of bytes where `encoding` is None, under fixed rules."""

    def __init__(
        self, kind: type[Vocabulary], encoding: str | None, newlines: str, stdin: IO[bytes] | None
    ) -> None:
        self.kind, self.encoding = kind, encoding
        # where standard input is closed there is no text to read
        self.stdin: Any = stdin or getattr(sys.stdin, "buffer", io.BytesIO())
        self.newlines = newlines if encoding else None
        self.newlines_replaced = 0
        self.sources: list[Source] = []

    def blocks(self, names: Iterable[str]) -> Iterator[str] | Iterator[bytes]:
        """The files joined, a block at a time."""
        if self.encoding is None:
            return chain.from_iterable(map(self._bytes, names))
        texts = chain.from_iterable(self._decoded(name, self.encoding) for name in names)
        return self._normalized(texts) if self.newlines == "normalize" else texts

    def index(self, vocabulary: Vocabulary, splits: Mapping[str, Split]) -> bytes:
        """The content of corpus.json for what was read."""
        replaced, sources = self.newlines_replaced, self.sources
        index = _index(VERSION, vocabulary, self.encoding, self.newlines, replaced, sources, splits)
        if len(index) > JSON_LIMIT:
            raise DataError(f"{len(sources):,} files are too many to list: join them first")
        return index.encode()

    def _bytes(self, name: str) -> Iterator[bytes]:
        """A file's content, decompressed; at its end the file joins `sources`."""
        try:
            with ExitStack() as stack:
                if name == STDIN:
                    raw = _Tally(self.stdin)
                else:
                    raw = _Tally(stack.enter_context(Path(name).open("rb")))
                decompressed = COMPRESSED.get(Path(name).suffix.lower())
                file = decompressed(raw) if decompressed else raw
                while block := file.read(CHUNK):
                    yield block
                while raw.read(CHUNK):  # what a decompressor leaves unread is still of the file
                    pass
        except UNREADABLE as error:
            raise _unreadable(name, error) from None
        self.sources.append(Source(name, raw.bytes, raw.sha256.hexdigest()))

    def _decoded(self, name: str, encoding: str) -> Iterator[str]:
        """A file's text without its byte order mark."""
        decoder = codecs.getincrementaldecoder(encoding)()
        # a codec that writes a mark of its own (utf-16, utf-32) also takes one away
        offset, has_mark = 0, not "".encode(encoding)
        for block in chain(self._bytes(name), [b""]):
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                at = offset - held + getattr(error, "start", 0)
                raise DataError(
                    f"{name}: not {encoding} at byte {at:,} ({getattr(error, 'reason', error)}): "
                    "say what it is with --encoding (data.encoding), or use --level byte (data.level)"
                ) from None
            offset += len(block)
            if len(decoder.getstate()[0]) > HELD:
                raise DataError(
                    f"{name}: {HELD:,} bytes before byte {offset:,} give no text in {encoding}: say "
                    "what it is with --encoding (data.encoding)"
                )
            if text:
                yield text.removeprefix("\ufeff") if has_mark else text
                has_mark = False

    def _normalized(self, texts: Iterable[str]) -> Iterator[str]:
        """CRLF and CR as LF; a CR at the end of a block waits to see whether an LF follows."""
        carried = ""
        for text in texts:
            text = carried + text
            carried = "\r" if text.endswith("\r") else ""
            text = text[: len(text) - len(carried)]
            if "\r" in text:
                self.newlines_replaced += text.count("\r")
            yield self.kind.normalize(text, "normalize")
        if carried:
            self.newlines_replaced += 1
            yield "\n"


class _XzFile:
    """A .xz file read in little memory; `lzma.open` takes no limit."""

    def __init__(self, raw: _Tally) -> None:
        self._raw, self._stream = raw, lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def read(self, size: int) -> bytes:
        """The next bytes of what the file holds; empty at its end."""
        data = b""
        while not data:
            ended, block = self._stream.eof, self._stream.unused_data
            if ended or self._stream.needs_input:
                block = block or self._raw.read(CHUNK)
                if not block:
                    if ended:
                        return b""
                    raise EOFError("it ends too early")
            if ended:
                self._stream = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            try:
                data = self._stream.decompress(block, size)
            except lzma.LZMAError as error:
                if "limit" in str(error):
                    raise lzma.LZMAError(
                        f"unpacking takes more than {XZ_MEMORY >> 20} MB: pack it with xz -9 or less"
                    ) from None
                if ended:  # what follows a stream and is none is ignored, as lzma.open does
                    return b""
                raise
        return data


class _Tally:
    """A stream that counts and hashes what is read from it, and waits where it has nothing yet."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.bytes, self.sha256 = 0, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """As the stream's; only its end is empty."""
        while (data := self._stream.read(size)) is None:  # it does not block
            select.select([self._stream], [], [])
        self.bytes += len(data)
        self.sha256.update(data)
        return data


# From symbols to ids


class _Spool:
    """The symbols of the text in a temporary file, under provisional ids.

    Ids are stored in the smallest type that serves so far, hence in at most three runs.
    """

    def __init__(self, kind: type[Vocabulary], file: Any) -> None:
        self._number, self._file = kind.numbering(), file
        self._runs: list[tuple[np.dtype[Any], int]] = []  # type and length, in order
        self._counts = np.zeros(0, np.int64)  # provisional id -> how often

    @property
    def symbols(self) -> Array:
        """Provisional id -> symbol."""
        return self._number.symbols

    @property
    def counts(self) -> Array:
        """Provisional id -> how often it occurs."""
        n = self.symbols.size
        return np.pad(self._counts[:n], (0, max(0, n - self._counts.size)))

    @property
    def used(self) -> Array:
        """The symbols that occur, in order."""
        return np.sort(self.symbols[self.counts > 0])

    def extend(self, blocks: Iterable[str | bytes]) -> tuple[int, int]:
        """Append text; where it starts and stops in the spool."""
        start = int(self._counts.sum())
        for block in blocks:
            self._append(self._number(block))
        self._append(self._number.rest())
        return start, int(self._counts.sum())

    def _append(self, ids: Array) -> None:
        if not ids.size:
            return
        counts = _count(ids)
        if counts.size > self._counts.size:
            counts, self._counts = self._counts, counts
        self._counts[: counts.size] += counts
        dtype, length = _smallest(self.symbols.size), ids.size
        if self._runs and self._runs[-1][0] == dtype:
            length += self._runs.pop()[1]
        self._runs.append((dtype, length))
        self._file.write(ids.astype(dtype, copy=False).data)

    def blocks(self, start: int, stop: int) -> Iterator[Array]:
        """The provisional ids from `start` to `stop`, a block at a time."""
        first, offset = 0, 0  # of the run, in ids and in bytes
        for dtype, length in self._runs:
            low, high = max(start - first, 0), min(stop - first, length)
            self._file.seek(offset + low * dtype.itemsize)
            yield from _read_ids(self._file, dtype, high - low)
            first, offset = first + length, offset + length * dtype.itemsize


def _count(ids: Array, size: int = 0) -> Array:
    """How often each id occurs; int64, for `size` ids at least, or 256 where they are bytes."""
    if ids.dtype != np.uint8:
        return np.bincount(ids, minlength=size)
    # bytes are counted in pairs, which takes half as long
    pairs = np.bincount(ids[: ids.size & -2].view("u2"), minlength=1 << 16).reshape(256, 256)
    counts: Array = pairs.sum(axis=0) + pairs.sum(axis=1)
    counts[ids[ids.size & -2 :]] += 1
    return counts


def _unknown(
    vocabulary: Vocabulary, spool: _Spool, ids: Array, ranges: Mapping[str, tuple[int, int]]
) -> DataError:
    """The error that names the symbols without an id, in the first text that has any."""
    for name, (start, stop) in ranges.items():
        counts, firsts = np.zeros(ids.size, np.int64), np.full(ids.size, stop)
        at = 0
        for block in spool.blocks(start, stop):
            strange = np.flatnonzero(ids[block] < 0)
            found, first, count = np.unique(block[strange], return_index=True, return_counts=True)
            counts[found] += count
            firsts[found] = np.minimum(firsts[found], at + strange[first])
            at += block.size
        found = np.flatnonzero(counts)
        if found.size:
            where = f"the {name} text"
            break
    advice = "use a vocabulary that has them"
    return vocabulary.unknown(spool.symbols[found], counts[found], firsts[found], where, advice)


def _write_ids(file: IO[bytes], spool: _Spool, start: int, stop: int, ids: Array, V: int) -> Split:
    """Write a split as .npy; `ids` turns provisional ids into those of the vocabulary."""
    ids = ids.astype(_smallest(V))
    digest, counts = hashlib.sha256(), np.zeros(V, np.int64)
    file.write(_npy_header(ids.dtype, stop - start))
    for block in spool.blocks(start, stop):
        final = np.take(ids, block)
        file.write(final.data)
        digest.update(final.data)
        counts += _count(final, V)[:V]
    return Split(stop - start, digest.hexdigest(), counts)


# The output folder


def is_unfinished(folder: Path) -> bool:
    """Whether a prepare is at work in a folder, or was killed there."""
    try:
        return any(is_aside(path.name) for path in folder.iterdir())
    except (OSError, ValueError):
        return False


def is_aside(name: str) -> bool:
    """Whether a name is one that a file has only while a folder is written to."""
    return name == LOCK or ASIDE.fullmatch(name) is not None


def _check_free(out: Path, force: bool) -> None:
    """Raise DataError unless a corpus may be written to the folder `out`."""
    try:
        held = {path.name for path in out.iterdir() if not is_aside(path.name)}
        if held and not force:
            raise DataError(f"{out}: exists and is not empty: name another folder, or use --force")
        for path in (out / name for name in FILES if name in held):
            if path.is_dir():
                raise DataError(f"{path}: a folder where a file is to be written: remove it")
            if CORPUS_FILE not in held or not _is_marked(path):
                raise DataError(
                    f"{path}: not of an earlier prepare, and not replaced: move it, or name another "
                    "folder"
                )
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise DataError(f"{out}: cannot hold a prepared corpus ({error}): name a folder") from None


def _is_marked(path: Path) -> bool:
    """Whether a file of a name in FILES starts as this program has it start, of whatever version."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(HEADER)
    if path.name == CORPUS_FILE:
        return start.startswith(MARK)
    found = IDS_MARK.search(start)
    return found is not None and start == _npy_header(np.dtype(found[1].decode()), int(found[2]))


@contextmanager
def _held(folder: Path, force: bool) -> Iterator[None]:
    """A folder, made where it is not there, which no other process prepares into meanwhile.

    After an error it is gone where it was not there.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
        try:
            lock = take_lock(folder / LOCK)
        except BlockingIOError:
            raise DataError(
                f"{folder}: another process is preparing into it: wait for it, or name another"
            ) from None
        try:
            _settle(folder)
            _check_free(folder, force)  # another may have written there in the meantime
            yield
        finally:
            _quietly((folder / LOCK).unlink)
            os.close(lock)
    except BaseException:
        for path in new:
            _quietly(path.rmdir)
        raise


def _aside(folder: Path, tag: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """The names of new FILES before they take their places, and of old ones that made room."""
    new, old = (
        {name: folder / f".{name}.{tag}.rnnlm-{kind}" for name in FILES} for kind in ("tmp", "old")
    )
    return new, old


@contextmanager
def _appearing_together(folder: Path, force: bool) -> Iterator[dict[str, IO[bytes]]]:
    """FILES of a folder, open for writing under temporary names; at the end all take their places.

    After an error the files are as they were before.
    """
    new, old = _aside(folder, secrets.token_hex(4))
    try:
        with ExitStack() as stack:
            files: dict[str, IO[bytes]] = {}
            for name, path in new.items():
                files[name] = stack.enter_context(path.open("xb"))
            yield files
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        _check_free(folder, force)  # reading may have taken hours
        for name in reversed(FILES):  # the index goes first, and comes last
            if os.path.lexists(folder / name):
                (folder / name).replace(old[name])
        for name in FILES:
            new[name].replace(folder / name)
        try:
            sync_folder(folder)
        except BaseException:
            (folder / CORPUS_FILE).replace(new[CORPUS_FILE])
            raise
    finally:
        _quietly(_settle, folder)


@contextmanager
def _nameless() -> Iterator[dict[str, IO[bytes]]]:
    """FILES without a name, which are gone when nothing uses them any more, however that ends."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(tempfile.TemporaryFile()) for name in FILES}


def _settle(folder: Path) -> None:
    """Delete what was set aside; where there is no index, take every rename back before.

    Also after a death at any point, here too. The temporary index is made last and deleted first: as
    long as it is there, a file of ids without its temporary name has already taken its place.
    """
    found = filter(None, (ASIDE.fullmatch(path.name) for path in folder.iterdir()))
    for tag in {match[2] for match in found}:
        new, old = _aside(folder, tag)
        if not os.path.lexists(folder / CORPUS_FILE):
            for name in FILES:
                if (
                    new[CORPUS_FILE].exists()
                    and not new[name].exists()
                    and _is_marked(folder / name)
                ):
                    (folder / name).replace(new[name])
            for name in FILES:
                if os.path.lexists(old[name]):
                    old[name].replace(folder / name)
        for path in (*reversed(new.values()), *old.values()):
            path.unlink(missing_ok=True)


def _quietly(action: Callable[..., object], *arguments: object) -> None:
    with suppress(OSError):
        action(*arguments)
