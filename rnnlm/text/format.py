"""The format of a text: all that turns text into the ids that a model reads, and ids into text.

A prepared folder and a checkpoint each hold one. A new rule (another level, lines, a direction) is
added here; the code that uses a format stays as it is.
"""

from __future__ import annotations

import codecs
import io
from dataclasses import dataclass, fields
from typing import Any, Protocol, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Array
from ..errors import ConfigError, DataError
from ..wording import shown
from .batches import Batches, Streams
from .vocabulary import ByteVocabulary, CharVocabulary, Decoder, Unknown, Vocabulary

LEVELS: dict[str, type[Vocabulary]] = {"char": CharVocabulary, "byte": ByteVocabulary}
NEWLINES = ("normalize", "keep")  # CRLF and CR become LF, or stay
NOT_FOR_FILES = ("idna", "punycode", "undefined", "unicode-escape")  # wrong in blocks, or always


class Settings(Protocol):
    """The section of a config that says how text is read."""

    @property
    def level(self) -> str:
        """A name in LEVELS."""

    @property
    def encoding(self) -> str:
        """The encoding of the files; not used where nothing is decoded."""

    @property
    def newlines(self) -> str:
        """The newline rule, a name in NEWLINES; not used where nothing is decoded."""


@dataclass(frozen=True)
class TextRules:
    """How text is read: the part of a format that is known before the vocabulary."""

    level: str  # what a symbol is: a name in LEVELS
    encoding: str | None  # Python's name for it; None where nothing is decoded
    newlines: str | None  # a name in NEWLINES; None where nothing is decoded

    @classmethod
    def named(
        cls, level: str, encoding: str | None = None, newlines: str = "normalize"
    ) -> TextRules:
        """The rules with the names that a user gives. Raises DataError for unknown names."""
        kind = level_class(level)
        if newlines not in NEWLINES:
            raise DataError(f"newlines {shown(newlines)}: use {' or '.join(NEWLINES)}")
        if kind.encoding is None:
            if encoding is not None:
                raise DataError(f"level {level} decodes nothing: leave the encoding out")
            return cls(level, None, None)
        return cls(level, _codec(kind.encoding if encoding is None else encoding), newlines)

    @classmethod
    def of(cls, settings: Settings) -> TextRules:
        """The rules that a config sets. Raises DataError for unknown names."""
        decodes = level_class(settings.level).encoding is not None
        encoding = settings.encoding if decodes else None
        return cls.named(settings.level, encoding, settings.newlines)

    @property
    def kind(self) -> type[Vocabulary]:
        """The class of the level's vocabularies."""
        return LEVELS[self.level]

    def settings(self) -> dict[str, Any]:
        """The rules that apply, by name: the arguments of `named`, and keys of a config."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

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

    @property
    def level(self) -> str:
        """What a symbol is: a name in LEVELS."""
        return self.rules.level

    @property
    def noun(self) -> str:
        """The word for a symbol in messages."""
        return self.vocabulary.noun

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
        return self.vocabulary.ids(text, unknown)

    def length(self, text: str | bytes) -> int:
        """How many symbols a text has, in or out of the vocabulary."""
        return len(
            self.vocabulary.units(self.rules.normalize(text) if isinstance(text, str) else text)
        )

    def batches(self, ids: Array, streams: int, seq_length: int | None) -> Batches:
        """The windows in which a model reads the ids (n,) of a text; see `Streams`."""
        return Streams(ids, streams, seq_length)

    def translate(
        self, other: TextFormat, ids: ArrayLike, unknown: Unknown = "error"
    ) -> NDArray[Any]:
        """The ids in this format of the text that `ids` (n,) spell in another format.

        Raises DataError where the levels differ, and as the method `ids` does for unknown symbols.
        """
        _check_unknown(unknown)
        if other.level != self.level:
            raise DataError(
                f"text prepared at {other.level} level, not at {self.level} level: prepare it again"
            )
        if other.vocabulary == self.vocabulary:
            return np.asarray(ids)
        return self.vocabulary.translate(other.vocabulary, ids, unknown)

    def text(self, ids: ArrayLike) -> str:
        """The text that ids (n,) spell."""
        return self.vocabulary.text(ids)

    def decoder(self) -> Decoder:
        """A function that takes one id at a time, and returns the text that it completes."""
        return self.vocabulary.decoder()

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
        """What a fingerprint covers of the format, as JSON: not the encoding of the files."""
        return [self.vocabulary.to_json(), self.rules.newlines]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "encoding": self.rules.encoding,
            "newlines": self.rules.newlines,
            "vocabulary": self.vocabulary.to_json(),
        }

    @classmethod
    def from_json(cls, data: object) -> TextFormat:
        """A format from what `to_json` gave; DataError for anything else."""
        match data:
            case {"encoding": encoding, "newlines": newlines, "vocabulary": symbols} if (
                isinstance(data, dict) and len(data) == 3
            ):
                vocabulary = vocabulary_from_json(symbols)
                names = {"encoding": encoding, "newlines": newlines}
                given = {name: value for name, value in names.items() if value is not None}
                rules = TextRules.named(vocabulary.level, **given)
                if (rules.encoding, rules.newlines) == (encoding, newlines):
                    return cls(rules, vocabulary)
        raise DataError("the text format is not as rnnlm writes it: take it from a prepared corpus")


def level_class(level: str) -> type[Vocabulary]:
    """The class of a level by name; DataError for an unknown one."""
    if not isinstance(level, str) or level not in LEVELS:
        raise DataError(f"{shown(level)} is not a level: use {' or '.join(LEVELS)}")
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
