"""Models of lines, and models that read backwards: trained, evaluated and sampled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import rnnlm as command
from conftest import TEXT, tiny_config
from ngram_oracle import Oracle
from oracles import all_cells, model_losses

import rnnlm
from rnnlm.api.evaluation import evaluate_split
from rnnlm.api.sampling import novel_lines
from rnnlm.assembly import build_model, make_config
from rnnlm.inference.evaluation import Evaluation, evaluate
from rnnlm.inference.growing import StopText
from rnnlm.inference.novel import KnownLines
from rnnlm.inference.sampling import generate, texts
from rnnlm.models.ngram import NGram
from rnnlm.models.recurrent import Recurrent
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.text.format import LEVELS, TextFormat, TextRules

SYMBOLS = [10, *range(97, 107)]


def a_format(unit: str = "line", reverse: bool = False, level: str = "char") -> TextFormat:
    return TextFormat(TextRules.named(level, unit=unit, reverse=reverse), LEVELS[level](SYMBOLS))


def some_lines(n: int = 25, seed: int = 0) -> list[str]:
    """Lines of 0 to 300 letters, most of them short."""
    rng = np.random.default_rng(seed)
    lengths = np.append(rng.geometric(0.1, n) - 1, 300)
    return ["".join(map(chr, rng.integers(97, 107, length))) for length in lengths]


@pytest.mark.parametrize("reverse", [False, True])
def test_lines_are_the_sum_of_a_float64_oracle_over_each_by_itself(reverse: bool) -> None:
    """Whatever the number of streams; the last newline counts, given or not."""
    f, lines, cell = a_format(reverse=reverse), some_lines(), all_cells()[0]
    model = Recurrent(11, cell, 12, 2)
    params = model.init(np.random.default_rng(3))
    wide = {name: array.astype(np.float64) for name, array in params.items()}
    zero, expected = model.zero_state(1, np.float64), 0.0
    for line in lines:
        ids = np.array([0, *(ord(c) - 96 for c in line[:: -1 if reverse else 1]), 0])[:, None]
        expected += model_losses(cell, wide, ids[:-1], ids[1:], zero)[0].sum()
    text = "\n".join(lines) + "\n"
    ids = f.ids(text)
    for streams, given in ((1, ids), (7, ids), (100, ids), (1, f.ids(text[:-1]))):
        result = evaluate(model, params, given, streams, f.batches)
        assert (result.symbols, result.lines) == (len(text), len(lines))
        assert abs(result.nats_per_symbol - expected / len(text)) < 1e-6
        assert result.nats_per_line == result.nats / len(lines)
    assert Evaluation(3, 6.0).nats_per_line is None


@pytest.mark.parametrize("reverse", [False, True])
def test_lines_are_counted_as_dictionaries_count_them(reverse: bool) -> None:
    """No context reaches beyond the newline that a line begins with."""
    f, model = a_format(reverse=reverse), NGram(11, 3)
    train, other = (f.ids("\n".join(some_lines(seed=s)) + "\n") for s in (1, 2))
    (ids, fresh), (text, marks) = f.to_count(train), f.to_count(other)
    assert fresh is not None
    assert marks is not None
    oracle = Oracle(ids.tolist(), fresh.tolist(), 11, 3, "kneser_ney")
    expected = sum(-np.log(p) for _, p in oracle.read(text.tolist(), marks.tolist()))
    result = evaluate(model, model.fit(ids, fresh=fresh), other, cut=f.batches)
    assert result.nats == pytest.approx(expected, rel=1e-12)


def test_one_line_of_nothing_is_predicted_too() -> None:
    """Its newline is; a text of no symbols has nothing."""
    model = Recurrent(11, all_cells()[0], 4, 1)
    params = model.init(np.random.default_rng(0))
    for reverse in (False, True):
        f = a_format(reverse=reverse)
        at = Checkpoint(config(f), f, params, np.ones(11, np.int64))
        for text, symbols, lines in (("\n", 1, 1), ("a", 2, 1), ("\na", 3, 2), ("a\n\n", 3, 2)):
            result = rnnlm.evaluate(at, text)
            assert (result.symbols, result.lines) == (symbols, lines), text
        with pytest.raises(rnnlm.DataError, match="nothing to predict"):
            rnnlm.evaluate(at, "")


def config(f: TextFormat) -> rnnlm.Config:
    rules = f.rules
    return make_config(
        data={"level": rules.level, "unit": rules.unit, "reverse": rules.reverse},
        model={"cell": "rnn", "hidden_size": 4, "num_layers": 1},
    )


def a_checkpoint(f: TextFormat, ended: float = 0.0) -> Checkpoint:
    """An untrained model, that ends a line as often as is asked for."""
    model: Any = build_model(config(f), 11)
    params = model.init(np.random.default_rng(0))
    params["by"][0] = ended
    return Checkpoint(config(f), f, params, np.ones(11, np.int64))


def test_lines_are_drawn_to_their_newline() -> None:
    """It is not part of the text; line i is the same among others, and goes on from a prime."""
    at = a_checkpoint(a_format(), 1.0)
    drawn = ["".join(p) for p in zip(*rnnlm.samples(at, num_samples=20), strict=True)]
    assert all("\n" not in line for line in drawn)
    assert len({*map(len, drawn)}) > 3
    assert rnnlm.generate(at) == drawn[0]
    steps = [*generate(at.model, at.params, [0], 500, num_samples=20, end=0)]
    assert len(steps) == max(map(len, drawn)) + 1, "drawn until the longest has ended"
    assert [at.format.text(ids) for ids in texts(steps, 20, 0)] == drawn
    longest = max(drawn, key=len)
    cut = ["".join(p) for p in zip(*rnnlm.samples(at, length=3, num_samples=20), strict=True)]
    assert longest[:3] in cut
    assert max(map(len, cut)) == 3
    with pytest.raises(rnnlm.DataError, match="the prime has a newline"):
        rnnlm.generate(at, "a\nb")


def test_text_that_is_drawn_backwards_comes_whole_and_in_reading_order() -> None:
    """Also where a character is several bytes; it begins after the last stop."""
    f = TextFormat(TextRules.named("byte", reverse=True), LEVELS["byte"](sorted("aé".encode())))
    at = a_checkpoint(a_format("stream", reverse=True))
    there = a_checkpoint(a_format("stream"))
    forwards, backwards = rnnlm.generate(there, "abc", 40), rnnlm.generate(at, "cba", 40)
    assert backwards == forwards[::-1]
    assert list(rnnlm.stream(at, "cba", 40)) == [backwards]
    stop = backwards[20]
    expected = backwards[backwards.rindex(stop) + 1 :]
    assert rnnlm.generate(at, "cba", 40, stop=stop) == expected
    decoder = f.decoder()
    assert [decoder(int(i)) for i in f.ids("éaé")] == [""] * 5
    assert decoder.flush() == "éaé"
    gate = StopText("b")
    assert gate.feed("abc") == "a"


def test_known_lines_are_found_by_their_ids() -> None:
    """With and without a newline at the end of the text; parts and joins of lines are others."""
    ids = np.array([1, 2, 0, 0, 3, 0, 1, 2, 3], np.uint8)
    for text in (ids, np.append(ids, 0).astype(np.uint8)):
        known = KnownLines(text, 0)
        for line in ([1, 2], [], [3], [1, 2, 3]):
            assert np.array(line, np.int64) in known
        for line in ([1], [2], [2, 1], [3, 1], [1, 2, 0]):
            assert np.array(line, np.int64) not in known


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that counted lines, as a user makes one."""
    folder = tmp_path_factory.mktemp("lines")
    (folder / "text.txt").write_text(TEXT)
    keys = ("data.unit=line", "model.kind=ngram", "model.order=4")
    sets = [part for key in keys for part in ("--set", key)]
    done = command(
        "train", *sets, "--set", f"data.path={folder / 'text.txt'}", "--run-dir", folder / "run"
    )
    assert "lines: 288 train, 16 val, 16 test, each a text of its own" in done.output
    return folder / "run"


