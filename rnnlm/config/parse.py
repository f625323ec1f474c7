"""The configuration: one frozen dataclass per section, read from YAML and `--set`, written back.

Every key stands once, here, with its type, default, limits and meaning; errors, `--set`, the resolved
`config.yaml` and the README's reference are made from that. Text becomes values by the key's declared
type, not by YAML's guesses, so `2e-3` is a number and `no` in a path is text. Options of optimizers
and schedules are not known here: `choices` hands them in, read from the registered functions.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn

import yaml

from ..errors import ConfigError, brief, shown
from ..storage.atomic import as_path
from .registry import Choices

MAX_BYTES = 1 << 16  # of a YAML file; a config is a page of text
MAX_DEPTH = 3  # section, key, option

# One way to write a value: int and float also read `1_0`, `٣`, ` 3` and `nan`; `010` is 8 in YAML 1.1
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
INTERVAL = re.compile(r"([^ ]+)(?: +(step|epoch|minute)s?)?")
BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


def key(default: Any, doc: str, type: str, **limits: Any) -> Any:
    """A configuration key: its default, meaning, type and limits (`low`, `above`, `high`, `one_of`)."""
    meta = {"doc": doc, "type": type, **limits}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Interval:
    """How often something happens: `500` (steps), `1 epoch` or, for checkpoints, `10 minutes`."""

    amount: float
    unit: str = "steps"

    def steps(self, steps_per_epoch: int) -> int | None:
        """The interval in steps; None when it is a time."""
        if self.unit == "minutes":
            return None
        each = steps_per_epoch if self.unit == "epochs" else 1
        return max(1, round(self.amount * each))

    def __str__(self) -> str:
        if self.unit == "steps":
            return f"{self.amount}"
        amount = int(self.amount) if self.amount == int(self.amount) else self.amount
        return f"{amount} {self.unit.rstrip('s') if amount == 1 else self.unit}"


@dataclass(frozen=True)
class DataConfig:
    """Where the text comes from and how it is read."""

    path: str | None = key(
        None, "a prepared folder, or a text file or folder of texts", "text or null"
    )
    level: str = key("char", "what a symbol is: `char` or `byte`", "text", one_of=("char", "byte"))
    encoding: str = key("utf-8", "encoding of raw text (not used at byte level)", "text")
    newlines: str = key(
        "normalize",
        "`normalize`: CRLF and CR become LF; `keep`: they stay",
        "text",
        one_of=("normalize", "keep"),
    )
    val_fraction: float = key(
        0.05, "share of the text, at its end, for validation", "number", low=0, high=1
    )
    test_fraction: float = key(
        0.05, "share of the text, after validation, for the test", "number", low=0, high=1
    )


@dataclass(frozen=True)
class ModelConfig:
    """The network."""

    cell: str = key("lstm", "the recurrence: `rnn`, `gru` or `lstm`", "text", registry="cell")
    activation: str | None = key(
        None,
        "of cell rnn: tanh (its default), relu or identity",
        "text or null",
        one_of=("tanh", "relu", "identity"),
    )
    reset_after: bool | None = key(
        None,
        "of cell gru: apply the reset after the product (cuDNN's variant); default false",
        "true, false or null",
    )
    hidden_size: int = key(128, "hidden units of each layer", "integer", low=1, high=1 << 16)
    num_layers: int = key(2, "recurrent layers", "integer", low=1, high=1000)
    embedding_size: int | None = key(
        None,
        "null: one-hot input; a number: a learned embedding",
        "integer or null",
        low=1,
        high=1 << 16,
    )
    dropout: float = key(
        0.0, "rate, between layers and before the output", "number", low=0, below=1
    )


@dataclass(frozen=True)
class TrainConfig:
    """How it is trained."""

    epochs: int = key(10, "passes over the training text", "integer", low=1, high=10**9)
    batch_size: int = key(
        32, "parallel streams the text is cut into", "integer", low=1, high=1 << 20
    )
    seq_length: int | None = key(
        64,
        "window of truncated backpropagation, or `full` for whole streams",
        "integer or full",
        low=1,
    )
    optimizer: dict[str, Any] = key(
        {"name": "adam"}, "`name` and its options", "choice", registry="optimizer"
    )
    schedule: dict[str, Any] = key(
        {"name": "constant"}, "`name` and its options", "choice", registry="schedule"
    )
    grad_clip: dict[str, float] | None = key(
        {"norm": 5.0}, "`norm: x` (global), `value: x` (each), or null", "clip"
    )
    eval_every: Interval = key(
        Interval(1, "epochs"), "validation: a number of steps, or `1 epoch`", "interval"
    )
    checkpoint_every: Interval = key(
        Interval(1, "epochs"),
        "`last.npz`: steps, `1 epoch` or `10 minutes`",
        "interval",
        minutes=True,
    )
    keep: int = key(
        0, "numbered checkpoints to keep beside last and best", "integer", low=0, high=10**6
    )
    log_every: Interval = key(Interval(100), "`train` lines: steps or `1 epoch`", "interval")
    sample_every: Interval | None = key(
        None, "a short sample at the next evaluation; null: none", "interval or null"
    )
    eval_streams: int = key(
        1, "1: the exact figure; more: a faster approximation", "integer", low=1, high=1 << 16
    )
    patience: int | None = key(
        None, "stop after so many evaluations without a better one", "integer or null", low=1
    )
    seed: int = key(0, "of initialisation, data, dropout and samples", "integer", low=0, high=2**63)
    threads: int | None = key(
        None, "null: the cores this process may use", "integer or null", low=1, high=1024
    )


@dataclass(frozen=True)
class RunConfig:
    """Where results go."""

    dir: str | None = key(None, "run folder; null: `runs/<config name>-<time>`", "text or null")


@dataclass(frozen=True)
class Config:
    """All sections. `given` are the dotted keys that were set rather than left to their default."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    run: RunConfig = field(default_factory=RunConfig)
    given: frozenset[str] = field(default=frozenset(), compare=False)

    def with_values(self, section: str, **values: Any) -> Config:
        """A copy with some keys of one section replaced, by values that are taken as they are."""
        valid = _keys()
        for dotted in (f"{section}.{name}" for name in values):
            if dotted not in valid:
                _unknown(dotted, "with_values", valid)
        return replace(self, **{section: replace(getattr(self, section), **values)})

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, as they stand in YAML."""
        return {
            section: {
                f.name: _plain(getattr(getattr(self, section), f.name), f.metadata["type"])
                for f in fields(cls)
            }
            for section, cls in SECTIONS.items()
        }

    def to_yaml(self) -> str:
        """The resolved configuration; reading it back gives an equal Config."""
        return yaml.dump(self.to_dict(), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Escapes what cannot be seen; unescaped, some line ends would be read as others."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    ),
)


SECTIONS: Mapping[str, Any] = MappingProxyType(
    {"data": DataConfig, "model": ModelConfig, "train": TrainConfig, "run": RunConfig}
)


def differences(old: Config, new: Config) -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys in which two configurations differ, with both values."""
    a, b = old.to_dict(), new.to_dict()
    for section, values in a.items():
        for name, value in values.items():
            if value != b[section][name]:
                yield f"{section}.{name}", value, b[section][name]


