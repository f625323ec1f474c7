"""A tree becomes a Config: each value is read by the kind that its key declares.

Errors name the key, its place and the nearest valid key. Models, cells, optimizers and schedules are
not known here: they come in tables, and each declares its own options.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ConfigError
from ..wording import brief, setting, shown
from .guesses import meant
from .kinds import (
    MODEL,
    NAME,
    ByEpoch,
    Chosen,
    Clip,
    Kind,
    Named,
    RefusedError,
    Several,
    Tables,
    Text,
    options,
)
from .schema import SECTIONS, Config
from .tree import (
    MAX_BYTES,
    Branch,
    Leaf,
    check_size,
    from_python,
    from_yaml,
    override,
    put,
    read_file,
)

KEY = re.compile(r"[\w.-]+", re.ASCII)
# Keys of version 0.1.0, and where they are today
MOVED = {
    ("model", "activation"): ["model", "cell", "activation"],
    ("model", "reset_after"): ["model", "cell", "reset_after"],
}


def load_config(
    path: str | Path | None,
    overrides: Iterable[str],
    tables: Tables,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Read a YAML file (None: all defaults), apply `section.key=value` overrides, then values by
    section. Raises ConfigError.
    """
    text = "" if path is None else read_file(path)
    return parse_config(
        text, "defaults" if path is None else str(path), overrides, tables, sections
    )


