"""The configuration: its sections, each key once with its type, default, limits and meaning.

Errors, `--set`, the resolved `config.yaml` and the reference in cli/README.md are made from these
declarations. The options in the section `model` are declared by the chosen model itself; cells,
optimizers and schedules declare theirs too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import yaml

from ..errors import ConfigError
from ..wording import shown
from .kinds import (
    MODEL,
    ByEpoch,
    Chosen,
    Clip,
    Every,
    Flag,
    Integer,
    Interval,
    Named,
    Number,
    Text,
    option,
    options,
)

NAME_OR_MORE = "a `name`, or `name` and its options"


@dataclass(frozen=True)
class DataConfig:
    """Where the text comes from and how it is read."""

    path: str | None = option(
        None,
        "a prepared folder, a text file or folder of texts, or `corpus:NAME`",
        Text(null="null"),
    )
    level: str = option("char", "what a symbol is: `char`, `byte` or `word`", Named(table="level"))
    encoding: str = option("utf-8", "encoding of raw text; at byte level there is none", Text())
    newlines: str = option(
        "normalize",
        "`normalize`: CRLF and CR become LF; `keep`: they stay",
        Text(one_of=("normalize", "keep")),
    )
    val_fraction: float = option(
        0.05, "share of the text, at its end, for validation", Number(low=0, high=1)
    )
    test_fraction: float = option(
        0.05, "share of the text, after validation, for the test", Number(low=0, high=1)
    )
    unit: str = option(
        "stream",
        "what a text is: `stream`, the whole, or `line`, every line by itself",
        Text(one_of=("stream", "line")),
    )
    shuffle_lines: bool | None = option(
        None,
        "whether lines are shuffled, once, before they are split; null: with unit `line` they are",
        Flag(null="null"),
    )
    reverse: bool = option(
        False, "whether the model reads from the end of a text to its beginning", Flag()
    )
    min_count: int = option(
        1, "words that occur less often become `<unk>`", Integer(low=1, high=10**12)
    )
    max_vocabulary: int | None = option(
        None, "at most so many symbols: rarer words become `<unk>`", Integer(low=2, null="null")
    )


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int = option(10, "passes over the training text", Integer(low=1, high=10**9))
    batch_size: int = option(
        32, "parallel streams the text is cut into", Integer(low=1, high=1 << 20)
    )
    seq_length: int | dict[int, int] | None = option(
        64,
        "window of truncated backpropagation; `{0: 64, 10: 128}`, by epoch; or `full`, whole streams",
        ByEpoch(low=1, null="full"),
    )
    optimizer: dict[str, Any] = option(
        {"name": "adam"},
        NAME_OR_MORE,
        Chosen(table="optimizer", default="adam"),
    )
    schedule: dict[str, Any] = option(
        {"name": "constant"},
        NAME_OR_MORE,
        Chosen(table="schedule", default="constant"),
    )
    grad_clip: dict[str, float] | None = option(
        {"norm": 5.0}, "`norm: x` (global), `value: x` (each), or null", Clip(null="null")
    )
    eval_every: Interval = option(
        Interval(1, "epochs"), "validation: a number of steps, or `1 epoch`", Every()
    )
    checkpoint_every: Interval = option(
        Interval(1, "epochs"),
        "`last.npz`: steps or `1 epoch`, and every 10 minutes; or `30 minutes`",
        Every(minutes=True),
    )
    keep: int = option(
        0, "numbered checkpoints to keep beside last and best", Integer(low=0, high=10**6)
    )
    log_every: Interval = option(Interval(100), "`train` lines: steps or `1 epoch`", Every())
    sample_every: Interval | None = option(
        None, "a short sample at the next evaluation; null: none", Every(null="null")
    )
    eval_streams: int = option(
        1, "1: the exact figure; more: a faster approximation", Integer(low=1, high=1 << 16)
    )
    patience: int | None = option(
        None, "stop after so many evaluations without a better one", Integer(low=1, null="null")
    )
    seed: int = option(
        0, "of initialisation, data, dropout and samples", Integer(low=0, high=2**63)
    )
    threads: int | None = option(
        None,
        "null: the cores this process may use; under `mpiexec`, of each rank",
        Integer(low=1, high=1024, null="null"),
    )
    max_steps: int | None = option(
        None, "end the run after so many steps", Integer(low=1, high=10**12, null="null")
    )
    max_minutes: float | None = option(
        None, "end the run after so much time, all sessions together", Number(above=0, null="null")
    )
    eval_symbols: int | None = option(
        100_000,
        "validation in training reads so many symbols of its text at most; null: all",
        Integer(low=2, high=10**12, null="null"),
    )
    truncation: dict[str, Any] = option(
        {"name": "regular"},
        "`regular`: at the first step of a window; `random`: inside it too",
        Chosen(table="truncation", default="regular"),
    )
    average: dict[str, Any] = option(
        {"name": "none"},
        "of the weights, which is evaluated and saved: `none`, `ema`, `mean` or `triggered`",
        Chosen(table="average", default="none"),
    )
    reset: float = option(
        0.0,
        "probability, for each stream and window, that its carried state is dropped",
        Number(low=0, high=1),
    )
    offset: str = option(
        "zero",
        "where streams begin: `zero`: each epoch at the same places; `random`: at others",
        Text(one_of=("zero", "random")),
    )
    vary_length: float = option(
        0.0,
        "about by what share a window may be longer or shorter, and its learning rate too",
        Number(low=0, below=1),
    )
    reduce: str = option(
        "ordered",
        "under `mpiexec`: `ordered`, the same bits for any number of ranks; or `fast`",
        Text(one_of=("ordered", "fast")),
    )

    @property
    def windows(self) -> dict[int, int | None]:
        """`seq_length` by the epoch from which on it is used; None: whole streams."""
        given = self.seq_length
        return dict(given) if isinstance(given, dict) else {0: given}


@dataclass(frozen=True)
class RunConfig:
    """Where results go."""

    dir: str | None = option(
        None, "run folder; null: `runs/<config name>-<time>`", Text(null="null")
    )
    tensorboard: bool = option(
        False, "whether the run folder also has an event file, which TensorBoard reads", Flag()
    )


@dataclass(frozen=True)
class Config:
    """All sections. `given` are the dotted keys that were set, not left at their defaults.

    `model` is the mapping in YAML: `kind`, and the options of that kind of model.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: Mapping[str, Any] = field(default_factory=lambda: {MODEL.by: MODEL.default})
    train: TrainConfig = field(default_factory=TrainConfig)
    run: RunConfig = field(default_factory=RunConfig)
    given: frozenset[str] = field(default=frozenset(), compare=False)

    def with_values(self, section: str, **values: Any) -> Config:
        """A copy with some keys of one section replaced; the values are not checked.

        Raises ConfigError for an unknown section, or an unknown key outside `model`.
        """
        if section not in list(SECTIONS):
            raise ConfigError(
                f"{shown(section)} is not a section: use one of {', '.join(SECTIONS)}"
            )
        before = getattr(self, section)
        if section == "model":
            return replace(self, model={**before, **values})
        for name in values:
            if name not in vars(before):
                raise ConfigError(
                    f"unknown key {section}.{name}; its keys: {', '.join(vars(before))}"
                )
        changed: Any = {section: replace(before, **values)}
        return replace(self, **changed)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, as in YAML."""
        return {
            section: dict(getattr(self, section))
            if isinstance(owner, Chosen)
            else {
                name: key.kind.plain(getattr(getattr(self, section), name))
                for name, key in options(owner).items()
            }
            for section, owner in SECTIONS.items()
        }

    def to_yaml(self) -> str:
        """The resolved configuration; reading it back gives an equal Config."""
        plain = self.to_dict()
        text = _last_written.get(repr(plain))
        if text is None:
            text = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            _last_written.clear()
            _last_written[repr(plain)] = text
        return text


_last_written: dict[str, str] = {}  # every checkpoint of a run has the same, and YAML is slow


SECTIONS: Mapping[str, Any] = MappingProxyType(
    {"data": DataConfig, "model": MODEL, "train": TrainConfig, "run": RunConfig}
)


class _Dumper(yaml.SafeDumper):
    """Escapes invisible characters; unescaped, some line ends would be read as others. What stands in
    two places is written twice.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    ),
)


def differences(old: Config, new: Config) -> Iterator[tuple[str, Any, Any]]:
    """The dotted keys in which two configurations differ, with both values; None for a missing one."""
    a, b = dict(flat(old.to_dict())), dict(flat(new.to_dict()))
    for key in [*a, *(key for key in b if key not in a)]:
        if a.get(key) != b.get(key) or (key in a) != (key in b):
            yield key, a.get(key), b.get(key)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings, under their dotted keys. A mapping by epoch is one of them."""
    for name, value in values.items():
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
