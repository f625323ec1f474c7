"""Symbols and their ids: what a model reads and writes.

A level says what a symbol is: a character (a Unicode code point), a byte, or a word (words.py). Each
level is a class and a line in LEVELS (format.py). The base class does not assume that symbols are
numbers.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Array
from ..errors import DataError
from ..wording import counted, option, shown
from .alike import alike

Unknown = Literal["error", "skip"]  # symbols outside the vocabulary: a DataError, or left out
NewSymbols = Literal["error", "skip", "extend"]  # the same of a text to train on, or added
SHOWN = 5  # how many symbols a message names
BLOCK = 1 << 20  # ids worked on at a time
UNNUMBERED = 0xFFFFFFFF  # the provisional id of a symbol that has not appeared


@dataclass(frozen=True, eq=False, init=False)
class Vocabulary(ABC):
    """The symbols of a model; the id of a symbol is its index in `symbols`.

    `symbols` (V,) are read-only and distinct; the level decides what they are, and their order.
    Raises DataError unless there is at least one, and all are valid at the level.
    """

    symbols: Array
    level: ClassVar[str]  # its name in configs and files
    noun: ClassVar[str]  # the word for a symbol in messages
    encoding: ClassVar[str | None]  # of files, by default; None: nothing is decoded
    unknown_symbol: ClassVar[Any] = None  # stands for all others; None: nothing at this level

    @abstractmethod
    def __init__(self, symbols: ArrayLike) -> None: ...

    def __len__(self) -> int:
        return int(self.symbols.size)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and np.array_equal(self.symbols, other.symbols)

    def __hash__(self) -> int:
        return hash((self.level, *self.symbols.tolist()))

    @staticmethod
    @abstractmethod
    def units(text: str | bytes) -> Array:
        """The symbols (n,) of a text, in or out of any vocabulary."""

    @classmethod
    @abstractmethod
    def numbering(cls) -> Numbering:
        """Provisional ids for a text whose symbols are not known yet."""

    @classmethod
    @abstractmethod
    def of_text(cls, symbols: Array, counts: Array) -> Vocabulary:
        """The vocabulary of a text in which each of `symbols` (n,) occurs `counts` (n,) times."""

    @staticmethod
    @abstractmethod
    def spell(symbol: Any) -> str:
        """A symbol as a message shows it."""

    @abstractmethod
    def lookup(self, symbols: Array) -> NDArray[np.intp]:
        """The ids of symbols, in their shape; -1 for those outside the vocabulary."""

    @abstractmethod
    def text(self, ids: ArrayLike) -> str:
        """The text that ids (n,) spell."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A function that takes one id at a time, and returns the text that it completes."""

    def decoder_after(self, ids: Array) -> Decoder:
        """A decoder of what follows ids (n,) whose text is known."""
        return self.decoder()

    def characters(self, ids: Array) -> int:
        """How many characters the text of ids (n,) has; counted in blocks."""
        decoder = self.decoder()
        return sum(len(decoder(int(i))) for i in ids) + len(decoder.flush())

    @staticmethod
    def without_implied(text: str | bytes, reverse: bool) -> str | bytes:
        """A text that is to go on, without what the symbol after it will say; `reverse`: before it."""
        return text

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown symbol; None where the vocabulary does not have it."""
        return None

    @staticmethod
    @abstractmethod
    def _to_items(symbols: list[Any]) -> list[Any]:
        """Symbols as JSON holds them."""

    @staticmethod
    @abstractmethod
    def _from_items(items: list[Any]) -> ArrayLike:
        """The inverse of `_to_items`; ValueError or TypeError for what it cannot have written."""

    def ids(self, text: str | bytes, unknown: Unknown = "error") -> NDArray[np.intp]:
        """The ids (n,) of a text. Raises TypeError for a text of a wrong type."""
        return self._known_ids(self.units(text), unknown)

    def translate(
        self, other: Vocabulary, ids: ArrayLike, unknown: Unknown = "error"
    ) -> NDArray[np.intp]:
        """The ids here of the symbols that `ids` (n,) are in another vocabulary of this level."""
        return self._known_ids(other.symbols[np.asarray(ids, np.intp)], unknown)

    def _known_ids(self, symbols: Array, unknown: Unknown) -> NDArray[np.intp]:
        ids = self.lookup(symbols)
        if unknown == "skip":
            return ids[ids >= 0]
        self.check_known(symbols, ids, f"leave them out: {option('unknown', 'skip')}")
        return ids

    def check_known(self, symbols: Array, ids: Array, advice: str) -> None:
        """Raise DataError, with advice, for symbols (n,) whose `ids` (n,) are -1."""
        if (at := np.flatnonzero(ids < 0)).size:
            outside, first, counts = np.unique(symbols[at], return_index=True, return_counts=True)
            raise self.unknown(outside, counts, at[first], "the text", advice)

    def extended(self, symbols: Array) -> Vocabulary:
        """A vocabulary with these symbols too; ids may be others."""
        known = set(self.symbols.tolist())
        new = np.array([symbol not in known for symbol in symbols.tolist()], np.bool_)
        every = np.append(self.symbols, symbols[new])
        return self.of_text(every, np.ones(every.size, np.int64))

    def unknown(
        self, symbols: Array, counts: Array, firsts: Array, where: str, advice: str
    ) -> DataError:
        """The error that names symbols outside the vocabulary, their counts and first offsets."""
        order = np.argsort(firsts)[:SHOWN]
        named = "; ".join(
            f"{self.spell(symbol)} ×{count:,}, first at {first:,}{self._instead(symbol)}"
            for symbol, count, first in zip(
                *(column[order].tolist() for column in (symbols, counts, firsts)), strict=True
            )
        )
        others = symbols.size - SHOWN
        more = f"; and {counted(others, 'other')}" if others > 0 else ""
        return DataError(
            f"{where} has {self.noun}s outside the vocabulary ({counts.sum():,} in all): "
            f"{named}{more}: remove or replace them, or {advice}"
        )

    def _instead(self, symbol: Any) -> str:
        """What the vocabulary has for a symbol that it lacks, in words; else nothing."""
        return ""

    def to_json(self) -> dict[str, Any]:
        """The level, and the symbols as `from_items` reads them."""
        return {"level": self.level, "symbols": self._to_items(self.symbols.tolist())}

    @classmethod
    def from_items(cls, items: list[Any]) -> Vocabulary:
        """A vocabulary from symbols as `to_json` gave them; DataError for anything else."""
        try:
            return cls(cls._from_items(items))
        except (TypeError, ValueError):
            raise DataError(
                "the symbols are not as rnnlm writes them: take them from a prepared corpus"
            ) from None


def check_limits(kind: type[Vocabulary], min_count: object, max_vocabulary: object) -> bool:
    """Whether symbols are left out of a vocabulary to be made. Raises DataError for what cannot be."""
    if type(min_count) is not int or min_count < 1:
        raise DataError(f"min_count must be an integer from 1, not {shown(min_count)}")
    if max_vocabulary is not None and (type(max_vocabulary) is not int or max_vocabulary < 2):
        raise DataError(f"max_vocabulary must be an integer from 2, not {shown(max_vocabulary)}")
    limited = min_count > 1 or max_vocabulary is not None
    if limited and kind.unknown_symbol is None:
        raise DataError(
            f"min_count and max_vocabulary: level {kind.level} has no symbol for what they leave out: "
            "leave them at their defaults"
        )
    return limited


def limited_vocabulary(
    kind: type[Vocabulary],
    symbols: Array,
    counts: Array,
    min_count: int = 1,
    max_vocabulary: int | None = None,
) -> Vocabulary:
    """As `kind.of_text`, of the symbols (n,) that occur `min_count` times or more, and of the most
    frequent of these: the vocabulary has at most `max_vocabulary` symbols.

    The unknown symbol, which stands for all others, is one of them wherever an argument is not the
    default, even if it leaves nothing out here: so other texts can be read too. Of symbols that occur
    equally often the first in order are kept. Raises DataError as `check_limits` does.
    """
    if not check_limits(kind, min_count, max_vocabulary):
        return kind.of_text(symbols, counts)
    kept = np.flatnonzero(counts >= min_count)
    if max_vocabulary is not None:
        columns = (-counts[kept], symbols[kept], kept)
        ranked = sorted(zip(*(column.tolist() for column in columns), strict=True))
        kept = np.array([place for *_, place in ranked[: max_vocabulary - 1]], np.intp)
    unknown = np.array([kind.unknown_symbol], symbols.dtype)
    return kind.of_text(np.append(symbols[kept], unknown), np.append(counts[kept], 1))


class Numbering(Protocol):
    """Gives provisional ids to symbols as they appear, block after block of a text."""

    @property
    def symbols(self) -> Array:
        """Provisional id -> symbol."""

    def __call__(self, block: str | bytes) -> Array:
        """The provisional ids of the symbols that a block completes."""

    def rest(self) -> Array:
        """The provisional ids of the symbols that were held back until the end of a text."""


class Decoder(Protocol):
    """Text from ids given one at a time."""

    def __call__(self, symbol_id: int) -> str:
        """The text that this id completes; perhaps empty."""

    def flush(self) -> str:
        """The text that is left at the end."""


# Characters and bytes: symbols that are numbers


class CodeVocabulary(Vocabulary):
    """Symbols that are numbers below `limit`: code points, or byte values; (V,) uint32."""

    limit: ClassVar[int]
    unit: ClassVar[str]  # NumPy type of a symbol as `codec` reads it
    codec: ClassVar[tuple[str, str]]  # encoding that turns units into text, and its error handler

    def __init__(self, symbols: ArrayLike) -> None:
        symbols = np.array(symbols)
        if (
            symbols.ndim != 1
            or symbols.size == 0
            or symbols.dtype.kind not in "iu"
            or symbols[0] < 0
            or symbols[-1] >= self.limit
            or (symbols[1:] <= symbols[:-1]).any()
        ):
            raise DataError(
                f"the symbols of a {self.level} vocabulary must be one or more numbers from 0 to "
                f"{self.limit - 1}, sorted and distinct: take them from a prepared corpus"
            )
        symbols = symbols.astype(np.uint32)
        symbols.setflags(write=False)
        object.__setattr__(self, "symbols", symbols)

    @classmethod
    def numbering(cls) -> Numbering:
        return CodeNumbering(cls)

    @classmethod
    def of_text(cls, symbols: Array, counts: Array) -> Vocabulary:
        return cls(np.sort(symbols[counts > 0]))

    @cached_property
    def _id_of(self) -> Array:
        """(limit,) int32: symbol -> id, -1 for those outside the vocabulary."""
        table = np.full(self.limit, -1, np.int32)
        table[self.symbols] = np.arange(len(self))
        return table

    def lookup(self, symbols: Array) -> NDArray[np.intp]:
        return self._id_of[symbols].astype(np.intp)

    def text(self, ids: ArrayLike) -> str:
        """The text that ids (n,) spell; bytes that are not UTF-8 become U+FFFD."""
        return (
            self.symbols[np.asarray(ids, np.intp)].astype(self.unit).tobytes().decode(*self.codec)
        )

    def decoder(self) -> Decoder:
        return CodeDecoder(self)

    def characters(self, ids: Array) -> int:
        decoder, total = CodeDecoder(self), 0
        for start in range(0, len(ids), BLOCK):
            total += len(decoder(ids[start : start + BLOCK]))
        return total + len(decoder.flush())


class CodeNumbering:
    """Small symbols (every byte, or ASCII) are their own provisional ids, so that most text needs no
    lookup; others are numbered as they appear.
    """

    def __init__(self, kind: type[CodeVocabulary]) -> None:
        self._units = kind.units
        self._known = kind.limit if kind.limit <= 256 else 128
        self._symbols = np.zeros(kind.limit, np.uint32)  # provisional id -> symbol
        self._ids = np.full(kind.limit, UNNUMBERED, np.uint32)  # symbol -> provisional id
        self._symbols[: self._known] = self._ids[: self._known] = np.arange(self._known)

    @property
    def symbols(self) -> Array:
        return self._symbols[: self._known]

    def __call__(self, block: str | bytes) -> Array:
        symbols = self._units(block)
        if symbols.dtype == np.uint8:  # their own ids
            return symbols
        ids = self._ids[symbols]
        new = np.unique(symbols[ids == UNNUMBERED])
        if new.size:
            stop = self._known + new.size
            self._symbols[self._known : stop] = new
            self._ids[new] = np.arange(self._known, stop)
            self._known = stop
            ids = self._ids[symbols]
        return ids

    def rest(self) -> Array:
        return np.zeros(0, np.uint8)


class CodeDecoder:
    """Text from ids given one at a time; bytes wait until they complete a character."""

    def __init__(self, vocabulary: CodeVocabulary) -> None:
        name, errors = vocabulary.codec
        self._units = vocabulary.symbols.astype(vocabulary.unit)
        self._decode = codecs.getincrementaldecoder(name)(errors).decode

    def __call__(self, symbol_id: int | Array) -> str:
        return self._decode(self._units[symbol_id].tobytes())

    def flush(self) -> str:
        """U+FFFD where a character was cut short, else nothing."""
        return self._decode(b"", True)


class CharVocabulary(CodeVocabulary):
    """Characters: Unicode code points, with lone surrogates, since some encodings give them."""

    level, noun, limit = "char", "character", 0x110000
    encoding = "utf-8"
    unit, codec = "<u4", ("utf-32-le", "surrogatepass")

    @staticmethod
    def units(text: str | bytes) -> Array:
        if not isinstance(text, str):
            raise TypeError("a character vocabulary reads str: decode the bytes first")
        if text.isascii():
            return np.frombuffer(text.encode("ascii"), np.uint8)
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")

    def characters(self, ids: Array) -> int:
        return len(ids)

    @staticmethod
    def spell(symbol: int) -> str:
        return f"{chr(symbol)!r} U+{symbol:04X}"

    def _instead(self, symbol: int) -> str:
        found = alike(chr(symbol), lambda other: self._id_of[ord(other)] >= 0)
        return "" if found is None else f" (did you mean {found!r}?)"

    @staticmethod
    def _to_items(symbols: list[int]) -> list[Any]:
        return [chr(symbol) for symbol in symbols]

    @staticmethod
    def _from_items(items: list[Any]) -> list[int]:
        return [ord(item) for item in items]  # TypeError unless it is one character


class ByteVocabulary(CodeVocabulary):
    """Bytes; text is UTF-8 here, and nothing is normalised."""

    level, noun, limit = "byte", "byte", 256
    encoding = None
    unit, codec = "u1", ("utf-8", "replace")

    @staticmethod
    def units(text: str | bytes) -> Array:
        if isinstance(text, bytes):
            return np.frombuffer(text, np.uint8)
        if not isinstance(text, str):
            raise TypeError("a byte vocabulary reads bytes or str")
        try:  # surrogates for undecodable bytes, as in sys.argv, become those bytes
            return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
        except UnicodeEncodeError:
            return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)

    @staticmethod
    def spell(symbol: int) -> str:
        return f"0x{symbol:02x}"

    @staticmethod
    def _to_items(symbols: list[int]) -> list[Any]:
        return symbols

    @staticmethod
    def _from_items(items: list[Any]) -> list[int]:
        if any(type(item) is not int or item not in range(256) for item in items):
            raise ValueError
        return items
