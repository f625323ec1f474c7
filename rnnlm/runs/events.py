"""Event files, which TensorBoard reads: the records of a run's log in its format.

The file is a TFRecord file: each record has its length (8 bytes), a checksum of that, the data, and a
checksum of them. The data is a message `Event` of protocol buffers (tensorflow/core/util/event.proto,
framework/summary.proto, framework/tensor.proto). The few fields that are needed are written here.
"""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

from ..storage.atomic import OWN_FILE

NAMES = "events.out.tfevents.*.rnnlm"
LOSSES = {"train": "training", "val": "validation", "test": "test"}  # by `split`, or `event`
NUMBERS = ("learning_rate", "grad_norm", "symbols_per_second")
LARGEST = 3.4e38  # what a float of 32 bits can hold
STRING, START = 7, 1  # of the enumerations DataType, and SessionLog.SessionStatus


class EventFile:
    """A run's event file. Each session of a run begins one with all records there are, and deletes the
    one before, so that steps that are trained again stand there once.
    """

    def __init__(self, folder: Path, started: float) -> None:
        """`started` is when the run did, in seconds since 1970."""
        self._folder, self._started = folder, started
        self._file: int | None = None

    def begin(self) -> bool:
        """Make the file, if this session has not; whether it did so now. Raises OSError."""
        if self._file is not None:
            return False
        old = list(self._folder.glob(NAMES))
        number = max([time.time_ns() // 10**6, *(int(p.name.split(".")[3]) + 1 for p in old)])
        path = self._folder / NAMES.replace("*", str(number))
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_EXCL | OWN_FILE, 0o666)
        self._write(self._started, 0, _bytes(3, b"brain.Event:2"))
        # A TensorBoard that is open forgets what it has read of this run
        self._write(self._started, 0, _bytes(7, _integer(1, START)))
        for path in old:
            with suppress(OSError):
                path.unlink()
        return True

    def add(self, record: Mapping[str, Any]) -> None:
        """Write what a record of metrics.jsonl says, if it is for pictures. Raises OSError."""
        values = b"".join(_bytes(1, value) for value in _values(record))
        step, seconds = record.get("step"), record.get("seconds")
        if values and type(step) is int and step >= 0 and _is_number(seconds):
            self._write(self._started + seconds, step, _bytes(5, values))

    def close(self) -> None:
        """Close the file, where there is one."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _write(self, at: float, step: int, what: bytes) -> None:
        assert self._file is not None
        data = b"\x09" + struct.pack("<d", at) + _integer(2, step) + what
        length = struct.pack("<Q", len(data))
        whole = length + _checksum(length) + data + _checksum(data)
        while whole:
            whole = whole[os.write(self._file, whole) :]


def _values(record: Mapping[str, Any]) -> Iterator[bytes]:
    """The messages `Summary.Value` of a record."""
    kind = record.get("event")
    name = LOSSES.get(record.get("split", kind))
    if kind in ("train", "eval") and _is_number(record.get("loss")):
        whole = "_whole" if name == "validation" and "checkpoint_step" in record else ""
        yield _scalar(f"loss/{name}{whole}", record["loss"])
    for name in NUMBERS:
        if _is_number(record.get(name)):
            yield _scalar(name, record[name])
    if kind == "sample" and isinstance(record.get("text"), str):
        # Markdown: an indented line is code, which stands as it is
        text = "\n".join(f"    {line}" for line in record["text"].split("\n"))
        tensor = _integer(1, STRING) + _bytes(2, b"") + _bytes(8, text.encode("utf-8", "replace"))
        plugin = _bytes(1, _bytes(1, b"text"))
        yield _bytes(1, b"sample") + _bytes(8, tensor) + _bytes(9, plugin)


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in (int, float)


def _scalar(tag: str, value: float) -> bytes:
    single = value if abs(value) < LARGEST else math.copysign(math.inf, value)
    return _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", single)


def _bytes(number: int, content: bytes) -> bytes:
    """A field of a message that is text, bytes or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _integer(number: int, value: int) -> bytes:
    """A field of a message that is an integer of at least 0."""
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """An integer in groups of 7 bits, the lowest first; all bytes but the last have their 8th bit."""
    groups = bytearray()
    while value > 127:
        groups.append(value & 127 | 128)
        value >>= 7
    return bytes([*groups, value])


def _crc_table() -> list[int]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


CRC = _crc_table()  # of CRC-32C (Castagnoli), reflected


def crc32c(data: bytes) -> int:
    """The checksum CRC-32C (RFC 3720, appendix B.4)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ CRC[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    """The checksum as TFRecord files have it, masked."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
