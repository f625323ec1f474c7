"""Words: every text is cut in one way, in any blocks, and comes back."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import rnnlm as command
from hypothesis import example, given
from hypothesis import strategies as st

import rnnlm
from rnnlm.api.evaluation import evaluate_split
from rnnlm.api.facts import describe
from rnnlm.assembly import make_config
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference.evaluation import Evaluation
from rnnlm.models.ngram import NGram
from rnnlm.text import words
from rnnlm.text.format import LEVELS, TextFormat, TextRules, vocabulary_from_json
from rnnlm.text.vocabulary import Vocabulary, limited_vocabulary
from rnnlm.text.words import UNKNOWN, WordVocabulary
from rnnlm.training.plan import about
from rnnlm.wording import share

texts = st.text(st.sampled_from("ab1é'’ .,!-_\n\r\u0301汉 "), min_size=1) | st.text(min_size=1)
EXAMPLE = "a, b,c. 'tis the dogs' day:  two spaces;\n 3.14 l’été"


def vocabulary_of(*texts: str) -> WordVocabulary:
    return WordVocabulary(sorted({token for text in texts for token in tokens(text)}))


def format_of(*texts: str) -> TextFormat:
    return TextFormat(TextRules.named("word"), vocabulary_of(*texts))


def tokens(text: str) -> list[str]:
    found: list[str] = WordVocabulary.units(text).tolist()
    return found


def slow_tokens(text: str) -> list[str]:
    """The rule as the module's text says it, sign by sign."""
    pieces = re.findall(r"[^\W_]+(?:['’][^\W_]+)*|.", text, re.DOTALL)
    found: list[str] = []
    for k, piece in enumerate(pieces):
        before, after = pieces[k - 1] if k else "\n", pieces[k + 1] if k + 1 < len(pieces) else "\n"
        if piece == " " and after[0].isalnum() and (before[0].isalnum() or before in ",.;:!?"):
            continue
        if piece[0].isalnum() and before in ",.;:!?":
            found.append("")
        found.append(piece)
    return found


@given(texts)
@example(EXAMPLE)
def test_text_survives_words_and_back(text: str) -> None:
    """Cut by the stated rule; from the whole, from one symbol after another, after any of them; and
    with as many characters.
    """
    assert tokens(text) == slow_tokens(text)
    vocabulary = vocabulary_of(text)
    ids = vocabulary.ids(text)
    assert vocabulary.text(ids) == text
    assert vocabulary.characters(ids) == len(text)
    decoder = vocabulary.decoder()
    pieces = [decoder(int(i)) for i in ids]
    assert "".join(pieces) + decoder.flush() == text
    half = len(ids) // 2
    rest = vocabulary.decoder_after(ids[:half])
    assert [rest(int(i)) for i in ids[half:]] == pieces[half:]


def test_the_rule_by_example() -> None:
    """Implied spaces are no symbols; the others are, and the empty symbol marks a missing one."""
    assert tokens("The cat's 2 hats, and\n3.5 (no)  more") == [
        *("The", "cat's", "2", "hats", ",", "and", "\n", "3", ".", "", "5"),
        *(" ", "(", "no", ")", " ", " ", "more"),
    ]


@given(texts, st.lists(st.integers(0, 40)))
@example(EXAMPLE, list(range(1, 40)))
@example("a''b'c", [1, 2, 3, 4, 5])
def test_blocks_of_a_text_are_numbered_as_the_whole(text: str, cuts: list[int]) -> None:
    """Wherever it is cut: in a word, before an implied space, after a sign."""
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    number = WordVocabulary.numbering()
    for _ in range(2):
        ids: list[int] = []
        for a, b in pairwise(borders):
            ids += number(text[a:b]).tolist()
        ids += number.rest().tolist()
        assert number.symbols[ids].tolist() == tokens(text)


def test_unknown_words_are_one_symbol_where_the_vocabulary_has_it() -> None:
    """Else they are refused, as unknown characters are."""
    strict, lenient = WordVocabulary(["a", "b"]), WordVocabulary([UNKNOWN, "a", "b"])
    assert lenient.text(lenient.ids("a c b d")) == "a <unk> b <unk>"
    assert strict.unknown_id is None
    with pytest.raises(
        DataError, match=r"words outside the vocabulary \(2 in all\): 'c' ×1, first"
    ):
        strict.ids("a c b d")
    assert tokens("<unk>") == ["<", "unk", ">"]


@given(texts)
def test_json_gives_an_equal_vocabulary(text: str) -> None:
    """And hash and equality follow."""
    vocabulary = vocabulary_of(text)
    again = vocabulary_from_json(vocabulary.to_json())
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)


@pytest.mark.parametrize(
    "symbols", [[], ["b", "a"], ["a", "a"], ["a b"], ["a", 1], [["a"]], ["ab,"], [None], [" a"]]
)
def test_malformed_symbols_are_refused(symbols: Any) -> None:
    """Unsorted, repeated, of more than one token, or no text; in a file too."""
    with pytest.raises(DataError):
        WordVocabulary(np.array(symbols, object))
    with pytest.raises(DataError):
        vocabulary_from_json({"level": "word", "symbols": symbols})