def _plain(value: Any, type: str) -> Any:
    if isinstance(value, Interval):
        return int(value.amount) if value.unit == "steps" else str(value)
    return "full" if value is None and type == "integer or full" else value


# Reading: YAML nodes and --set arguments become a tree of leaves that know where they stand ...


@dataclass(frozen=True)
class Leaf:
    """A scalar's text, whether it was quoted, and where it stands."""

    text: str
    quoted: bool
    where: str

    @property
    def is_null(self) -> bool:
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Branch:
    """A mapping, and where it stands."""

    children: dict[str, Leaf | Branch]
    where: str


def load_config(
    path: str | Path | None, overrides: Iterable[str], choices: Mapping[str, Choices]
) -> Config:
    """Read a YAML file (None: all defaults) and apply `section.key=value` overrides.

    `choices` has the names and options that `cell`, `optimizer` and `schedule` may take. Raises
    ConfigError naming the key, where it stands and the nearest valid one.
    """
    text = "" if path is None else _read(as_path(path, ConfigError))
    return parse_config(text, "defaults" if path is None else str(path), overrides, choices)


def parse_config(
    text: str, name: str, overrides: Iterable[str], choices: Mapping[str, Choices]
) -> Config:
    """As `load_config`, from YAML text; `name` stands in errors."""
    try:
        return _parse(text, name, overrides, choices)
    except ConfigError as error:  # what a file says must not drive the terminal that shows it
        raise ConfigError(brief(str(error), MAX_BYTES)) from None


