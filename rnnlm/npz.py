"""Archives of arrays that numpy.load reads, written and read with suspicion.

An archive is a zip of uncompressed .npy members without gaps in what is known of it: every size is
checked against the file before memory is taken, every member against its checksum, and nothing that
could run code (pickles, object arrays) is read.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np

from .errors import CheckpointError
from .params import Array

MAX_MEMBERS = 100_000
MAX_HEADER = 4096
MAX_DIRECTORY_SHARE = 1 << 24  # bytes of names and headers beside the arrays' own


def write_npz(file: IO[bytes], arrays: Mapping[str, Array]) -> None:
    """Write the arrays as an uncompressed .npz; equal arrays give equal bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an archive, by name. Raises CheckpointError for anything that is not whole."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            _check_directory(path, members, size)
            return {info.filename[:-4]: _read_member(path, archive, info) for info in members}
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
        SyntaxError,
        RuntimeError,
        NotImplementedError,
        KeyError,
        TypeError,
        OverflowError,
        AttributeError,
        IndexError,
        RecursionError,
    ) as error:
        # what zipfile and NumPy's header parser raise for damaged bytes
        raise CheckpointError(f"{path}: not an rnnlm checkpoint, or damaged: {error}") from None


def _check_directory(path: Path, members: list[zipfile.ZipInfo], size: int) -> None:
    names = [info.filename for info in members]
    if len(names) > MAX_MEMBERS or len(set(names)) < len(names):
        raise ValueError("repeated or too many members")
    for info in members:
        if not info.filename.endswith(".npy"):
            raise ValueError(f"member {info.filename!r} is not an array")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"member {info.filename} is compressed, which rnnlm never writes")
        if info.flag_bits & 0x1:
            raise ValueError(f"member {info.filename} is encrypted")
    if sum(info.file_size for info in members) > size:
        raise ValueError("members larger than the file")


def _read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    content = archive.read(info)  # at most file_size bytes; raises where the checksum differs
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"member {info.filename} has .npy version {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=MAX_HEADER)
    if dtype.hasobject or dtype.kind not in "fiuU" or fortran:
        raise ValueError(f"member {info.filename} holds {dtype}, which rnnlm never writes")
    if (
        any(n < 0 for n in shape)
        or math.prod(shape) * dtype.itemsize != len(content) - stream.tell()
    ):
        raise ValueError(f"member {info.filename} is not as long as its shape {shape} says")
    return np.frombuffer(content, dtype, offset=stream.tell()).reshape(shape)
