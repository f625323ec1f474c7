"""Lines and direction: how text is split, read and turned back, against whole strings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnnlm.assembly import make_config
from rnnlm.errors import ConfigError, DataError
from rnnlm.runs.run_data import facing, open_data
from rnnlm.text import parts as preparing
from rnnlm.text.corpus import CORPUS_FILE, SPLITS, Corpus
from rnnlm.text.format import LEVELS, TextFormat, TextRules
from rnnlm.text.prepare import prepare


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def prepared(folder: Path, *texts: str | bytes, **options: Any) -> Corpus:
    """A corpus of lines, of files with these contents."""
    folder.mkdir(exist_ok=True)
    names = [folder / f"{k}.txt" for k in range(len(texts))]
    for name, text in zip(names, texts, strict=True):
        name.write_bytes(text if isinstance(text, bytes) else text.encode())
    return prepare(names, None, **{"unit": "line", **options})


def split_lines(corpus: Corpus) -> dict[str, list[str]]:
    """The lines of each split; every one ends with a newline."""
    texts = {name: corpus.format.text(corpus[name]) for name in SPLITS}
    assert all(text.endswith("\n") or not text for text in texts.values())
    return {name: text.split("\n")[:-1] for name, text in texts.items()}


LINES = [f"{k} " + "x" * (k % 7) for k in range(103)]


@pytest.mark.parametrize("level", ["char", "byte"])
@pytest.mark.parametrize(("lines", "block"), [(1 << 12, 1 << 18), (5, 3)])
def test_splits_are_of_whole_lines_that_were_shuffled_once(
    level: str, lines: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line in one split, floor(L · f) for validation and test, the same in every prepare."""
    monkeypatch.setattr(preparing, "LINES", lines)
    monkeypatch.setattr(preparing, "BLOCK", block)
    text = "\n".join(LINES).replace("x", "é") + "\n"
    corpus = prepared(tmp_path, text, level=level, val_fraction=0.1, test_fraction=0.29)
    found = split_lines(corpus)
    assert [len(found[name]) for name in SPLITS] == [64, 10, 29]
    assert [corpus.units(name) for name in SPLITS] == [64, 10, 29]
    ordered = [line for name in SPLITS for line in found[name]]
    assert sorted(ordered) == sorted(text.split("\n")[:-1])
    moved = sum(a != b for a, b in zip(ordered, text.split("\n"), strict=False))
    assert moved > 90
    again = prepared(tmp_path, text, level=level, val_fraction=0.1, test_fraction=0.29)
    assert again.fingerprint == corpus.fingerprint


def test_lines_keep_their_order_when_asked(tmp_path: Path) -> None:
    """Then the splits join to the text."""
    corpus = prepared(tmp_path, "\n".join(LINES) + "\n", shuffle_lines=False, val_fraction=0.5)
    found = split_lines(corpus)
    assert [len(found[name]) for name in SPLITS] == [47, 51, 5]
    assert [line for name in SPLITS for line in found[name]] == LINES


def test_a_file_without_a_newline_at_its_end_gets_one(tmp_path: Path) -> None:
    """So lines of two files do not merge; it is counted and said."""
    options: dict[str, Any] = {"val_fraction": 0, "test_fraction": 0, "shuffle_lines": False}
    corpus = prepared(tmp_path, "a\nb", "", "c\n", "d\r", "\ne", **options)
    assert corpus.format.text(corpus["train"]) == "a\nb\nc\nd\n\ne\n"
    assert corpus.newlines_added == 2
    assert "2 newlines added at the end of a file" in corpus.summary()
    kept = prepared(tmp_path, "a\r\nb\r", newlines="keep", **options)
    assert kept.format.text(kept["train"]) == "a\r\nb\r\n"
    (tmp_path / "own").write_text("\nb")
    other = prepared(tmp_path, "a\n", val=tmp_path / "own", test_fraction=0)
    assert split_lines(other) == {"train": ["a"], "val": ["", "b"], "test": []}


def test_the_type_of_ids_may_change_within_a_line(tmp_path: Path) -> None:
    """Lines are gathered from all parts of the spool."""
    text = "ab\n" * 3 + "".join(map(chr, range(0x4E00, 0x4E00 + 300))) + "\nzz\n" * 3
    corpus = prepared(tmp_path, text, val_fraction=0.3)
    found = [line for lines in split_lines(corpus).values() for line in lines]
    assert sorted(found) == sorted(text.split("\n")[:-1])


