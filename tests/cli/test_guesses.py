"""What is typed on a first guess works, or gets a line with what to type."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from commands import SETS, rnnlm
from conftest import TEXT

from rnnlm import (
    ConfigError,
    RnnlmError,
    generate,
    make_config,
    prepare,
    resume,
    train,
    train_events,
)
from rnnlm.assembly import TABLES, key_for
from rnnlm.config.guesses import USUAL
from rnnlm.config.parse import valid_keys

QUICK = (*SETS, "--set", "train.epochs=1")


@pytest.mark.parametrize("name", ["novel.txt", "novel", "my novel.v2.txt"])
def test_a_text_is_trained_on_by_its_name(name: str, in_tmp: Path) -> None:
    """The run is named after it."""
    Path(name).write_text(TEXT)
    rnnlm("train", name, *QUICK)
    (run,) = Path("runs").iterdir()
    assert run.name.startswith(f"{Path(name).stem}-2")
    assert make_config(run / "config.yaml").data.path == name


def test_a_config_is_known_by_its_suffix_or_its_first_line(in_tmp: Path) -> None:
    """Where the name does not tell, one line says what it was taken for."""
    Path("text.txt").write_text(TEXT)
    config = "# small\ndata:\n  path: text.txt\nmodel: {hidden_size: 7}\n"
    for name in ("c.yaml", "c.cfg", "c.txt"):
        Path(name).write_text(config)
        done = rnnlm("train", name, *QUICK, "--set", "model.hidden_size=9", "--dry-run")
        assert "hidden_size: 9" in done.stdout
        assert ("--set data.path=c" in done.stderr) == (name != "c.yaml")
    Path("play.txt").write_text("data: they say\n" + TEXT)
    assert not rnnlm("train", "play.txt", *QUICK, "--dry-run").stderr


def test_a_text_is_named_once(in_tmp: Path) -> None:
    """And an override without --set is told where it belongs."""
    Path("text.txt").write_text(TEXT)
    said = rnnlm("train", "text.txt", "--set", "data.path=other.txt", code=2).stderr
    assert "leave --set data.path=... out" in said
    said = rnnlm("train", "train.epochs=3", code=2).stderr
    assert "write --set train.epochs=3" in said


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        (("--lr", "0.1"), "--set train.optimizer.learning_rate=0.1"),
        (("--lr=0.1",), "--set train.optimizer.learning_rate=0.1"),
        (("-lr", "0.1"), "--set train.optimizer.learning_rate=0.1"),
        (("--epochs", "3"), "--set train.epochs=3"),
        (("--hidden", "256"), "--set model.hidden_size=256"),
        (("--num-layers", "3"), "--set model.num_layers=3"),
        (("--dropout", "0.2"), "--set model.dropout=0.2"),
        (("--epocs", "3"), "--set train.epochs=3"),
        (("--batch-size",), "--set train.batch_size=..."),
    ],
)
def test_an_unknown_option_that_is_a_key_gets_what_to_type(
    typed: tuple[str, ...], right: str
) -> None:
    """With its value, wherever it stands."""
    said = rnnlm("train", "my.txt", *typed, code=2).stderr
    assert said.endswith(f"; write {right}\n"), said


@pytest.mark.parametrize(
    ("typed", "right"),
    [
        ("lr=0.1", "train.optimizer.learning_rate=0.1"),
        ("epochs=3", "train.epochs=3"),
        ("Layers=3", "model.num_layers=3"),
        ("optimizer.lr=1", "train.optimizer.learning_rate=1"),
        ("tran.epochs=3", "train.epochs=3"),
        ("epocs=3", "train.epochs=3"),
    ],
)
def test_an_override_without_its_section_gets_what_to_write(typed: str, right: str) -> None:
    """On the command line as on the command line, in a script as in a script."""
    said = rnnlm("train", "--set", typed, code=1).stderr
    assert said.endswith(f"write --set {right}\n"), said
    with pytest.raises(ConfigError) as error:
        make_config(None, typed)
    assert str(error.value).endswith(f'write "{right}"')


def test_usual_names_mean_keys_that_there_are() -> None:
    """No name stands for two keys, and none is a key's own last part."""
    names = [name for some in USUAL.values() for name in some]
    assert len(names) == len(set(names))
    for key in USUAL.keys() & set(valid_keys(TABLES)):
        for name in USUAL[key]:
            assert key_for(name) == key
    assert key_for("banana") is None
    for typed, key in (
        ("model.hiden", "model.hidden_size"),  # the section alone is near to model.tie
        ("model.layrs", "model.num_layers"),
        ("model.knid", "model.kind"),
        ("epcohs", "train.epochs"),
    ):
        assert key_for(typed) == key


