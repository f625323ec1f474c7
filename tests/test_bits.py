"""The same config and seed give the same bits as in version 0.1.0."""

from __future__ import annotations

import json
from pathlib import Path

import bits
import pytest


@pytest.fixture(scope="module")
def recorded() -> dict[str, object]:
    """What was recorded, where it can be compared."""
    record = json.loads(bits.RECORDED.read_text())
    if record["signature"] != bits.signature():
        pytest.skip(f"recorded with {record['signature']}, this is {bits.signature()}")
    found: dict[str, object] = record["bits"]
    return found


def test_bits_are_those_of_version_0_1_0(recorded: dict[str, object], tmp_path: Path) -> None:
    """Parameters, optimizer state, metrics, evaluation, samples, and runs that 0.1.0 began."""
    assert bits.compute(tmp_path) == recorded