def test_what_gives_no_lines_is_refused(tmp_path: Path) -> None:
    """One line for three splits; an option without lines; a vocabulary without a newline."""
    with pytest.raises(DataError, match="has one line"):
        prepared(tmp_path, "all in one")
    corpus = prepared(tmp_path, "all in one", val_fraction=0, test_fraction=0)
    assert corpus.units("train") == 1
    with pytest.raises(DataError, match="no lines to shuffle: use unit line"):
        prepared(tmp_path, "a\nb\n", unit="stream", shuffle_lines=True)
    with pytest.raises(DataError, match="has no newline"):
        prepared(tmp_path, "a\nb\n", vocabulary=LEVELS["char"]([97, 98]))
    with pytest.raises(DataError, match="unit 'page'"):
        prepared(tmp_path, "a\nb\n", unit="page")


def test_a_prepared_folder_says_its_unit_and_serves_both_directions(tmp_path: Path) -> None:
    """Its fingerprint tells units apart, not directions; what it does not fix must not be asked."""
    (tmp_path / "0.txt").write_text("\n".join(LINES))
    (line, stream) = (tmp_path / "line", tmp_path / "stream")
    corpus = prepare(tmp_path / "0.txt", line, unit="line")
    assert prepare(tmp_path / "0.txt", stream).fingerprint != corpus.fingerprint
    assert Corpus.open(line).newlines_added == 1
    backwards = facing(corpus, True)
    assert backwards.fingerprint == corpus.fingerprint
    assert (backwards["train"][:-1] == corpus["train"][:-1][::-1]).all()

    def opened(*overrides: str) -> Corpus:
        return open_data(make_config(None, f"data.path={line}", *overrides), None)[1]

    assert (opened("data.reverse=true")["val"] == backwards["val"]).all()
    config, _ = open_data(make_config(None, f"data.path={line}", "data.val_fraction=0.05"), None)
    assert config.data.unit == "line"
    for key in ("unit=stream", "shuffle_lines=true", "val_fraction=0.2"):
        with pytest.raises(ConfigError, match=f"data.{key.split('=')[0]}"):
            opened(f"data.{key}")
    index = json.loads((line / CORPUS_FILE).read_text())
    for change in ({"newlines_added": 0}, {"text": {**index["text"], "reverse": True}}):
        (line / CORPUS_FILE).write_text(json.dumps({**index, **change}))
        with pytest.raises(DataError, match="not as this version writes it"):
            Corpus.open(line)


def a_format(**rules: Any) -> TextFormat:
    return TextFormat(TextRules.named("char", **rules), LEVELS["char"]([10, 97, 98, 99]))


@given(text=st.text("abc\n"), unit=st.sampled_from(["stream", "line"]))
@settings(max_examples=25)
def test_what_is_read_backwards_is_spelled_forwards(text: str, unit: str) -> None:
    """By the format and by its decoder; the newline that ends the last line stays at the end."""
    forwards, backwards = a_format(unit=unit), a_format(unit=unit, reverse=True)
    text += "\n" if unit == "line" else ""
    ids = backwards.ids(text)
    end = "\n" if unit == "line" else ""
    assert forwards.text(ids) == text.removesuffix(end)[::-1] + end
    decoder = backwards.decoder()
    assert "".join(decoder(int(i)) for i in ids) == ""
    assert decoder.flush() == backwards.text(ids) == text
    for here, there in ((forwards, backwards), (backwards, forwards), (backwards, backwards)):
        assert here.text(here.translate(there, there.ids(text))) == text


@given(text=st.text("abc\n"), reverse=st.booleans())
@settings(max_examples=25)
def test_lines_are_counted_between_newlines(text: str, reverse: bool) -> None:
    """One before the first and one after the last; texts begin at all of them but the last."""
    f = a_format(unit="line", reverse=reverse)
    ids, fresh = f.to_count(f.ids(text + "\n").astype(np.uint8))
    assert fresh is not None
    lines = text.split("\n")
    if reverse:
        lines = [line[::-1] for line in lines][::-1]
    else:
        assert (f.to_count(f.ids(text + "a"))[0] == f.to_count(f.ids(text + "a\n"))[0]).all()
    spelled = f.vocabulary.text(ids)
    assert spelled == "\n" + "".join(line + "\n" for line in lines)
    assert [bool(mark) for mark in fresh] == [c == "\n" for c in spelled]
