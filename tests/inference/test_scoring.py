"""Scoring: every line from the zero state, as an oracle has it, with the same bits in any company."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import both_depths, both_inputs, every_cell
from ngram_oracle import Oracle
from oracles import cell_keys, model_losses
from processes import forking

from rnnlm import Checkpoint, DataError, make_config, next_probabilities, score, surprisal
from rnnlm.api.scoring import score_lines
from rnnlm.assembly import build_model
from rnnlm.backend import blas
from rnnlm.backend.workers import ForkedWorkers
from rnnlm.cells import LSTM, Cell
from rnnlm.inference import scoring
from rnnlm.inference.evaluation import evaluate
from rnnlm.inference.scoring import in_batches, split_lines
from rnnlm.models.base import CountedModel, TrainableModel
from rnnlm.text.batches import Lines
from rnnlm.text.format import LEVELS, TextFormat, TextRules

LETTERS = "\nabcdefghij"


def checkpoint(*keys: str, letters: str = LETTERS, level: str = "char", **rules: Any) -> Checkpoint:
    """A model of these letters with random weights, or one that has counted a random text."""
    config = make_config(None, f"data.level={level}", *keys)
    text = letters.encode() if level == "byte" else letters
    kind = LEVELS[level]
    vocabulary = kind(np.unique(kind.units(text)))
    model: Any = build_model(config, len(vocabulary))
    rng = np.random.default_rng(3)
    if isinstance(model, TrainableModel):
        params: Any = model.init(rng)
        params.flat[:] = 0.9 * (params.flat + rng.normal(0, 0.05, params.flat.size))
    else:
        assert isinstance(model, CountedModel)
        params = model.fit(rng.integers(len(vocabulary), size=900))
    counts = np.arange(1, len(vocabulary) + 1)
    text_format = TextFormat(TextRules.named(level, **rules), vocabulary)
    return Checkpoint(config, text_format, params, counts)


def small(cell: Cell, depth: int = 2, embedding: int | None = None) -> Checkpoint:
    """A recurrent model of a size that is no multiple of a vector's."""
    sizes = (f"model.num_layers={depth}", "model.hidden_size=21")
    return checkpoint(*cell_keys(cell), *sizes, f"model.embedding_size={embedding or 'null'}")


def ngram(order: int = 4) -> Checkpoint:
    return checkpoint("model.kind=ngram", f"model.order={order}")


def lines(n: int, longest: int = 20, seed: int = 0, letters: str = LETTERS[1:]) -> list[str]:
    """Lines of random letters, some of them empty."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(longest, size=n).tolist()
    return ["".join(letters[i] for i in rng.integers(len(letters), size=k)) for k in sizes]


def oracle(cell: Cell, c: Checkpoint, line: str) -> float:
    """-ln p of a line in float64, read by itself from the zero state, its end included."""
    ids = c.ids(f"\n{line}\n")
    wide = {name: array.astype(np.float64) for name, array in c.params.items()}
    state = c.model.zero_state(1, np.float64)  # type: ignore[attr-defined]
    losses, _ = model_losses(cell, wide, ids[:-1, None], ids[1:, None], state)
    return float(losses.sum())


def assert_company_changes_no_bit(c: Checkpoint) -> None:
    """The scores of lines alone, among others, in another order and cut into other blocks."""
    texts = lines(130)
    together = score(c, texts)
    order = np.random.default_rng(1).permutation(len(texts))
    assert (score(c, [texts[i] for i in order]) == together[order]).all()
    assert (score(c, texts[7:40]) == together[7:40]).all()
    for k in (0, 113, 129):
        assert (score(c, [texts[k]]) == together[k]).all()


@every_cell
@both_depths
@both_inputs
def test_company_changes_no_bit_of_a_line(cell: Cell, depth: int, embedding: int | None) -> None:
    """Not with the kernels of this machine's BLAS."""
    assert_company_changes_no_bit(small(cell, depth, embedding))


@pytest.mark.parametrize("smoothing", ["kneser_ney", "none"])
def test_company_changes_no_bit_of_a_line_that_an_ngram_scores(smoothing: str) -> None:
    """Infinite scores neither."""
    c = checkpoint("model.kind=ngram", "model.order=3", f"model.smoothing={smoothing}")
    assert_company_changes_no_bit(c)


