"""Training that begins with other weights: symbols keep what was learned of them, wherever they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import rnnlm as command
from conftest import TEXT, tiny_config

import rnnlm
from rnnlm.api.checkpoints import find_vocabulary
from rnnlm.api.evaluation import evaluate_split
from rnnlm.assembly import build_model
from rnnlm.errors import ConfigError, DataError
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.runs.run_data import recorded_data
from rnnlm.text.format import LEVELS
from rnnlm.training.start import preview

NEW = "é€"  # between and after the symbols of TEXT
WITH_NEW = TEXT[:3000].replace("ferry", "férry").replace("bell", "b€ll")
STILL = ("train.optimizer={name: sgd, learning_rate: 0}", "train.epochs=1", "train.threads=1")


def trained(folder: Path, *keys: str) -> Checkpoint:
    """A model of TEXT, and of a symbol beyond it."""
    (folder / "text.txt").write_text(TEXT + "~")
    return rnnlm.train(
        tiny_config(folder / "text.txt", folder / "run", "train.epochs=1", "train.threads=1", *keys)
    ).checkpoint()


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return trained(tmp_path_factory.mktemp("start"))


def text_file(folder: Path, text: str) -> Path:
    path = folder / "new.txt"
    path.write_text(text, encoding="utf-8")
    return path


def log_probabilities(at: Checkpoint, text: str) -> dict[str, np.ndarray]:
    """ln p of each symbol of the vocabulary after each symbol of a text, by float64."""
    steps, logits = at.model.begin(at.params, 1), []
    for i in at.ids(text):
        logits.append(steps.step([int(i)])[0].astype(np.float64))
    rows = np.array(logits)
    rows -= np.log(np.exp(rows).sum(1, keepdims=True))
    return {at.format.text([i]): rows[:, i] for i in range(len(at.vocabulary))}


@pytest.mark.parametrize("keys", [(), ("model.embedding_size=5",)], ids=str)
def test_new_symbols_leave_the_ratios_of_the_others(keys: tuple[str], tmp_path: Path) -> None:
    """On an old text the loss rises by exactly what goes to the new symbols, and that is little."""
    start = trained(tmp_path, *keys)
    config = tiny_config(text_file(tmp_path, WITH_NEW), tmp_path / "more", *STILL)
    at = rnnlm.train(config, init_from=start, unknown="extend").checkpoint()
    assert set(at.vocabulary.text(range(len(at.vocabulary)))) == {*TEXT, "~", *NEW}
    before, after = log_probabilities(start, TEXT[:300]), log_probabilities(at, TEXT[:300])
    share = sum(np.exp(after[symbol]) for symbol in NEW)
    for symbol, was in before.items():
        np.testing.assert_allclose(after[symbol] - was, np.log1p(-share), atol=2e-6)
    assert (share > 0).all()
    new = sum(WITH_NEW.count(symbol) for symbol in NEW) / len(WITH_NEW)
    assert share.mean() < 2 * new
    old, now = (rnnlm.evaluate(c, TEXT[:3000]).nats_per_symbol for c in (start, at))
    assert 0 < now - old < -np.log1p(-2 * new)


def test_new_rows_are_the_mean_and_biases_follow_frequency() -> None:
    """Against the definition, in float64; what does not depend on symbols stays."""
    for keys in ((), ("model.embedding_size=3",)):
        config = rnnlm.make_config(None, "model.hidden_size=4", "model.cell=gru", *keys)
        params = build_model(config, 3).init(np.random.default_rng(1))  # type: ignore[attr-defined]
        params["by"][:] = [0.5, -1, 2]
        logs = np.log([0.2, 0.1, 0.3, 0.4])
        old = np.array([2, -1, 0, 1])
        model = build_model(config, 4)
        new = model.with_symbols(params, old, logs)  # type: ignore[attr-defined]
        tables = {"embedding": 0} if keys else {"layers.0.Wx": 1}
        for name, axis in {**tables, "Wy": 1}.items():
            theirs = params[name].astype(np.float64)
            for mine, there in enumerate(old):
                want = theirs.mean(axis) if there < 0 else theirs.take(there, axis)
                np.testing.assert_allclose(new[name].take(mine, axis), want, atol=1e-6)
        bias = (0.5 - 1 + 2) / 3 + logs[1] - logs[[0, 2, 3]].mean()
        np.testing.assert_allclose(new["by"], [2, bias, 0.5, -1], atol=1e-6)
        for name in set(params) - set(tables) - {"Wy", "by"}:
            assert (new[name] == params[name]).all()


def test_of_two_new_symbols_the_more_frequent_is_more_probable(
    start: Checkpoint, tmp_path: Path
) -> None:
    """By the ratio of their counts, one more of each."""
    text = TEXT[:3000] + ("é" * 9 + "€") * 20 + TEXT[:1000]
    config = tiny_config(text_file(tmp_path, text), tmp_path / "run", *STILL)
    at = rnnlm.train(config, init_from=start, unknown="extend").checkpoint()
    after = log_probabilities(at, "The")
    np.testing.assert_allclose(after["é"] - after["€"], np.log(181 / 21), atol=1e-6)


@pytest.mark.parametrize("prepared", [False, True])
def test_new_symbols_are_refused_left_out_or_added(
    start: Checkpoint, tmp_path: Path, prepared: bool
) -> None:
    """Of a raw text and of a prepared folder alike, whose ids are others; nothing is left behind."""
    source = text_file(tmp_path, WITH_NEW)
    count = sum(WITH_NEW.count(symbol) for symbol in NEW)
    if prepared:
        source = rnnlm.prepare(source, tmp_path / "data").folder
    config = tiny_config(source, tmp_path / "run", *STILL)
    with pytest.raises(DataError, match=r"--unknown skip, .*--extend-vocab"):
        rnnlm.train(config, init_from=start)
    with pytest.raises(DataError, match=f"{count:,} in all|'é' U"):
        rnnlm.train(config, init_from=start)
    with pytest.raises(ConfigError, match="'extend'"):
        rnnlm.train(config, init_from=start, unknown="drop")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()

    at = rnnlm.train(config, init_from=start, unknown="skip").checkpoint()
    assert at.vocabulary == start.vocabulary
    assert at.params_sha256 == start.params_sha256 == at.origin["params_sha256"]
    assert f"left out: {count:,} characters" in "\n".join(preview(config, start, "skip"))
    left = "".join(c for c in WITH_NEW if c not in NEW)
    assert whole_text(at) == left
    config = tiny_config(source, tmp_path / "run2", *STILL)
    at = rnnlm.train(config, init_from=start, unknown="extend").checkpoint()
    assert whole_text(at) == WITH_NEW
    said = "\n".join(preview(config, start, "extend"))
    assert f"{len(start.vocabulary)} symbols kept" in said
    assert "symbols added (2): 'é' U+00E9, '€' U+20AC" in said


def whole_text(at: Checkpoint) -> str:
    """The text that a run was trained and evaluated on."""
    corpus = recorded_data(at)
    return "".join(corpus.format.text(corpus[split]) for split in ("train", "val", "test"))


def test_a_prepared_folder_with_fewer_symbols_needs_no_option(
    start: Checkpoint, tmp_path: Path
) -> None:
    """Its ids are other ones; its symbols are known."""
    text = "the bell, the bell.\n" * 100
    text = text.replace(",", "")
    data = rnnlm.prepare(text_file(tmp_path, text), tmp_path / "data")
    assert len(data.vocabulary) < len(start.vocabulary)
    result = rnnlm.train(tiny_config(data.folder, tmp_path / "run", *STILL), init_from=start)
    at = result.checkpoint()
    assert at.vocabulary == start.vocabulary
    assert whole_text(at) == text
    val = evaluate_split(start, "val", data.folder)
    assert result.history[0]["loss"] == pytest.approx(val.nats_per_symbol, abs=1e-6)


def test_a_prepared_folder_that_has_the_old_symbols_too_is_used_as_it_is(
    start: Checkpoint, tmp_path: Path
) -> None:
    """Nothing is copied."""
    data = rnnlm.prepare(text_file(tmp_path, TEXT + "~" + WITH_NEW), tmp_path / "data")
    config = tiny_config(data.folder, tmp_path / "run", *STILL)
    at = rnnlm.train(config, init_from=start, unknown="extend").checkpoint()
    assert at.vocabulary == data.vocabulary
    assert Path(at.data["folder"]) == data.folder.absolute()


def test_the_loss_before_the_first_step_comes_first(
    start: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counts as an evaluation, and a run that is stopped there resumes to the same records."""
    path = text_file(tmp_path, TEXT[2000:5000])
    config = tiny_config(path, tmp_path / "a", "train.epochs=1", "train.threads=1")
    result = rnnlm.train(config, init_from=start)
    first = result.history[0]
    assert (first["event"], first["step"], first["best"]) == ("eval", 0, True)
    text = recorded_data(result.checkpoint())
    alone = rnnlm.evaluate(start, text.format.text(text["val"]))
    assert first["loss"] == alone.nats_per_symbol
    config = tiny_config(path, tmp_path / "b", "train.epochs=1", "train.threads=1")
    with rnnlm.Training.start(config, "b", start) as training:
        next(training.events())
    resumed = rnnlm.resume(tmp_path / "b")
    assert [r["loss"] for r in resumed.history] == [r["loss"] for r in result.history]
    plain = rnnlm.train(tiny_config(path, tmp_path / "c", "train.epochs=1", "train.threads=1"))
    assert all(r["step"] for r in plain.history)


