"""From text to a tree of leaves with their places: YAML, `--set` arguments, values from Python.

YAML's guesses of types are not used: a leaf keeps its text, which is read by the kind of its key. So
`2e-3` is a number, and `no` in a path is text.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..storage.atomic import as_path
from ..wording import brief, setting, shown
from .kinds import Interval
from .schema import SECTIONS

MAX_BYTES = 1 << 16  # of a YAML file; a config is a page of text
MAX_DEPTH = 9  # section, key, option; two more for a mixture of models, and for one in a mixture

# What begins with a key, of characters of which libyaml, ten times as fast, makes what PyYAML makes
PLAIN = re.compile(r"\w+:[\w ./:+\n-]*", re.ASCII)
_Quick = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

SWEEP = re.compile(r"^(base|grid|seeds):", re.MULTILINE)
NO_LIST = "a list where a value or a mapping belongs"
At = Callable[[Any], str]  # how an error names a place in YAML, from PyYAML's mark


@dataclass(frozen=True)
class Leaf:
    """A scalar's text, whether it was quoted, and its place."""

    text: str
    quoted: bool
    where: str

    @property
    def is_null(self) -> bool:
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Branch:
    """A mapping, and its place."""

    children: dict[str, Leaf | Branch]
    where: str


class Items(Branch):
    """A list, and its place: its children are named by their numbers."""


