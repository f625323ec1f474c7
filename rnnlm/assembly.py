"""The tables of all that a configuration can name, and what is built from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from .cells import CELLS
from .config.guesses import meant
from .config.kinds import MODEL, Chosen, Several, Tables, options
from .config.parse import load_config, parse_config, valid_keys
from .config.schema import Config, differences
from .errors import ConfigError
from .models import MODELS
from .models.base import LanguageModel
from .models.initialisation import INITIALISATIONS
from .optim.averages import AVERAGES
from .optim.optimizers import OPTIMIZERS
from .optim.schedules import SCHEDULES
from .optim.truncation import TRUNCATIONS
from .text.format import LEVELS
from .wording import shown

TABLES: Tables = {
    "model": MODELS,
    "cell": CELLS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "level": LEVELS,
    "truncation": TRUNCATIONS,
    "initialisation": INITIALISATIONS,
    "average": AVERAGES,
}


def make_config(
    path: str | Path | None = None, *overrides: str, **sections: Mapping[str, Any]
) -> Config:
    """A Config from a YAML file (None: all defaults), `"section.key=value"` overrides, and values by
    section: `make_config(model={"cell": "gru"}, train={"epochs": 2})`.

    A `data.path` that the file names is looked for in the working folder, then in the file's own; where
    it is only there, the config has that path. Raises ConfigError that names the key, its place and the
    nearest valid key.
    """
    config = load_config(path, overrides, TABLES, sections)
    text = None if path is None else load_config(path, (), TABLES).data.path
    if path is None or text is None or text != config.data.path:
        return config
    return with_text_beside(config, Path(path).parent)


def with_text_beside(config: Config, folder: Path) -> Config:
    """A config whose `data.path` is in a folder, if it is there and not in the working folder."""
    text = config.data.path or ""
    beside = folder / text
    with suppress(OSError):  # a name that is too long is nowhere
        if not Path(text).exists() and beside.exists():
            return config.with_values("data", path=str(beside))
    return config


def key_for(name: str, nearly: bool = True) -> str | None:
    """The key that a usual name stands for (`lr`) or, with `nearly`, that is spelt nearly so."""
    return meant(name, valid_keys(TABLES), nearly)


def read_config(text: str, name: str, overrides: Iterable[str] = ()) -> Config:
    """A Config from the text of a YAML file; errors call it `name`. Raises ConfigError."""
    return parse_config(text, name, overrides, TABLES)


def whole_config(config: Config) -> Config:
    """The config with every option of its choices, however it was made.

    Raises ConfigError unless it can be written and read again, as in a checkpoint.
    """
    if not isinstance(config, Config):
        raise ConfigError(f"config must be made with make_config, not {shown(config)}")
    try:
        text = config.to_yaml()
    except (AttributeError, TypeError, ValueError, OverflowError, yaml.YAMLError):
        raise ConfigError(
            "the config has values of wrong types: make it with make_config"
        ) from None
    whole = read_config(text, "config")
    changed = {key for key, _, _ in differences(make_config(), whole)}
    return replace(whole, given=config.given | changed)


def build_model(config: Config, vocabulary_size: int) -> LanguageModel:
    """The model that a configuration describes, for `vocabulary_size` symbols."""
    model: LanguageModel = _build(MODEL, config.model, vocabulary_size)
    return model


def _build(choice: Chosen, values: Mapping[str, Any], *arguments: Any) -> Any:
    """Make what a choice names, with its options; choices among these are made first, each of several
    with the same arguments.
    """
    make = TABLES[choice.table][values[choice.by]]
    made = {}
    for name, declared in options(make).items():
        if name in values:
            value, kind = values[name], declared.kind
            if isinstance(kind, Several):
                made[name] = {n: _build(kind.of, v, *arguments) for n, v in value.items()}
            else:
                made[name] = _build(kind, value) if isinstance(kind, Chosen) else kind.meant(value)
    return make(*arguments, **made)
