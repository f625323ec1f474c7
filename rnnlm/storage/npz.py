"""Archives of arrays (.npz), which numpy.load reads: written, and checked when read.

An archive is a zip of uncompressed .npy members. Every size is checked against the file before memory
is allocated, and every member against its checksum. Nothing that could run code (pickles, object
arrays) is read.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import sys
import zipfile
import zlib
from collections.abc import Container, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from ..arrays import Array
from ..errors import CheckpointError

MAX_MEMBERS = 100_000
MAX_DIRECTORY = 1 << 24  # bytes of the names and sizes of all members
HEADER = re.compile(  # of a member, as NumPy writes it
    rb"\x93NUMPY\x01\x00(..)\{'descr': '([<>|][fiuU]\d{1,9})', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,18}, ?)*\d{0,18})\), \} *\n",
    re.DOTALL,
)


def write_npz(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """Write the arrays as an uncompressed .npz; equal arrays give equal bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_npz(path: Path, only: Container[str] | None = None) -> dict[str, Array]:
    """The arrays of an archive by name: all, or `only` those with these names.

    Raises CheckpointError where anything that was read is damaged. The directory at the end of the file
    is always read, so a truncated file is always refused.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block
            raise CheckpointError(f"{path}: not a file")
        with path.open("rb") as file:
            # Of the open file, since another may replace it at its path
            size = os.fstat(file.fileno()).st_size
            _check_end(file, size)
            archive = zipfile.ZipFile(file)
            members = archive.infolist()
            _check_directory(path, members, size)
            named = {info.filename[:-4]: info for info in members}
            return {
                name: _read_member(path, archive, info)
                for name, info in named.items()
                if only is None or name in only
            }
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read: {error.strerror or error}") from None
    except MemoryError:
        raise CheckpointError(f"{path}: does not fit in memory") from None
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        KeyError,
        TypeError,
        OverflowError,
        AttributeError,
        IndexError,
        struct.error,
    ) as error:
        # What zipfile and NumPy raise for damaged bytes; zipfile quotes them at any length
        why = str(error)[:200]
        raise CheckpointError(f"{path}: not an rnnlm checkpoint, or damaged: {why}") from None


def _check_end(file: IO[bytes], size: int) -> None:
    """Check the archive's last records, since zipfile makes objects of whatever they point to."""
    file.seek(max(0, size - 98))
    # A large archive has an end record (56 bytes) with a locator (20); each ends with a record (22)
    tail = file.read().rjust(98, b"\0")
    if tail[76:80] != b"PK\5\6" or tail[96:] != b"\0\0":
        raise ValueError("its end is missing")
    large = tail[56:60] == b"PK\6\7"
    directory = struct.unpack("<Q", tail[40:48]) if large else struct.unpack("<L", tail[88:92])
    if directory[0] > min(size, MAX_DIRECTORY):
        raise ValueError("its directory is too large")


def _check_directory(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    names = [info.filename for info in members]
    if len(names) > MAX_MEMBERS or len(set(names)) < len(names):
        raise ValueError("repeated or too many members")
    for info in members:
        if not info.filename.endswith(".npy"):
            raise ValueError(f"member {info.filename!r} is not an array")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"member {info.filename!r} is compressed, which rnnlm never writes")
        if info.flag_bits & 0x1:
            raise ValueError(f"member {info.filename!r} is encrypted")
    if sum(info.file_size for info in members) > size:
        raise ValueError("members larger than the file")


def _read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    content = archive.read(info)  # at most file_size bytes; raises where the checksum differs
    header = HEADER.match(content)  # matched, so that nothing in it is evaluated
    if header is None or header.end() != 10 + int.from_bytes(header[1], "little"):
        raise ValueError(f"member {info.filename!r} does not start as rnnlm's arrays do")
    dtype = np.dtype(header[2].decode())
    shape = tuple(int(n) for n in header[3].replace(b",", b" ").split())
    if math.prod(shape) * dtype.itemsize != len(content) - header.end():
        raise ValueError(f"member {info.filename!r} is not as long as its shape {shape} says")
    if dtype.kind == "U":  # NumPy makes a str of any numbers; Python fails later, when reading it
        points = np.frombuffer(content, f"{dtype.byteorder}u4", offset=header.end())
        if points.max(initial=0) > sys.maxunicode:
            raise ValueError(f"member {info.filename!r} has characters beyond Unicode")
    return np.frombuffer(content, dtype, offset=header.end()).reshape(shape)