def test_a_user_draws_lines_and_new_ones(run: Path) -> None:
    """One a line, without headings; --novel says how many were drawn for them."""
    drawn = command("sample", run, "--num-samples", 12).stdout.splitlines()
    assert len(drawn) == 12
    known = set(rnnlm.load(run).format.text(rnnlm.Corpus.open(run / "data")["train"]).split("\n"))
    assert known & set(drawn)
    said = command("sample", run, "--novel", "--stop", "a", code=1).stderr
    assert said.startswith("Error: --novel and --stop exclude each other")
    done = command("sample", run, "--num-samples", 12, "--novel")
    novel = done.stdout.splitlines()
    assert len(novel) == 12
    assert not known & set(novel)
    lines, count = novel_lines(rnnlm.load(run), num_samples=12)
    assert lines == novel
    assert f"{count} lines drawn, {count - 12} of them in the training text" in done.stderr
    assert rnnlm.generate(rnnlm.load(run), novel=True) == novel[0]
    greedy = command(
        "sample", run, "--novel", "--temperature", 0, "--prime", max(known)[:-1], code=1
    )
    assert "of 100 lines that were drawn, 0 are new" in greedy.stderr


def test_a_user_sees_figures_of_lines(run: Path) -> None:
    """Beside those of characters; the same for a text as for the split that it is."""
    said = command("eval", run).stdout
    assert " characters predicted in 16 lines\n" in said
    assert "\nnats per line: " in said
    figures = json.loads(command("eval", run, "--json").stdout)
    assert figures["lines"] == 16
    at = rnnlm.load(run)
    text = at.format.text(rnnlm.Corpus.open(run / "data")["test"])
    assert rnnlm.evaluate(at, text[:-1]) == evaluate_split(at)
    assert figures["nats_per_line"] == pytest.approx(evaluate_split(at).nats / 16)


def test_one_prepared_folder_serves_both_directions(run: Path, tmp_path: Path) -> None:
    """Training, evaluation of a folder by a model of the other direction, and sampling from an end."""
    keys = ("data.reverse=true", "train.epochs=1", "train.eval_streams=20")
    done = rnnlm.train(tiny_config(run / "data", tmp_path / "run", *keys))
    at = done.checkpoint()
    assert not [r for r in done.history if "approximate" in r], "lines are exact in any streams"
    assert evaluate_split(at) == evaluate_split(at, data=run / "data")
    drawn = command("sample", tmp_path / "run", "--prime", "ride.", "--num-samples", 3).stdout
    assert [line[-5:] for line in drawn.splitlines()] == ["ride."] * 3
    only = command("sample", tmp_path / "run", "--prime", "e.", "--length", 9).stdout
    assert only.endswith("e.\n")
    for end in (b"", b"\n", b"\r\n"):
        (tmp_path / "end").write_bytes(b"e." + end)
        same = command("sample", tmp_path / "run", "--prime-file", tmp_path / "end", "--length", 9)
        assert same.stdout == only


def test_only_models_of_lines_draw_new_ones(text_file: Path, tmp_path: Path) -> None:
    """Another is refused in one line."""
    keys = ("model.kind=ngram", "model.order=2", f"data.path={text_file}", f"run.dir={tmp_path}/r")
    rnnlm.train(make_config(None, *keys))
    said = command("sample", tmp_path / "r", "--novel", code=1).stderr
    assert said.startswith("Error: novel: this model reads its text as one stream")
    assert said.count("\n") == 1
