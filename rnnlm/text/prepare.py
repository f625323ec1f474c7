"""From text in files to ids in a prepared folder.

The text is read once, in blocks, so that memory does not grow with its length. Its symbols go to a
temporary file, the spool, under provisional ids. When all symbols are known, the splits are written
from there with the final ids.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from ..arrays import Array
from ..backend.seeds import Purpose, generator
from ..errors import DataError
from ..storage.atomic import as_path, make_folder, release_lock, sync_folder, take_lock
from ..storage.npy import HEADER, is_header, map_array, npy_header, read_ids, smallest
from ..watching import report
from ..wording import option, shown
from .corpus import (
    ASIDE,
    CORPUS_FILE,
    FILES,
    JSON_LIMIT,
    LOCK,
    MARK,
    SPLITS,
    Contents,
    Corpus,
    Split,
    index_of,
    is_aside,
    is_unfinished,
)
from .format import TextFormat, TextRules, check_new_symbols
from .sources import Name, Reader, find_files, listed, size_on_disk
from .vocabulary import NewSymbols, Numbering, Vocabulary, check_limits, limited_vocabulary

LINES = 1 << 12  # that are put in order at a time: each may be on a page of its own
BLOCK = 1 << 18  # symbols of them, or of a prepared text


def prepare(
    inputs: Name | Sequence[Name],
    out: Name | None,
    *,
    level: str = "char",
    encoding: str | None = None,
    newlines: str = "normalize",
    unit: str = "stream",
    shuffle_lines: bool | None = None,
    val_fraction: float = 0.05,
    test_fraction: float = 0.05,
    val: Name | Sequence[Name] | None = None,
    test: Name | Sequence[Name] | None = None,
    vocabulary: Vocabulary | None = None,
    min_count: int = 1,
    max_vocabulary: int | None = None,
    unknown: NewSymbols = "error",
    force: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    separator: str = "",
    unreadable: Callable[[DataError], object] | None = None,
    most: float = math.inf,
    stdin: IO[bytes] | None = None,
) -> Corpus:
    """Turn text into the prepared folder `out`, and open it; None: into unnamed temporary files.

    Inputs are files (.gz, .bz2 and .xz are decompressed), folders (every file inside, sorted; not
    hidden ones, not `out`, not what `val` or `test` name) and "-", standard input. They are joined
    with `separator` between. The last symbols are for validation and then for the test,
    floor(n · fraction) each, unless `val` or `test` name a text of its own. The vocabulary covers all
    splits, unless one is given: symbols outside it are left out where `unknown` is "skip", and added to
    it where that is "extend". At level word symbols that occur less than `min_count` times, and all
    but the most frequent of the others, so that the vocabulary has at most `max_vocabulary`, become the
    unknown symbol. At level byte nothing is decoded, and `newlines` has no effect.

    Of a folder only files are read that match a pattern of `include` (`*.txt`), if there is any, and
    none of `exclude`. `unreadable` is called with the error of each file that is no text, which is then
    left out; without it the error is raised. Without `out` only about the first `most` bytes are read,
    and the corpus is as of an estimate.

    With unit line the splits are of whole lines, floor(L · fraction) of L for validation and for the
    test, taken from the end after the lines were shuffled, in an order that depends on L alone; with
    `shuffle_lines` False they keep theirs. A file that does not end with a newline gets one.

    Raises DataError for text or settings that cannot be used, for symbols outside a given
    vocabulary, and for an `out` that is not empty, unless `force`: then the files of an earlier
    prepare are replaced, and no others. After an error `out` is as it was before. After a kill it is
    restored when the next prepare into it starts. Only one process at a time can prepare into it.
    """
    rules = TextRules.named(level, encoding, newlines, unit)
    if shuffle_lines is not None and not rules.of_lines:
        raise DataError(f"shuffle_lines: a {unit} has no lines to shuffle: use unit line")
    if separator and rules.of_lines:
        raise DataError("separator: a file of lines ends with a newline, so leave it out")
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        raise DataError(
            f"vocabulary must be that of a checkpoint or corpus, not {shown(vocabulary)}"
        )
    if check_limits(rules.kind, min_count, max_vocabulary) and vocabulary is not None:
        raise DataError(
            "min_count and max_vocabulary say how a vocabulary is made, and one is given: leave them "
            "out"
        )
    check_new_symbols(unknown)
    given = None if vocabulary is None else TextFormat(rules, vocabulary)
    most = most if out is None else math.inf
    reader = Reader(rules, stdin, separator, unreadable, most, for_training=True)
    texts = {"train": listed(inputs), "val": listed(val), "test": listed(test)}
    fractions = {"val": val_fraction, "test": test_fraction}
    shares = _shares({name: f for name, f in fractions.items() if not texts[name]})
    out = None if out is None else as_path(out, DataError)
    if out is not None and not is_unfinished(out):
        _check_free(out, force)  # before a lock is made in a folder that is not ours
    files = find_files(texts, out, _patterns(include), _patterns(exclude))
    reader.expect(files)
    try:
        with (
            nullcontext() if out is None else _locked(out, force),
            _unnamed() if out is None else _replaced_together(out, force) as outputs,
            tempfile.TemporaryFile(dir=out) as spooled,
        ):
            only = vocabulary if unknown == "skip" else None
            spool = _Spool(rules.kind.numbering(), spooled, only)
            ranges = {name: spool.extend(reader.blocks(files[name])) for name in files}
            for name, (start, stop) in ranges.items():
                if start == stop:
                    raise DataError(f"{', '.join(texts[name])}: there is no text to read")
            if given is not None and unknown == "extend":
                found = spool.symbols[spool.counts > 0]
                given = TextFormat(rules, given.vocabulary.extended(found))
            text_format = given or TextFormat(
                rules,
                limited_vocabulary(
                    rules.kind, spool.symbols, spool.counts, min_count, max_vocabulary
                ),
            )
            ids, V = text_format.vocabulary.lookup(spool.symbols), len(text_format.vocabulary)
            parts: dict[str, _Part] = {name: _Range(spool, *ranges[name]) for name in ranges}
            if (ids[spool.counts > 0] < 0).any():
                raise _unknown(text_format.vocabulary, spool.symbols, ids, parts)
            if rules.of_lines:
                newline = int(np.flatnonzero(ids == text_format.newline)[0])
                train = _Range(spool, *ranges["train"])
                parts |= _lines(train, newline, shares, shuffle_lines is not False)
            else:
                tails = _tails(ranges["train"][1], shares)
                parts |= {name: _Range(spool, *tails[name]) for name in tails}
            splits = {
                name: _write_ids(outputs[f"{name}.npy"], parts[name], ids, V) for name in SPLITS
            }
            contents = Contents(
                text_format,
                reader.newlines_replaced,
                reader.newlines_added,
                reader.sources,
                splits,
            )
            outputs[CORPUS_FILE].write(_index(contents))
            if out is None:
                read = sum(source.bytes for source in reader.sources)
                whole = size_on_disk(chain(*files.values())) if reader.cut else read
                scale = max(1.0, whole / max(1, read))
                corpus = _mapped_corpus(Path(texts["train"][0]), contents, outputs, scale)
                return replace(corpus, left_out=spool.left_out)
    except OSError as error:
        why, where = error.strerror or error, out or tempfile.gettempdir()
        raise DataError(
            f"{where}: cannot write there ({why}): free space, or name another folder"
        ) from None
    except MemoryError:
        raise DataError(
            "not enough memory to prepare a text, which takes about 100 MB: end other programs"
        ) from None
    return replace(Corpus.open(out, verify=False), left_out=spool.left_out)


def prepare_again(
    corpus: Corpus, out: Path | None, vocabulary: Vocabulary, unknown: NewSymbols = "error"
) -> Corpus:
    """The text of a prepared folder with another vocabulary of its level, in the new folder `out`;
    None: in unnamed temporary files. `unknown` is as in `prepare`.

    Where the folder has the vocabulary already, it is used as it is. Raises DataError for symbols
    outside the vocabulary, and where `out` cannot be written.
    """
    check_new_symbols(unknown)
    text_format = TextFormat(corpus.format.rules, vocabulary)
    if unknown == "extend":
        extended = vocabulary.extended(corpus.vocabulary.symbols[corpus.counts > 0])
        text_format = TextFormat(corpus.format.rules, extended)
    if text_format.vocabulary == corpus.vocabulary:
        return corpus
    ids, V = text_format.vocabulary.lookup(corpus.vocabulary.symbols), len(text_format.vocabulary)
    every = np.ones(ids.size, np.bool_)
    whole, parts = ({n: _Kept(corpus, n, kept) for n in SPLITS} for kept in (every, ids >= 0))
    left_out = sum(map(len, whole.values())) - sum(map(len, parts.values()))
    if left_out and unknown != "skip":
        raise _unknown(text_format.vocabulary, corpus.vocabulary.symbols, ids, whole)
    if not len(parts["train"]):
        raise DataError(f"{corpus.folder}: no training text is left without its unknown symbols")
    try:
        with (
            nullcontext() if out is None else _locked(out, False),
            _unnamed() if out is None else _replaced_together(out, False) as outputs,
        ):
            splits = {
                name: _write_ids(outputs[f"{name}.npy"], parts[name], ids, V) for name in SPLITS
            }
            contents = Contents(
                text_format, corpus.newlines_replaced, corpus.newlines_added, corpus.sources, splits
            )
            outputs[CORPUS_FILE].write(_index(contents))
            if out is None:
                again = _mapped_corpus(corpus.folder, contents, outputs, corpus.scale)
                return replace(again, left_out=left_out)
    except OSError as error:
        why, where = error.strerror or error, out or tempfile.gettempdir()
        raise DataError(f"{where}: cannot write there ({why}): free space") from None
    return replace(Corpus.open(out, verify=False), left_out=left_out)


def _patterns(given: Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _mapped_corpus(
    folder: Path, contents: Contents, files: Mapping[str, IO[bytes]], scale: float
) -> Corpus:
    """A corpus of open files, which need no names."""
    dtype, ids = smallest(len(contents.format.vocabulary)), {}
    for name, split in contents.splits.items():
        files[f"{name}.npy"].flush()
        ids[name] = map_array(files[f"{name}.npy"], dtype, split.length)
    return Corpus.of(contents, folder, ids, scale)


def _index(contents: Contents) -> bytes:
    """The content of corpus.json."""
    index = index_of(contents)
    if len(index) > JSON_LIMIT:
        raise DataError(f"{len(contents.sources):,} files are too many to list: join them first")
    return index.encode()


def _shares(fractions: Mapping[str, float]) -> dict[str, Fraction]:
    """Fractions as the decimals that were given: 0.29 of 100 is 29, not floor(28.999999999999996)."""
    try:
        shares = {name: Fraction(str(fraction)) for name, fraction in fractions.items()}
        if min(shares.values(), default=0) >= 0 and sum(shares.values()) < 1:
            return shares
    except (ValueError, ZeroDivisionError):  # not a finite number
        pass
    named = " and ".join(f"{name}_fraction {shown(value)}" for name, value in fractions.items())
    raise DataError(f"{named}: use 0 or more, and less than 1 together, to leave training text")


def _tails(total: int, shares: Mapping[str, Fraction]) -> dict[str, tuple[int, int]]:
    """Start and stop of the training text, and of the shares after it, among `total` symbols."""
    ranges, stop = {}, total
    for name in reversed(list(shares)):
        start = stop - math.floor(total * shares[name])
        ranges[name], stop = (start, stop), start
    return {**ranges, "train": (0, stop)}


# From symbols to ids


class _Spool:
    """The symbols of the text in a temporary file, under provisional ids.

    Ids are stored in the smallest type that fits so far, so the file has at most three parts.
    """

    def __init__(self, number: Numbering, file: Any, only: Vocabulary | None = None) -> None:
        self._number, self._file = number, file
        self._only = only  # symbols outside it are left out
        self.left_out = 0
        self._parts: list[tuple[np.dtype[Any], int]] = []  # type and length, in order
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

    def extend(self, blocks: Iterable[str | bytes]) -> tuple[int, int]:
        """Append text. Returns where it starts and stops in the spool."""
        start = int(self._counts.sum())
        for block in blocks:
            self._append(self._number(block))
        self._append(self._number.rest())
        return start, int(self._counts.sum())

    def _append(self, ids: Array) -> None:
        if self._only is not None and ids.size:
            known = ids[(self._only.lookup(self.symbols) >= 0)[ids]]
            self.left_out += ids.size - known.size
            ids = known
        if not ids.size:
            return
        counts = _count(ids)
        if counts.size > self._counts.size:
            counts, self._counts = self._counts, counts
        self._counts[: counts.size] += counts
        dtype, length = smallest(self._counts.size), ids.size
        if self._parts and self._parts[-1][0] == dtype:
            length += self._parts.pop()[1]
        self._parts.append((dtype, length))
        self._file.write(ids.astype(dtype, copy=False).data)

    def blocks(self, start: int, stop: int) -> Iterator[Array]:
        """The provisional ids from `start` to `stop`, a block at a time."""
        first, offset = 0, 0  # of the part, in ids and in bytes
        for dtype, length in self._parts:
            low, high = max(start - first, 0), min(stop - first, length)
            self._file.seek(offset + low * dtype.itemsize)
            yield from read_ids(self._file, dtype, high - low)
            first, offset = first + length, offset + length * dtype.itemsize

    def gather(self, places: Array) -> Array:
        """The provisional ids at any places (n,), when all text is there."""
        self._file.flush()
        gathered = np.empty(places.size, smallest(self.symbols.size))
        first, offset = 0, 0
        with mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for dtype, length in self._parts:
                part = np.frombuffer(mapped, dtype, length, offset)
                inside = (places >= first) & (places < first + length)
                gathered[inside] = part[places[inside] - first]
                del part  # or the mapping could not be closed
                first, offset = first + length, offset + length * dtype.itemsize
        return gathered


def _count(ids: Array, size: int = 0) -> Array:
    """How often each id occurs, int64; for at least `size` ids, or 256 where they are bytes."""
    if ids.dtype != np.uint8:
        return np.bincount(ids, minlength=size)
    # Bytes are counted in pairs, which takes half as long
    pairs = np.bincount(ids[: ids.size & -2].view("u2"), minlength=1 << 16).reshape(256, 256)
    counts: Array = pairs.sum(axis=0) + pairs.sum(axis=1)
    counts[ids[ids.size & -2 :]] += 1
    return counts


def _unknown(
    vocabulary: Vocabulary, symbols: Array, ids: Array, parts: Mapping[str, _Part]
) -> DataError:
    """The error that names the symbols without an id, in the first text that has any."""
    for name, part in parts.items():
        counts, firsts = np.zeros(ids.size, np.int64), np.full(ids.size, len(part))
        at = 0
        for block in part.blocks():
            outside = np.flatnonzero(ids[block] < 0)
            found, first, count = np.unique(block[outside], return_index=True, return_counts=True)
            counts[found] += count
            firsts[found] = np.minimum(firsts[found], at + outside[first])
            at += block.size
        found = np.flatnonzero(counts)
        if found.size:
            where = f"the {name} text"
            break
    advice = "leave them out: --unknown skip, or add them: --extend-vocab"
    return vocabulary.unknown(symbols[found], counts[found], firsts[found], where, advice)


class _Part(Protocol):
    """The symbols of a split, in their order, under provisional ids."""

    def __len__(self) -> int: ...

    def blocks(self) -> Iterator[Array]:
        """The provisional ids, a block at a time."""


@dataclass(frozen=True)
class _Range:
    """The symbols from `start` to `stop`."""

    spool: _Spool
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def blocks(self) -> Iterator[Array]:
        return self.spool.blocks(self.start, self.stop)


@dataclass(frozen=True)
class _Kept:
    """A split of a prepared text without the symbols that are not in `kept` (V,)."""

    corpus: Corpus
    split: str
    kept: Array

    def __len__(self) -> int:
        return int(self.corpus.splits[self.split].counts[self.kept].sum())

    def blocks(self) -> Iterator[Array]:
        ids = self.corpus[self.split]
        for at in range(0, len(ids), BLOCK):
            block = ids[at : at + BLOCK]
            yield block[self.kept[block]]


@dataclass(frozen=True)
class _Lines:
    """Whole lines of a text in an order of their own: line i ends at `ends[i]`, the first one begins at
    `start`.
    """

    spool: _Spool
    start: int
    ends: Array  # (L,)
    order: Array  # (n,) of the L lines

    def __len__(self) -> int:
        return sum(int(lengths.sum()) for _, lengths in self._lines())

    def _lines(self) -> Iterator[tuple[Array, Array]]:
        """Where lines start, and their lengths, some at a time."""
        for k in range(0, len(self.order), LINES):
            line = self.order[k : k + LINES].astype(np.int64)
            starts = np.where(line > 0, self.ends[line - 1], self.start)
            yield starts, self.ends[line] - starts

    def blocks(self) -> Iterator[Array]:
        for starts, lengths in self._lines():
            stops = np.cumsum(lengths)
            for first in range(0, int(stops[-1]), BLOCK):
                place = np.arange(first, min(first + BLOCK, int(stops[-1])))
                line = stops.searchsorted(place, "right")
                yield self.spool.gather(place + (starts + lengths - stops)[line])


def _lines(
    text: _Range, newline: int, shares: Mapping[str, Fraction], shuffle: bool
) -> dict[str, _Part]:
    """The training text, and the shares after it, in whole lines; the text ends with a newline."""
    ends, L, at = np.empty(text.spool.counts[newline], np.int64), 0, text.start
    for block in text.blocks():
        found = np.flatnonzero(block == newline)
        ends[L : L + found.size] = at + 1 + found
        L, at = L + found.size, at + block.size
    ends = ends[:L]
    if L == 1 and any(shares.values()):
        raise DataError(
            "the text has one line, and so none for validation or test: use unit stream, or 0 for both "
            "fractions"
        )
    tails = _tails(L, shares)
    if not shuffle:
        borders = np.append(text.start, ends)
        return {
            name: _Range(text.spool, *borders[list(tail)].tolist()) for name, tail in tails.items()
        }
    order = np.arange(L, dtype=smallest(L))
    generator(0, Purpose.SPLITS).shuffle(order)
    return {
        name: _Lines(text.spool, text.start, ends, order[slice(*tail)])
        for name, tail in tails.items()
    }


def _write_ids(file: IO[bytes], part: _Part, ids: Array, V: int) -> Split:
    """Write a split as .npy; `ids` maps provisional ids to those of the vocabulary."""
    ids = ids.astype(smallest(V))
    digest, counts, length = hashlib.sha256(), np.zeros(V, np.int64), len(part)
    file.write(npy_header(ids.dtype, length))
    for block in part.blocks():
        final = np.take(ids, block)
        file.write(final.data)
        digest.update(final.data)
        counts += _count(final, V)[:V]
        report("writing", int(counts.sum()), length)
    return Split(length, digest.hexdigest(), counts)


# The output folder


def _check_free(out: Path, force: bool) -> None:
    """Raise DataError unless a corpus may be written to the folder `out`."""
    try:
        held = {path.name for path in out.iterdir() if not is_aside(path.name)}
        if held and not force:
            way = f"name another folder, or use {option('force', True)}"
            raise DataError(f"{out}: exists and is not empty: {way}")
        for path in (out / name for name in FILES if name in held):
            if path.is_dir():
                raise DataError(f"{path}: a folder, where a file must be written: remove it")
            if CORPUS_FILE not in held or not is_marked(path):
                raise DataError(
                    f"{path}: not from an earlier prepare, so not replaced: move it, or name another "
                    "folder"
                )
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise DataError(f"{out}: cannot hold a prepared corpus ({error}): name another") from None


def is_marked(path: Path) -> bool:
    """Whether a file with a name in FILES starts as any version of rnnlm writes it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(HEADER)
    if path.name == CORPUS_FILE:
        return start.startswith(MARK)
    return is_header(start)