def test_rows_that_a_product_treats_differently_are_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lines stand in the others, and every symbol still counts once."""
    c, texts = small(LSTM()), lines(100)
    expected = score(c, texts)
    found = np.flatnonzero(np.arange(96) % 12 < 6)
    alike = blas.rows_alike(96, 5)
    monkeypatch.setattr(blas, "rows_alike", lambda *_: np.intersect1d(found, alike))
    assert (score(c, texts) == expected).all()


def test_rows_alike_are_alike() -> None:
    """In a product of a size of its own; the first is always one of them."""
    alike = blas.rows_alike(48, 10)
    assert alike[0] == 0
    rng = np.random.default_rng(5)
    X = np.tile(rng.standard_normal((1, 77), np.float32), (480, 1))
    product = (X @ rng.standard_normal((77, 90), np.float32)).reshape(10, 48, 90)
    assert (product[:, alike] == product[0, 0]).all()


@every_cell
def test_a_score_is_a_float64_oracles(cell: Cell) -> None:
    """Within 1e-6 nats a symbol, each line read by itself."""
    c, texts = small(cell), lines(12)
    for text, nats in zip(texts, score(c, texts), strict=True):
        assert nats == pytest.approx(oracle(cell, c, text), abs=1e-6 * (len(text) + 1))


def test_an_ngrams_score_is_an_oracles() -> None:
    """That counts in dictionaries; contexts do not reach back beyond the start symbol."""
    c, texts = ngram(), lines(12)
    ids = np.random.default_rng(3).integers(len(LETTERS), size=900).tolist()
    slow = Oracle(ids, None, len(LETTERS), 4, "kneser_ney")
    for text, nats in zip(texts, score(c, texts), strict=True):
        read = slow.read(c.ids(f"\n{text}\n").tolist(), None)
        assert nats == pytest.approx(-sum(math.log(p) for _, p in read), abs=1e-9)


def test_the_sum_is_the_evaluation_of_a_line_unit() -> None:
    """However that cuts lines into windows."""
    c, texts = small(LSTM()), lines(100)
    ids = c.ids("\n".join([*texts, ""]))
    result = evaluate(c.model, c.params, ids, 32, lambda ids, B, T: Lines(ids, 0, B, T))
    assert result.symbols == len(ids)
    assert score(c, texts).sum() == pytest.approx(result.nats, abs=1e-6 * len(ids))


def test_a_long_line_is_read_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the score that it has among others, and bits that do not depend on them."""
    c, alone = small(LSTM()), []
    texts = [*lines(5), *lines(2, 400, seed=2), *lines(5, seed=1)]
    expected = score(c, texts)

    class Counted(scoring.Stream):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            alone.append(self)

    monkeypatch.setattr(scoring, "LONG", 50)
    monkeypatch.setattr(scoring, "Stream", Counted)
    found = score(c, texts)
    assert len(alone) == 2
    assert np.allclose(found, expected, rtol=0, atol=1e-4)
    assert (score(c, texts[5:7]) == found[5:7]).all()


def test_without_a_newline_the_first_symbol_comes_from_frequencies() -> None:
    """And nothing ends a line: an empty one has no symbol."""
    c = checkpoint(*cell_keys(LSTM()), "model.hidden_size=9", letters="abc")
    a, b, ab, empty, *_ = score(c, ["a", "b", "ab", "", "cab"])
    assert a == pytest.approx(-math.log(1 / 6))
    assert b == pytest.approx(-math.log(2 / 6))
    assert empty == 0
    wide = {name: array.astype(np.float64) for name, array in c.params.items()}
    state = c.model.zero_state(1, np.float64)  # type: ignore[attr-defined]
    losses, _ = model_losses(LSTM(), wide, np.array([[0]]), np.array([[1]]), state)
    assert ab - a == pytest.approx(losses[0], abs=1e-6)
    assert surprisal(c, "ab").tolist() == pytest.approx([a, losses[0]], abs=1e-6)
    assert next_probabilities(c) == pytest.approx({"c": 3 / 6, "b": 2 / 6, "a": 1 / 6})


@pytest.mark.parametrize("make", [lambda: small(LSTM()), ngram], ids=["lstm", "ngram"])
def test_surprisal_score_and_next_probabilities_are_one_thing(
    make: Callable[[], Checkpoint],
) -> None:
    """Probabilities sum to 1, and the one of what comes is exp of minus its surprisal."""
    c, text = make(), "abba" * 40
    nats = surprisal(c, text)
    for k in (0, 1, 5, 159):
        after = next_probabilities(c, text[:k])
        assert list(after.values()) == sorted(after.values(), reverse=True)
        assert math.fsum(after.values()) == pytest.approx(1, abs=1e-6)
        assert after[text[k]] == pytest.approx(math.exp(-nats[k]), rel=1e-5)
    end = -math.log(next_probabilities(c, text)["\n"])
    assert nats.shape == (160,)
    assert nats.sum() + end == pytest.approx(float(score(c, [text])[0]), abs=1e-4)


def test_a_reversed_model_scores_the_text_it_is_given() -> None:
    """Lines from their end to their beginning; surprisal in the order of the text."""
    c, back = small(LSTM()), small(LSTM())
    back = Checkpoint(
        back.config,
        TextFormat(TextRules.named("char", reverse=True), back.vocabulary),
        back.params,
        back.counts,
    )
    texts = [*lines(7), "abc"]
    backwards = score(back, [text[::-1] for text in texts])
    assert np.allclose(backwards, score(c, texts), rtol=1e-14, atol=0)  # summed in another order
    assert (surprisal(back, "abc") == surprisal(c, "cba")[::-1]).all()


