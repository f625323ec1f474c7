"""Finding and reading files: from paths to blocks of text, decompressed and decoded."""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import chain, takewhile
from pathlib import Path
from typing import IO, Any, TypeAlias

from ..errors import DataError
from ..storage.atomic import as_path
from ..watching import report
from ..wording import of_text, option
from .documents import refuse_document, wide_encoding
from .format import TextRules

CHUNK = 1 << 20  # bytes of text read at a time
STDIN = "-"
HELD = 1 << 20  # bytes that a decoder may hold back: a UTF-7 sequence can be as long as the file
XZ_MEMORY = 1 << 27  # bytes for unpacking .xz: `xz -9` needs half of them, some files gigabytes

COMPRESSED: Mapping[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lambda raw: _XzFile(raw),
}
UNREADABLE = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)

Name: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Source:
    """A file that was read: its name as given, its size and hash on disk."""

    name: str
    bytes: int
    sha256: str


def read_text(name: Name, rules: TextRules, stdin: IO[bytes] | None = None) -> str | bytes:
    """One text, read as by `prepare` but with its line ends; bytes where the rules decode nothing.

    Raises DataError where the file cannot be read or decoded.
    """
    files = find_files({"train": listed(name)}, None)["train"]
    blocks: Any = Reader(replace(rules, newlines=None), stdin).blocks(files)
    try:
        return "".join(blocks) if rules.encoding else b"".join(blocks)
    except MemoryError:
        raise DataError(f"{os.fspath(name)}: too long for the memory: use a part of it") from None


def listed(paths: Name | Sequence[Name] | None) -> list[str]:
    """Names of files and folders as a list of strings; DataError for what cannot be a name."""
    if paths is None:
        return []
    listed = [*paths] if isinstance(paths, Iterable) and not isinstance(paths, str) else [paths]
    for path in listed:
        as_path(path, DataError)
    return [os.fspath(path) for path in listed]


# Finding files


def find_files(
    texts: Mapping[str, Sequence[str]],
    out: Path | None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, list[str]]:
    """The files of each text, also those in its folders; a text without paths is left out.

    Of a folder only files that match a pattern of `include` (all, without any) and none of `exclude`.
    """
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
                    below = _files_under(path, own | (held_out if name == "train" else set()))
                    found = [f for f in below if _chosen(f, path, include, exclude)]
                elif path != STDIN:
                    Path(path).stat()  # a missing file is reported now, not after an hour
            except (OSError, ValueError) as error:
                raise _unreadable(path, error) from None
            if not found:
                patterns = f"{option('include')} and {option('exclude')}"
                which = f" that {patterns} leave" if include or exclude else ""
                raise DataError(f"{path}: no files{which} to read in it: name another")
            files.setdefault(name, []).extend(found)
    if sum(paths.count(STDIN) for paths in texts.values()) > 1:
        raise DataError(f"{STDIN} (standard input) can be read only once: name a file instead")
    return files


def _files_under(folder: str, skip: set[tuple[int, int]]) -> Iterator[str]:
    """The files in a folder and its subfolders, sorted; links may form loops: each is read once."""
    waiting = [folder]  # a stack; no recursion, since folders may be thousands deep
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


