"""`rnnlm prepare --source`: texts of known entropy, and what `rnnlm eval` says of a model beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from commands import rnnlm

from rnnlm import Corpus, DataError


def test_eval_says_how_far_a_model_is_above_the_source(in_tmp: Path) -> None:
    """The n-gram that can know all of a chain, by next to nothing; metrics stay as they are."""
    options = "--set order=1 --set symbols=3 --size 60000 --seed 2 --out chain"
    said = rnnlm("prepare", "--source", "markov", *options.split())
    entropy = Corpus.open("chain").drawn.entropy  # type: ignore[union-attr]
    assert (
        f"source: markov, order 1, symbols 3, seed 2: entropy rate {entropy:.4f} nats"
        in said.stdout
    )
    keys = ("--set", "model.kind=ngram", "--set", "model.order=2", "--run-dir", "run")
    rnnlm("train", "chain", *keys)
    told = rnnlm("eval", "run", "--split", "train").stdout
    row = json.loads(rnnlm("eval", "run", "--split", "train", "--json").stdout)
    assert row["source_entropy"] == entropy
    assert row["above_source"] == row["nats_per_symbol"] - entropy
    assert abs(row["above_source"]) < 0.01
    side, gap = "above" if row["above_source"] >= 0 else "below", abs(row["above_source"])
    assert f"{side} the entropy of the source ({entropy:.4f}): {gap:.4f}\n" in told
    assert (
        "source"
        not in rnnlm("eval", "run", "--text", "chain/corpus.json", "--unknown", "skip").stdout
    )
    assert "entropy" not in Path("run/metrics.jsonl").read_text()


def test_a_seed_gives_its_text_again(in_tmp: Path) -> None:
    """And another seed another, from another table."""
    for seed, out in (("4", "a"), ("4", "b"), ("5", "c")):
        rnnlm(*f"prepare --source markov --size 900 --seed {seed} --out {out}".split())
    a, b, c = (Corpus.open(name) for name in "abc")
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert a.drawn == b.drawn
    assert a.drawn.entropy != c.drawn.entropy  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--source mark --size 9", "'mark' is not a source: there are markov, reber"),
        ("--source reber --size 9 --set lag=2", "lag is not an option of reber: it has none"),
        ("--source copy --size 9 --set lag=1", "lag must be at least 2, not 1"),
        ("--source markov --size 9 --set order=9", "make the order smaller"),
        ("--source markov", "--source needs --size"),
        ("--source markov --size 9 --level word", "--level has no effect with --source"),
        ("--source markov --size 9 novel.txt", "leave the input out"),
        ("--size 9 novel.txt", "--size needs --source"),
    ],
)
def test_what_no_source_takes_is_refused(in_tmp: Path, options: str, words: str) -> None:
    """In one line, and nothing is made."""
    code = 2 if words.startswith("--") or "leave the input" in words else 1
    assert words in rnnlm("prepare", "--out", "o", *options.split(), code=code).stderr
    assert not Path("o").exists()


def test_an_entropy_that_was_made_up_is_refused(in_tmp: Path) -> None:
    """By the checksum, and where that is made up too, by what an entropy can be."""
    rnnlm(*["prepare", "--source", "reber", "--size", "900", "--out", "a"])
    index = Path("a/corpus.json")
    for entropy in ("-1.0", "NaN", '"x"', "1.0"):
        text = re.sub(r'"entropy": [0-9.]+', f'"entropy": {entropy}', index.read_text())
        Path("a/corpus.json").write_text(text)
        with pytest.raises(DataError, match="not as this version writes it"):
            Corpus.open("a")