def test_a_mistake_in_an_override_has_no_line_number() -> None:
    """A command line has none."""
    for typed in ("train.grad_clip={nrm: 1}", "train.grad_clip={norm: -1}", "train.grad_clip={"):
        said = rnnlm("train", "--set", typed, code=1).stderr
        assert said.startswith(f"Error: --set {typed}: "), said


def test_a_key_that_only_looks_right_is_shown_in_quotes() -> None:
    """Otherwise the error would ask whether its own key was meant."""
    with pytest.raises(
        ConfigError, match=r"unknown key 'train.epochs '; did you mean train.epochs"
    ):
        make_config(train={"epochs ": 3})


def test_advice_is_in_the_words_of_whoever_called(in_tmp: Path) -> None:
    """An option to type on the command line, an argument in a script."""
    Path("a.txt").write_bytes(b"caf\xe9" * 100)
    Path("full").mkdir()
    Path("full", "mine").touch()
    Path("b.txt").write_text("plain " * 50)
    for name, arguments, typed, called in (
        ("a.txt", "new", "use --level byte", 'use level="byte"'),
        ("b.txt", "full", "use --force", "use force=True"),
    ):
        assert typed in rnnlm("prepare", name, "--out", arguments, code=1).stderr
        with pytest.raises(RnnlmError) as error:
            prepare(name, arguments)
        assert called in str(error.value)
        assert "--" not in str(error.value)
    said = rnnlm("train", "a.txt", code=1).stderr  # which has other options than prepare
    assert "--set data.encoding=latin-1, or use --set data.level=byte" in said, said
    assert "--level" not in said
    with pytest.raises(RnnlmError, match=re.escape('use "data.level=byte"')):
        train(make_config(None, "data.path=a.txt"))


def test_wrong_arguments_in_a_script_are_one_line(in_tmp: Path) -> None:
    """Errors of the package, before a run folder is made; not Python's own."""
    Path("text.txt").write_text(TEXT)
    corpus = prepare("text.txt", "data")
    wrong_type: Any = 3
    config = make_config(None, "data.path=data", "model.kind=ngram")
    checkpoint = train(config.with_values("run", dir="run")).checkpoint()
    calls: tuple[tuple[Any, str], ...] = (
        (lambda: train(config, callback=wrong_type), "callback must be a function"),
        (lambda: train(config, stop=wrong_type), "stop must be a function"),
        (lambda: train(config, name=wrong_type), "name must be text"),
        (lambda: next(train_events(config, stop=wrong_type)), "stop must be a function"),
        (lambda: resume("run", callback=wrong_type), "callback must be a function"),
        (lambda: generate(checkpoint, num_samples=3), "num_samples is not a filter"),
        (lambda: corpus["tset"], "'tset' is not a split: there are train, val, test"),
        (lambda: corpus.length("tset"), "not a split"),
        (lambda: make_config(lr=0.1), "did you mean train.optimizer.learning_rate?"),
    )
    for wrong, words in calls:
        with pytest.raises(RnnlmError, match=re.escape(words)):
            wrong()
    assert not Path("runs").exists()


def test_the_text_of_a_config_is_looked_for_beside_it_too(in_tmp: Path) -> None:
    """The working folder comes first; what was taken is said; --set is of the working folder."""
    Path("deep").mkdir()
    Path("deep", "c.yaml").write_text("data: {path: text.txt}")
    Path("deep", "text.txt").write_text(TEXT)
    done = rnnlm("train", "deep/c.yaml", *QUICK, "--dry-run")
    assert done.stderr == f"text: {Path('deep') / 'text.txt'}, beside the config\n"
    assert make_config("deep/c.yaml").data.path == str(Path("deep") / "text.txt")
    rnnlm("train", "deep/c.yaml", "--set", "data.path=c.yaml", "--dry-run", code=1)
    Path("text.txt").write_text(TEXT)
    assert make_config("deep/c.yaml").data.path == "text.txt"
    assert not rnnlm("train", "deep/c.yaml", *QUICK, "--dry-run").stderr


def test_a_run_in_the_place_of_a_text_is_to_be_resumed(tmp_path: Path) -> None:
    """Not read as a text: its folder is named with the option that goes on with it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.npz").write_bytes(b"")
    said = rnnlm("train", tmp_path / "run", code=2)
    assert "is a run: go on with it by --resume" in said.stderr
    assert "weights by --init-from" in rnnlm("train", "run/last.npz", code=2).stderr
