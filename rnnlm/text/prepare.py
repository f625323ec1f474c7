"""From text in files to ids in a prepared folder.

The text is read once, in blocks, so that memory does not grow with its length. Its symbols go to a
temporary file, the spool, under provisional ids. When all symbols are known, the splits are written
from there with the final ids.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from ..arrays import Array
from ..errors import DataError
from ..storage.atomic import as_path
from ..storage.npy import map_array, smallest
from ..wording import shown
from .corpus import (
    CORPUS_FILE,
    JSON_LIMIT,
    SPLITS,
    Contents,
    Corpus,
    Drawn,
    index_of,
    is_unfinished,
)
from .folder import check_free, opened
from .format import TextFormat, TextRules, check_new_symbols
from .parts import (
    Kept,
    Part,
    Range,
    line_parts,
    shares_of,
    stream_parts,
    unknown_symbols,
    write_ids,
)
from .sources import Name, Reader, find_files, listed, size_on_disk
from .spool import Spool
from .vocabulary import NewSymbols, Vocabulary, check_limits, limited_vocabulary


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
    drawn: Drawn | None = None,
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
    and the corpus is as of an estimate. `drawn` says what source a text was drawn from.

    With unit line the splits are of whole lines, floor(L · fraction) of L for validation and for the
    test, taken from the end after the lines were shuffled, in an order that depends on L alone; with
    `shuffle_lines` False they keep theirs. A file that does not end with a newline gets one.

    Raises DataError for text or settings that cannot be used, for symbols outside a given
    vocabulary, and for an `out` that is not empty, unless `force`: then the files of an earlier
    prepare are replaced, and no others. After an error `out` is as it was before. After a kill it is
    restored when the next prepare into it starts. Only one process at a time can prepare into it.
    """
    rules = TextRules.named(level, encoding, newlines, unit)
    _check_meant(rules, shuffle_lines, separator, vocabulary)
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
    shares = shares_of({name: f for name, f in fractions.items() if not texts[name]})
    out = None if out is None else as_path(out, DataError)
    if out is not None and not is_unfinished(out):
        check_free(out, force)  # before a lock is made in a folder that is not ours
    files = find_files(texts, out, _patterns(include), _patterns(exclude))
    reader.expect(files)
    try:
        with opened(out, force) as outputs, tempfile.TemporaryFile(dir=out) as spooled:
            only = vocabulary if unknown == "skip" else None
            spool = Spool(rules.kind.numbering(), spooled, only)
            ranges = {
                name: Range(spool, *spool.extend(reader.blocks(files[name]))) for name in files
            }
            for name, part in ranges.items():
                if not len(part):
                    raise DataError(f"{', '.join(texts[name])}: there is no text to read")
            if given is None:
                made = spool.symbols, spool.counts, min_count, max_vocabulary
                given = TextFormat(rules, limited_vocabulary(rules.kind, *made))
            elif unknown == "extend":
                given = given.extended(spool.symbols[spool.counts > 0])
            ids = given.vocabulary.lookup(spool.symbols)
            if (ids[spool.counts > 0] < 0).any():
                raise unknown_symbols(given.vocabulary, spool.symbols, ids, ranges)
            parts: dict[str, Part] = {**ranges}
            if rules.of_lines:
                newline = int(np.flatnonzero(ids == given.newline)[0])
                parts |= line_parts(ranges["train"], newline, shares, shuffle_lines is not False)
            else:
                parts |= stream_parts(ranges["train"], shares)
            contents = _write(outputs, given, parts, ids, reader, drawn)
            if out is None:
                read = sum(source.bytes for source in reader.sources)
                whole = size_on_disk(chain(*files.values())) if reader.cut else read
                scale = max(1.0, whole / max(1, read))
                corpus = _mapped_corpus(Path(texts["train"][0]), contents, outputs, scale)
    except MemoryError:
        raise DataError(
            "not enough memory to prepare a text, which takes about 100 MB: end other programs"
        ) from None
    if out is not None:
        corpus = Corpus.open(out, verify=False)
    return replace(corpus, left_out=spool.left_out)


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
        text_format = text_format.extended(corpus.vocabulary.symbols[corpus.counts > 0])
    if text_format.vocabulary == corpus.vocabulary:
        return corpus
    ids = text_format.vocabulary.lookup(corpus.vocabulary.symbols)
    every = np.ones(ids.size, np.bool_)
    whole, parts = ({n: Kept(corpus, n, kept) for n in SPLITS} for kept in (every, ids >= 0))
    left_out = sum(map(len, whole.values())) - sum(map(len, parts.values()))
    if left_out and unknown != "skip":
        raise unknown_symbols(text_format.vocabulary, corpus.vocabulary.symbols, ids, whole)
    if not len(parts["train"]):
        raise DataError(f"{corpus.folder}: no training text is left without its unknown symbols")
    with opened(out) as outputs:
        contents = _write(outputs, text_format, parts, ids, corpus)
        if out is None:
            again = _mapped_corpus(corpus.folder, contents, outputs, corpus.scale)
    if out is not None:
        again = Corpus.open(out, verify=False)
    return replace(again, left_out=left_out)


def _check_meant(
    rules: TextRules, shuffle_lines: bool | None, separator: str, vocabulary: object
) -> None:
    """Raise DataError for values that mean nothing to these rules, and for what is no vocabulary."""
    if shuffle_lines is not None and not rules.of_lines:
        raise DataError(f"shuffle_lines: a {rules.unit} has no lines to shuffle: use unit line")
    if separator and rules.of_lines:
        raise DataError("separator: a file of lines ends with a newline, so leave it out")
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        raise DataError(
            f"vocabulary must be that of a checkpoint or corpus, not {shown(vocabulary)}"
        )


def _patterns(given: Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _write(
    files: Mapping[str, IO[bytes]],
    text_format: TextFormat,
    parts: Mapping[str, Part],
    ids: Array,
    read: Reader | Corpus,
    drawn: Drawn | None = None,
) -> Contents:
    """Write the splits, whose provisional ids `ids` maps to those of the format, and the index."""
    V = len(text_format.vocabulary)
    splits = {name: write_ids(files[f"{name}.npy"], parts[name], ids, V) for name in SPLITS}
    contents = Contents(
        text_format,
        read.newlines_replaced,
        read.newlines_added,
        read.sources,
        splits,
        drawn=drawn,
    )
    files[CORPUS_FILE].write(_index(contents))
    return contents


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
