"""From text to a tree of leaves with their places: YAML, `--set` arguments, values from Python.

YAML's guesses of types are not used: a leaf keeps its text, which is read by the kind of its key. So
`2e-3` is a number, and `no` in a path is text.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ..errors import ConfigError
from ..storage.atomic import as_path
from ..wording import brief, shown
from .kinds import Interval

MAX_BYTES = 1 << 16  # of a YAML file; a config is a page of text
MAX_DEPTH = 9  # section, key, option; two more for a mixture of models, and for one in a mixture


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


def check_size(size: int, name: object) -> None:
    """Raise ConfigError for a size that no config has."""
    if size > MAX_BYTES:
        raise ConfigError(
            f"{name}: larger than {MAX_BYTES} bytes: not a config (--set data.path=... names a text)"
        )


def from_yaml(text: str, name: str, depth: int = 0) -> Leaf | Branch:
    """The one value or mapping of a YAML text; errors call it `name`."""
    events = _events(text, name)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            break
    else:
        return Leaf("", False, name)
    tree = _node(next(events), events, name, depth)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            raise ConfigError(f"{_at(name, event.start_mark)}: bad YAML: a second document")
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
    where = f"--set {text}"
    path = dotted.split(".")
    if dotted != dotted.strip():
        raise ConfigError(f"{where}: write section.key=value without spaces around the key")
    if not equals or len(path) < 2:
        raise ConfigError(f"{where}: expected section.key=value")
    leaf: Leaf | Branch = Leaf(value, False, where)
    if value.lstrip().startswith("{") and takes_mapping(path):
        leaf = replace(from_yaml(value, where, len(path)), where=where)
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


def _events(text: str, name: str) -> Iterator[yaml.Event]:
    """The starts and ends of YAML nodes, parsed on demand; no Python objects are built from them."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise ConfigError(f"{name}:{line}:{column}: bad YAML: {error.reason}") from None
    try:
        while loader.check_event():
            event = loader.get_event()  # type: ignore[no-untyped-call]
            if getattr(event, "anchor", None) is not None:
                raise ConfigError(
                    f"{_at(name, event.start_mark)}: anchors and aliases (& and *) are not supported: "
                    "write the value out, or quote it"
                )
            yield event
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        raise ConfigError(
            f"{_at(name, mark)}: bad YAML: {error.problem or error.context}"
        ) from None
    except (ValueError, OverflowError):  # numbers that PyYAML passes to chr and int unchecked
        at = _at(name, loader.get_mark())
        raise ConfigError(f"{at}: bad YAML: a character or version that does not exist") from None


def _at(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


def _node(event: yaml.Event, events: Iterator[yaml.Event], name: str, depth: int) -> Leaf | Branch:
    """The node that starts with `event`; the rest of it is read from `events`."""
    where = _at(name, event.start_mark)
    if isinstance(event, yaml.ScalarEvent):
        return Leaf(event.value, event.style is not None, where)
    if not isinstance(event, yaml.MappingStartEvent):
        raise ConfigError(f"{where}: a list where a value or a mapping belongs")
    if depth == MAX_DEPTH:
        raise ConfigError(f"{where}: nested too deeply")
    children: dict[str, Leaf | Branch] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        at = _at(name, event.start_mark)
        if not isinstance(event, yaml.ScalarEvent):
            raise ConfigError(f"{at}: a key must be a word")
        if event.value in children:
            raise ConfigError(f"{at}: key {brief(event.value)} is given twice")
        child = _node(next(events), events, name, depth + 1)
        # An error about a value points at the line of its key
        children[event.value] = replace(child, where=at)
    return Branch(children, where)
