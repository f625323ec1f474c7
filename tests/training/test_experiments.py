"""Configs in configs/experiments are read, and each says how its text is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from rnnlm import make_config

CONFIGS = sorted((ROOT / "configs" / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_text_of_an_experiment_can_be_made(path: Path) -> None:
    """By a command in the config, or fetched by its name."""
    data = make_config(path).data.path
    assert data is not None
    assert data.startswith("corpus:") or f"--out {data}\n" in path.read_text()
