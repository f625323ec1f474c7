"""The README's script runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from conftest import ROOT, environment


def test_the_example_in_the_readme_runs(tmp_path: Path) -> None:
    """Ten lines or so, in a clone with its data."""
    (script,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    (tmp_path / "data").symlink_to(ROOT / "data")
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["val", "val", "test"]
    assert 1 < float(lines[-1]) < 10
    assert len(script.strip().splitlines()) <= 12
