"""Kinds of values in the configuration, and the options that classes and functions declare.

A kind reads text as a value of its type, within its limits. Text that does not fit raises
RefusedError, which says what it must be. Sections and models are dataclasses whose fields are
`option(default, doc, kind)`; cells, optimizers and schedules have their kinds in the annotations of
their fields or keywords, for example `beta1: Annotated[float, Number(low=0, below=1)] = 0.9`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

# One way to write a number: int and float also read `1_0`, `٣`, ` 3` and `nan`; `010` is 8 in YAML 1.1
INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
INTERVAL = re.compile(r"([^ ]+)(?: +(step|epoch|minute)s?)?")
NAME = re.compile(r"[a-z0-9_]{1,32}")  # of one of several
BOOLEANS = {
    word: value
    for value in (True, False)
    for word in (str(value).lower(), str(value), str(value).upper())
}


class RefusedError(ValueError):
    """Text that does not fit a kind: what it must be, and perhaps what was meant."""

    def __init__(self, must_be: str, hint: str = "") -> None:
        super().__init__(must_be)
        self.must_be, self.hint = must_be, hint


@dataclass(frozen=True)
class Kind:
    """A kind of value. `null` is the word that stands for None, if None is allowed."""

    null: str | None = None
    quotable: ClassVar[bool] = False  # whether the text may be in quotes
    takes_mapping: ClassVar[bool] = False

    def read(self, text: str) -> Any:
        """The value that a text means. Raises RefusedError."""
        raise TypeError(f"{type(self).__name__} is not read from text")

    def words(self) -> str:
        """What the kind is, in words."""
        raise TypeError(f"{type(self).__name__} has no words")

    def plain(self, value: Any) -> Any:
        """A value as it stands in YAML."""
        return self.null if value is None and self.null != "null" else value

    def meant(self, plain: Any) -> Any:
        """The value that stands in YAML as `plain`: the inverse of `plain`."""
        return None if self.null not in (None, "null") and plain == self.null else plain

    def _or_null(self, words: str) -> str:
        return words if self.null is None else f"{words} or {self.null}"


@dataclass(frozen=True)
class Text(Kind):
    """Text; with `one_of`, one of these words."""

    one_of: tuple[str, ...] = ()
    quotable: ClassVar[bool] = True

    def read(self, text: str) -> str:
        if self.one_of and text not in self.one_of:
            near = difflib.get_close_matches(text, self.one_of, 1)
            raise RefusedError(
                f"one of {', '.join(self.one_of)}", f"; did you mean {near[0]}?" if near else ""
            )
        try:
            name = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            name = b""
        if not name or b"\0" in name:  # cannot name a file
            raise RefusedError(self.words())
        return text

    def words(self) -> str:
        return self._or_null("text")


@dataclass(frozen=True)
class Named(Kind):
    """A name from a table, without options of its own."""

    table: str = ""
    quotable: ClassVar[bool] = True


@dataclass(frozen=True)
class Number(Kind):
    """A finite number: at least `low`, greater than `above`, at most `high`, less than `below`."""

    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None

    def read(self, text: str) -> float:
        value = float(_matched(NUMBER, text, self)[0])
        if not math.isfinite(value):
            raise RefusedError(self.words())
        self.check(value)
        return value

    def check(self, value: float) -> None:
        """Raise RefusedError for a value outside the limits."""
        for limit, wrong, words in (
            (self.low, operator.lt, "at least"),
            (self.above, operator.le, "above"),
            (self.high, operator.gt, "at most"),
            (self.below, operator.ge, "below"),
        ):
            if limit is not None and wrong(value, limit):
                raise RefusedError(f"{words} {limit}")

    def words(self) -> str:
        return self._or_null("a number")


@dataclass(frozen=True)
class Integer(Number):
    """An integer within limits."""

    def read(self, text: str) -> int:
        try:
            value = int(_matched(INTEGER, text, self)[0])
        except ValueError:  # thousands of digits
            raise RefusedError(self.words()) from None
        self.check(value)
        return value

    def words(self) -> str:
        return self._or_null("an integer")


@dataclass(frozen=True)
class ByEpoch(Integer):
    """An integer, or a mapping from epochs, `most` at most and 0 among them, to integers."""

    most: int = 32
    takes_mapping: ClassVar[bool] = True
    epoch: ClassVar[Integer] = Integer(low=0, high=10**9)

    @property
    def each(self) -> Integer:
        """What stands in the mapping: `null` does not."""
        return Integer(low=self.low, above=self.above, high=self.high, below=self.below)

    def words(self) -> str:
        return self._or_null("an integer, a mapping such as {0: 64, 10: 128}")


@dataclass(frozen=True)
class Flag(Kind):
    """True or false."""

    def read(self, text: str) -> bool:
        if text not in BOOLEANS:
            raise RefusedError(self.words())
        return BOOLEANS[text]

    def words(self) -> str:
        return self._or_null("true or false")


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
class Every(Kind):
    """An Interval; in minutes only where `minutes` is true."""

    minutes: bool = False
    quotable: ClassVar[bool] = True

    def read(self, text: str) -> Interval:
        amount, unit = _matched(INTERVAL, text, self).groups()
        units = {None: "steps", "step": "steps", "epoch": "epochs"}
        if self.minutes:
            units["minute"] = "minutes"
        if unit not in units:
            raise RefusedError(self.words())
        pattern, number = (INTEGER, int) if units[unit] == "steps" else (NUMBER, float)
        try:
            value = number(_matched(pattern, amount, self)[0])
        except ValueError:
            raise RefusedError(self.words()) from None
        if not 0 < value < 1e12:
            raise RefusedError(self.words())
        return Interval(value, units[unit])

    def words(self) -> str:
        return self._or_null("an interval such as 500, `1 epoch` or, for checkpoints, `10 minutes`")

    def plain(self, value: Any) -> Any:
        if isinstance(value, Interval):
            return int(value.amount) if value.unit == "steps" else str(value)
        return super().plain(value)


@dataclass(frozen=True)
class Clip(Kind):
    """`norm: x`, `value: x`, or null: how gradients are clipped."""

    takes_mapping: ClassVar[bool] = True
    number: ClassVar[Number] = Number(above=0, high=1e30, null="null")


@dataclass(frozen=True)
class Chosen(Kind):
    """A name from a table, with options of its entry: a mapping, or the name alone.

    In a mapping, the name is under the key `by`.
    """

    table: str = ""
    default: str = ""
    by: str = "name"
    takes_mapping: ClassVar[bool] = True


def chosen_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options of what is chosen by `name`, without that."""
    return {name: value for name, value in values.items() if name != "name"}