def parse_config(
    text: str,
    name: str,
    overrides: Iterable[str],
    tables: Tables,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """As `load_config`, from YAML text; errors call it `name`."""
    try:
        check_size(len(text), name)
        return _Reading(tables).config(from_yaml(text, name), name, overrides, sections or {})
    except ConfigError as error:  # text from a file must not control the terminal
        raise ConfigError(brief(str(error), MAX_BYTES)) from None


def config_of(tree: Branch, name: str, tables: Tables) -> Config:
    """As `load_config`, from a tree, which belongs to the reading from now on."""
    try:
        return _Reading(tables).config(tree, name, (), {})
    except ConfigError as error:
        raise ConfigError(brief(str(error), MAX_BYTES)) from None


def valid_keys(tables: Tables) -> list[str]:
    """Every dotted key, those of all entries of the tables included."""
    return _Reading(tables).valid


class _Reading:
    """Reads one tree, with the options that the entries of the tables declare."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self.valid = [key for section in SECTIONS for key in self._keys(section, SECTIONS[section])]

    def config(
        self,
        tree: Leaf | Branch,
        name: str,
        overrides: Iterable[str],
        sections: Mapping[str, Mapping[str, Any]],
    ) -> Config:
        """The whole configuration."""
        if isinstance(tree, Leaf):
            if not tree.is_null:
                raise ConfigError(
                    f"{tree.where}: a config is a mapping with sections {', '.join(SECTIONS)}"
                )
            tree = Branch({}, name)
        for text in overrides:
            self._check_section(text)
            override(tree, text, self._takes_mapping)
        for section, values in sections.items():
            if section not in SECTIONS:
                self._unknown(section, "make_config", [*SECTIONS, *self.valid])
            if not isinstance(values, Mapping):
                raise ConfigError(f"{section}: a section is a mapping of keys, not {shown(values)}")
            for key, value in values.items():
                put(tree, [section, str(key)], from_python(value, f"{section}.{key}"))
        _move(tree, self.tables)
        for section, child in tree.children.items():
            if section not in SECTIONS:
                self._unknown(section, child.where, [*SECTIONS, *self.valid])
        read: dict[str, Any] = {}
        for section, owner in SECTIONS.items():
            child = tree.children.get(section, Branch({}, name))
            if isinstance(child, Leaf):
                if not child.is_null:
                    hint = "; a space belongs after each colon" if ":" in child.text else ""
                    raise ConfigError(
                        f"{child.where}: section {section} must be a mapping of keys{hint}"
                    )
                child = Branch({}, child.where)
            if isinstance(owner, Chosen):
                read[section] = self._choice(section, owner, child)
            else:
                read[section] = owner(**self._options(section, owner, child))
        config = Config(**read, given=frozenset(_given(tree)))
        if config.data.val_fraction + config.data.test_fraction >= 1:
            raise ConfigError("data.val_fraction + data.test_fraction leave no text for training")
        return config

    def _options(self, dotted: str, owner: Any, node: Branch) -> dict[str, Any]:
        """The values that a mapping gives to an owner's options, and always those of its choices."""
        known = options(owner)
        for name, child in node.children.items():
            if name not in known:
                self._unknown(f"{dotted}.{name}", child.where, self.valid)
        values = {}
        for name, key in known.items():
            given = node.children.get(name)
            if given is not None:
                values[name] = self._value(f"{dotted}.{name}", key.kind, given)
            elif isinstance(key.kind, Chosen):
                values[name] = self._choice(f"{dotted}.{name}", key.kind, Branch({}, node.where))
        return values

    def _value(self, dotted: str, kind: Kind, node: Leaf | Branch) -> Any:
        if isinstance(kind, Chosen):
            node = Branch({kind.by: node}, node.where) if isinstance(node, Leaf) else node
            return self._choice(dotted, kind, node)
        if isinstance(kind, Clip):
            return self._clip(dotted, kind, node)
        if isinstance(kind, Several):
            return self._several(dotted, kind, node)
        if isinstance(kind, ByEpoch) and isinstance(node, Branch):
            return self._by_epoch(dotted, kind, node)
        if isinstance(kind, Named):
            kind = Text(one_of=tuple(self.tables[kind.table]))
        if isinstance(node, Branch):
            raise ConfigError(f"{node.where}: {dotted} must be {kind.words()}, not a mapping")
        return self._scalar(dotted, kind, node)

    def _choice(self, dotted: str, kind: Chosen, node: Branch) -> dict[str, Any]:
        """The name and all options of what is chosen, as they stand in YAML; those not given have their
        defaults.
        """
        table = self.tables[kind.table]
        chosen = node.children.get(kind.by, Leaf(kind.default, False, node.where))
        if isinstance(chosen, Branch):
            raise ConfigError(f"{chosen.where}: {dotted}.{kind.by} must be a word")
        name: str = self._scalar(f"{dotted}.{kind.by}", Text(one_of=tuple(table)), chosen)
        known = options(table[name])
        for given, child in node.children.items():
            if given != kind.by and given not in known:
                full = f"{dotted}.{given}"
                if full in self.valid or not known:
                    takes = ", ".join(known) or "no options"
                    raise ConfigError(
                        f"{child.where}: {brief(full)} is not an option of {name}; it takes {takes}"
                    )
                self._unknown(full, child.where, [f"{dotted}.{o}" for o in known])
        own = {n: child for n, child in node.children.items() if n != kind.by}
        defaults = {n: key.default for n, key in known.items() if not isinstance(key.kind, Chosen)}
        values = self._options(dotted, table[name], Branch(own, node.where))
        merged = {**defaults, **values}
        return {kind.by: name, **{n: key.kind.plain(merged[n]) for n, key in known.items()}}

    def _clip(self, dotted: str, kind: Clip, node: Leaf | Branch) -> dict[str, float] | None:
        if isinstance(node, Leaf):
            if node.is_null:
                return None
            raise ConfigError(f"{node.where}: {dotted} must be `norm: x`, `value: x` or null")
        for name, child in node.children.items():
            if name not in ("norm", "value"):
                names = [f"{dotted}.norm", f"{dotted}.value"]
                self._unknown(f"{dotted}.{name}", child.where, names)
        if len(node.children) != 1:
            raise ConfigError(f"{node.where}: {dotted} takes one of norm and value")
        ((name, child),) = node.children.items()
        value = self._value(f"{dotted}.{name}", kind.number, child)
        return None if value is None else {name: value}

    def _several(self, dotted: str, kind: Several, node: Leaf | Branch) -> dict[str, Any]:
        """Each choice by its name."""
        names = node.children if isinstance(node, Branch) else None
        if names is None or len(names) > kind.most or not all(map(NAME.fullmatch, names)):
            raise ConfigError(f"{node.where}: {dotted} must be {kind.words()}")
        return {
            name: self._value(f"{dotted}.{name}", kind.of, child) for name, child in names.items()
        }

    def _by_epoch(self, dotted: str, kind: ByEpoch, node: Branch) -> dict[int, int]:
        """The values by their epochs, in order."""
        found = {
            self._scalar(f"an epoch of {dotted}", kind.epoch, Leaf(name, False, child.where)): (
                self._value(f"{dotted}.{name}", kind.each, child)
            )
            for name, child in node.children.items()
        }
        if 0 not in found:
            raise ConfigError(f"{node.where}: {dotted} has no entry for epoch 0, the first")
        if len(found) < len(node.children) or len(found) > kind.most:
            raise ConfigError(
                f"{node.where}: {dotted} takes each epoch once, and {kind.most} at most"
            )
        return dict(sorted(found.items()))

    def _scalar(self, dotted: str, kind: Kind, leaf: Leaf) -> Any:
        if kind.null is not None and (
            leaf.is_null if kind.null == "null" else not leaf.quoted and leaf.text == kind.null
        ):
            return None
        if leaf.quoted and not kind.quotable:
            raise ConfigError(f"{leaf.where}: {dotted} must be {kind.words()}, not quoted text")
        try:
            return kind.read(leaf.text)
        except RefusedError as refused:
            raise ConfigError(
                f"{leaf.where}: {dotted} must be {refused.must_be}, not "
                f"{shown(leaf.text)}{refused.hint}"
            ) from None

    def _keys(self, dotted: str, owner: Any) -> Iterator[str]:
        """Every dotted key below a section, an option or an entry of a table."""
        if isinstance(owner, Chosen):
            yield f"{dotted}.{owner.by}"
            found = [
                key
                for entry in self.tables[owner.table].values()
                for key in self._keys(dotted, entry)
            ]
            yield from dict.fromkeys(found)
        elif isinstance(owner, Clip):
            yield from (f"{dotted}.norm", f"{dotted}.value")
        elif isinstance(owner, Several):  # a model may have models without end
            yield f"{dotted}.1"
        elif isinstance(owner, ByEpoch):
            yield f"{dotted}.0"
        elif not isinstance(owner, Kind):
            for name, key in options(owner).items():
                yield f"{dotted}.{name}"
                yield from self._keys(f"{dotted}.{name}", key.kind)

    def _takes_mapping(self, path: list[str]) -> bool:
        """Whether a key may be given as `{...}`; for other keys that is text, such as a file name."""
        prefix = ".".join(path) + "."
        return any(key.startswith(prefix) for key in self.valid)

    def _check_section(self, text: str) -> None:
        """Raise ConfigError for an override of a key without its section, with the one to write."""
        key, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
        if equals and key.split(".")[0] not in SECTIONS and (near := meant(key, self.valid)):
            right = setting(f"{near}={value}")
            raise ConfigError(f"{setting(text)}: unknown key {_shown_key(key)}: write {right}")

    def _unknown(self, dotted: str, where: str, valid: Iterable[str]) -> NoReturn:
        """Raise ConfigError with the valid key nearest by its whole name, else by its last part."""
        valid = list(valid)
        if dotted in valid:  # a name with dots, where nested mappings are needed
            *outer, name = dotted.split(".")
            nested = "".join(f"{part}: {{" for part in outer) + f"{name}: ...{'}' * len(outer)}"
            raise ConfigError(f"{where}: write {dotted} as {nested}")
        near = meant(dotted, valid)
        hint = f"; did you mean {near}?" if near else f"; sections are {', '.join(SECTIONS)}"
        raise ConfigError(f"{where}: unknown key {_shown_key(dotted)}{hint}")


def _shown_key(dotted: str) -> str:
    """In quotes where it only looks like a valid key."""
    return brief(dotted) if KEY.fullmatch(dotted) else shown(dotted)


def _given(branch: Branch, prefix: str = "") -> Iterator[str]:
    """The dotted keys of a tree."""
    for name, child in branch.children.items():
        yield prefix + name
        if isinstance(child, Branch):
            yield from _given(child, f"{prefix}{name}.")


def _move(tree: Branch, tables: Tables) -> None:
    """Move keys of version 0.1.0 to where they are today, unless the kind of model that is named has
    them itself; drop null ones, which had no effect.
    """
    for (section, name), path in MOVED.items():
        branch = tree.children.get(section)
        if isinstance(branch, Branch) and name in branch.children:
            kind = branch.children.get(MODEL.by)
            make = tables[MODEL.table].get(kind.text) if isinstance(kind, Leaf) else None
            if make is not None and name in options(make):
                continue
            leaf = branch.children.pop(name)
            if not (isinstance(leaf, Leaf) and leaf.is_null):
                put(tree, path, leaf)
