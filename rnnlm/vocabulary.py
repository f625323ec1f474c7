"""Symbols and their ids: what a model reads and writes, and in which order it counts it.

A level says what a symbol is, a character (a Unicode code point) or a byte; each is one class here.
"""

from __future__ import annotations

import codecs
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import DataError, shown
from .params import Array

Unknown = Literal["error", "skip"]  # symbols outside the vocabulary: a DataError, or left out
NEWLINES = ("normalize", "keep")  # what is done to CRLF and CR: both become LF, or nothing
SHOWN = 5  # how many symbols a message names


@dataclass(frozen=True, eq=False, init=False)
class Vocabulary(ABC):
    """The symbols of a model in ascending order; the id of a symbol is its place among them.

    symbols (V,) uint32, read-only: code points, or byte values. Raises DataError unless they are
    at least one, in range, sorted and distinct.
    """

    symbols: Array
    level: ClassVar[str]  # its name in configs and files
    noun: ClassVar[str]  # what a message calls a symbol
    limit: ClassVar[int]  # every symbol is below it
    encoding: ClassVar[str | None]  # how files are read unless told otherwise; None: as they are
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

    def __len__(self) -> int:
        return int(self.symbols.size)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and np.array_equal(self.symbols, other.symbols)

    def __hash__(self) -> int:
        return hash((self.level, self.symbols.tobytes()))

    @staticmethod
    @abstractmethod
    def units(text: str | bytes) -> Array:
        """The symbols of a text, in or out of any vocabulary; (n,) uint8 where that holds them."""

    @staticmethod
    @abstractmethod
    def normalize(text: str, newlines: str) -> str:
        """The text as a model trained under the rule `newlines` (one of NEWLINES) expects it."""

    @staticmethod
    @abstractmethod
    def spell(symbol: int) -> str:
        """A symbol as a message shows it."""

    @staticmethod
    @abstractmethod
    def _to_items(symbols: list[int]) -> list[Any]:
        """Symbols as JSON holds them."""

    @staticmethod
    @abstractmethod
    def _from_items(items: list[Any]) -> list[int]:
        """The inverse of `_to_items`; ValueError or TypeError for what it cannot have written."""

    @cached_property
    def _id_of(self) -> Array:
        """(limit,) int32: symbol -> id, -1 for those outside the vocabulary."""
        table = np.full(self.limit, -1, np.int32)
        table[self.symbols] = np.arange(len(self))
        return table

    def lookup(self, symbols: Array) -> NDArray[np.intp]:
        """The ids of symbols below `limit`, in their shape; -1 for those outside the vocabulary."""
        return self._id_of[symbols].astype(np.intp)

    def ids(self, text: str | bytes, unknown: Unknown = "error") -> NDArray[np.intp]:
        """The ids (n,) of a text. Raises TypeError for what is no text at this level."""
        return self._known_ids(self.units(text), unknown)

    def translate(
        self, other: Vocabulary, ids: ArrayLike, unknown: Unknown = "error"
    ) -> NDArray[np.intp]:
        """The ids (n,) here of what `ids` stand for in another vocabulary of this level."""
        return self._known_ids(other.symbols[np.asarray(ids, np.intp)], unknown)

    def _known_ids(self, symbols: Array, unknown: Unknown) -> NDArray[np.intp]:
        ids = self.lookup(symbols)
        known = ids >= 0
        if known.all():
            return ids
        if unknown == "skip":
            return ids[known]
        at = np.flatnonzero(~known)
        strange, first, counts = np.unique(symbols[at], return_index=True, return_counts=True)
        raise self.unknown(strange, counts, at[first], "the text", "leave them out: --unknown skip")

    def unknown(
        self, symbols: Array, counts: Array, firsts: Array, where: str, advice: str
    ) -> DataError:
        """The error that names symbols outside the vocabulary, their counts and first offsets."""
        order = np.argsort(firsts)[:SHOWN]
        named = "; ".join(
            f"{self.spell(symbol)} ×{count:,}, first at {first:,}"
            for symbol, count, first in zip(
                *(column[order].tolist() for column in (symbols, counts, firsts)), strict=True
            )
        )
        more = f"; and {symbols.size - SHOWN:,} others" if symbols.size > SHOWN else ""
        return DataError(
            f"{where} has {self.noun}s outside the vocabulary ({counts.sum():,} in all): "
            f"{named}{more}: remove or replace them, or {advice}"
        )

    def text(self, ids: ArrayLike) -> str:
        """The text that ids (n,) spell; bytes that are not UTF-8 become U+FFFD."""
        return (
            self.symbols[np.asarray(ids, np.intp)].astype(self.unit).tobytes().decode(*self.codec)
        )

    def decoder(self) -> Decoder:
        """A function from one id after another to the text that each completes."""
        return Decoder(self)

    def one_hot(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Rows (..., V) with a one at each of the ids (...)."""
        ids = np.asarray(ids)
        rows = np.zeros((*ids.shape, len(self)), np.float32)
        np.put_along_axis(rows, ids[..., None], 1, axis=-1)
        return rows

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: one-character strings, or byte values."""
        return {"level": self.level, "symbols": self._to_items(self.symbols.tolist())}

    @staticmethod
    def from_json(data: object) -> Vocabulary:
        """A vocabulary from what `to_json` gave; DataError for anything else."""
        match data:
            case {"level": str(level), "symbols": list(items)} if level in LEVELS:
                try:
                    symbols = np.array(LEVELS[level]._from_items(items), np.int64)
                except (TypeError, ValueError):
                    pass
                else:
                    return LEVELS[level](symbols)
        raise DataError("the vocabulary is not as rnnlm writes it: take it from a prepared corpus")


class CharVocabulary(Vocabulary):
    """Characters: Unicode code points, lone surrogates included, since some encodings yield them."""

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

    @staticmethod
    def normalize(text: str, newlines: str) -> str:
        if newlines == "keep" or "\r" not in text:
            return text
        return text.replace("\r\n", "\n").replace("\r", "\n")

    @staticmethod
    def spell(symbol: int) -> str:
        return f"{chr(symbol)!r} U+{symbol:04X}"

    @staticmethod
    def _to_items(symbols: list[int]) -> list[Any]:
        return [chr(symbol) for symbol in symbols]

    @staticmethod
    def _from_items(items: list[Any]) -> list[int]:
        return [ord(item) for item in items]  # TypeError unless it is one character


class ByteVocabulary(Vocabulary):
    """Bytes; as text they are UTF-8, and nothing about them is normalised."""

    level, noun, limit = "byte", "byte", 256
    encoding = None
    unit, codec = "u1", ("utf-8", "replace")

    @staticmethod
    def units(text: str | bytes) -> Array:
        if isinstance(text, bytes):
            return np.frombuffer(text, np.uint8)
        if not isinstance(text, str):
            raise TypeError("a byte vocabulary reads bytes or str")
        try:  # surrogates that stand for undecodable bytes, as in arguments, become the bytes
            return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)
        except UnicodeEncodeError:
            return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)

    @staticmethod
    def normalize(text: str, newlines: str) -> str:
        return text

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


class Decoder:
    """Text from ids given one at a time; bytes wait until they complete a character."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        name, errors = vocabulary.codec
        self._units = vocabulary.symbols.astype(vocabulary.unit)
        self._decode = codecs.getincrementaldecoder(name)(errors).decode

    def __call__(self, symbol_id: int) -> str:
        """The text that this id completes; empty inside a character of several bytes."""
        return self._decode(self._units[symbol_id].tobytes())

    def flush(self) -> str:
        """What is left at the end: U+FFFD where a character was cut short, else nothing."""
        return self._decode(b"", True)


LEVELS: dict[str, type[Vocabulary]] = {"char": CharVocabulary, "byte": ByteVocabulary}


def level_class(level: str) -> type[Vocabulary]:
    """The class of a level by name; DataError for an unknown one."""
    if not isinstance(level, str) or level not in LEVELS:
        raise DataError(f"{shown(level)} is not a level: use {' or '.join(LEVELS)}")
    return LEVELS[level]
