"""The names and options that a configuration can choose from, read from the registered functions."""

from __future__ import annotations

from pathlib import Path

from .cells import CELLS
from .config import Config, load_config
from .optim import OPTIMIZERS
from .registry import choices
from .schedules import SCHEDULES

CHOICES = {
    "cell": choices(CELLS),
    "optimizer": choices(OPTIMIZERS),
    "schedule": choices(SCHEDULES),
}


def make_config(path: str | Path | None = None, *overrides: str) -> Config:
    """A Config from a YAML file (None: all defaults) and `section.key=value` overrides.

    Raises ConfigError.
    """
    return load_config(path, overrides, CHOICES)