def test_lines_of_a_line_model_are_read_from_the_zero_state_in_a_longer_text() -> None:
    """Those of a stream model carry the state over the newline."""
    c = small(LSTM())
    line = Checkpoint(
        c.config, TextFormat(TextRules.named("char", unit="line"), c.vocabulary), c.params, c.counts
    )
    found, carried = surprisal(line, "abc\nabc"), surprisal(c, "abc\nabc")
    assert (found[:3] == carried[:3]).all()
    assert found[4:] == pytest.approx(found[:3], abs=1e-6)
    assert not np.allclose(carried[4:], found[4:])


def test_texts_may_end_with_their_newline_and_be_bytes() -> None:
    """An open file is an iterable of lines; at byte level text is UTF-8."""
    c = small(LSTM())
    assert (score(c, ["abc\n", "a\r\n", "\n"]) == score(c, ["abc", "a", ""])).all()
    assert score(c, []).shape == (0,)
    by_byte = checkpoint("model.hidden_size=9", level="byte", letters="\nabé")
    assert (score(by_byte, ["é", "ab\n"]) == score(by_byte, ["é".encode(), b"ab"])).all()


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ("abc", "put it into a list"),
        (["a", "a\nb"], "text 2 has a newline inside"),
        (["a", b"a"], "text 2 must be str"),
        (["a", "b", "aZ"], "text 3: the text has characters outside the vocabulary"),
    ],
)
def test_bad_texts_are_named(texts: Any, words: str) -> None:
    """By their numbers."""
    with pytest.raises(DataError, match=words):
        score(small(LSTM()), texts)


def test_a_reversed_model_carries_nothing() -> None:
    """The line before is not what it has read."""
    c = checkpoint("model.hidden_size=9", reverse=True)
    with pytest.raises(DataError, match="reads text backwards"):
        next(score_lines(c, [["a"]], carry=True))


def test_unknown_symbols_can_be_left_out() -> None:
    """The others keep their score."""
    c = small(LSTM())
    assert (score(c, ["aXb", "YY"], unknown="skip") == score(c, ["ab", ""])).all()
    assert len(surprisal(c, "aXb", unknown="skip")) == 2


def test_carried_lines_are_one_text() -> None:
    """Whatever the blocks in which they come: the same bits."""
    c, texts = small(LSTM()), lines(40)
    whole = surprisal(c, "\n".join(texts))
    for size in (1, 7, 40):
        batches = [texts[k : k + size] for k in range(0, 40, size)]
        blocks = list(score_lines(c, batches, carry=True))
        assert [line for block in blocks for line in block.lines] == texts
        nats = np.concatenate([block.nats for block in blocks])
        assert (nats[:-1] == whole).all()
        assert sum(block.symbols.sum() for block in blocks) == len(nats)


@pytest.mark.parametrize("text", ["", "\n", "a", "ab\n\nc", "\n\nabc\n", "x" * 50 + "\ny"])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_lines_are_cut_from_blocks(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `splitlines` cuts them, for texts and bytes."""
    monkeypatch.setattr(scoring, "BLOCK", 3)
    blocks = [text[k : k + size] for k in range(0, len(text), size)]
    assert [line for batch in split_lines(blocks) for line in batch] == text.splitlines()
    found = [line for batch in split_lines(b.encode() for b in blocks) for line in batch]
    assert found == text.encode().splitlines()


def test_a_line_longer_than_the_limit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its number, before the memory is full."""
    monkeypatch.setattr(scoring, "LONGEST", 100)
    with pytest.raises(DataError, match="line 3 has more than 100 characters"):
        list(split_lines(["a\nb\n", *["c" * 9] * 12]))


def test_every_line_is_in_one_batch() -> None:
    """None is lost between batches of a limited size."""
    texts = lines(50)
    batches = list(in_batches(iter(texts)))
    assert Counter(line for batch in batches for line in batch) == Counter(texts)


@forking
@pytest.mark.parametrize("letters", [LETTERS, LETTERS[1:]], ids=["newline", "no newline"])
def test_workers_find_the_scores_of_one_process(
    letters: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit, with more workers than some texts have lines."""
    c = checkpoint("model.hidden_size=16", letters=letters)
    texts = lines(40)
    alone = [score(c, some) for some in (texts, texts[:1], [""])]
    monkeypatch.setattr(scoring, "forked", ForkedWorkers)
    monkeypatch.setattr(scoring, "FEWEST", 0)
    for workers in (2, 3):
        monkeypatch.setattr(scoring, "available_cores", lambda: workers)  # noqa: B023
        for some, expected in zip((texts, texts[:1], [""]), alone, strict=True):
            np.testing.assert_array_equal(score(c, some), expected)
