"""Atomic writes, in which the old file stays until the new one is safe on disk; locks."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from ..errors import DataError, RnnlmError
from ..wording import shown

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Follow no link, wait for no pipe, leave newlines as they are: each where the system has it
OWN_FILE = os.O_CREAT | sum(getattr(os, f"O_{n}", 0) for n in ("NOFOLLOW", "NONBLOCK", "BINARY"))
LOCKED_BYTE = 1 << 30  # far beyond the content: Windows lets nobody else read what is locked
# Seconds; Windows does not replace or delete a file that anybody has open, as who samples from it
HELD_OPEN = 5.0 if os.name == "nt" else 0.0
TEMPORARY = re.compile(  # names from `temporary`; then those of version 0.1.0, in run folders
    r"\..+\.[0-9a-f]+\.rnnlm-tmp|\.(config\.yaml|(last|best|step-\d{9,})\.npz)\.\d+\.tmp",
    re.ASCII | re.DOTALL,
)


def as_path(name: object, error: type[RnnlmError]) -> Path:
    """The path that is given as text or a path. Raises `error` for what cannot name a file."""
    try:
        path = Path(name)  # type: ignore[arg-type]
        if name != "" and b"\0" not in os.fsencode(path):
            return path
    except (TypeError, ValueError):
        pass
    raise error(f"the name of a file or folder must be text or a path, not {shown(name)}")


def check_new(path: Path, hint: str = "") -> None:
    """Raise DataError, which ends with the hint, where anything has that name: also a dangling link."""
    if os.path.lexists(path):
        raise DataError(f"{path}: exists already, and is not overwritten{hint}")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block in which a file is written for the user. Raises DataError where that fails."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot write: {error.strerror or error}") from None


def temporary(path: Path) -> Path:
    """A new name beside `path` for the file that replaces it; only rnnlm makes such names."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.rnnlm-tmp")


def is_temporary(path: Path) -> bool:
    """Whether a file has a name that `temporary` makes."""
    return TEMPORARY.fullmatch(path.name) is not None


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """A file to write, which replaces `path` when the block ends without an error.

    The content goes to a temporary file in the same folder, is flushed and synced, and renamed over
    the old one. Then the folder is synced. So a power loss leaves the old or the new file, never a part
    of one. Raises OSError; the temporary file is deleted then.
    """
    new = temporary(path)
    try:
        with new.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        patiently(new.replace, path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


def patiently(action: Callable[..., object], *arguments: object) -> None:
    """Replace or delete a file, and wait for HELD_OPEN where that is refused. Raises OSError."""
    until = time.monotonic() + HELD_OPEN
    while True:
        try:
            action(*arguments)
            return
        except PermissionError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.02)


def keep_as(path: Path, name: Path) -> None:
    """Give a file a second name, which it keeps when another file replaces it at `path`.

    A link, or a copy where the file system has no links. Raises OSError; FileExistsError where `name`
    is taken.
    """
    try:
        os.link(path, name)
    except (FileExistsError, FileNotFoundError):
        raise
    except (OSError, AttributeError):
        if os.path.lexists(name):
            raise FileExistsError(name) from None
        with path.open("rb") as old, atomic_write(name) as new:
            shutil.copyfileobj(old, new)


def remove_temporaries(folder: Path) -> None:
    """Delete what killed processes left in a folder. No other process may be writing there."""
    for path in filter(is_temporary, folder.glob(".*")):
        with suppress(OSError):
            path.unlink()


def make_folder(folder: Path) -> bool:
    """Make a folder and its parents, so that they survive a power loss.

    Returns whether this call made the folder: of several calls at once, one does.
    """
    made = False
    new = [path for path in (folder, *folder.parents) if not path.is_dir()]
    for path in reversed(new):
        try:
            path.mkdir()
        except FileExistsError:  # another process was quicker, or it is a file
            if not path.is_dir():
                raise
            made = False
        else:
            made = True
            sync_folder(path.parent)
    return made


def same_folder(a: Path, b: Path) -> bool:
    """Whether two paths lead to the same existing folder."""
    try:
        return a.samefile(b)
    except (OSError, ValueError):
        return False


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive a power loss. On Windows that is left to the system."""
    if not hasattr(os, "O_DIRECTORY"):  # folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> int:
    """Lock a file, made where it is missing. Returns a descriptor for `release_lock`.

    The system also releases it when the process ends. Raises BlockingIOError where another has it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | OWN_FILE, 0o666)
        try:
            _lock(descriptor)
            if fcntl is None:  # Windows deletes no open file
                return descriptor
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder deleted it: others would lock a new file


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock on a file; not where that cannot be found out."""
    try:
        descriptor = os.open(path, os.O_RDONLY | OWN_FILE & ~os.O_CREAT)
    except OSError:
        return False
    try:
        _lock(descriptor)
    except OSError as error:
        return isinstance(error, BlockingIOError)
    else:
        return False
    finally:
        release_lock(descriptor)


def release_lock(descriptor: int, delete: Path | None = None) -> None:
    """Release a lock. Its file stays, or is deleted: `delete`, where that can be done."""
    if fcntl is None:
        with suppress(OSError):
            _lock_byte(descriptor, "LK_UNLCK")  # closing it would do so too, but perhaps later
    elif delete is not None:  # now, or others could lock what is then deleted
        with suppress(OSError):
            delete.unlink()
    os.close(descriptor)
    if fcntl is None and delete is not None:  # no open file is deleted, so none that others lock
        with suppress(OSError):
            delete.unlink()


def _lock(descriptor: int) -> None:
    """Lock an open file. Raises BlockingIOError where another process has it."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    try:
        _lock_byte(descriptor, "LK_NBLCK")
    except PermissionError as error:
        raise BlockingIOError(error.errno, error.strerror) from None


def _lock_byte(descriptor: int, mode: str) -> None:
    """Lock or unlock LOCKED_BYTE of an open file, as Windows does it."""
    msvcrt: Any = import_module("msvcrt")
    os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, getattr(msvcrt, mode), 1)
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
