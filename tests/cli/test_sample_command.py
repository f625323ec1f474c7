"""`rnnlm sample`: seeds, several texts and temperatures, JSON, escapes, look-alikes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import rnnlm
from conftest import TEXT

from rnnlm.text.alike import GROUPS, alike


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An n-gram, which takes no time, of a text with a quotation mark."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_text('He said "no" twice... or not at all - who knows.\n' + TEXT)
    keys = ("--set", "model.kind=ngram", "--set", "model.order=3")
    rnnlm("train", folder / "text.txt", *keys, "--run-dir", folder / "run")
    return folder / "run"


def drawn(run: Path, *options: object) -> str:
    return rnnlm("sample", run, "--length", 30, *options).stdout


def test_a_random_seed_is_said_and_can_be_given_again(run: Path) -> None:
    """It is another one the next time."""
    done = rnnlm("sample", run, "--seed", "random", "--length", 30)
    label, seed = done.stderr.split()
    assert label == "seed:"
    assert drawn(run, "--seed", seed) == done.stdout
    assert rnnlm("sample", run, "--seed", "random").stderr != done.stderr
    rnnlm("sample", run, "--seed", "any", code=2)
    assert "0 or more, or random" in rnnlm("sample", run, "--seed", "-1", code=2).stderr


def test_several_texts_have_headings_or_a_separator(run: Path) -> None:
    """The same texts either way."""
    texts = drawn(run, "--num-samples", 3, "--separator", "")
    headed = drawn(run, "--num-samples", 3).splitlines(keepends=True)
    assert "".join(line for line in headed if not line.startswith("===")) == texts
    parted = drawn(run, "--num-samples", 3, "--separator", r"--\n")
    assert parted.split("--\n") == drawn(run, "--num-samples", 3, "--separator", "§").split("§")
    assert parted.count("--\n") == 2


def test_several_temperatures_are_drawn_at_once(run: Path) -> None:
    """Each text is what that temperature alone gives; with other filters, every combination."""
    both = drawn(run, "--temperature", 0.5, "--temperature", 2)
    alone = [drawn(run, "--temperature", t) for t in (0.5, 2)]
    assert both == f"=== temperature 0.5 ===\n{alone[0]}=== temperature 2 ===\n{alone[1]}"
    four = drawn(run, "--temperature", 1, "--temperature", 2, "--top-k", 1, "--top-k", 9)
    assert [line for line in four.splitlines() if line.startswith("===")] == [
        f"=== temperature {t}, top-k {k} ===" for t in (1, 2) for k in (1, 9)
    ]


def test_json_has_an_object_for_each_text(run: Path) -> None:
    """With all that it was drawn with."""
    options = ("--prime", "Mara ", "--num-samples", 2, "--temperature", 0.5, "--seed", 7)
    lines = [json.loads(line) for line in drawn(run, *options, "--json").splitlines()]
    texts = drawn(run, *options, "--no-prime", "--separator", "§").split("§")
    assert [line.pop("text") for line in lines] == [text.removesuffix("\n") for text in texts]
    known = {"prime": "Mara ", "seed": 7, "temperature": 0.5}
    assert lines == [{**known, "sample": 1}, {**known, "sample": 2}]
    rnnlm("sample", run, "--json", "--no-prime", code=2)


def test_append_adds_to_a_file(run: Path, tmp_path: Path) -> None:
    """Which need not be there; without a file it means nothing."""
    out = tmp_path / "out.txt"
    for _ in range(2):
        drawn(run, "--output", out, "--append")
    assert out.read_text() == 2 * drawn(run)
    assert "--append" in rnnlm("sample", run, "--output", out, code=1).stderr
    rnnlm("sample", run, "--append", code=2)


def test_escapes_are_read_where_they_are_asked_for(run: Path) -> None:
    """In prime and stop; what is none is refused."""
    assert drawn(run, "--prime", r"Mara\n\x4da\u0072a", "--escapes").startswith("Mara\nMara")
    assert "\n" not in drawn(run, "--stop", r"\n", "--escapes").rstrip("\n")
    assert r"'\\'" in rnnlm("sample", run, "--prime", r"\n", code=1).stderr
    for wrong in (r"a\q", "a\\", r"\x4", r"\UFFFFFFFF"):
        assert "not an escape" in rnnlm("sample", run, "--prime", wrong, "--escapes", code=2).stderr


def test_an_escaped_byte_is_a_byte_at_byte_level(tmp_path: Path) -> None:
    """Not the character of that number."""
    (tmp_path / "text.txt").write_bytes(b"caf\xe9 ol\xe9 " * 40)
    keys = ("--set", "model.kind=ngram", "--set", "data.level=byte", "--run-dir", tmp_path / "run")
    rnnlm("train", tmp_path / "text.txt", *keys)
    options = ("--prime", r"\xe9", "--escapes", "--json")
    assert json.loads(drawn(tmp_path / "run", *options))["prime"] == "�"
    rnnlm("sample", tmp_path / "run", "--prime", "é", code=1)


def test_look_alikes_of_a_word_processor_are_offered(run: Path) -> None:
    """As what the vocabulary has for them."""
    said = rnnlm("sample", run, "--prime", "“no”… — a\u00a0b ’", code=1).stderr
    for right in ("'\"'", "'...'", "'-'", "' '"):
        assert f"did you mean {right}?" in said, right
    assert "and 1 other: remove" in said
    assert len("".join(GROUPS)) == len(set("".join(GROUPS)))
    assert alike('"', "“”".__contains__) == "“"
    assert alike("…", "-".__contains__) is None


def test_what_a_prime_leaves_out_is_counted(run: Path) -> None:
    """On standard error."""
    done = rnnlm("sample", run, "--prime", "Märß", "--unknown", "skip", "--length", 3)
    assert "left out: 2 characters" in done.stderr
    assert done.stdout.startswith("Mr")
