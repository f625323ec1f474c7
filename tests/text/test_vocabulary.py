"""Vocabularies: text to ids and back at every level, one id at a time too, and nothing malformed."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.errors import DataError
from rnnlm.text.format import LEVELS, vocabulary_from_json
from rnnlm.text.vocabulary import ByteVocabulary, CharVocabulary, CodeVocabulary, Vocabulary

every_level = pytest.mark.parametrize("kind", LEVELS.values(), ids=LEVELS)
levels_of_codes = pytest.mark.parametrize("kind", [CharVocabulary, ByteVocabulary])

AWKWARD = [
    "plain",
    "\0nul\x7f",
    "e\u0301 combining, é composed",
    "👩‍👩‍👧 and 🏳️‍🌈",
    "𝔸stral \U0010ffff",
    "\r\n\r\n\v\x85\u2028",
    "\ufeffmark",
    "שלום مرحبا",
    "紅樓夢",
]
SURROGATES = "lone \ud800 and \udfff, a pair apart \ud83d\ude00"
any_text = st.text(st.characters(), min_size=1)  # lone surrogates included


def vocabulary_of(kind: type[Vocabulary], text: str | bytes) -> Vocabulary:
    """Of the symbols in a text."""
    return kind(np.unique(kind.units(text)))


@every_level
@pytest.mark.parametrize("text", AWKWARD)
def test_text_survives_ids_and_back(kind: type[Vocabulary], text: str) -> None:
    """Nothing is normalised, joined or dropped on the way."""
    vocabulary = vocabulary_of(kind, text)
    ids = vocabulary.ids(text)
    assert vocabulary.text(ids) == text
    assert ids.dtype == np.intp
    assert ids.min() == 0
    assert ids.max() == len(vocabulary) - 1


@given(text=any_text)
def test_any_characters_survive_lone_surrogates_too(text: str) -> None:
    """An id is the place of a code point among the sorted code points, as for a naive encoder."""
    symbols = sorted(set(text))
    vocabulary = vocabulary_of(CharVocabulary, text)
    assert vocabulary.ids(text).tolist() == [symbols.index(c) for c in text]
    assert vocabulary.text(vocabulary.ids(text)) == text


@given(data=st.binary(min_size=1))
def test_any_bytes_become_text_as_utf_8_does(data: bytes) -> None:
    """Bytes that are not UTF-8 are replaced, as Python replaces them."""
    vocabulary = vocabulary_of(ByteVocabulary, data)
    assert vocabulary.text(vocabulary.ids(data)) == data.decode("utf-8", "replace")
    assert bytes(vocabulary.symbols[vocabulary.ids(data)].tolist()) == data


@every_level
@given(data=st.data())
def test_a_decoder_gives_what_the_whole_text_would(
    kind: type[Vocabulary], data: st.DataObject
) -> None:
    """Ids one at a time and a flush spell the same text, and never a character too early."""
    text: Any = data.draw(st.binary(min_size=1) if kind is ByteVocabulary else any_text)
    vocabulary = vocabulary_of(kind, text)
    decoder = vocabulary.decoder()
    pieces = [decoder(int(i)) for i in vocabulary.ids(text)]
    assert "".join(pieces) + decoder.flush() == vocabulary.text(vocabulary.ids(text))
    if kind is CharVocabulary:
        assert pieces == list(text)


def test_a_byte_decoder_waits_until_a_character_is_complete() -> None:
    """Three bytes of one character: nothing, nothing, the character."""
    vocabulary = ByteVocabulary(range(256))
    decoder = vocabulary.decoder()
    assert [decoder(b) for b in "a紅".encode()] == ["a", "", "", "紅"]
    assert decoder(0xE7) == ""
    assert decoder.flush() == "\ufffd"


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("é", b"\xc3\xa9"),
        ("\udcff\udce9", b"\xff\xe9"),  # an argument that was not UTF-8
        ("\ud800", b"\xed\xa0\x80"),
    ],
)
def test_bytes_of_a_str_are_utf_8_with_surrogates_undone(text: str, data: bytes) -> None:
    """Whatever a str holds has bytes."""
    vocabulary = ByteVocabulary(range(256))
    assert vocabulary.ids(text).tolist() == vocabulary.ids(data).tolist() == list(data)


def test_a_character_vocabulary_does_not_guess_an_encoding() -> None:
    """Bytes must be decoded by whoever knows how."""
    with pytest.raises(TypeError, match="decode"):
        CharVocabulary([65]).ids(b"A")


def test_unknown_characters_are_named_counted_and_located() -> None:
    """In the order in which they occur."""
    vocabulary = vocabulary_of(CharVocabulary, "abc")
    with pytest.raises(DataError) as caught:
        vocabulary.ids("ab☃ca\nb☃")
    said = str(caught.value)
    assert said.startswith("the text has characters outside the vocabulary (3 in all): ")
    assert "'☃' U+2603 ×2, first at 2; '\\n' U+000A ×1, first at 5: " in said
    with pytest.raises(DataError, match=r"0x64 ×1, first at 3"):
        vocabulary_of(ByteVocabulary, "abc").ids("abcd")


def test_many_unknown_characters_are_summed_up_on_one_line() -> None:
    """The message stays readable."""
    with pytest.raises(DataError, match=r"; and 21 others: ") as caught:
        CharVocabulary([0]).ids("abcdefghijklmnopqrstuvwxyz")
    assert "\n" not in str(caught.value)


@levels_of_codes
def test_unknown_symbols_are_left_out_when_asked(kind: type[Vocabulary]) -> None:
    """The rest keeps its order; nothing may be left."""
    vocabulary = vocabulary_of(kind, "abc")
    assert vocabulary.text(vocabulary.ids("xaybzc", "skip")) == "abc"
    assert vocabulary.ids("xyz", "skip").shape == vocabulary.ids("").shape == (0,)
    assert vocabulary.text([]) == ""


@given(text=any_text, extra=any_text)
def test_ids_translate_between_vocabularies_by_symbol(text: str, extra: str) -> None:
    """Ids of one vocabulary in another are those of the text they spell."""
    here, there = (vocabulary_of(CharVocabulary, t) for t in (text + extra, text))
    assert here.translate(there, there.ids(text)).tolist() == here.ids(text).tolist()
    kept = "".join(c for c in text + extra if c in text)
    assert there.text(there.translate(here, here.ids(text + extra), "skip")) == kept


@levels_of_codes
@given(data=st.data())
def test_json_gives_an_equal_vocabulary(kind: type[CodeVocabulary], data: st.DataObject) -> None:
    """Through the text of a file."""
    symbols = data.draw(st.sets(st.integers(0, kind.limit - 1), min_size=1))
    vocabulary = kind(sorted(symbols))
    again = vocabulary_from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)
    assert type(again) is kind


def test_vocabularies_differ_by_symbols_and_by_level() -> None:
    """Equality is what decides whether a corpus fits a checkpoint."""
    assert CharVocabulary([1, 2]) != CharVocabulary([1, 3])
    assert CharVocabulary([1, 2]) != ByteVocabulary([1, 2])
    assert CharVocabulary([1, 2]) != "\1\2"


def test_a_vocabulary_does_not_change() -> None:
    """Neither through itself nor through the array it was made from."""
    symbols = np.array([1, 2], np.uint32)
    vocabulary = CharVocabulary(symbols)
    symbols[0] = 0
    assert vocabulary.symbols.tolist() == [1, 2]
    assert vocabulary.symbols.dtype == np.uint32
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.symbols[0] = 0
    with pytest.raises(AttributeError):
        vocabulary.symbols = symbols  # type: ignore[misc]


BAD_SYMBOLS: list[Any] = [[], [2, 1], [1, 1], [-1, 1], [0.5], [[1, 2]], ["a"], 1, None]


@levels_of_codes
@pytest.mark.parametrize("symbols", BAD_SYMBOLS, ids=repr)
def test_malformed_symbols_are_refused(kind: type[CodeVocabulary], symbols: Any) -> None:
    """None at all, out of order, twice, out of range, not numbers."""
    for bad in (symbols, [0, kind.limit]):
        with pytest.raises(DataError, match="sorted and distinct"):
            kind(bad)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"level": "char"},
        {"level": "line", "symbols": ["a"]},
        {"level": "word", "symbols": ["b", "a"]},
        {"level": ["char"], "symbols": ["a"]},
        {"level": "char", "symbols": "ab"},
        {"level": "char", "symbols": []},
        {"level": "char", "symbols": ["b", "a"]},
        {"level": "char", "symbols": ["ab"]},
        {"level": "char", "symbols": [""]},
        {"level": "char", "symbols": [97]},
        {"level": "byte", "symbols": ["a"]},
        {"level": "byte", "symbols": [1, 256]},
        {"level": "byte", "symbols": [1, 10**30]},
        {"level": "byte", "symbols": [True]},
        {"level": "byte", "symbols": [1.0]},
    ],
    ids=repr,
)
def test_malformed_json_is_refused(data: Any) -> None:
    """A DataError, whatever is wrong with it."""
    with pytest.raises(DataError, match="prepared corpus"):
        vocabulary_from_json(data)
