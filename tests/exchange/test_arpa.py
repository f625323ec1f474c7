"""N-grams in the ARPA format: written, read with suspicion, and as runs from the command line."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import says
from conftest import TEXT
from exchanged import random_checkpoint

import rnnlm
from rnnlm.cells import LSTM
from rnnlm.errors import ConfigError, DataError
from rnnlm.exchange import arpa
from rnnlm.exchange.arpa import arpa_lines, token
from rnnlm.exchange.contract import Imported, Symbols
from rnnlm.exchange.exporting import export
from rnnlm.exchange.importing import import_model
from rnnlm.models.ngram import NGram, Params
from rnnlm.text.batches import Batch
from rnnlm.text.format import TextFormat, TextRules
from rnnlm.text.vocabulary import CharVocabulary

SYMBOLS = "\x00\n \\aé"
RULES = TextRules.named("char")
EXACT = {"rtol": 1e-10, "atol": 1e-90}


def named(symbols: str) -> Symbols:
    """Characters as a user names them."""
    vocabulary = CharVocabulary(sorted(map(ord, symbols)))
    return Symbols(TextFormat(RULES, vocabulary), np.arange(len(symbols)))


def read(path: Path, symbols: str | None = None) -> Imported:
    return arpa.read(path, None if symbols is None else named(symbols), RULES)


def model_of(imported: Imported) -> tuple[NGram, Params]:
    options = {k: v for k, v in imported.model.items() if k != "kind"}
    model = NGram(len(imported.format.vocabulary), **options)
    return model, model.restore(imported.params)


def text_of(n: int, V: int) -> np.ndarray:
    """A text with something to learn: runs of equal symbols."""
    rng = np.random.default_rng(0)
    return np.repeat(rng.integers(V, size=n), rng.integers(1, 4, size=n))[:n]


def probabilities(model: NGram, params: Params, ids: Any, fresh: Any = None) -> np.ndarray:
    """Of each symbol of a text but the first."""
    losses, column = np.full((len(ids) - 1, 1), np.nan), np.asarray(ids)[:, None]
    marks = None if fresh is None else np.asarray(fresh)[:-1, None]
    model.read(params, 1)(Batch(column[:-1], column[1:], marks), losses)
    return np.exp(-losses[:, 0])


def written(path: Path, params: Params, symbols: str, boundary: int | None = None) -> Path:
    path.write_text("".join(arpa_lines(params, [token(s) for s in symbols], boundary)), "utf-8")
    return path


@pytest.mark.parametrize("smoothing", ["kneser_ney", "witten_bell", "none"])
@pytest.mark.parametrize("order", [1, 2, 5])
def test_a_model_comes_back_from_its_file(tmp_path: Path, smoothing: str, order: int) -> None:
    """With the same probabilities, to the digits of the file, and the symbols that the file names."""
    text = text_of(1500, 6)
    model = NGram(6, order, smoothing)
    params = model.fit(text[:1000])
    path = written(tmp_path / "m.arpa", params, SYMBOLS)
    imported = read(path)
    assert imported.format.vocabulary == CharVocabulary(list(map(ord, SYMBOLS)))
    back, again = model_of(imported)
    expected = probabilities(model, params, text)
    np.testing.assert_allclose(probabilities(back, again, text), expected, **EXACT)
    other = written(tmp_path / "again.arpa", again, SYMBOLS)
    assert sorted(other.read_bytes().split()) == pytest.approx(sorted(path.read_bytes().split()))


def test_lines_are_written_as_sentences(tmp_path: Path) -> None:
    """The newline that begins a line is <s> and the one that ends it is </s>, and both come back."""
    text = np.array([0, *map("\nabc".index, "abc\nab\n\ncab\nb\nabc\n")])
    fresh = text == 0
    model = NGram(4, 4)
    params = model.fit(text, fresh=fresh)
    path = written(tmp_path / "m.arpa", params, "\nabc", boundary=0)
    words = {
        tuple(line.split("\t")[1].split(" "))
        for line in path.read_text().splitlines()
        if "\t" in line
    }
    assert {("<s>", "a", "b"), ("<s>", "</s>"), ("b", "c", "</s>"), ("</s>",), ("<s>",)} <= words
    assert not any("<s>" in w[1:] or "</s>" in w[:-1] or r"\u{a}" in w for w in words)
    with path.open("rb") as file:
        reader = arpa._Reader(arpa._Lines(path, file), [token(s) for s in "\nabc"], 0)
        back = arpa.to_params(reader.read(path.stat().st_size))
    expected = probabilities(model, params, text, fresh)
    np.testing.assert_allclose(probabilities(model, back, text, fresh), expected, **EXACT)
    with pytest.raises(DataError, match=r"</s>.* stands for no symbol"):
        read(path, "\nabc")


def test_what_the_format_cannot_hold_is_refused() -> None:
    """In one line that says why."""
    text, words = text_of(200, 6), [token(s) for s in SYMBOLS]
    with pytest.raises(DataError, match="no backoff weights"):
        list(arpa_lines(NGram(6, 3, "additive").fit(text), words))
    with pytest.raises(DataError, match="give no boundary"):
        list(arpa_lines(NGram(6, 3).fit(text), words, boundary=2))


def test_every_symbol_has_a_word_of_its_own() -> None:
    """Without white space, and none that is reserved."""
    parts = ["<", "s", ">", "/", "\\", "u", "{20}", " ", "\x00", "\u3000", "<UNK>", "</s>"]
    symbols = {"".join(some) for n in range(4) for some in itertools.product(parts, repeat=n)}
    words = [token(symbol) for symbol in symbols]
    assert len(set(words)) == len(symbols) > 1000
    for word in words:
        assert [word.encode()] == word.encode().split() and word.split() == [word]
        assert word.lower() not in ("<s>", "</s>", "<unk>")


def test_reserved_words_and_white_space_are_escaped() -> None:
    """All else is written as it is."""
    assert [token(s) for s in (" ", "\n", "\\", "<s>", "</s>", "<UNK>", "<unk>", "\xa0", "é<")] == [
        r"\u{20}",
        r"\u{a}",
        r"\u{5c}",
        r"\u{3c}s>",
        r"\u{3c}/s>",
        r"\u{3c}UNK>",
        "<unk>",
        r"\u{a0}",
        "é<",
    ]


def test_a_file_of_another_program_is_read(tmp_path: Path) -> None:
    """With a preface, tabs and spaces, -inf and weights above 1."""
    path = tmp_path / "m.arpa"
    path.write_text(
        "made by hand\n\n\\data\\\nngram 1=5\nngram 2=2\n\n\\1-grams:\n-99 <s> 0\n-inf </s>\n"
        "-99\t<UNK>\n-0.30103 a\t0.1\n-0.30103 b -inf\n\n\\2-grams:\n-0.1 a b\n-1 b a\n\n\\end\\\nrest"
    )
    model, params = model_of(read(path))
    assert model.describe(params) == "2-gram, smoothing imported: 4 n-grams"
    found = probabilities(model, params, [0, 1, 0, 0, 1, 1])
    np.testing.assert_allclose(found, [10**-0.1, 0.1, 0.5 * 10**0.1, 10**-0.1, 0], rtol=1e-6)


GOOD = """\\data\\
ngram 1=4
ngram 2=2
ngram 3=1