def read_file(name: str | Path) -> str:
    """The text of a YAML file. Raises ConfigError."""
    path = as_path(name, ConfigError)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the config: {error.strerror}") from None
    check_size(len(content), path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{path}:{line}:{column}: not UTF-8: {error.reason}") from None


def opens_as_config(path: Path) -> bool:
    """Whether the first line of a file opens a section, comments left aside; not where none is read."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = file.read(MAX_BYTES).splitlines()
    except (OSError, ValueError):
        return False
    said = (line.rstrip() for line in lines if line.strip() and not line.startswith("#"))
    word, colon, rest = next(said, "").partition(":")
    return bool(colon) and word in SECTIONS and (not rest or rest.lstrip()[:1] in ("{", "#"))


def is_sweep(path: Path) -> bool:
    """Whether a YAML file has a key of a sweep, and so is no config."""
    with suppress(ConfigError):
        return bool(SWEEP.search(read_file(path)))
    return False


def check_size(size: int, name: object) -> None:
    """Raise ConfigError for a size that no config has."""
    if size > MAX_BYTES:
        raise ConfigError(
            f"{name}: larger than {MAX_BYTES} bytes: not a config (data.path is the key for a text)"
        )


def from_yaml(text: str, name: str, lists: bool = False) -> Leaf | Branch:
    """The one value or mapping of a YAML text, in which there may be `lists`; errors call it `name`,
    and add the line and column.
    """

    def at(mark: Any) -> str:
        return f"{name}:{mark.line + 1}:{mark.column + 1}"

    if PLAIN.fullmatch(text):
        with suppress(ConfigError):  # PyYAML says what is wrong
            return _from_yaml(text, at, name, 0, lists, _Quick)
    return _from_yaml(text, at, name, 0, lists)


def _from_yaml(
    text: str,
    at: At,
    name: str,
    depth: int,
    lists: bool = False,
    loader: Any = yaml.SafeLoader,
) -> Leaf | Branch:
    events = _events(text, at, loader)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            break
    else:
        return Leaf("", False, name)
    tree = _node(next(events), events, at, depth, lists)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            raise ConfigError(f"{at(event.start_mark)}: bad YAML: a second document")
    return tree


def from_python(value: Any, where: str) -> Leaf | Branch:
    """A value from a script: a mapping, text, a number, true, false or None."""
    if isinstance(value, Mapping):
        return Branch({str(k): from_python(v, f"{where}.{k}") for k, v in value.items()}, where)
    if isinstance(value, (str, Path)):
        leaf = Leaf(str(value), False, where)
        return replace(leaf, quoted=leaf.is_null)
    if value is None or isinstance(value, (bool, numbers.Real, Interval)):
        with suppress(ValueError):  # an integer of thousands of digits
            return Leaf("null" if value is None else str(value), False, where)
    raise ConfigError(f"{where}: must be text, a number, a mapping or None, not {shown(value)}")


def override(tree: Branch, text: str, takes_mapping: Callable[[list[str]], bool]) -> None:
    """Put one `section.key=value` into the tree; `{...}` is a mapping where the key takes one."""
    if not isinstance(text, str):
        raise ConfigError(f"an override is text such as train.epochs=3, not {shown(text)}")
    dotted, equals, value = text.partition("=")
    where = setting(text)
    path = dotted.split(".")
    if dotted != dotted.strip():
        raise ConfigError(f"{where}: write section.key=value without spaces around the key")
    if not equals or len(path) < 2:
        raise ConfigError(f"{where}: expected section.key=value, as one word without spaces")
    leaf: Leaf | Branch = Leaf(value, False, where)
    if value.lstrip().startswith("{") and takes_mapping(path):
        leaf = _from_yaml(value, lambda _: where, where, len(path))
    put(tree, path, leaf)


def put(tree: Branch, path: list[str], leaf: Leaf | Branch) -> None:
    """Put a leaf into the tree, and make the branches on the way to it."""
    branch = tree
    for part in path[:-1]:
        child = branch.children.get(part)
        if not isinstance(child, Branch):
            # `optimizer: adam` followed by --set train.optimizer.learning_rate=... keeps the name
            short = {"name": child} if child is not None and not child.is_null else {}
            child = branch.children[part] = Branch(dict(short), leaf.where)
        branch = child
    branch.children[path[-1]] = leaf


def _events(text: str, at: At, kind: Any) -> Iterator[yaml.Event]:
    """The starts and ends of YAML nodes, parsed on demand; no Python objects are built from them."""
    try:
        loader = kind(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        column = error.position - text.rfind("\n", 0, error.position) - 1
        where = at(yaml.Mark("", error.position, line, column, "", 0))
        raise ConfigError(f"{where}: bad YAML: {error.reason}") from None
    try:
        while loader.check_event():
            event = loader.get_event()
            if getattr(event, "anchor", None) is not None:
                raise ConfigError(
                    f"{at(event.start_mark)}: anchors and aliases (& and *) are not supported: "
                    "write the value out, or quote it"
                )
            yield event
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        raise ConfigError(f"{at(mark)}: bad YAML: {error.problem or error.context}") from None
    except (ValueError, OverflowError):  # numbers that PyYAML passes to chr and int unchecked
        where = at(loader.get_mark())
        raise ConfigError(
            f"{where}: bad YAML: a character or version that does not exist"
        ) from None


def _node(
    event: yaml.Event, events: Iterator[yaml.Event], at: At, depth: int, lists: bool = False
) -> Leaf | Branch:
    """The node that starts with `event`; the rest of it is read from `events`."""
    where = at(event.start_mark)
    if isinstance(event, yaml.ScalarEvent):
        return Leaf(event.value, bool(event.style), where)  # of libyaml '' where it is plain
    if not isinstance(event, yaml.MappingStartEvent) and not lists:
        raise ConfigError(f"{where}: {NO_LIST}")
    if depth == MAX_DEPTH:
        raise ConfigError(f"{where}: nested too deeply")
    children: dict[str, Leaf | Branch] = {}
    if isinstance(event, yaml.SequenceStartEvent):
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            children[str(len(children))] = _node(event, events, at, depth + 1, lists)
        return Items(children, where)
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        place = at(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent):
            raise ConfigError(f"{place}: a key must be a word")
        if event.value in children:
            raise ConfigError(f"{place}: key {brief(event.value)} is given twice")
        child = _node(next(events), events, at, depth + 1, lists)
        key, colon, value = event.value.partition(":")
        if colon and value and not event.style and isinstance(child, Leaf) and child.is_null:
            right = brief(f"{key}: {value}")
            raise ConfigError(f"{place}: no space after the colon: write {right}")
        # An error about a value points at the line of its key
        children[event.value] = replace(child, where=place)
    return Branch(children, where)
