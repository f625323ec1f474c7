"""The log of a run as columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rnnlm.errors import CheckpointError
from rnnlm.runs.checkpoint import Checkpoint, glance
from rnnlm.runs.history import history

RECORDS = [
    {"event": "train", "step": 2, "loss": 3.5, "learning_rate": 0.1},
    {"event": "eval", "step": 2, "loss": None, "split": "val", "best": False},
    {"event": "end", "step": 4, "loss": 2, "reason": "finished"},
]


def test_a_log_becomes_columns_of_one_length(tmp_path: Path) -> None:
    """Steps are integers; a number that is missing or null is NaN, a word that is missing None."""
    lines = [json.dumps(record) + "\n" for record in RECORDS]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"torn', "utf-8")
    columns = history(tmp_path)
    assert {len(column) for column in columns.values()} == {3}
    assert columns["step"].dtype == np.int64 and columns["step"].tolist() == [2, 2, 4]
    np.testing.assert_array_equal(columns["loss"], [3.5, np.nan, 2])
    np.testing.assert_array_equal(columns["learning_rate"], [0.1, np.nan, np.nan])
    assert columns["split"].tolist() == [None, "val", None]
    assert columns["best"].tolist() == [None, False, None]
    assert (columns["event"] == "train").tolist() == [True, False, False]


def test_a_log_that_is_empty_or_missing(tmp_path: Path) -> None:
    """No columns, or one line that names the file."""
    (tmp_path / "metrics.jsonl").touch()
    assert history(tmp_path) == {}
    with pytest.raises(CheckpointError, match=r"gone: cannot read"):
        history(tmp_path / "gone")


FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.mark.parametrize("name", ["run-0.1.0-gru", "run-0.1.0-rnn"])
def test_a_glance_sees_what_loading_sees(name: str) -> None:
    """Of the parts that it reads."""
    path = next((FIXTURES / name).rglob("last.npz"))
    whole, seen = Checkpoint.load(path), glance(path)
    assert (seen.config, seen.progress, seen.data) == (whole.config, whole.progress, whole.data)
    assert seen.model.describe() == whole.model.describe()
    assert seen.noun == whole.format.noun
    np.testing.assert_array_equal(seen.counts, whole.counts)
