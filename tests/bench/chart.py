"""The chart of the `growth` subject; needs the `plot` extra."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

EXTRA = "--plot needs matplotlib: pip install '.[plot]'"


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib  # noqa: F401  # looked for before minutes of measuring
    except ImportError:
        return False
    return True


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each axis: characters per second, both scales logarithmic."""
    from matplotlib.figure import Figure

    axes = {name: list(group) for name, group in groupby(rows, key=lambda row: row["axis"])}
    figure = Figure(figsize=(3.2 * len(axes), 3.2), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for panel, (name, points) in zip(panels, axes.items(), strict=True):
        values = [p["value"] for p in points]
        panel.loglog(values, [p["chars/s"] for p in points], marker="o")
        panel.set_xticks(values, [str(value) for value in values], rotation=60)
        panel.set_xticks([], minor=True)
        panel.set_xlabel(name)
        panel.grid(True, which="both", alpha=0.3)
    panels[0].set_ylabel("characters per second")
    figure.savefig(path, dpi=150)
