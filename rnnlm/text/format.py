"""The format of a text: all that turns text into the ids that a model reads, and ids into text.

A prepared folder and a checkpoint each hold one. A new rule (another level, lines, a direction) is
added here; the code that uses a format stays as it is.
"""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Array
from ..errors import ConfigError, DataError
from ..wording import shown
from .batches import FIXED, Batches, Lines, Streams, Variation
from .vocabulary import (
    BLOCK,
    ByteVocabulary,
    CharVocabulary,
    Decoder,
    NewSymbols,
    Unknown,
    Vocabulary,
)
from .words import WordVocabulary

if TYPE_CHECKING:
    from ..config.schema import DataConfig

LEVELS: dict[str, type[Vocabulary]] = {
    "char": CharVocabulary,
    "byte": ByteVocabulary,
    "word": WordVocabulary,
}
NEWLINES = ("normalize", "keep")  # CRLF and CR become LF, or stay
UNITS = ("stream", "line")  # what a text is: the whole, or every line
OPTIONAL = ("unit", "reverse")  # rules that a file names where they are not as by default
LINES_AT_ONCE = 32  # streams in which lines are evaluated; constant, for the bits of the products
NOT_FOR_FILES = ("idna", "punycode", "undefined", "unicode-escape")  # wrong in blocks, or always