def _chosen(name: str, folder: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether patterns leave a file in; they are matched with its name, and its path in the folder."""
    names = Path(name).name, Path(name).relative_to(folder).as_posix()

    def matches(patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)

    return (not include or matches(include)) and not matches(exclude)


def _identities(paths: Iterable[Name]) -> set[tuple[int, int]]:
    """What identifies each existing file or folder, whichever path leads to it."""
    found = set()
    for path in paths:
        with suppress(OSError, ValueError):
            status = Path(path).stat()
            found.add((status.st_dev, status.st_ino))
    return found


def size_on_disk(names: Iterable[str]) -> int:
    """The bytes of files, 0 where one cannot be told, as of standard input."""
    try:
        return sum(Path(name).stat().st_size for name in names if name != STDIN)
    except OSError:
        return 0


def _joined(texts: Iterable[Iterator[Any]], between: Any) -> Iterator[Any]:
    """The blocks of texts one after another, with something between the texts."""
    for k, text in enumerate(texts):
        if k and between:
            yield between
        yield from text


def _unreadable(name: str, error: Exception) -> DataError:
    why = getattr(error, "strerror", None) or error
    missing = isinstance(error, FileNotFoundError)
    way = "check its name" if missing else "check the file, or leave it out"
    return DataError(f"{name}: cannot read ({why}): {way}")


# Reading files


class Reader:
    """Reads files into blocks of text, or of bytes where the rules decode nothing.

    `separator` comes between two files. `unreadable` is called with the error of a file that is no
    text, which is then left out whole; without it the error is raised. Reading ends after about `most`
    bytes on disk; then `cut` is true. Only where a text is read `for_training` can its rules be others,
    and so errors advise it.
    """

    def __init__(
        self,
        rules: TextRules,
        stdin: IO[bytes] | None,
        separator: str = "",
        unreadable: Callable[[DataError], object] | None = None,
        most: float = math.inf,
        for_training: bool = False,
    ) -> None:
        self.rules, self._for_training = rules, for_training
        self._left, self.cut = most, False
        self._separator, self._unreadable = separator, unreadable
        # A closed standard input counts as empty
        self.stdin: Any = stdin or getattr(sys.stdin, "buffer", io.BytesIO())
        self.newlines_replaced = 0
        self.newlines_added = 0
        self.position = 0  # bytes that were read so far, as they are on disk
        self.sources: list[Source] = []
        self._total = 0  # bytes of all files; 0: not known

    def expect(self, files: Mapping[str, Iterable[str]]) -> None:
        """Say which files will be read, so that a watcher hears how much there is to read."""
        names = [name for listed in files.values() for name in listed]
        self._total = 0 if STDIN in names else size_on_disk(names)

    def _count(self, size: int) -> None:
        self.position += size
        report("reading", self.position, self._total)

    def blocks(self, names: Iterable[str]) -> Iterator[str] | Iterator[bytes]:
        """The files joined, a block at a time.

        Where every line is a text, a file that does not end with a newline gets one.
        """
        if self.rules.of_lines:
            return chain.from_iterable(self._ended(self._joined([name])) for name in names)
        return self._joined(names)

    def _joined(self, names: Iterable[str]) -> Iterator[Any]:
        encoding = self.rules.encoding
        names = takewhile(lambda _: not self.cut, names)
        if self._unreadable is not None:
            names = filter(self._is_readable, names)
        if encoding is None:
            between = self._separator.encode("utf-8", "surrogateescape")
            return _joined(map(self._bytes, names), between)
        texts: Iterable[Iterator[str]] = (self._decoded(name, encoding) for name in names)
        if self.rules.newlines != "normalize":
            return _joined(texts, self._separator)
        if self._separator:
            return _joined(map(self._normalized, texts), self.rules.normalize(self._separator))
        return self._normalized(_joined(texts, ""))  # a line end may lie between two files

    def _is_readable(self, name: str) -> bool:
        """Whether a file can be read to its end. Standard input can be read only once."""
        if name == STDIN:
            return True
        trial = Reader(self.rules, None, for_training=self._for_training)
        try:
            for _ in trial.blocks([name]):
                pass
        except DataError as error:
            assert self._unreadable is not None
            self._unreadable(error)
            return False
        return True

    def _ended(self, blocks: Iterator[Any]) -> Iterator[Any]:
        """A file's blocks, and a newline where it does not end with one."""
        newline: Any = "\n" if self.rules.encoding else b"\n"
        last = newline
        for block in blocks:
            yield block
            last = block or last
        if not last.endswith(newline):
            self.newlines_added += 1
            yield newline

    def _bytes(self, name: str) -> Iterator[bytes]:
        """A file's content, decompressed; at its end the file is added to `sources`."""
        try:
            with ExitStack() as stack:
                if name == STDIN:
                    raw = _HashedFile(self.stdin, self._count)
                else:
                    raw = _HashedFile(stack.enter_context(Path(name).open("rb")), self._count)
                decompressed = COMPRESSED.get(Path(name).suffix.lower())
                file = decompressed(raw) if decompressed else raw
                while block := file.read(CHUNK):
                    yield block
                    if raw.bytes >= self._left:
                        self.cut = True
                        break
                # The hash also covers what a decompressor leaves unread
                while not self.cut and raw.read(CHUNK):
                    pass
        except UNREADABLE as error:
            raise _unreadable(name, error) from None
        self._left -= raw.bytes
        self.sources.append(Source(name, raw.bytes, raw.sha256.hexdigest()))

    def _advice(self, encoding: str, other: str = "latin-1") -> str:
        if not self._for_training:
            return f"the model reads {encoding}: convert the file"
        ways = of_text("encoding", other), of_text("level", "byte")
        return f"name its encoding, such as {ways[0]}, or use {ways[1]}"

    def _refuse_wide(self, name: str, encoding: str, begins: bytes) -> None:
        """Raise DataError for a text that is in an encoding of two or four bytes a character, and is to
        be read in another: UTF-16 without a mark would pass for text with zeros in it.
        """
        one_byte = len(" ".encode(encoding)) == 1
        if one_byte and (seems := wide_encoding(begins)):
            raise DataError(
                f"{name}: looks like {seems}, not {encoding}: {self._advice(encoding, seems)}"
            )

    def _decoded(self, name: str, encoding: str) -> Iterator[str]:
        """A file's text without its byte order mark."""
        decoder = codecs.getincrementaldecoder(encoding)()
        # A codec that writes a byte order mark (utf-16, utf-32) also removes it
        offset, has_mark = 0, not "".encode(encoding)
        for block in chain(self._bytes(name), [b""]):
            if offset == 0:
                refuse_document(name, block)
                self._refuse_wide(name, encoding, block)
            held = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block and not self.cut)
            except UnicodeError as error:
                at = offset - held + getattr(error, "start", 0)
                raise DataError(
                    f"{name}: not {encoding} at byte {at:,} ({getattr(error, 'reason', error)}): "
                    f"{self._advice(encoding)}"
                ) from None
            offset += len(block)
            if len(decoder.getstate()[0]) > HELD:
                raise DataError(
                    f"{name}: {HELD:,} bytes before byte {offset:,} give no text in {encoding}: "
                    f"{self._advice(encoding)}"
                )
            if text:
                yield text.removeprefix("\ufeff") if has_mark else text
                has_mark = False

    def _normalized(self, texts: Iterable[str]) -> Iterator[str]:
        """CRLF and CR as LF; a CR at the end of a block is held back, since an LF may follow."""
        carried = ""
        for text in texts:
            text = carried + text
            carried = "\r" if text.endswith("\r") else ""
            text = text[: len(text) - len(carried)]
            if "\r" in text:
                self.newlines_replaced += text.count("\r")
            yield self.rules.normalize(text)
        if carried:
            self.newlines_replaced += 1
            yield "\n"


