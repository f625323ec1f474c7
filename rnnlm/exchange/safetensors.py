"""Arrays in the safetensors format of Hugging Face (https://github.com/huggingface/safetensors).

    8 bytes     length of the header, little-endian
    header      JSON: name -> dtype, shape and place in the data; and texts under `__metadata__`
    data        the arrays in C order, little-endian, one after another with nothing between

They are read and written without the package of that name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import DataError
from ..runs.checkpoint import Checkpoint
from .contract import Files, Format
from .metadata import metadata

DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "U32": "<u4",
    "U8": "|u1",
}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}
MAX_HEADER = 1 << 26  # bytes


def write(checkpoint: Checkpoint) -> Files:
    """A file with the parameters under their names, and what `metadata` gives."""
    return {".safetensors": pieces(checkpoint.params, metadata(checkpoint))}


def pieces(arrays: Mapping[str, Array], texts: Mapping[str, str]) -> Iterator[bytes]:
    """A file with these arrays and texts."""
    header: dict[str, Any] = {"__metadata__": dict(texts)}
    start = 0
    for name, array in arrays.items():
        place = [start, start + array.nbytes]
        header[name] = {
            "dtype": NAMES[array.dtype.newbyteorder("<")],
            "shape": list(array.shape),
            "data_offsets": place,
        }
        start = place[1]
    data = json.dumps(header).encode()
    data += b" " * (-len(data) % 8)
    yield len(data).to_bytes(8, "little") + data
    for array in arrays.values():
        yield array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def read(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays and texts of a file, which is not trusted. Raises DataError."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(MAX_HEADER, size - 8):
                raise ValueError("its header is not as long as it says")
            header = json.loads(file.read(length))
            data = file.read()
        texts = header.pop("__metadata__", {})
        if not all(isinstance(text, str) for text in texts.values()):
            raise ValueError("its metadata are not texts")
        return {name: _array(data, **entry) for name, entry in header.items()}, texts
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror or error}") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        why = str(error)[:80].encode("unicode_escape").decode()
        raise DataError(f"{path}: not a safetensors file, or damaged: {why}") from None


def _array(data: bytes, dtype: str, shape: list[int], data_offsets: list[int]) -> Array:
    if dtype not in DTYPES:
        raise ValueError(f"arrays of type {dtype}: save it as float32")
    start, stop = data_offsets
    kind = np.dtype(DTYPES[dtype])
    if not 0 <= start <= stop <= len(data) or math.prod(shape) * kind.itemsize != stop - start:
        raise ValueError("an array is not where it says, or not as long as its shape")
    return np.frombuffer(data[start:stop], kind).reshape(shape)


FORMAT = Format(write)
