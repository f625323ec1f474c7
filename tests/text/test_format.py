"""The format of a text: one object that reads text as ids, spells them, and says what differs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.assembly import make_config
from rnnlm.errors import ConfigError, DataError
from rnnlm.text.format import LEVELS, TextFormat, TextRules

CHARS = [10, 13, 97, 98, 0x1F600]


def text_format(level: str = "char", symbols: Any = None, **rules: Any) -> TextFormat:
    """A format of a few symbols."""
    given = sorted({s % 256 for s in CHARS}) if level == "byte" else CHARS
    return TextFormat(TextRules.named(level, **rules), LEVELS[level](symbols or given))


FORMATS = [
    text_format(),
    text_format(newlines="keep", encoding="latin-1"),
    text_format(symbols=[97]),
    text_format("byte"),
    text_format(unit="line"),
    text_format(reverse=True),
    text_format("byte", unit="line", reverse=True),
]
every_format = pytest.mark.parametrize("f", FORMATS, ids=lambda f: str(f.rules))


@given(text=st.text("ab\r\n"))
def test_line_ends_become_lf_or_stay_and_bytes_always_stay(text: str) -> None:
    """CRLF is one line end, a CR alone is one too."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    normal, kept, raw = text_format(), text_format(newlines="keep"), text_format("byte")
    assert normal.text(normal.ids(text)) == lines
    assert kept.text(kept.ids(text)) == text
    assert raw.text(raw.ids(text)) == text
    assert raw.ids(text.encode()).tolist() == raw.ids(text).tolist()


@every_format
def test_a_decoder_spells_what_the_whole_text_is(f: TextFormat) -> None:
    """Id by id."""
    decoder, ids = f.decoder(), f.ids("aaa")
    assert "".join(decoder(int(i)) for i in ids) + decoder.flush() == f.text(ids) == "aaa"


@every_format
def test_json_gives_an_equal_format(f: TextFormat) -> None:
    """Through the text of a file; another format is another."""
    again = TextFormat.from_json(json.loads(json.dumps(f.to_json())))
    assert again == f
    assert hash(again) == hash(f)
    assert [other == f for other in FORMATS].count(True) == 1
    rules = {"unit": f.rules.unit, "reverse": f.rules.reverse}
    named = {name for name in rules if rules[name] not in ("stream", False)}
    assert f.to_json().keys() == {"encoding", "newlines", "vocabulary", *named}, (
        "as ever, if default"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": None},
        {"encoding": "UTF8"},  # not Python's own name of it
        {"encoding": "klingon"},
        {"encoding": 3},
        {"encoding": ["utf-8"]},
        {"newlines": None},
        {"newlines": "drop"},
        {"newlines": ["keep"]},
        {"vocabulary": None},
        {"vocabulary": {"level": "char", "symbols": ["b", "a"]}},
        {"vocabulary": {"level": "byte", "symbols": [97]}},
        {"unit": "stream"},  # as by default: left out
        {"unit": "page"},
        {"unit": ["line"]},
        {"reverse": False},
        {"reverse": 1},
        {"vocabulary": {"level": "word", "symbols": ["b", "a"]}},
        {"more": 1},
    ],
    ids=str,
)
def test_malformed_json_is_refused(change: dict[str, Any]) -> None:
    """Names that nobody writes, rules that do not go with the level, keys that are not known."""
    with pytest.raises(DataError):
        TextFormat.from_json({**text_format().to_json(), **change})
    for data in (None, [], {}, "x", {"vocabulary": text_format().vocabulary.to_json()}):
        with pytest.raises(DataError):
            TextFormat.from_json(data)


def test_what_differs_is_named_in_words() -> None:
    """The first thing that makes ids mean other text; how files are read does not."""
    here = text_format()
    assert here.difference(text_format(newlines="keep", encoding="latin-1")) is None
    assert here.difference(text_format("byte")) == "level (char, not byte)"
    assert here.difference(text_format(symbols=[97])) == "vocabulary (5 characters, not 1)"
    assert text_format("byte", [97]).difference(text_format("byte", [98])) == (
        "vocabulary (other bytes)"
    )


def test_ids_of_another_format_are_translated_by_symbol() -> None:
    """Or refused, where the symbols are of another kind."""
    here, there = text_format(), text_format(symbols=[97, 120])
    assert here.text(here.translate(there, there.ids("axa"), "skip")) == "aa"
    with pytest.raises(DataError, match="outside the vocabulary"):
        here.translate(there, there.ids("axa"))
    with pytest.raises(DataError, match="byte level, not at char level"):
        here.translate(text_format("byte"), np.array([1]))


def test_what_is_no_text_and_no_choice_is_refused() -> None:
    """Bytes for a model of characters, whose encoding nobody knows; a way with unknown symbols."""
    for f, value in ((text_format(), b"a"), (text_format(), 3), (text_format("byte"), None)):
        with pytest.raises(DataError, match=f"a model of {f.noun}s must be str"):
            f.ids(value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="'error' or 'skip'"):
        text_format().ids("a", "replace")  # type: ignore[arg-type]


def test_rules_are_those_that_a_config_sets() -> None:
    """Under Python's name of the encoding; at byte level there is none, whatever the config says."""
    rules = TextRules.of(make_config(None, "data.encoding=UTF8", "data.newlines=keep").data)
    whole = {"unit": "stream", "reverse": False}
    assert rules.settings() == {"level": "char", "encoding": "utf-8", "newlines": "keep", **whole}
    rules = TextRules.of(make_config(None, "data.level=byte", "data.unit=line").data)
    assert rules.settings() == {"level": "byte", **whole, "unit": "line"}
    with pytest.raises(DataError, match="klingon"):
        TextRules.of(make_config(None, "data.encoding=klingon").data)


def test_a_vocabulary_of_another_level_does_not_go_with_the_rules() -> None:
    """A format is of one level."""
    with pytest.raises(DataError, match="level byte, not char"):
        TextFormat(TextRules.named("char"), LEVELS["byte"]([97]))