def _parse(
    text: str, name: str, overrides: Iterable[str], choices: Mapping[str, Choices]
) -> Config:
    if len(text) > MAX_BYTES:
        raise ConfigError(
            f"{name}: larger than {MAX_BYTES} bytes: not a config (--set data.path=... names a text)"
        )
    tree = _tree(text, name, 0)
    if isinstance(tree, Leaf):
        if not tree.is_null:
            raise ConfigError(
                f"{tree.where}: a config is a mapping with sections {_list(SECTIONS)}"
            )
        tree = Branch({}, name)
    for override in overrides:
        if not isinstance(override, str):
            raise ConfigError(f"an override is text such as train.epochs=3, not {shown(override)}")
        _override(tree, override)
    return _build(tree, choices)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the config: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(
            f"{path}: larger than {MAX_BYTES} bytes: not a config (--set data.path=... names a text)"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{path}:{line}:{column}: not UTF-8: {error.reason}") from None


def _events(text: str, name: str) -> Iterator[yaml.Event]:
    """The beginnings and ends of YAML's nodes, read as they are asked for; nothing is built of them."""
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
                    f"{_at(name, event.start_mark)}: anchors and aliases (& and *) are not read: "
                    "write the value out, or quote it"
                )
            yield event
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        raise ConfigError(
            f"{_at(name, mark)}: bad YAML: {error.problem or error.context}"
        ) from None
    except (ValueError, OverflowError):  # numbers that PyYAML hands to chr and int unchecked
        at = _at(name, loader.get_mark())
        raise ConfigError(f"{at}: bad YAML: a character or version that does not exist") from None


def _at(name: str, mark: Any) -> str:
    return f"{name}:{mark.line + 1}:{mark.column + 1}"


def _tree(text: str, name: str, depth: int) -> Leaf | Branch:
    """The one value or mapping of a YAML text."""
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


def _node(event: yaml.Event, events: Iterator[yaml.Event], name: str, depth: int) -> Leaf | Branch:
    """The node that begins with `event`; the rest of it is taken from `events`."""
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
            raise ConfigError(f"{at}: key {brief(event.value)} stands twice")
        child = _node(next(events), events, name, depth + 1)
        # An error about a value points at the line of its key
        children[event.value] = replace(child, where=at)
    return Branch(children, where)


def _override(tree: Branch, text: str) -> None:
    """Put one `section.key=value` into the tree."""
    dotted, equals, value = text.partition("=")
    where = f"--set {text}"
    path = dotted.split(".")
    if dotted != dotted.strip():
        raise ConfigError(f"{where}: write section.key=value without spaces around the key")
    if not equals or len(path) < 2:
        raise ConfigError(f"{where}: expected section.key=value")
    leaf: Leaf | Branch = Leaf(value, False, where)
    if value.lstrip().startswith("{") and _takes_mapping(*path):
        leaf = replace(_tree(value, where, len(path)), where=where)
    branch = tree
    for part in path[:-1]:
        child = branch.children.get(part)
        if not isinstance(child, Branch):
            # `optimizer: adam` followed by --set train.optimizer.learning_rate=... keeps the name
            short = {"name": child} if child is not None and not child.is_null else {}
            child = branch.children[part] = Branch(dict(short), where)
        branch = child
    branch.children[path[-1]] = leaf


def _takes_mapping(section: str, name: str = "", *_: str) -> bool:
    """Whether a key may be given as `{...}`; of other keys that is text, such as a file's name."""
    keys = fields(SECTIONS[section]) if section in SECTIONS else ()
    return any(f.name == name and f.metadata["type"] in ("choice", "clip") for f in keys)


# ... and the tree becomes values, by the types the keys declare.


def _build(tree: Branch, choices: Mapping[str, Choices]) -> Config:
    valid = _valid_keys(choices)
    given: set[str] = set()
    sections: dict[str, Any] = {}
    for section, child in tree.children.items():
        if section not in SECTIONS:
            _unknown(section, child.where, [*SECTIONS, *valid])
        if isinstance(child, Leaf):
            if not child.is_null:
                raise ConfigError(f"{child.where}: section {section} must be a mapping of keys")
            child = Branch({}, child.where)
        known = {f.name: f for f in fields(SECTIONS[section])}
        values: dict[str, Any] = {}
        for name, value in child.children.items():
            dotted = f"{section}.{name}"
            if name not in known:
                _unknown(dotted, value.where, valid)
            values[name] = _value(dotted, value, known[name].metadata, choices, valid)
            given.add(dotted)
        sections[section] = SECTIONS[section](**values)
    config = Config(**sections, given=frozenset(given))
    return _resolve(config, choices)