@dataclass(frozen=True)
class TextRules:
    """How text is read: the part of a format that is known before the vocabulary."""

    level: str  # what a symbol is: a name in LEVELS
    encoding: str | None  # Python's name for it; None where nothing is decoded
    newlines: str | None  # a name in NEWLINES; None where nothing is decoded
    unit: str = "stream"  # what a text is: a name in UNITS
    reverse: bool = False  # whether a model reads a text from its end to its beginning

    @classmethod
    def named(
        cls,
        level: str,
        encoding: str | None = None,
        newlines: str = "normalize",
        unit: str = "stream",
        reverse: bool = False,
    ) -> TextRules:
        """The rules with the names that a user gives. Raises DataError for unknown names."""
        kind = level_class(level)
        if newlines not in NEWLINES:
            raise DataError(f"newlines {shown(newlines)}: use {' or '.join(NEWLINES)}")
        if unit not in UNITS:
            raise DataError(f"unit {shown(unit)}: use {' or '.join(UNITS)}")
        if type(reverse) is not bool:
            raise DataError(f"reverse {shown(reverse)}: use true or false")
        if kind.encoding is None:
            if encoding is not None:
                raise DataError(f"level {level} decodes nothing: leave the encoding out")
            return cls(level, None, None, unit, reverse)
        codec = _codec(kind.encoding if encoding is None else encoding)
        return cls(level, codec, newlines, unit, reverse)

    @classmethod
    def of(cls, data: DataConfig) -> TextRules:
        """The rules that a config sets. Raises DataError for unknown names."""
        encoding = data.encoding if level_class(data.level).encoding is not None else None
        return cls.named(data.level, encoding, data.newlines, data.unit, data.reverse)

    @property
    def kind(self) -> type[Vocabulary]:
        """The class of the level's vocabularies."""
        return LEVELS[self.level]

    @property
    def of_lines(self) -> bool:
        """Whether every line is a text of its own."""
        return self.unit == "line"

    def settings(self) -> dict[str, Any]:
        """The rules that apply, by name: the arguments of `named`, and keys of a config."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def read(self, text: str | bytes) -> Any:
        """A text as it is read: by the newline rule, or as bytes where nothing is decoded."""
        if self.encoding is None:
            return self.kind.units(text).tobytes()
        assert isinstance(text, str)
        return self.normalize(text)

    def normalize(self, text: str) -> str:
        """The text with the newline rule applied to its line ends."""
        if self.newlines != "normalize" or "\r" not in text:
            return text
        return text.replace("\r\n", "\n").replace("\r", "\n")


@dataclass(frozen=True)
class TextFormat:
    """Rules and a vocabulary of the same level: text to ids, and ids to text."""

    rules: TextRules
    vocabulary: Vocabulary

    def __post_init__(self) -> None:
        if self.vocabulary.level != self.rules.level:
            raise DataError(
                f"the vocabulary is of level {self.vocabulary.level}, not {self.rules.level}: use its "
                "level"
            )
        if self.rules.of_lines and self.newline is None:
            raise DataError(
                "the vocabulary has no newline, which begins and ends a line: use unit stream, or a "
                "vocabulary with newlines"
            )

    def extended(self, symbols: Array) -> TextFormat:
        """The format with these symbols (n,) added to its vocabulary."""
        return replace(self, vocabulary=self.vocabulary.extended(symbols))

    @property
    def level(self) -> str:
        """What a symbol is: a name in LEVELS."""
        return self.rules.level

    @cached_property
    def newline(self) -> int | None:
        """The id of the newline, where a line begins and ends; None where the vocabulary has none."""
        (found,) = self.vocabulary.lookup(self.vocabulary.units("\n")).tolist()
        return None if found in (-1, self.vocabulary.unknown_id) else found

    @property
    def noun(self) -> str:
        """The word for a symbol in messages."""
        return self.vocabulary.noun

    def whole(self, text: str | bytes) -> str | bytes:
        """A text with a newline at its end, where every line has one."""
        newline: Any = "\n" if isinstance(text, str) else b"\n"
        is_text = isinstance(text, (str, bytes))
        if not (self.rules.of_lines and is_text and text) or text.endswith(newline):
            return text
        ended: str | bytes = text + newline
        return ended

    def ids(self, text: str | bytes, unknown: Unknown = "error") -> NDArray[np.intp]:
        """The ids (n,) of a text, read by these rules.

        Raises DataError for symbols outside the vocabulary, unless `unknown` is "skip", and for a text
        of another type than str; where nothing is decoded it may also be bytes.
        """
        decodes = self.rules.encoding is not None
        if not isinstance(text, str if decodes else (str, bytes)):
            what = "str" if decodes else "str or bytes"
            raise DataError(f"a text for a model of {self.noun}s must be {what}, not {shown(text)}")
        _check_unknown(unknown)
        if isinstance(text, str):
            text = self.rules.normalize(text)
        return self.in_reading_order(self.vocabulary.ids(text, unknown))

    def length(self, text: str | bytes) -> int:
        """How many symbols a text has, in or out of the vocabulary."""
        return len(
            self.vocabulary.units(self.rules.normalize(text) if isinstance(text, str) else text)
        )

    def in_reading_order(self, ids: Array) -> Array:
        """Ids (n,) in the order of the text, as a model reads them; a second time, the text's order.

        A newline that ends the last of reversed lines stays at the end.
        """
        if not self.rules.reverse:
            return ids
        if self.rules.of_lines and len(ids) and ids[-1] == self.newline:
            return np.append(ids[-2::-1], ids[-1:]) if len(ids) > 1 else ids
        return ids[::-1]

    def beginning(self, ids: Array, symbols: int) -> Array:
        """The first symbols of ids (n,), so many at most; of lines, those that are whole."""
        first = ids[:symbols]
        if not self.rules.of_lines or len(first) == len(ids):
            return first
        ends = np.flatnonzero(first == self.newline)
        return first[: ends[-1] + 1] if len(ends) else first

    def can_evaluate(self, ids: Array, streams: int = 1) -> bool:
        """Whether ids (n,) in so many streams hold a symbol that is predicted.

        The first of a text is not, but lines begin after a newline and have no such first.
        """
        return len(ids) > (0 if self.rules.of_lines else streams)

    def batches(
        self,
        ids: Array,
        streams: int,
        seq_length: int | None,
        seed: int | None = None,
        vary: Variation = FIXED,
    ) -> Batches:
        """The windows in which a model reads the ids (n,) of a text; see `Streams` and `Lines`.

        `seed` is given in training: lines are shuffled. Without it they are cut into more streams than
        asked for, which changes no figure. `vary` is for training.
        """
        if not self.rules.of_lines:
            return Streams(ids, streams, seq_length, seed or 0, vary)
        assert self.newline is not None
        if seed is None:
            streams = max(streams, LINES_AT_ONCE)
        return Lines(ids, self.newline, streams, seq_length, seed, vary)

    def to_count(self, ids: Array) -> tuple[Array, Array | None]:
        """The ids (n,) of a text as a model that counts takes them, and a mark where texts begin.

        Lines get the newline that begins the first, and one that ends the last where it has none.
        """
        if not self.rules.of_lines:
            return ids, None
        newline = np.array(self.start, ids.dtype)
        ended = not len(ids) or ids[-1] == self.newline
        lines = np.concatenate([newline, ids, newline[: 0 if ended else 1]])
        return lines, lines == self.newline

    @property
    def start(self) -> list[int]:
        """The ids that a model reads before every text: the newline before a line."""
        return [] if not self.rules.of_lines or self.newline is None else [self.newline]

    @property
    def end(self) -> int | None:
        """The id that ends every text: the newline after a line; None: no symbol does."""
        return self.newline if self.rules.of_lines else None

    def prime(self, text: str | bytes, unknown: Unknown = "error") -> NDArray[np.intp]:
        """The ids (n,) of a text that is to go on, of `without_implied`. Raises DataError as `ids`."""
        return self.ids(self.without_implied(text), unknown)

    def without_implied(self, text: str | bytes) -> str | bytes:
        """A text that is to go on: at word level without a space at its end, which the next word
        implies; where a text is read backwards, without one at its beginning.
        """
        return self.vocabulary.without_implied(text, self.rules.reverse)

    def translate(
        self, other: TextFormat, ids: ArrayLike, unknown: Unknown = "error"
    ) -> NDArray[Any]:
        """The ids in this format of the text that `ids` (n,) spell in another format, each in the order
        in which its model reads.

        Raises DataError where the levels differ, and as the method `ids` does for unknown symbols.
        """
        _check_unknown(unknown)
        if other.level != self.level:
            raise DataError(
                f"text prepared at {other.level} level, not at {self.level} level: prepare it again"
            )
        ids = np.asarray(ids)
        if other.vocabulary != self.vocabulary:
            ids = self.vocabulary.translate(other.vocabulary, ids, unknown)
        if other.rules == self.rules:
            return ids
        return self.in_reading_order(other.in_reading_order(ids))

    def text(self, ids: ArrayLike) -> str:
        """The text that ids (n,) spell, which are in the order in which a model reads them."""
        return self.vocabulary.text(self.in_reading_order(np.asarray(ids, np.intp)))

    def decoder(self, after: Array | None = None) -> Decoder:
        """A function that takes one id at a time, and returns the text that it completes; `after` are
        ids (n,) that these follow.

        Text that is read backwards is complete at its end.
        """
        if self.rules.reverse:
            return Backwards(self, after)
        if after is None:
            return self.vocabulary.decoder()
        return self.vocabulary.decoder_after(after)

    def characters(self, ids: Array) -> int:
        """How many characters the text of ids (n,) has."""
        return self.vocabulary.characters(self.in_reading_order(ids))

    def unknowns(self, ids: Array) -> int:
        """How many of the ids (n,) are the unknown symbol."""
        unknown = self.vocabulary.unknown_id
        if unknown is None:
            return 0
        starts = range(0, len(ids), BLOCK)
        return sum(int((ids[start : start + BLOCK] == unknown).sum()) for start in starts)

    def difference(self, other: TextFormat) -> str | None:
        """The first difference, in words, that makes the same ids mean other text; None without one.

        Encodings and newline rules are none: they only say how files are read.
        """
        if self.level != other.level:
            return f"level ({self.level}, not {other.level})"
        if self.vocabulary != other.vocabulary:
            mine, theirs = len(self.vocabulary), len(other.vocabulary)
            sizes = f"{mine:,} {self.noun}s, not {theirs:,}"
            return f"vocabulary ({sizes if mine != theirs else f'other {self.noun}s'})"
        return None

    def content(self) -> list[Any]:
        """What a fingerprint covers of the format, as JSON: not the encoding of the files, nor the
        direction in which they are read.
        """
        unit = [] if self.rules.unit == TextRules.unit else [self.rules.unit]
        return [self.vocabulary.to_json(), self.rules.newlines, *unit]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads. A unit or direction that is as by default is left out."""
        values = {name: getattr(self.rules, name) for name in OPTIONAL}
        return {
            "encoding": self.rules.encoding,
            "newlines": self.rules.newlines,
            "vocabulary": self.vocabulary.to_json(),
            **{name: v for name, v in values.items() if v != getattr(TextRules, name)},
        }

    @classmethod
    def from_json(cls, data: object) -> TextFormat:
        """A format from what `to_json` gave; DataError for anything else."""
        given: dict[str, Any] = data if isinstance(data, dict) else {}
        match given:
            case {"encoding": _, "newlines": _, "vocabulary": symbols, **others}:
                vocabulary = vocabulary_from_json(symbols)
                if set(others) <= set(OPTIONAL):
                    names = {name: value for name, value in given.items() if value is not None}
                    del names["vocabulary"]
                    found = cls(TextRules.named(vocabulary.level, **names), vocabulary)
                    if found.to_json() == given:
                        return found
        raise DataError("the text format is not as rnnlm writes it: take it from a prepared corpus")


