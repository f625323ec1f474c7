"""The same config and seed give the same bits as in version 0.1.0."""

from __future__ import annotations

import json

import bits
import pytest


def test_bits_are_those_of_version_0_1_0() -> None:
    """Parameters, optimizer state, metrics, evaluation, samples, and runs that 0.1.0 began."""
    recorded = json.loads(bits.RECORDED.read_text())
    if recorded["signature"] != bits.signature():
        pytest.skip(f"recorded with {recorded['signature']}, this is {bits.signature()}")
    assert json.loads(bits.computed()) == recorded
