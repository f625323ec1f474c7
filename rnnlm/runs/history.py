"""The log of a run: its records, and these as columns, one for each name in them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import CheckpointError
from ..storage.atomic import as_path

DIVERGED = "diverged"  # the event that a log ends with where training diverged
LONGEST_END = 1 << 16  # bytes of the record with which a log ends, at most


def read_metrics(path: str | Path) -> Iterator[dict[str, Any]]:
    """The records of a `metrics.jsonl`, or of the one in a run folder; an incomplete last line is left
    out.

    Raises CheckpointError where the file cannot be read, and for a line that is not a JSON object.
    """
    path = as_path(path, CheckpointError)
    try:
        path = path / "metrics.jsonl" if path.is_dir() else path
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.endswith(b"\n"):
                    yield _record(line, f"{path}:{number}")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read: {error.strerror or error}") from None


def is_finished(run: Path) -> bool:
    """Whether the log of a run says that it came to its end."""
    return bool(next(last_records(run), {}).get("event") == "end")


def last_records(run: Path) -> Iterator[dict[str, Any]]:
    """The last records in the log of a run, the last one first; none where it cannot be read.

    They are those in its last LONGEST_END bytes, up to a line that is not a record.
    """
    with suppress(OSError, CheckpointError):
        with (run / "metrics.jsonl").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_END))
            lines = file.read().splitlines()
        for line in reversed(lines):
            yield _record(line, str(run))


def history(run: str | Path) -> dict[str, Array]:
    """The columns (n,) of a run's `metrics.jsonl`, by name: a row for each of its n records, in order.

    `run` is a run folder, or the file. `pandas.DataFrame(history(run))` takes them as they are. `step`
    is of integers. Other numbers are float64, with NaN where a record has none, or has one that is
    beyond float range. What is not a number is in a column of objects, with None where a record has
    none. Raises CheckpointError as `read_metrics` does.
    """
    records = list(read_metrics(run))
    names = dict.fromkeys(name for record in records for name in record)
    return {name: _column([record.get(name) for record in records]) for name in names}


def _column(values: list[Any]) -> Array:
    kinds = {type(value) for value in values}
    if kinds <= {int}:
        return np.array(values, np.int64)
    if kinds <= {int, float, type(None)}:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _record(line: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise CheckpointError(
            f"{where}: not a JSON object, as rnnlm writes them: restore the file, or delete the line"
        )
    return record
