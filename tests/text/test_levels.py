"""A level is one class and one line in a table: words, made here, go through the whole house."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from rnnlm import Checkpoint, Corpus, DataError, prepare
from rnnlm.api.evaluation import evaluate, evaluate_split
from rnnlm.api.facts import describe
from rnnlm.api.sampling import generate
from rnnlm.arrays import Array
from rnnlm.assembly import build_model, make_config
from rnnlm.text.format import LEVELS
from rnnlm.text.vocabulary import Decoder, Numbering, Vocabulary

TEXT = "the ferry leaves the quay and the bell rings on the quay " * 12


class Words(Vocabulary):
    """Words between spaces, the most frequent first."""

    level, noun, encoding = "word", "word", "utf-8"

    def __init__(self, symbols: ArrayLike) -> None:
        object.__setattr__(self, "symbols", np.array(symbols, object))

    @staticmethod
    def units(text: str | bytes) -> Array:
        assert isinstance(text, str)
        return np.array(text.split(), object)

    @classmethod
    def numbering(cls) -> Numbering:
        return Appearing()

    @classmethod
    def of_text(cls, symbols: Array, counts: Array) -> Vocabulary:
        return cls(symbols[np.argsort(-counts, kind="stable")])

    @staticmethod
    def spell(symbol: Any) -> str:
        return repr(symbol)

    def lookup(self, symbols: Array) -> NDArray[np.intp]:
        places = {symbol: place for place, symbol in enumerate(self.symbols)}
        return np.array([places.get(symbol, -1) for symbol in symbols], np.intp)

    def text(self, ids: ArrayLike) -> str:
        return "".join(f"{word} " for word in self.symbols[np.asarray(ids, np.intp)])

    def decoder(self) -> Decoder:
        return Spelling(self)

    @staticmethod
    def _to_items(symbols: list[Any]) -> list[Any]:
        return symbols

    @staticmethod
    def _from_items(items: list[Any]) -> list[Any]:
        return items


class Appearing:
    """Numbers for words as they appear; a word that a block cuts in two waits for its other half."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._held = ""

    @property
    def symbols(self) -> Array:
        return np.array(list(self._ids), object)

    def __call__(self, block: str | bytes) -> Array:
        assert isinstance(block, str)
        *whole, self._held = re.split(r"\s", self._held + block)
        return self._number(whole)

    def rest(self) -> Array:
        whole, self._held = [self._held], ""
        return self._number(whole)

    def _number(self, words: list[str]) -> Array:
        ids = [self._ids.setdefault(word, len(self._ids)) for word in words if word]
        return np.array(ids, np.uint32)


class Spelling:
    """A word and a space for each id."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def __call__(self, symbol_id: int) -> str:
        return self._vocabulary.text([symbol_id])

    def flush(self) -> str:
        return ""


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """Words of a text in a prepared folder."""
    monkeypatch.setitem(LEVELS, "word", Words)
    monkeypatch.setattr("rnnlm.text.sources.CHUNK", 7)
    (tmp_path / "text").write_text(TEXT)
    return prepare(tmp_path / "text", tmp_path / "data", level="word", val_fraction=0.2)


def test_a_prepared_folder_holds_words(corpus: Corpus) -> None:
    """In the order of their vocabulary, opened again, and named in what is said of it."""
    again = Corpus.open(corpus.folder)
    ids = np.concatenate([again[split] for split in ("train", "val", "test")])
    assert again.format == corpus.format
    assert again.format.text(ids) == TEXT
    assert again.vocabulary.symbols[0] == "the"
    assert again.summary()[0].startswith("144 words, 8 distinct, ")


def test_words_that_are_unknown_or_never_seen_are_named(corpus: Corpus, tmp_path: Path) -> None:
    """By their class's spelling."""
    (tmp_path / "other").write_text("the quay and the sea")
    with pytest.raises(DataError, match=r"words outside the vocabulary \(1 in all\): 'sea' ×1"):
        prepare(tmp_path / "other", tmp_path / "out", level="word", vocabulary=corpus.vocabulary)
    (tmp_path / "other").write_text("the quay and the ferry " * 9)
    shared = prepare(
        tmp_path / "other", tmp_path / "out", level="word", vocabulary=corpus.vocabulary
    )
    assert "never seen in training (4): 'leaves', " in shared.summary()[-1]


def test_a_checkpoint_of_words_is_saved_evaluated_and_drawn_from(
    corpus: Corpus, tmp_path: Path
) -> None:
    """Its vocabulary is text in a member of its own."""
    config = make_config(None, "model.hidden_size=4", "model.num_layers=1")
    config = config.with_values("data", **corpus.format.rules.settings())
    params = build_model(config, len(corpus.vocabulary)).init(np.random.default_rng(0))
    Checkpoint(config, corpus.format, params, corpus.train_counts).save(tmp_path / "c.npz")
    loaded = Checkpoint.load(tmp_path / "c.npz")
    assert loaded.format == corpus.format
    assert evaluate(loaded, "the bell rings").symbols == 2
    by_split = evaluate_split(loaded, "val", corpus.folder)
    assert by_split == evaluate(loaded, corpus.format.text(corpus["val"]))
    drawn = "".join(generate(loaded, "the", length=5)).split()
    assert len(drawn) == 5
    assert set(drawn) <= set(TEXT.split())
    assert any(line.startswith("vocabulary: 8 words: the ") for line in describe(loaded))