class Backwards:
    """Text from ids that come from its last to its first, before the text of the ids `after`."""

    def __init__(self, text_format: TextFormat, after: Array | None) -> None:
        self._format, self._after = text_format, [] if after is None else after.tolist()
        self._ids = list[int]()

    def __call__(self, symbol_id: int) -> str:
        self._ids.append(symbol_id)
        return ""

    def flush(self) -> str:
        """The whole text."""
        text = self._format.text([*self._after, *self._ids])
        self._ids.clear()
        return text.removesuffix(self._format.text(self._after))


def level_class(level: str) -> type[Vocabulary]:
    """The class of a level by name; DataError for an unknown one."""
    if not isinstance(level, str) or level not in LEVELS:
        raise DataError(f"{shown(level)} is not a level: use {', '.join(LEVELS)}")
    return LEVELS[level]


def vocabulary_from_json(data: object) -> Vocabulary:
    """A vocabulary of any level from what its `to_json` gave; DataError for anything else."""
    match data:
        case {"level": str(level), "symbols": list(items)} if level in LEVELS:
            return LEVELS[level].from_items(items)
    raise DataError("the vocabulary is not as rnnlm writes it: take it from a prepared corpus")


def _check_unknown(value: object) -> None:
    if value not in get_args(Unknown):
        raise ConfigError(f"unknown must be 'error' or 'skip', not {shown(value)}")


def check_new_symbols(value: object) -> None:
    """Raise ConfigError unless a value says what becomes of symbols outside a vocabulary."""
    if value not in get_args(NewSymbols):
        raise ConfigError(f"unknown must be 'error', 'skip' or 'extend', not {shown(value)}")


def _codec(encoding: str) -> str:
    """Python's name for an encoding of text files; DataError for anything else."""
    try:
        io.TextIOWrapper(io.BytesIO(), encoding)  # raises for an unknown codec, or one not of text
        codecs.getincrementaldecoder(encoding)
        name = codecs.lookup(encoding).name
        if name not in NOT_FOR_FILES:
            return "utf-8" if name == "utf-8-sig" else name  # a byte order mark is always dropped
    except (LookupError, TypeError, ValueError):
        pass
    raise DataError(f"{shown(encoding)} is not an encoding of text files: try utf-8 or latin-1")
