"""A public text by its name: fetched once over HTTP, verified, and kept in the user's cache folder.

A transfer that breaks off leaves what came in `NAME.txt.part`, and the next one goes on from there.
Only a file with the size and the SHA-256 of the table gets the name `NAME.txt`.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError

from ..errors import DataError
from ..storage.atomic import (
    atomic_write,
    check_new,
    make_folder,
    patiently,
    release_lock,
    sync_folder,
    take_lock,
    writing,
)
from ..wording import brief, shown
from .table import TEXTS, PublicText

PREFIX = "corpus:"  # of a data.path that names a public text
TIMEOUT = 30.0  # seconds without an answer, or without a byte
TRIES = 5  # transfers of one fetch, each from where the one before broke off
WAIT = 0.1  # seconds between looks at what another process fetches
CHUNK = 1 << 16
NETWORK = (OSError, HTTPException, ValueError)  # what urllib raises, for bad answers too
RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)", re.ASCII)  # of the answer to a request for a part


def named(name: str) -> PublicText:
    """The entry of a name. Raises DataError for a name that is not in the table."""
    if name not in TEXTS:
        near = difflib.get_close_matches(name, TEXTS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise DataError(
            f"{shown(name)} is not a public text that rnnlm knows: {hint}`rnnlm corpus list` has them"
        )
    return TEXTS[name]


def name_in(path: str) -> str | None:
    """The name in a path `corpus:NAME`; None for any other path."""
    return path.removeprefix(PREFIX) if path.startswith(PREFIX) else None


def local(path: str) -> str:
    """A path as it is; for `corpus:NAME` the file in the cache, which is fetched where it is missing.

    Raises DataError as `fetch` does.
    """
    name = name_in(path)
    if name is None:
        return path
    for _ in fetch(name):
        pass
    return str(place(name))


def place(name: str) -> Path:
    """Where the text of a name is kept: in $XDG_CACHE_HOME/rnnlm, by default ~/.cache/rnnlm."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        cache = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        raise DataError("there is no home folder for a cache: set XDG_CACHE_HOME") from None
    return cache / "rnnlm" / f"{name}.txt"


def is_cached(name: str) -> bool:
    """Whether the cache has the text of a name, whole and as the table says."""
    text, file = named(name), place(name)
    try:
        return file.stat().st_size == text.bytes and _sha256(file) == text.sha256
    except OSError:
        return False


def fetch(name: str) -> Iterator[int]:
    """Bring a text into the cache; yields the number of bytes that are there, as it grows.

    Nothing is yielded where the cache has it. Where another process fetches it, this one waits, and
    yields the other's numbers. Raises DataError where the name is unknown, the text cannot be fetched,
    is not as the table says (then it is deleted), or cannot be kept.
    """
    text, file = named(name), place(name)
    if is_cached(name):
        return
    part, turn = (file.with_name(f"{file.name}.{kind}") for kind in ("part", "lock"))
    try:
        make_folder(file.parent)
        while (lock := _lock(turn)) is None:
            yield _size(part)
            time.sleep(WAIT)
        try:
            if not is_cached(name):
                yield from _transfer(name, text, part)
                patiently(part.replace, file)
                sync_folder(file.parent)
        finally:
            release_lock(lock, delete=turn)
    except OSError as error:
        raise DataError(
            f"{file}: cannot be kept there ({error.strerror or error}): free space, or set "
            "XDG_CACHE_HOME to another folder"
        ) from None


def copy(name: str, out: Path) -> None:
    """Copy a text from the cache. Raises DataError where `out` is there already, or not writable."""
    check_new(out)
    with writing(out), place(name).open("rb") as source, atomic_write(out) as file:
        shutil.copyfileobj(source, file)


def _transfer(name: str, text: PublicText, part: Path) -> Iterator[int]:
    """Fetch what is missing in `part`, and verify it."""
    part.touch()
    with part.open("r+b") as file:
        if file.seek(0, os.SEEK_END) > text.bytes:
            _empty(file)
        yield file.tell()
        why = ""
        for _ in range(TRIES):
            if file.tell() == text.bytes:
                break
            try:
                with _request(name, text, file.tell()) as response:
                    _continue(name, text, response, file)
                    for block in _blocks(response):
                        file.write(block[: text.bytes + 1 - file.tell()])
                        yield file.tell()
                        if file.tell() > text.bytes:
                            break
            except _BrokenOffError as error:
                why = f" ({error})"
        file.flush()
        os.fsync(file.fileno())
        have = file.tell()
    if have < text.bytes:
        raise DataError(
            f"{name}: {text.address} broke off after {have:,} of {text.bytes:,} bytes{why}: do it "
            "again, to go on from there"
        )
    if have > text.bytes or _sha256(part) != text.sha256:
        part.unlink()
        what = f"more than {text.bytes:,} bytes" if have > text.bytes else "another SHA-256"
        raise _other_file(name, text, what)


class _BrokenOffError(Exception):
    """A transfer that ended before its time."""


def _request(name: str, text: PublicText, start: int) -> HTTPResponse:
    """The answer to a request for a text from byte `start` on, or, from some servers, for all of it."""
    headers = {"User-Agent": "rnnlm", **({"Range": f"bytes={start}-"} if start else {})}
    try:
        response: HTTPResponse = _opener().open(
            urllib.request.Request(text.address, headers=headers), timeout=TIMEOUT
        )
        return response
    except HTTPError as error:
        with error:
            if error.code == 416 and start:  # it has fewer bytes than are here
                return _request(name, text, 0)
            why = f"{error.code} {error.reason}"
    except URLError as error:
        why = str(getattr(error.reason, "strerror", None) or error.reason)
    except NETWORK as error:
        why = str(error) or type(error).__name__
    raise DataError(
        f"{name}: cannot be fetched from {text.address} ({brief(why)}): get the file in another way, "
        "and name it: --set data.path=FILE"
    )


def _opener() -> urllib.request.OpenerDirector:
    """Opens addresses of HTTP and HTTPS and no others, through the system's proxies."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),  # without it, other schemes would give None
    ):
        opener.add_handler(handler)
    return opener


def _continue(name: str, text: PublicText, response: HTTPResponse, file: IO[bytes]) -> None:
    """Make the file ready for the body of an answer: a part that follows what is there, or the whole.

    Raises DataError, and empties the file, where the answer is of a file of another size.
    """
    start, total = 0, response.length
    if response.status == 206:
        match = RANGE.fullmatch(response.headers.get("Content-Range", ""))
        start, total = (int(match[1]), int(match[2])) if match else (-1, None)
    if start != file.tell():
        _empty(file)
    if start != file.tell():
        raise _other_file(name, text, "another part than was asked for")
    if total is not None and total != text.bytes:
        _empty(file)
        raise _other_file(name, text, f"{total:,} bytes, not {text.bytes:,}")


def _blocks(response: HTTPResponse) -> Iterator[bytes]:
    """The body of an answer as it comes."""
    try:
        while block := response.read1(CHUNK):
            yield block
    except NETWORK as error:
        raise _BrokenOffError(brief(str(error) or type(error).__name__)) from None


def _empty(file: IO[bytes]) -> None:
    file.seek(0)
    file.truncate()


def _other_file(name: str, text: PublicText, what: str) -> DataError:
    return DataError(
        f"{name}: {text.address} sends another file ({what}), which is not kept: do it again, or get "
        "the file in another way, and name it: --set data.path=FILE"
    )


def _lock(path: Path) -> int | None:
    """The lock of a text; None where another process has it."""
    try:
        return take_lock(path)
    except BlockingIOError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
