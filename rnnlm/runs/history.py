"""The log of a run as columns, one of numbers or words for each name in its records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from .folder import read_metrics


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