def _resolve(config: Config, choices: Mapping[str, Choices]) -> Config:
    """Fill in the options of the chosen cell, optimizer and schedule, with their defaults."""
    for section, cls in SECTIONS.items():
        for f in fields(cls):
            if f.metadata["type"] == "choice":
                chosen = getattr(getattr(config, section), f.name)
                options = choices[f.metadata["registry"]][chosen["name"]]
                defaults = {name: option.default for name, option in options.items()}
                full = {"name": chosen["name"]} | defaults | chosen
                config = config.with_values(section, **{f.name: full})
    options = choices["cell"][config.model.cell]
    for name in ("activation", "reset_after"):
        value = getattr(config.model, name)
        if name in options:
            if value is None:
                config = config.with_values("model", **{name: options[name].default})
        elif value is not None:
            owners = _list(cell for cell, taken in choices["cell"].items() if name in taken)
            raise ConfigError(
                f"model.{name} is an option of cell {owners}, not of {config.model.cell}; leave it out"
            )
    if config.data.val_fraction + config.data.test_fraction >= 1:
        raise ConfigError("data.val_fraction + data.test_fraction leave no text for training")
    return config


def _keys() -> list[str]:
    """Every dotted key of the sections."""
    return [f"{section}.{f.name}" for section, cls in SECTIONS.items() for f in fields(cls)]


def _valid_keys(choices: Mapping[str, Choices]) -> list[str]:
    """Every dotted key there is, options included."""
    keys = []
    for section, cls in SECTIONS.items():
        for f in fields(cls):
            dotted = f"{section}.{f.name}"
            keys.append(dotted)
            if f.metadata["type"] == "choice":
                names = {o for options in choices[f.metadata["registry"]].values() for o in options}
                keys += [f"{dotted}.{option}" for option in ("name", *sorted(names))]
            elif f.metadata["type"] == "clip":
                keys += [f"{dotted}.norm", f"{dotted}.value"]
    return keys


def _unknown(dotted: str, where: str, valid: Iterable[str]) -> NoReturn:
    """Raise, naming the nearest valid key: by its whole name, else by its last part."""
    valid = list(valid)
    if dotted in valid:  # a name with dots in it, where one mapping stands in another
        *outer, name = dotted.split(".")
        nested = "".join(f"{part}: {{" for part in outer) + f"{name}: ...{'}' * len(outer)}"
        raise ConfigError(f"{where}: {dotted} is written {nested}")
    near = difflib.get_close_matches(dotted, valid, 1, 0.6)
    if not near:
        last = {v.rsplit(".", 1)[-1]: v for v in reversed(valid)}
        near = [last[m] for m in difflib.get_close_matches(dotted.rsplit(".", 1)[-1], last, 1, 0.6)]
    hint = f"; did you mean {near[0]}?" if near else f"; sections are {_list(SECTIONS)}"
    raise ConfigError(f"{where}: unknown key {brief(dotted)}{hint}")


def _value(
    dotted: str,
    node: Leaf | Branch,
    meta: Mapping[str, Any],
    choices: Mapping[str, Choices],
    valid: list[str],
) -> Any:
    kind = meta["type"]
    if kind == "choice":
        return _choice(dotted, node, choices[meta["registry"]], valid)
    if kind == "clip":
        return _clip(dotted, node, valid)
    if isinstance(node, Branch):
        raise ConfigError(f"{node.where}: {dotted} must be {_article(kind)}, not a mapping")
    if "registry" in meta:
        meta = {**meta, "one_of": tuple(choices[meta["registry"]])}
    return _scalar(dotted, node, meta)


def _choice(dotted: str, node: Leaf | Branch, named: Choices, valid: list[str]) -> dict[str, Any]:
    """`{name: ..., option: ...}`, or the name alone."""
    children = {"name": node} if isinstance(node, Leaf) else node.children
    if "name" not in children:
        # options without a name are those of the default
        children = {"name": Leaf(_default_name(dotted), False, node.where), **children}
    chosen = children["name"]
    if isinstance(chosen, Branch):
        raise ConfigError(f"{chosen.where}: {dotted}.name must be a word")
    name: str = _scalar(f"{dotted}.name", chosen, {"type": "text", "one_of": tuple(named)})
    result: dict[str, Any] = {"name": name}
    for option, child in children.items():
        if option == "name":
            continue
        full = f"{dotted}.{option}"
        if option not in named[name]:
            own = [f"{dotted}.{o}" for o in named[name]]
            if full in valid or not own:
                takes = _list(named[name]) or "no options"
                raise ConfigError(
                    f"{child.where}: {brief(full)} is not an option of {name}; it takes {takes}"
                )
            _unknown(full, child.where, own)
        if isinstance(child, Branch):
            raise ConfigError(f"{child.where}: {full} must be a single value")
        declared = named[name][option]
        types = {bool: "true or false", int: "integer", float: "number"}
        result[option] = _scalar(full, child, {"type": types[declared.type], **declared.limits})
    return result