# Which words a vocabulary has


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 5), min_size=1),
    st.integers(1, 4),
    st.none() | st.integers(2, 6),
)
def test_rare_words_are_left_out_as_asked(
    counts: dict[str, int], min_count: int, most: int | None
) -> None:
    """The most frequent stay, of equals the first in the alphabet; <unk> is there where asked."""
    limited = min_count > 1 or most is not None
    kept = sorted((-n, word) for word, n in counts.items() if n >= min_count)
    kept = kept if most is None else kept[: most - 1]
    symbols, numbers = np.array([*counts], object), np.array([*counts.values()])
    made = limited_vocabulary(WordVocabulary, symbols, numbers, min_count, most)
    assert made.symbols.tolist() == sorted([word for _, word in kept] + [UNKNOWN] * limited)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Some verses, each word twice but three."""
    path = tmp_path / "verse.txt"
    line = "The ferry leaves, the bell rings; the quay is still.\n"
    path.write_text(line * 20 + "Nobody's here?\n" + line * 20)
    return path


def test_prepare_says_how_much_is_unknown(text: Path, tmp_path: Path) -> None:
    """And finds the same again; a vocabulary with <unk> reads any text."""
    corpus = rnnlm.prepare(text, tmp_path / "data", level="word", min_count=2)
    n = len(tokens(text.read_text()))
    assert corpus.summary()[2] == f"3 of {n} words ({300 / n:.3g} %) are <unk>"
    model = NGram(len(corpus.vocabulary))
    in_training = int(corpus.train_counts[corpus.vocabulary.unknown_id])
    trained = f"training: {share(in_training, corpus.length('train'), 'word')} are <unk>"
    assert trained in about(model, corpus)  # and before a training
    assert rnnlm.Corpus.open(tmp_path / "data").vocabulary == corpus.vocabulary
    (tmp_path / "other").write_text("The strange bell")
    other = rnnlm.prepare(
        tmp_path / "other", tmp_path / "b", level="word", vocabulary=corpus.vocabulary
    )
    assert other.format.text(other["train"]) == "The <unk> bell"
    assert not any("<unk>" in line for line in rnnlm.prepare(text, None, level="word").summary())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"level": "char", "min_count": 2}, "level char has no symbol for what they leave out"),
        ({"level": "byte", "max_vocabulary": 9}, "level byte has no symbol"),
        ({"level": "word", "min_count": 0}, "min_count must be an integer from 1, not 0"),
        ({"level": "word", "min_count": True}, "min_count must be an integer"),
        ({"level": "word", "max_vocabulary": 1}, "max_vocabulary must be an integer from 2, not 1"),
        ({"level": "word", "max_vocabulary": 2.5}, "max_vocabulary must be an integer"),
        (
            {"level": "word", "min_count": 2, "vocabulary": WordVocabulary(["a"])},
            "say how a vocabulary is made, and one is given",
        ),
        ({"level": "byte", "vocabulary": WordVocabulary(["a"])}, "of level word, not byte"),
    ],
    ids=str,
)
def test_limits_that_cannot_be_are_refused(
    text: Path, tmp_path: Path, settings: dict[str, Any], said: str
) -> None:
    """Before anything is read or written."""
    with pytest.raises(DataError, match=said):
        rnnlm.prepare(text, tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists()


def test_a_prepared_folder_has_its_vocabulary(text: Path, tmp_path: Path) -> None:
    """What says how one is made conflicts with it."""
    rnnlm.prepare(text, tmp_path / "data", level="word")
    config = make_config(None, f"data.path={tmp_path / 'data'}", "data.max_vocabulary=9")
    with pytest.raises(ConfigError, match=r"data.max_vocabulary: 9 says how .* has one"):
        rnnlm.train(config.with_values("run", dir=str(tmp_path / "run")))


@pytest.mark.parametrize("blocks", [["a" * 40], ["a" * 21, "a" * 21], ["b '"] + ["c"] * 40])
def test_an_endless_word_is_refused(monkeypatch: pytest.MonkeyPatch, blocks: list[str]) -> None:
    """However it comes in blocks; many apostrophes are no word."""
    monkeypatch.setattr(words, "MOST_LETTERS", 20)
    number = WordVocabulary.numbering()
    with pytest.raises(DataError, match="a word of more than 20 letters: use --level char"):
        [number(block) for block in blocks]
    number = WordVocabulary.numbering()
    assert sum(number(block).size for block in ["'" * 30] * 3) + number.rest().size == 90


def test_too_many_words_are_refused(monkeypatch: pytest.MonkeyPatch, text: Path) -> None:
    """Many, or long ones; and those that a vocabulary cannot hold, with what leaves them out."""
    for name, limit in (("MOST_WORDS", 5), ("MOST_LETTERS_IN_ALL", 20)):
        with monkeypatch.context() as m, pytest.raises(DataError, match="more than 5 distinct"):
            m.setattr(words, name, limit)
            WordVocabulary.numbering()("aaaa bbbb cccc dddd eeee ffff ")
    monkeypatch.setattr(words, "MOST_BYTES", 60)
    with pytest.raises(DataError, match=r"16 distinct words are too many .* --max-vocabulary"):
        rnnlm.prepare(text, None, level="word")
    assert len(rnnlm.prepare(text, None, level="word", max_vocabulary=4).vocabulary) == 4


# Through the house


@given(st.binary(min_size=1))
def test_bytes_have_the_characters_of_their_text(data: bytes) -> None:
    """What is no valid UTF-8 counts as it is shown."""
    f = TextFormat(TextRules.named("byte"), LEVELS["byte"](range(256)))
    ids = np.frombuffer(data, np.uint8)
    assert f.characters(ids) == len(data.decode("utf-8", "replace"))
    assert Vocabulary.characters(f.vocabulary, ids) == f.characters(ids)


def test_figures_per_character_are_those_of_what_was_predicted() -> None:
    """The first symbol is not; they are left out of a log where symbols are characters."""
    f = format_of(EXAMPLE)
    ids = f.ids(EXAMPLE)
    result = Evaluation(len(ids) - 1, 7.0).of_text(f, ids)
    assert result.characters == len(f.text(ids[1:]))
    assert result.per_character() == {"nats_per_character": 7 / result.characters}
    assert Evaluation(4, 7.0, 4).per_character() == {}
    assert Evaluation(1, math.inf, 3, 1).per_character() == {
        "nats_per_character": None,
        "unknown": 1,
    }
    assert Evaluation(1, 1.0, 0).nats_per_character is None


@pytest.fixture
def run(text: Path, tmp_path: Path) -> rnnlm.TrainingResult:
    """An n-gram of words, one of them rare."""
    config = make_config(
        data={"path": str(text), "level": "word", "min_count": 2, "val_fraction": 0.1},
        model={"kind": "ngram", "order": 3},
        run={"dir": str(tmp_path / "run")},
    )
    return rnnlm.train(config)


def test_a_word_model_evaluates_and_says_what_is_unknown(run: rnnlm.TrainingResult) -> None:
    """Per word and per character, on a split and on any text."""
    record = next(r for r in run.history if r["event"] == "eval")
    checkpoint = run.checkpoint()
    val = evaluate_split(checkpoint, "val")
    assert record["nats_per_character"] == val.nats_per_character == val.nats / val.characters  # type: ignore[operator]
    assert "unknown" not in record
    other = rnnlm.evaluate(checkpoint, "The raft leaves")
    assert (other.symbols, other.unknown, other.characters) == (2, 1, len("<unk> leaves"))
    assert "training: 3 of" in "\n".join(describe(checkpoint))


@pytest.mark.parametrize("prime", ["The ferry", "The ferry ", "the bell rings; ", "still.\n"])
def test_a_sample_goes_on_from_its_prime(run: rnnlm.TrainingResult, prime: str) -> None:
    """A word follows after one space, whether the prime ends with it or not; after a newline none."""
    drawn = rnnlm.generate(run.checkpoint(), prime, 12, temperature=0)
    whole = prime.removesuffix(" ") + drawn
    line = "The ferry leaves, the bell rings; the quay is still.\n"
    assert whole in line * 3
    assert rnnlm.generate(run.checkpoint(), prime, 12, temperature=0, stop="is") in drawn


def test_commands_say_how_much_is_unknown_and_left_out(run: rnnlm.TrainingResult) -> None:
    """The space that ends a prime is not left out; `score` says the share of its text."""
    options = ("--prime", "The ferry ", "--unknown", "skip", "--length", 2)
    assert not command("sample", run.folder, *options).stderr
    said = command("score", run.folder, "--text", "The raft", "--text", "The ferry")
    assert said.stderr.endswith("\n1 of 6 words (16.7 %) are <unk>\n")


def test_a_space_that_a_word_implies_is_no_symbol_of_a_prime(run: rnnlm.TrainingResult) -> None:
    """Neither of a sample nor of the next probabilities; read backwards, it stands before the prime."""
    checkpoint = run.checkpoint()
    assert rnnlm.next_probabilities(checkpoint, "The ") == rnnlm.next_probabilities(
        checkpoint, "The"
    )
    f = format_of("a  b\n c")
    backwards = replace(f, rules=replace(f.rules, reverse=True))
    primes = (" a", "a ", "  a", " \n", " ", "\n a")
    shown = [backwards.text(backwards.prime(text)) for text in primes]
    assert shown == ["a", "a ", "  a", " \n", " ", "\n a"]


def test_a_space_that_nothing_implies_stays_in_a_prime() -> None:
    """It is a symbol there."""
    f = format_of("a  b\n c")
    assert [f.text(f.prime(text)) for text in ("a ", "a  ", " ", "\n ")] == ["a", "a  ", " ", "\n "]