\\1-grams:
-0.3\ta\t-0.1
-0.3\tb\t-0.2
-99\t<s>
-99\t</s>

\\2-grams:
-0.1\ta b\t-0.3
-0.2\tb a

\\3-grams:
-0.1\ta b a

\\end\\
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ngram 1=4", "ngram 1=5", "11: fewer n-grams than the file says"),
        ("ngram 1=4", "ngram 1=3", "10: more than the 3 n-grams"),
        ("ngram 2=2", "ngram 2=999999999999", "3: the file is too small"),
        ("ngram 2=2", "ngram 2=-2", "3: .* instead of 'ngram 2='"),
        ("ngram 2=2\n", "", "3: .* instead of 'ngram 2='"),
        ("ngram 1=4\nngram 2=2\nngram 3=1\n", "", "3: .*1-grams.* instead of 'ngram 1='"),
        ("\\2-grams:", "\\3-grams:", "12: .* instead of .2-grams:"),
        ("-0.1\ta b a\n\n\\end\\\n", "", "17: the file ends"),
        ("\\end\\\n", "", "19: the file ends"),
        ("-0.2\tb a", "nan\tb a", "14: a logarithm is not in range"),
        ("-0.2\tb a", "0.2\tb a", "14: a logarithm is not in range"),
        ("a b\t-0.3", "a b\tnan", "13: a logarithm is not in range"),
        ("a b\t-0.3", "a b\t1e9", "13: a logarithm is not in range"),
        ("a b\t-0.3", "a b\t-0.3.1", "13: a logarithm is not a number"),
        ("-0.2\tb a", "-0.2\tb c", "14: 'c' is no symbol of the model"),
        ("-0.2\tb a", "-0.2\tb \udcff", "14: .*xff' is no symbol of the model"),
        ("-0.2\tb a", "-0.2\tb <s>", "14: <s>, </s> or <unk>"),
        ("-0.2\tb a", "-0.2\tb a a a", "14: not a number, 2 symbols"),
        ("-0.2\tb a", "-0.2\tb", "14: not a number, 2 symbols"),
        ("-0.2\tb a", "-0.2\ta b", "14: this n-gram is in the file twice"),
        ("-0.3\tb\t", "-0.3\ta\t", "8: this n-gram is in the file twice"),
        ("\tb\t-0.2", "\tb", "14: no backoff weight for a context"),
        ("a b\t-0.3", "a b", "17: no backoff weight for a context"),
        ("a b a", "a b a\t-0.1", "17: a backoff weight, but no longer n-grams"),
        ("-99\t</s>", "-1\t</s>", "10: <s>, </s> or <unk>"),
        ("-99\t</s>", "-99\t" + "s" * (1 << 20), "10: no line of an ARPA file is so long"),
        ("ngram 1=4", "ngram 1=3\n", "11: more"),
    ],
)
def test_files_that_lie_are_refused_with_the_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """Whatever they lie about."""
    path = tmp_path / "m.arpa"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new, 1), errors="surrogateescape")
    with pytest.raises(DataError, match=rf"m\.arpa:{message}") as caught:
        read(path, "ab")
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("the", "'the' is no character: name a checkpoint"),
        (r"\u{110000}", "is no character"),
        ("<0x61>", "'<0x61>' is no symbol"),
        ("\udcff", "is no symbol"),
    ],
)
def test_symbols_that_are_no_characters_are_refused(
    tmp_path: Path, word: str, message: str
) -> None:
    """Where nobody names the symbols; a file that mixes characters and bytes is none of either."""
    path = tmp_path / "m.arpa"
    path.write_text(GOOD.replace("\tb\t", f"\t{word}\t"), "utf-8", "surrogateescape")
    with pytest.raises(DataError, match=rf"m\.arpa:8: .*{message.split(' ', 1)[1]}"):
        read(path)


