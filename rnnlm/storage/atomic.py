"""Atomic writes, in which the old file stays until the new one is safe on disk; locks."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ..errors import RnnlmError
from ..wording import shown

OWN_FILE = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK  # follow no link, wait for no pipe
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
        new.replace(path)
    except BaseException:
        with suppress(OSError):
            new.unlink()
        raise
    sync_folder(path.parent)


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
    """Make renames in a folder survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def take_lock(path: Path) -> int:
    """Lock a file, made where it is missing. Returns a descriptor; closing it releases the lock.

    The system also releases it when the process ends. Raises BlockingIOError where another has it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | OWN_FILE, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder deleted it: others would lock a new file
