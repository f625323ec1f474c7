"""`rnnlm score`: rows for lines, in every form, from files and pipes; errors in one line."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from commands import rnnlm as command

from rnnlm import Checkpoint, load, make_config, score, surprisal
from rnnlm.assembly import build_model
from rnnlm.cli import scores
from rnnlm.models.base import TrainableModel
from rnnlm.text.format import LEVELS, TextFormat, TextRules

LINES = ["a cab", "", "bad\tbed", "feed a bee"]


def rnnlm(*args: object, code: int = 0, stdin: bytes | None = None) -> Result:
    """`rnnlm score`; an error comes without rows."""
    result = command("score", *args, code=code, stdin=stdin)
    assert not (code == 1 and result.stdout)
    return result


def model(path: Path, level: str = "char", **rules: bool) -> Path:
    """A checkpoint with random weights."""
    settings = [f"data.{name}={str(value).lower()}" for name, value in rules.items()]
    config = make_config(None, "model.hidden_size=8", f"data.level={level}", *settings)
    vocabulary = LEVELS[level](sorted(map(ord, "\n\t abcdef")))
    network = build_model(config, len(vocabulary))
    assert isinstance(network, TrainableModel)
    params = network.init(np.random.default_rng(0))
    counts = np.ones(len(vocabulary), np.int64)
    Checkpoint(config, TextFormat(TextRules.of(config.data), vocabulary), params, counts).save(path)
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model(tmp_path_factory.mktemp("score") / "model.npz")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(LINES))  # the last line without its newline
    return path


def test_one_row_a_line(run: Path, file: Path) -> None:
    """Tab-separated under heads, the text last, since it may have tabs itself."""
    done = rnnlm(run, file)
    head, *rows = done.stdout.splitlines()
    assert head.split("\t") == ["line", "nats", "per_symbol", "perplexity", "text"]
    expected = score(load(run), LINES)
    for number, (row, line, nats) in enumerate(zip(rows, LINES, expected, strict=True), 1):
        n, total, each, perplexity, text = row.split("\t", 4)
        mean = nats / (len(line) + 1)
        assert (int(n), text) == (number, line)
        figures = [float(total), float(each), float(perplexity)]
        assert figures == pytest.approx([nats, mean, math.exp(mean)], abs=5.1e-5)
    mean = expected.sum() / sum(len(line) + 1 for line in LINES)
    assert done.stderr == f"4 lines, 26 characters: {mean:.4f} nats per character\n"


def test_the_same_from_a_pipe_a_packed_file_and_the_command_line(run: Path, file: Path) -> None:
    """To the character."""
    packed = file.with_suffix(".gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    rows = rnnlm(run, file).stdout
    assert rnnlm(run, packed).stdout == rows
    assert rnnlm(run, "-", stdin=file.read_bytes().replace(b"\n", b"\r\n")).stdout == rows
    assert rnnlm(run, *(part for line in LINES for part in ("--text", line))).stdout == rows


def test_bits_rank_tokens_and_json_go_together(run: Path, file: Path) -> None:
    """An object a line, the least surprising first, each symbol with its surprisal."""
    done = rnnlm(run, file, "--json", "--rank", "--tokens", "--bits")
    records = [json.loads(row) for row in done.stdout.splitlines()]
    assert sorted(record["line"] for record in records) == [1, 2, 3, 4]
    means = [record["per_symbol"] for record in records]
    assert means == sorted(means)
    for record in records:
        line = LINES[record["line"] - 1]
        assert record["text"] == line
        assert record["symbols"] == len(line) + 1
        assert [symbol for symbol, _ in record["tokens"]] == [*line, "\n"]
        bits = [s for _, s in record["tokens"]]
        assert record["bits"] == pytest.approx(sum(bits))
        assert bits[:-1] == pytest.approx(list(surprisal(load(run), line) / math.log(2)), abs=1e-6)
        assert record["perplexity"] == pytest.approx(2 ** record["per_symbol"])
    assert done.stderr.endswith("bits per character\n")


def test_tokens_in_a_table_are_readable(run: Path) -> None:
    """A row for each symbol; tab and newline are spelled."""
    rows = rnnlm(run, "--text", "a\t", "--tokens").stdout.splitlines()
    assert rows[0].split("\t") == ["line", "nats", "symbol"]
    assert [row.split("\t")[0::2] for row in rows[1:]] == [["1", "a"], ["1", "\\t"], ["1", "\\n"]]


def test_carry_joins_the_lines(run: Path, file: Path) -> None:
    """The first line is as without; the others know what was before."""
    carried = rnnlm(run, file, "--carry").stdout.splitlines()
    alone = rnnlm(run, file).stdout.splitlines()
    assert carried[:2] == alone[:2]
    assert all(c != a for c, a in zip(carried[2:], alone[2:], strict=True))


def test_a_reversed_model_does_not_carry(tmp_path: Path, file: Path) -> None:
    """But scores lines."""
    backwards = model(tmp_path / "backwards.npz", reverse=True)
    assert "reads text backwards" in rnnlm(backwards, file, "--carry", code=1).stderr
    rows = rnnlm(backwards, "--text", "abc", "--tokens").stdout.splitlines()
    assert "".join(row.split("\t")[2] for row in rows[1:]) == "abc\\n"


def test_bytes_are_scored_as_bytes(tmp_path: Path) -> None:
    """What is no UTF-8 is shown as such."""
    path = model(tmp_path / "bytes.npz", level="byte")
    row = rnnlm(path, "-", "--json", "--tokens", "--unknown", "skip", stdin=b"ab\xff\n").stdout
    record = json.loads(row)
    assert record["text"] == "ab\ufffd"
    assert [symbol for symbol, _ in record["tokens"]] == [97, 98, 10]


def test_symbols_outside_the_vocabulary(run: Path) -> None:
    """An error that names the line, or a count of what was left out."""
    assert "line 3: the text has characters" in rnnlm(run, "-", stdin=b"a\nb\naZ\n", code=1).stderr
    done = rnnlm(run, "-", "--unknown", "skip", stdin=b"a\nb\naZQ\n")
    assert done.stderr.endswith("left out: 2 characters outside the vocabulary\n")
    assert done.stdout.splitlines()[3].split("\t")[1] == done.stdout.splitlines()[1].split("\t")[1]


def test_a_text_in_another_encoding(run: Path) -> None:
    """The model has its encoding, so that no option of the command helps."""
    said = rnnlm(run, "-", stdin=b"a \xff\n", code=1).stderr
    assert said.endswith("the model reads utf-8: convert the file\n")


def test_no_line_is_no_error(run: Path) -> None:
    """An empty file has no rows."""
    done = rnnlm(run, "-", stdin=b"")
    assert done.stdout.count("\n") == 1
    assert done.stderr == "0 lines, 0 characters: nothing to score\n"


def test_rank_refuses_more_than_it_can_hold(
    run: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, before the memory is full."""
    monkeypatch.setattr(scores, "RANKED", 700)
    assert "--rank holds all rows" in rnnlm(run, file, "--rank", code=1).stderr


@pytest.mark.parametrize(
    "args", [[], ["a", "b", "c"], ["a", "b", "--text", "c"], ["."], ["a.npz"]], ids=str
)
def test_wrong_usage_says_what_to_name(args: list[str]) -> None:
    """A folder or checkpoint without a file is taken for a run whose text was forgotten."""
    assert "name a run or not, and then a FILE" in rnnlm(*args, code=2).stderr
