"""The file of a sweep: a base config, the keys in which settings differ from it, and seeds.

base: configs/cells.yaml            # a config, or its sections
grid:                               # every combination; or a list of grids, one after another
  model.cell: [rnn, gru, lstm]
  model.hidden_size: [64, 128]
seeds: [0, 1, 2]
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from ..assembly import TABLES, build_model, with_text_beside
from ..config.parse import config_of
from ..config.schema import SECTIONS, Config, TrainConfig, flat
from ..config.tree import NO_LIST, Branch, Items, Leaf, from_yaml, put, read_file
from ..errors import ConfigError
from ..models.base import CountedModel
from ..wording import brief
from .comparison import SEED, differing, words

Node = Leaf | Branch

KEYS = ("base", "grid", "seeds")
MOST = 10_000  # runs of a sweep
LONGEST = 100  # characters of the name of a run


@dataclass(frozen=True)
class Setting:
    """What some runs share that differ by their seed alone."""

    name: str
    differs: Mapping[str, Any]  # dotted keys in which the settings that have them differ
    runs: Mapping[str, Config]  # by the name of the run, one for each seed

    @property
    def first(self) -> Config:
        """The config of the first seed."""
        return next(iter(self.runs.values()))


@dataclass(frozen=True)
class Sweep:
    """A base, and settings in the order of the file."""

    base: Config
    settings: tuple[Setting, ...]

    @property
    def runs(self) -> dict[str, Config]:
        """All runs by their names."""
        return {name: config for s in self.settings for name, config in s.runs.items()}


def read_sweep(path: Path) -> Sweep:
    """Read the file of a sweep.

    The name of a run follows from what the file says of its setting alone, so that it stays when
    others are added. Raises ConfigError, which names the setting, for one that is no config.
    """
    tree = from_yaml(read_file(path), str(path), lists=True)
    if not isinstance(tree, Branch) or isinstance(tree, Items):
        raise ConfigError(f"{path}: a sweep is a mapping of {', '.join(KEYS)}")
    for key, child in tree.children.items():
        if key not in KEYS:
            other = " (one run of a config: rnnlm train)" if key in SECTIONS else ""
            raise ConfigError(
                f"{child.where}: unknown key {brief(key)}: a sweep has {', '.join(KEYS)}{other}"
            )
    base, place = _base(tree.children.get("base", Branch({}, str(path))), path)
    seeds = tree.children.get("seeds")
    if seeds is not None and not isinstance(seeds, Items):
        raise ConfigError(f"{seeds.where}: seeds is a list, as in seeds: [0, 1, 2]")
    every = [{}] if seeds is None else [{SEED: seed} for seed in _values(seeds)]
    numbers = [_config(base, seed, place).train.seed for seed in every]
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"{path}: a seed is there twice")
    found: dict[str, tuple[Mapping[str, Any], dict[str, Config]]] = {}
    for given in _combinations(tree.children.get("grid", Branch({}, str(path)))):
        name = _name(given)
        if name in found:
            raise ConfigError(f"{path}: {name} is in the grid twice")
        found[name] = given, dict(_runs(name, base, given, numbers, place))
        if sum(len(runs) for _, runs in found.values()) > MOST:
            raise ConfigError(f"{path}: more than {MOST:,} runs")
    keys = {key for given, _ in found.values() for key in _leaves(given)}
    about = [_about(next(iter(runs.values())), keys) for _, runs in found.values()]
    names = differing(about)
    return Sweep(
        replace(_config(base, {}, place), given=frozenset()),
        tuple(
            Setting(name, {key: all_keys.get(key) for key in names}, runs)
            for (name, (_, runs)), all_keys in zip(found.items(), about, strict=True)
        ),
    )


def _base(node: Node, sweep: Path) -> tuple[Branch, Path]:
    """The tree of the base config, and the file in which its paths stand."""
    if isinstance(node, Branch):
        _check_no_list(node)
        return node, sweep
    path = Path(node.text)
    if not path.exists() and (sweep.parent / path).exists():
        path = sweep.parent / path
    tree = from_yaml(read_file(path), str(path))
    return tree if isinstance(tree, Branch) else Branch({}, str(path)), path


def _combinations(node: Node) -> Iterator[dict[str, Node]]:
    """What each setting sets: every combination of one grid, then those of the next."""
    for grid in _values(node):
        if not isinstance(grid, Branch):
            raise ConfigError(f"{grid.where}: a grid is a mapping of keys to lists of values")
        for values in product(*map(_values, grid.children.values())):
            for value in values:
                _check_no_list(value)
            yield dict(zip(grid.children, values, strict=True))


def _values(node: Node) -> list[Node]:
    """Those of a list; of anything else it alone."""
    values = list(node.children.values()) if isinstance(node, Items) else [node]
    if not values:
        raise ConfigError(f"{node.where}: an empty list")
    return values


def _check_no_list(node: Node) -> None:
    if isinstance(node, Items):
        raise ConfigError(f"{node.where}: {NO_LIST}")
    for child in node.children.values() if isinstance(node, Branch) else ():
        _check_no_list(child)


def _runs(
    name: str, base: Branch, given: Mapping[str, Node], seeds: list[int], place: Path
) -> Iterator[tuple[str, Config]]:
    """The runs of a setting. A model that counts takes no key of `train`: it has one run."""
    try:
        if SEED in given:
            raise ConfigError(f"{given[SEED].where}: write seeds: [0, 1] beside the grid")
        config = _config(base, given, place)
        if not _counts(config):
            for seed in seeds:
                yield f"{name}-seed={seed}", config.with_values("train", seed=seed)
            return
        if any(key.startswith("train.") for key in given):
            raise ConfigError("a model that counts takes no key of train")
        own = frozenset(key for key in config.given if not key.startswith("train"))
        yield name, replace(config, train=TrainConfig(), given=own)
    except ConfigError as error:
        raise ConfigError(f"setting {name}: {error}") from None


def _config(base: Branch, given: Mapping[str, Node], place: Path) -> Config:
    tree = deepcopy(base)
    for key, node in given.items():
        put(tree, key.split("."), deepcopy(node))
    config = with_text_beside(config_of(tree, str(place), TABLES), place.parent)
    if config.run.dir is not None:
        raise ConfigError("run.dir: a sweep names the folders of its runs: leave the key out")
    return config


def _name(given: Mapping[str, Node]) -> str:
    """A name that a folder can have, of what a setting sets."""
    said = words(_leaves(given)).replace(", ", "-") or "base"
    name = re.sub(r"[^\w.=+-]", "_", said)
    if len(name) > LONGEST or name != said:
        name = f"{name[:LONGEST]}-{sha256(said.encode()).hexdigest()[:8]}"
    return name


def _leaves(given: Mapping[str, Node]) -> dict[str, str]:
    """The dotted keys of what a setting sets, with their texts."""
    return dict(flat({key: _plain(node) for key, node in given.items()}))


def _plain(node: Node) -> Any:
    if isinstance(node, Leaf):
        return node.text
    return {name: _plain(child) for name, child in node.children.items()}


def _about(config: Config, keys: set[str]) -> dict[str, Any]:
    """The values of the keys that any setting sets, those a config has."""
    every = dict(flat(config.to_dict()))
    if _counts(config):
        every = {name: value for name, value in every.items() if not name.startswith("train.")}
    return {
        name: value
        for name, value in every.items()
        if not keys.isdisjoint((name, name.removesuffix(".name")))
    }


def _counts(config: Config) -> bool:
    """Whether the model of a config that was just read is one that counts."""
    return isinstance(build_model(config, 2), CountedModel)