def _default_name(dotted: str) -> str:
    """The name that a choice has by default."""
    section, name = dotted.split(".")
    default: str = getattr(SECTIONS[section](), name)["name"]
    return default


def _clip(dotted: str, node: Leaf | Branch, valid: list[str]) -> dict[str, float] | None:
    if isinstance(node, Leaf):
        if node.is_null:
            return None
        raise ConfigError(f"{node.where}: {dotted} must be `norm: x`, `value: x` or null")
    for name, child in node.children.items():
        if name not in ("norm", "value"):
            _unknown(f"{dotted}.{name}", child.where, [f"{dotted}.norm", f"{dotted}.value"])
    if len(node.children) != 1:
        raise ConfigError(f"{node.where}: {dotted} takes one of norm and value")
    ((name, child),) = node.children.items()
    if isinstance(child, Branch):
        raise ConfigError(f"{child.where}: {dotted}.{name} must be a number")
    limits = {"type": "number or null", "above": 0, "high": 1e30}
    value = _scalar(f"{dotted}.{name}", child, limits)
    return None if value is None else {name: value}


def _scalar(dotted: str, leaf: Leaf, meta: Mapping[str, Any]) -> Any:
    """A leaf's text as the declared type, within the declared limits; exactly, nothing is stripped."""
    kind: str = meta["type"]
    if leaf.is_null and kind.endswith("or null"):
        return None
    text = leaf.text
    base = kind.split()[0].rstrip(",")
    if leaf.quoted and base != "text" and base != "interval":
        raise ConfigError(f"{leaf.where}: {dotted} must be {_article(kind)}, not quoted text")
    value: Any = text
    try:
        if kind == "integer or full" and text == "full":
            return None
        if base == "integer":
            value = int(_matched(INTEGER, text)[0])
        elif base == "number":
            value = float(_matched(NUMBER, text)[0])
            if not math.isfinite(value):
                raise ValueError
        elif base == "true":
            value = BOOLEANS[text]
        elif base == "interval":
            return _interval(text, bool(meta.get("minutes")))
        elif not text or b"\0" in text.encode("utf-8", "surrogateescape"):  # no name of a file
            raise ValueError
    except (ValueError, KeyError):
        raise ConfigError(
            f"{leaf.where}: {dotted} must be {_article(kind)}, not {shown(text)}"
        ) from None
    _check_limits(dotted, value, leaf, meta)
    return value


def _check_limits(dotted: str, value: Any, leaf: Leaf, meta: Mapping[str, Any]) -> None:
    names = meta.get("one_of")
    if names and value not in names:
        near = difflib.get_close_matches(str(value), names, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ConfigError(
            f"{leaf.where}: {dotted} must be one of {_list(names)}, not {shown(leaf.text)}{hint}"
        )
    for limit, wrong, words in (
        ("low", lambda bound: value < bound, "at least"),
        ("above", lambda bound: value <= bound, "above"),
        ("high", lambda bound: value > bound, "at most"),
        ("below", lambda bound: value >= bound, "below"),
    ):
        if limit in meta and wrong(meta[limit]):  # type: ignore[no-untyped-call]
            raise ConfigError(
                f"{leaf.where}: {dotted} must be {words} {meta[limit]}, not {shown(leaf.text)}"
            )


def _interval(text: str, minutes: bool) -> Interval:
    """`500`, `1 epoch`, `0.5 epochs`, `10 minutes`; raises ValueError."""
    amount, unit = _matched(INTERVAL, text).groups()
    units = {None: "steps", "step": "steps", "epoch": "epochs"} | (
        {"minute": "minutes"} if minutes else {}
    )
    if unit not in units:
        raise ValueError
    word = INTEGER if units[unit] == "steps" else NUMBER
    number = (int if word is INTEGER else float)(_matched(word, amount)[0])
    if not 0 < number < 1e12:
        raise ValueError
    return Interval(number, units[unit])


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    """The match of all of a text; raises ValueError."""
    match = pattern.fullmatch(text)
    if match is None:
        raise ValueError
    return match


def _article(kind: str) -> str:
    words = {
        "text": "text",
        "interval": "an interval such as 500, `1 epoch` or, for checkpoints, `10 minutes`",
        "true": kind,
    }
    base = kind.split()[0].rstrip(",")
    tail = " or null" if kind.endswith("or null") and base != "true" else ""
    tail = " or full" if kind.endswith("or full") else tail
    return words.get(base, f"an {base}" if base[0] in "aeiou" else f"a {base}") + tail


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
