"""A dry run of a long raw text reads its beginning, and says that its sizes are estimates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import TEXT, TINY

from rnnlm import make_config
from rnnlm.text import sources
from rnnlm.training import plan


def sizes(*keys: str) -> tuple[list[float], str]:
    """Characters of each split, windows and parameters that a dry run says, and all that it says."""
    said = "\n".join(plan.preview(make_config(None, *TINY, *keys)))
    size = r"([\d,]+)"
    patterns = (
        rf"{size} train, {size} val, {size} test",
        rf"of {size} window",
        rf"{size} parameters",
    )
    found = (re.search(pattern, said) for pattern in patterns)
    return [float(n.replace(",", "")) for match in found if match for n in match.groups()], said


def test_sizes_are_estimated_from_the_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a few per cent; a short text is read whole, and one whose window is a whole stream."""
    for name in "abc":
        (tmp_path / name).write_text((TEXT * 3).replace("bell", "běll"), "utf-8")
    path = f"data.path={tmp_path}"
    exact, said = sizes(path)
    assert "estimated from the first" not in said
    monkeypatch.setattr(sources, "CHUNK", 1001)
    monkeypatch.setattr(plan, "READ", 40_000)
    about, said = sizes(path)
    assert "estimated from the first" in said
    assert len(about) == 5
    assert about == pytest.approx(exact, rel=0.05)
    assert about != exact
    assert "estimated from the first" not in sizes(path, "train.seq_length=full")[1]
