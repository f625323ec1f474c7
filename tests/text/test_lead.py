"""What comes before a sample without a prime: training text up to where a text begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TEXT, TINY, tiny_config

from rnnlm import CheckpointError, generate, load, make_config, train
from rnnlm.text.lead import LENGTH, lead
from rnnlm.text.vocabulary import ByteVocabulary, CharVocabulary


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\n\ntwo\nthree", "one\n\n"),
        ("one\ntwo\nthree", "one\ntwo\n"),
        ("one two", "one "),
        ("\n", "\n"),
        ("onetwo", ""),
        ("x" * 500 + "\nrest", "x" * (LENGTH - 1) + "\n"),
        ("a\n" + "x" * (1 << 20), ""),  # too far from the end
    ],
)
def test_it_ends_with_a_paragraph_else_a_line_else_a_word(text: str, expected: str) -> None:
    """At both levels; at most so many symbols."""
    for kind in (CharVocabulary, ByteVocabulary):
        symbols = np.unique(kind.units(text))
        vocabulary = kind(symbols)
        found = lead(vocabulary, vocabulary.ids(text).astype(np.uint8))
        assert vocabulary.text(found) == expected


@pytest.mark.parametrize("kind", ["recurrent", "ngram"])
def test_a_sample_without_a_prime_is_what_follows_it(tmp_path: Path, kind: str) -> None:
    """As if its text were the prime; without one, as in version 0.1.0."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    keys = {
        "recurrent": TINY,
        "ngram": ("model.kind=ngram",),
    }
    config = make_config(None, f"data.path={text}", f"run.dir={tmp_path / 'run'}", *keys[kind])
    checkpoint = train(config).checkpoint()
    before = checkpoint.format.text(checkpoint.lead)
    assert len(before) == LENGTH
    assert before in TEXT
    assert before.endswith("\n")
    sampled = generate(checkpoint, length=60, seed=4)
    assert sampled == generate(checkpoint, before, 60, seed=4)
    bare = replace(checkpoint, lead=np.zeros(0, np.uint32))
    assert sampled != generate(bare, length=60, seed=4)
    if kind == "ngram":
        assert sampled.split()[0] in {line.split()[0] for line in TEXT.splitlines()}


def test_a_checkpoint_keeps_it_and_refuses_what_is_none(tmp_path: Path) -> None:
    """Ids of the vocabulary, not too many."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    checkpoint = train(tiny_config(text, tmp_path / "run", "train.epochs=1")).checkpoint()
    assert (load(tmp_path / "run" / "last.npz").lead == checkpoint.lead).all()
    V = len(checkpoint.vocabulary)
    for wrong in (np.array([V], np.uint32), np.zeros(LENGTH + 1, np.uint32), np.zeros(3)):
        with pytest.raises(CheckpointError, match="lead"):
            replace(checkpoint, lead=wrong).save(tmp_path / "new.npz")