@contextmanager
def _locked(folder: Path, force: bool) -> Iterator[None]:
    """Lock a folder, made where it is missing, against other processes that prepare into it.

    After an error a folder that was made here is removed.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        make_folder(folder)
        try:
            lock = take_lock(folder / LOCK)
        except BlockingIOError:
            raise DataError(
                f"{folder}: another process is preparing into it: wait for it, or name another folder"
            ) from None
        try:
            _settle(folder)
            _check_free(folder, force)  # another process may have written there since
            yield
        finally:
            release_lock(lock, delete=folder / LOCK)
    except BaseException:
        for path in new:
            _quietly(path.rmdir)
        raise


def aside_names(folder: Path, tag: str) -> tuple[dict[str, Path], dict[str, Path]]:
    """The temporary names of new FILES not yet in place, and of the old ones they replace."""
    new, old = (
        {name: folder / f".{name}.{tag}.rnnlm-{kind}" for name in FILES} for kind in ("tmp", "old")
    )
    return new, old


@contextmanager
def _replaced_together(folder: Path, force: bool) -> Iterator[dict[str, IO[bytes]]]:
    """FILES of a folder, open for writing under temporary names; at the end all are put in place.

    After an error the old files are there as before.
    """
    new, old = aside_names(folder, secrets.token_hex(4))
    try:
        with ExitStack() as stack:
            files: dict[str, IO[bytes]] = {}
            for name, path in new.items():
                files[name] = stack.enter_context(path.open("xb"))
            yield files
            for file in files.values():
                file.flush()
                os.fsync(file.fileno())
        _check_free(folder, force)  # again: reading may have taken hours
        for name in reversed(FILES):  # the old index goes first, and the new one comes last
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
def _unnamed() -> Iterator[dict[str, IO[bytes]]]:
    """FILES as unnamed temporary files, which vanish when nothing uses them, even after a kill."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(tempfile.TemporaryFile()) for name in FILES}


def _settle(folder: Path) -> None:
    """Delete temporary files; where corpus.json is missing, first undo every rename.

    This works after a kill at any point, even in this function. The temporary index is made last and
    deleted first. So while it is there, a file of ids without a temporary name is already in place.
    """
    found = filter(None, (ASIDE.fullmatch(path.name) for path in folder.iterdir()))
    for tag in {match[2] for match in found}:
        new, old = aside_names(folder, tag)
        if not os.path.lexists(folder / CORPUS_FILE):
            for name in FILES:
                if (
                    new[CORPUS_FILE].exists()
                    and not new[name].exists()
                    and is_marked(folder / name)
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
