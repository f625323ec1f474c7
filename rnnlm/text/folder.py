"""The prepared folder while it is written: locked, its files put in place together."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO

from ..errors import DataError
from ..storage.atomic import make_folder, release_lock, sync_folder, take_lock
from ..storage.npy import HEADER, is_header
from ..wording import option
from .corpus import ASIDE, CORPUS_FILE, FILES, LOCK, MARK, is_aside


def check_free(out: Path, force: bool) -> None:
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
def opened(out: Path | None, force: bool = False) -> Iterator[dict[str, IO[bytes]]]:
    """FILES, open for writing: in the folder `out`, which is locked and changed only at the end; None:
    unnamed. Raises DataError where they cannot be written.
    """
    try:
        with (
            nullcontext() if out is None else _locked(out, force),
            _unnamed() if out is None else _replaced_together(out, force) as files,
        ):
            yield files
    except OSError as error:
        why, where = error.strerror or error, out or tempfile.gettempdir()
        raise DataError(
            f"{where}: cannot write there ({why}): free space, or name another folder"
        ) from None


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
            check_free(folder, force)  # another process may have written there since
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
        check_free(folder, force)  # again: reading may have taken hours
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
