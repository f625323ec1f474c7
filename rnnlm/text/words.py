"""Words as symbols: how a text is cut into them, and put together again without a loss.

A word is a run of letters and digits with inner apostrophes; every other sign is a symbol by itself,
each newline too. One space between two words, or between one of `, . ; : ! ?` and a word, is implied
and no symbol; where such a sign touches a word without a space, the empty symbol stands between. So
every text has one sequence of symbols, and comes back from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Array
from ..errors import DataError
from .vocabulary import BLOCK, Decoder, Numbering, Vocabulary

LETTER = r"[^\W_]"  # or digit
WORD = rf"{LETTER}+(?:['’]{LETTER}+)*"
MARKS = ",.;:!?"
SPACED = rf"(?<={LETTER}|[{MARKS}])"  # after this, a space before a word is implied
TOKEN = re.compile(rf"(?<=[{MARKS}])(?={LETTER})|(?:{SPACED} )?{WORD}|.", re.DOTALL)
LAST_SPACE, FIRST_SPACE = re.compile(rf"{SPACED} \Z"), re.compile(rf" (?={LETTER})")
# At the end of a block, read backwards
OPEN_WORD = re.compile(rf"['’]?{LETTER}+(?:['’]{LETTER}+)*")
A_WORD = re.compile(WORD)
UNKNOWN = "<unk>"  # three symbols in a text, so that no word is mistaken for it

MOST_LETTERS = 1 << 16  # of a word
MOST_WORDS = 1 << 21  # distinct ones in a text: about 0.6 GB while it is prepared
MOST_LETTERS_IN_ALL = 1 << 25  # of these
MOST_BYTES = 1 << 24  # of a vocabulary as JSON


class WordVocabulary(Vocabulary):
    """Words and signs, (V,) str, sorted by code points; perhaps with UNKNOWN, which stands for all
    others.

    Sorted, so that the same symbols always have the same ids, and a file with another order is refused.
    """

    level, noun, encoding = "word", "word", "utf-8"
    unknown_symbol = UNKNOWN

    def __init__(self, symbols: ArrayLike) -> None:
        items = np.array(symbols, object)
        words = items.tolist() if items.ndim == 1 else []
        if not words or not all(map(_is_symbol, words)) or words != sorted(set(words)):
            raise DataError(
                "the symbols of a word vocabulary must be one or more words or signs, sorted and "
                "distinct: take them from a prepared corpus"
            )
        items.setflags(write=False)
        object.__setattr__(self, "symbols", items)

    @staticmethod
    def units(text: str | bytes) -> Array:
        if not isinstance(text, str):
            raise TypeError("a word vocabulary reads str: decode the bytes first")
        return _array(map(_bare, TOKEN.findall(text)))

    @staticmethod
    def without_implied(text: str | bytes, reverse: bool) -> str | bytes:
        """The text without the space at its open end that the next word there will imply."""
        if not isinstance(text, str):
            return text
        if reverse:
            return text[1:] if FIRST_SPACE.match(text) else text
        return text[:-1] if LAST_SPACE.search(text, max(0, len(text) - 1)) else text

    @classmethod
    def numbering(cls) -> Numbering:
        return WordNumbering()

    @classmethod
    def of_text(cls, symbols: Array, counts: Array) -> Vocabulary:
        found = sorted(symbols[counts > 0].tolist())
        if len(json.dumps(found)) > MOST_BYTES:
            raise DataError(
                f"{len(found):,} distinct words are too many for a vocabulary: leave out rare ones "
                "with --min-count or --max-vocabulary (data.min_count, data.max_vocabulary)"
            )
        return cls(_array(found))

    @staticmethod
    def spell(symbol: Any) -> str:
        return repr(symbol)

    @cached_property
    def _id_of(self) -> dict[str, int]:
        return {symbol: i for i, symbol in enumerate(self.symbols.tolist())}

    @property
    def unknown_id(self) -> int | None:
        return self._id_of.get(UNKNOWN)

    def lookup(self, symbols: Array) -> NDArray[np.intp]:
        """The ids of symbols, in their shape; for those outside that of UNKNOWN, or -1 without it."""
        outside, id_of = self._id_of.get(UNKNOWN, -1), self._id_of.get
        found = [id_of(symbol, outside) for symbol in symbols.ravel().tolist()]
        return np.array(found, np.intp).reshape(symbols.shape)

    @cached_property
    def spelling(self) -> tuple[list[bool], list[bool]]:
        """Of each symbol: whether a space may be implied before it, and whether one may be after it."""
        words = [s == UNKNOWN or A_WORD.match(s) is not None for s in self.symbols.tolist()]
        marks = [s in tuple(MARKS) for s in self.symbols.tolist()]
        return words, [word or mark for word, mark in zip(words, marks, strict=True)]

    def text(self, ids: ArrayLike) -> str:
        return "".join(map(self.decoder(), np.asarray(ids, np.intp).tolist()))

    def characters(self, ids: Array) -> int:
        lengths = np.array([len(symbol) for symbol in self.symbols.tolist()])
        words, spaced = (np.array(flags) for flags in self.spelling)
        total = 0
        for start in range(0, len(ids), BLOCK):
            total += int(lengths[ids[start : start + BLOCK]].sum())
            pairs = ids[max(0, start - 1) : start + BLOCK]
            total += int((spaced[pairs[:-1]] & words[pairs[1:]]).sum())
        return total

    def decoder(self) -> Decoder:
        return WordDecoder(self)

    def decoder_after(self, ids: Array) -> Decoder:
        decoder = self.decoder()
        for last in ids[-1:]:
            decoder(int(last))
        return decoder

    @staticmethod
    def _to_items(symbols: list[Any]) -> list[Any]:
        return symbols

    @staticmethod
    def _from_items(items: list[Any]) -> ArrayLike:
        return _array(items)


def _array(symbols: Iterable[Any]) -> Array:
    """Symbols (n,), whatever they are."""
    return np.fromiter(symbols, object)


def _bare(token: str) -> str:
    """A token as TOKEN finds it, without the implied space before it."""
    return token[1:] if len(token) > 1 and token[0] == " " else token


def _is_symbol(symbol: Any) -> bool:
    """Whether a symbol is one that a text can have, or UNKNOWN."""
    if not isinstance(symbol, str):
        return False
    return len(symbol) < 2 or symbol == UNKNOWN or A_WORD.fullmatch(symbol) is not None


class WordDecoder:
    """Text from ids given one at a time; an implied space comes with the word that it precedes."""

    def __init__(self, vocabulary: WordVocabulary) -> None:
        self._symbols = vocabulary.symbols
        self._words, self._spaced = vocabulary.spelling
        self._after_spaced = False

    def __call__(self, symbol_id: int) -> str:
        implied = " " if self._after_spaced and self._words[symbol_id] else ""
        self._after_spaced = self._spaced[symbol_id]
        return implied + str(self._symbols[symbol_id])

    def flush(self) -> str:
        """Nothing waits."""
        return ""


class WordNumbering(dict[str, int]):
    """Numbers symbols as they appear; tokens with and without an implied space have the same number."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[str] = []
        self._letters = 0
        self._before, self._held = "", ""  # the last character that was cut; what is not cut yet

    @property
    def symbols(self) -> Array:
        return _array(self._found)

    def __missing__(self, token: str) -> int:
        bare = _bare(token)
        number = self.get(bare)
        if number is None:
            _check_length(bare)
            number = self[bare] = len(self._found)
            self._found.append(bare)
            self._letters += len(bare)
            if number >= MOST_WORDS or self._letters > MOST_LETTERS_IN_ALL:
                raise DataError(
                    f"more than {number:,} distinct words, too many for the memory: use a part of the "
                    "text, or --level char (data.level)"
                )
        self[token] = number
        return number

    def __call__(self, block: str | bytes) -> Array:
        assert isinstance(block, str)
        text = self._before + self._held + block
        first = len(self._before)
        end = OPEN_WORD.match(text[: -MOST_LETTERS - 3 : -1])
        open_word = end[0] if end else ""
        _check_length(open_word[1:])  # the first of them may be an apostrophe
        # The sign before the last word may be a space that it implies
        return self._cut(text, max(len(text) - len(open_word) - 1, first))

    def rest(self) -> Array:
        text = self._before + self._held
        ids = self._cut(text, len(text))
        self._before = ""
        return ids

    def _cut(self, text: str, stop: int) -> Array:
        """The numbers of a text's symbols up to `stop`; what follows is held."""
        tokens = TOKEN.findall(text, len(self._before), stop)
        self._before, self._held = text[max(stop - 1, 0) : stop], text[stop:]
        return np.fromiter(map(self.__getitem__, tokens), np.uint32, len(tokens))


def _check_length(word: str) -> None:
    if len(word) > MOST_LETTERS:
        raise DataError(
            f"the text has a word of more than {MOST_LETTERS:,} letters: use --level char (data.level)"
        )