def test_the_command_line_says_what_was_kept(start: Checkpoint, tmp_path: Path) -> None:
    """How many symbols, and the loss before the first step; options that mean nothing are refused."""
    data = tmp_path / "data"
    path = text_file(tmp_path, WITH_NEW)
    sets = [f"--set={key}" for key in (*STILL, "train.batch_size=4", "train.seq_length=32")]
    run = ("train", f"--set=data.path={path}", *sets, "--run-dir", tmp_path / "run")
    begin = (*run, "--init-from", start.path)
    said = command(*begin, "--extend-vocab").stdout
    assert "symbols added (2)" in said
    assert "before the first step: validation perplexity" in said
    assert f"began with: {start.path}" in command("info", tmp_path / "run").stdout
    command(*begin, "--extend-vocab", "--unknown", "skip", code=2)
    command(*run, "--extend-vocab", code=2)
    prepare = ("prepare", path, "--out", data, "--vocab", start.path)
    command(*prepare, code=1)
    said = command(*prepare, "--unknown", "skip").stdout
    assert "characters outside the vocabulary left out" in said
    assert find_vocabulary(data) == start.vocabulary


@pytest.mark.parametrize("level", LEVELS)
def test_an_extended_vocabulary_has_all_symbols_once(level: str) -> None:
    """In the order of its level; without new symbols it is the same."""
    kind = LEVELS[level]
    some, others = (kind.units(text) for text in ("bd", "adc"))
    small = kind.of_text(np.unique(some), np.ones(np.unique(some).size, np.int64))
    every = np.unique(np.append(some, others))
    both = small.extended(np.unique(others))
    assert both == kind.of_text(every, np.ones(every.size, np.int64))
    assert small.extended(np.unique(some)) == small
