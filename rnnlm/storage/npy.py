"""Ids in .npy files, which NumPy reads: written, checked when read, memory-mapped where many."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import DataError
from ..watching import report

CHUNK = 1 << 20  # ids worked on at a time
DTYPES = (np.dtype("u1"), np.dtype("<u2"), np.dtype("<u4"))  # of ids on disk
HEADER = 128  # bytes before the ids in a .npy file
IDS_MARK = re.compile(rb"'descr': '([|<]u[124])', .* 'shape': \((\d{1,18}),\)")
IN_MEMORY = 1 << 24  # bytes of ids: up to here they are copied, above they are mapped


def smallest(size: int) -> np.dtype[Any]:
    """The smallest type for ids below `size`."""
    return next(dtype for dtype in DTYPES if size <= 1 << 8 * dtype.itemsize)


def npy_header(dtype: np.dtype[Any], length: int) -> bytes:
    """The first HEADER bytes of a .npy file (format 1.0) of ids (length,), as NumPy writes them."""
    size = HEADER - 10
    text = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({length},), }}"
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + f"{text:{size - 1}}\n".encode()


def is_header(start: bytes) -> bool:
    """Whether these HEADER bytes are what `npy_header` gives, for ids of any type and number."""
    found = IDS_MARK.search(start)
    return found is not None and start == npy_header(np.dtype(found[1].decode()), int(found[2]))


def map_ids(path: Path, length: int, V: int, sha256: str | None) -> Array:
    """The ids (length,) of a .npy file, after a check that each is below V.

    A copy, which no other process can change; memory-mapped where they are too many for that. Raises
    DataError where the file is not as it was written, or its ids have another hash than `sha256` (None:
    any).
    """
    dtype = smallest(V)
    header = npy_header(dtype, length)
    try:
        if not path.is_file():
            raise DataError(f"{path}: missing: prepare again")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # The header is compared, not parsed: it can only be the one that was written
            if file.read(HEADER) != header or size != HEADER + length * dtype.itemsize:
                raise DataError(
                    f"{path}: not the {length:,} ids of type {dtype} expected here: prepare again"
                )
            digest = hashlib.sha256()
            mapped = length * dtype.itemsize > IN_MEMORY
            copies, done = [np.empty(0, dtype)], 0
            # Read, not checked in the mapping: all of its pages would then be in memory
            for ids in read_ids(file, dtype, length):
                if ids.max() >= V:
                    raise DataError(f"{path}: has ids outside the vocabulary: prepare again")
                if sha256 is not None:
                    digest.update(ids.data)
                if not mapped:
                    copies.append(ids)
                done += len(ids)
                report(f"checking {path.name}", done, length)
            if sha256 not in (None, digest.hexdigest()):
                raise DataError(f"{path}: changed since it was prepared: prepare again")
            if not mapped:
                copy = np.concatenate(copies)
                copy.flags.writeable = False
                return copy
            return map_array(file, dtype, length)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot read ({error}): prepare again") from None


def map_array(file: Any, dtype: np.dtype[Any], length: int) -> Array:
    """The ids (length,) of an open .npy file, memory-mapped."""
    if length == 0:
        return np.empty(0, dtype)  # nothing to map
    return np.asarray(np.memmap(file, dtype, "r", HEADER, (length,)))


def read_ids(file: Any, dtype: np.dtype[Any], length: int) -> Iterator[Array]:
    """The next `length` ids of a file, a block at a time. Raises OSError where it is too short."""
    for start in range(0, length, CHUNK):
        ids = np.empty(min(CHUNK, length - start), dtype)
        if file.readinto(ids.data) != ids.nbytes:
            raise OSError("the file became shorter")
        yield ids