MODEL = Chosen(table="model", default="recurrent", by="kind")


@dataclass(frozen=True)
class Several(Kind):
    """A mapping from names to choices, `most` at most. What is made of each gets the arguments of the
    owner of the option.
    """

    of: Chosen = field(default_factory=Chosen)
    most: int = 32
    takes_mapping: ClassVar[bool] = True

    def words(self) -> str:
        return (
            f"a mapping from names (a-z, 0-9 and _), at most {self.most}, to a {self.of.table} each"
        )


# Options


@dataclass(frozen=True)
class Option:
    """One option: its default, meaning and kind."""

    default: Any
    doc: str
    kind: Kind


Tables = Mapping[str, Mapping[str, Callable[..., object]]]  # table -> name -> class or function


def option(default: Any, doc: str, kind: Kind) -> Any:
    """A field of a dataclass that is an option."""
    meta = {"doc": doc, "kind": kind}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=meta)
    return field(default=default, metadata=meta)


@cache
def options(owner: Callable[..., object]) -> Mapping[str, Option]:
    """The options of a dataclass or function: its fields or keywords that have a default."""
    hints = get_type_hints(owner, include_extras=True)
    found: dict[str, Option] = {}
    if dataclasses.is_dataclass(owner):
        for f in dataclasses.fields(owner):
            missing = dataclasses.MISSING
            if not f.init or (f.default is missing and f.default_factory is missing):
                continue
            default = f.default if f.default_factory is missing else f.default_factory()
            kind = f.metadata.get("kind") or kind_of(hints[f.name])
            found[f.name] = Option(default, f.metadata.get("doc", ""), kind)
        return found
    for name, parameter in inspect.signature(owner).parameters.items():
        if parameter.default is not parameter.empty:
            found[name] = Option(parameter.default, "", kind_of(hints[name]))
    return found


def kind_of(annotation: Any) -> Kind:
    """The kind that an annotation declares: its own, or that of a plain type."""
    for note in get_args(annotation):
        if isinstance(note, Kind):
            return note
    if get_origin(annotation) is Literal:
        return Text(one_of=get_args(annotation))
    plain: dict[Any, Kind] = {bool: Flag(), int: Integer(), float: Number(), str: Text()}
    if annotation not in plain:
        raise TypeError(f"{annotation} is not the type of an option: annotate it with a Kind")
    return plain[annotation]


def _matched(pattern: re.Pattern[str], text: str, kind: Kind) -> re.Match[str]:
    match = pattern.fullmatch(text)
    if match is None:
        raise RefusedError(kind.words())
    return match
