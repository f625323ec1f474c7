"""The names and options that a configuration can choose from, read from the registered functions."""

from __future__ import annotations

from pathlib import Path

import yaml

from .cells import CELLS
from .config.parse import Config, load_config, parse_config
from .config.registry import choices
from .errors import ConfigError, shown
from .optim.optimizers import OPTIMIZERS
from .optim.schedules import SCHEDULES

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


def check_config(config: Config) -> None:
    """Raise ConfigError unless a config could be written and read again, as a checkpoint does."""
    if not isinstance(config, Config):
        raise ConfigError(f"a config is what make_config gives, not {shown(config)}")
    try:
        text = config.to_yaml()
    except (AttributeError, TypeError, ValueError, OverflowError, yaml.YAMLError):
        raise ConfigError(
            "the config has values of wrong types: make it with make_config"
        ) from None
    parse_config(text, "config", (), CHOICES)