class _XzFile:
    """A .xz file, decompressed within a memory limit, which `lzma.open` does not take."""

    def __init__(self, raw: _HashedFile) -> None:
        self._raw, self._decompressor = raw, lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def read(self, size: int) -> bytes:
        """The next decompressed bytes; empty at the end of the file."""
        data = b""
        while not data:
            ended, block = self._decompressor.eof, self._decompressor.unused_data
            if ended or self._decompressor.needs_input:
                block = block or self._raw.read(CHUNK)
                if not block:
                    if ended:
                        return b""
                    raise EOFError("the file ends too early")
            if ended:
                self._decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)
            try:
                data = self._decompressor.decompress(block, size)
            except lzma.LZMAError as error:
                if "limit" in str(error):
                    raise lzma.LZMAError(
                        f"unpacking takes more than {XZ_MEMORY >> 20} MB: pack it with xz -9 or less"
                    ) from None
                if ended:  # other data after the end is ignored, as lzma.open does
                    return b""
                raise
        return data


class _HashedFile:
    """Counts and hashes the bytes that are read from a file, and waits where there are none yet."""

    def __init__(self, file: IO[bytes], count: Callable[[int], object]) -> None:
        self._file, self._count = file, count
        self.bytes, self.sha256 = 0, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes; empty only at the end of the file."""
        while (data := self._file.read(size)) is None:  # a non-blocking file without data yet
            time.sleep(0.01)
        self.bytes += len(data)
        self.sha256.update(data)
        self._count(len(data))
        return data