def test_files_that_are_no_models_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None, a folder, too few symbols, too many n-grams for the memory."""
    path = tmp_path / "m.arpa"
    with pytest.raises(DataError, match="cannot read"):
        read(path)
    with pytest.raises(DataError, match="not a file"):
        read(tmp_path)
    path.write_text(GOOD)
    with pytest.raises(DataError, match="the symbol 'c' is not among the 1-grams"):
        read(path, "abc")
    monkeypatch.setattr(arpa, "available_memory", lambda: 100)
    with pytest.raises(DataError, match="7 n-grams need about 700 bytes"):
        read(path)


def test_cuts_and_changed_bytes_are_refused_or_read(tmp_path: Path) -> None:
    """Anywhere, and never with another error."""
    path, rng = tmp_path / "m.arpa", np.random.default_rng(0)
    whole = GOOD.encode()

    def attempt(data: bytes) -> None:
        path.write_bytes(data)
        try:
            model_of(read(path))
        except DataError:
            return

    for i in range(0, len(whole), 5):
        attempt(whole[:i])
        attempt(whole[:i] + bytes([rng.integers(256)]) + whole[i + 1 :])


@pytest.mark.parametrize("level", ["char", "byte"])
def test_an_imported_model_is_a_run_like_any_other(
    text_file: Path, in_tmp: Path, level: str
) -> None:
    """It evaluates, samples, tells what it is, and is exported to the same file again."""
    rnnlm.train(
        rnnlm.make_config(
            data={"path": str(text_file), "level": level},
            model={"kind": "ngram", "order": 4},
            run={"dir": "counted"},
        )
    )
    assert "counted.arpa" in says("export", "counted", "--to", "arpa")
    assert "model: 4-gram, smoothing imported" in says("import", "counted.arpa", "--out", "back")
    assert {p.name for p in Path("back").glob("*.*")} == {
        *("best.npz", "config.yaml", "last.npz", "metrics.jsonl")
    }
    a, b = (rnnlm.load(run) for run in ("counted", "back"))
    assert a.vocabulary == b.vocabulary and b.level == level
    before, after = (rnnlm.evaluate(c, TEXT[:500]).nats for c in (a, b))
    assert after == pytest.approx(before, rel=1e-10)
    assert rnnlm.generate(b, "Mara ", 30) == rnnlm.generate(a, "Mara ", 30)
    (record,) = rnnlm.read_metrics("back/metrics.jsonl")
    assert record["reason"] == "imported" and "4-gram" in record["model"]
    assert "smoothing: imported" in Path("back/config.yaml").read_text()
    says("export", "back", "--to", "arpa", "--out", "again.arpa")
    first, again = (sorted(Path(f"{n}.arpa").read_bytes().split()) for n in ("counted", "again"))
    assert again == pytest.approx(first)
    assert json.loads(says("eval", "back", "--text", text_file, "--json"))["symbols"] > 9000


@pytest.mark.parametrize("level", ["char", "byte"])
def test_a_model_of_lines_comes_back_as_one(text_file: Path, in_tmp: Path, level: str) -> None:
    """The file has no newline: --set tells that lines are texts, or --vocab does."""
    rules = {"path": str(text_file), "level": level, "unit": "line", "reverse": True}
    model = {"kind": "ngram", "order": 3}
    rnnlm.train(rnnlm.make_config(data=rules, model=model, run={"dir": "lines"}))
    says("export", "lines", "--to", "arpa")
    text = Path("lines.arpa").read_text()
    assert "</s>" in text and r"\u{a}" not in text and "<0x0A>" not in text
    sets = [part for key in ("unit=line", "reverse=true") for part in ("--set", f"data.{key}")]
    says("import", "lines.arpa", "--out", "a", *sets)
    says("import", "lines.arpa", "--out", "b", "--vocab", "lines")
    runs = [rnnlm.load(run) for run in ("lines", "a", "b")]
    assert runs[0].format == runs[1].format == runs[2].format
    nats = [rnnlm.evaluate(run, TEXT[:500]).nats for run in runs]
    assert nats[1:] == pytest.approx([nats[0]] * 2, rel=1e-10)
    said = says("import", "lines.arpa", "--out", "c", code=1)
    assert "<s>, </s> or <unk> where it stands for no symbol" in said


def test_nothing_is_overwritten_and_nothing_half_made_stays(text_file: Path, in_tmp: Path) -> None:
    """Neither by export nor by import."""
    Path("rnn").mkdir()
    random_checkpoint(LSTM(), 1, None).save("rnn/last.npz")
    kept = Path("kept.arpa")
    kept.write_text(GOOD)
    with pytest.raises(
        DataError, match="arpa takes a model of kind ngram, and this one is of kind"
    ):
        export(rnnlm.load("rnn"), "arpa")
    for smoothing, message in (("additive", "no backoff weights"), ("none", "not overwritten")):
        run = f"n-{smoothing}"
        rnnlm.train(
            rnnlm.make_config(
                data={"path": str(text_file)},
                model={"kind": "ngram", "order": 2, "smoothing": smoothing},
                run={"dir": run},
            )
        )
        out = kept if smoothing == "none" else Path("new.arpa")
        with pytest.raises(DataError, match=message):
            export(rnnlm.load(run), "arpa", out)
    assert kept.read_text() == GOOD and not Path("new.arpa").exists()
    Path("bad.arpa").write_text(GOOD[:-7])
    for path, out, overrides, error, message in (
        ("bad.arpa", "new", (), DataError, "bad.arpa:18: the file ends"),
        ("kept.arpa", "new", ("model.order=2",), ConfigError, "model.order: 2 contradicts"),
        ("kept.arpa", "new", ("data.level=byte",), ConfigError, "data.level: 'byte' contradicts"),
        ("kept.arpa", "rnn", (), DataError, "exists already, and is not overwritten"),
        ("kept.lm", "new", (), DataError, "its suffix must be .arpa or"),
    ):
        with pytest.raises(error, match=message):
            import_model(path, out, *overrides)
    assert not Path("new").exists()
    import_model(kept, "new")
    with pytest.raises(
        ConfigError, match=r"model\.smoothing: imported is of models that were read"
    ):
        rnnlm.train(rnnlm.make_config("new/config.yaml", f"data.path={text_file}"))
