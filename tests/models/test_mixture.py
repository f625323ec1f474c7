"""Mixtures: their probabilities and weights against plain Python, and as runs from the command line."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import rnnlm as command
from commands import says
from conftest import TEXT, tiny_config

import rnnlm
from rnnlm.backend import blas
from rnnlm.errors import CheckpointError, ConfigError, DataError
from rnnlm.models.mixture import PSEUDO_COUNT, Mixture, MixtureParams, em, fit_weights
from rnnlm.models.ngram import NGram
from rnnlm.models.recurrent import Recurrent
from rnnlm.text.batches import IGNORED, Batch, Streams

V = 6


def text(n: int, seed: int = 0) -> np.ndarray:
    """Ids where the next often is the one above."""
    rng = np.random.default_rng(seed)
    ids = np.cumsum(rng.random(n) < 0.8) + rng.integers(0, 2, n)
    return np.asarray(ids % V)


def mixture(buckets: bool) -> tuple[Mixture, MixtureParams]:
    """A net and two n-grams."""
    parts = {"net": Recurrent(V, hidden_size=5), "a": NGram(V, 4), "b": NGram(V, 2, "none")}
    model = Mixture(V, parts)
    params = {
        "net": parts["net"].init(np.random.default_rng(1)),  # type: ignore[attr-defined]
        "a": parts["a"].fit(text(60)),  # type: ignore[attr-defined]
        "b": parts["b"].fit(text(300)),  # type: ignore[attr-defined]
    }
    weights = np.random.default_rng(2).dirichlet([1, 1, 1], 4 if buckets else 1)
    return model, MixtureParams(weights, params)


def seen_context(train: list[int], past: list[int], order: int) -> int:
    """The length of the longest end of `past` that a symbol follows in the training text."""
    for k in range(min(order - 1, len(past)), 0, -1):
        h = past[len(past) - k :]
        if any(train[i : i + k] == h for i in range(len(train) - k)):
            return k
    return 0


# Probabilities


@pytest.mark.parametrize("buckets", [False, True])
@pytest.mark.usefixtures("one_blas_thread")
def test_probabilities_are_the_weighted_sums_of_those_of_the_parts(buckets: bool) -> None:
    """Read in windows of two streams, and stepped symbol by symbol; a target that is left out is 0."""
    model, params = mixture(buckets)
    train, ids = text(60).tolist(), text(41, seed=3)
    batches = Streams(ids, 2, 7)
    readers = [part.read(params.parts[name], 2) for name, part in model.parts.items()]
    reader, total = model.read(params, 2), 0.0
    found, expected = [], []
    for w in range(len(batches)):
        batch = batches(0, w)
        targets = batch.targets.copy()
        targets[1, 0] = IGNORED
        batch = Batch(batch.ids, targets, batch.fresh)
        own = np.zeros((3, *targets.shape))
        for read, losses in zip(readers, own, strict=True):
            read(batch, losses)
        found.append(np.full(targets.shape, np.nan))
        total += reader(batch, found[-1])
        for t, b in np.ndindex(targets.shape):
            past = ids[:40].reshape(2, 20)[b, : w * 7 + t + 1].tolist()
            row = params.weights[seen_context(train, past, 4) if buckets else 0]
            p = sum(x * math.exp(-loss) for x, loss in zip(row, own[:, t, b], strict=True))
            expected.append(0.0 if targets[t, b] == IGNORED else -math.log(p))
    flat = np.concatenate([f.reshape(-1) for f in found])
    np.testing.assert_allclose(flat, expected, rtol=1e-12, atol=1e-14)
    assert math.isclose(total, math.fsum(expected), rel_tol=1e-12)


@pytest.mark.parametrize("buckets", [False, True])
@pytest.mark.usefixtures("one_blas_thread")
def test_steps_give_whole_distributions_and_are_what_a_reader_reads(buckets: bool) -> None:
    """They sum to 1, and the bits of a text do not depend on the texts beside it."""
    model, params = mixture(buckets)
    ids = text(30, seed=4)
    column = ids[:, None]
    losses = np.zeros((29, 1))
    model.read(params, 1)(Batch(column[:-1], column[1:]), losses)
    alone, among = model.begin(params, 1), model.begin(params, 3)
    for t in range(29):
        one = alone.step([ids[t]]).copy()
        three = among.step([ids[-t], ids[t], 0])
        assert np.array_equal(one[0], three[1])
        np.testing.assert_allclose(np.exp(three).sum(axis=1), 1, rtol=1e-12)
        assert math.isclose(one[0, ids[t + 1]], -losses[t, 0], rel_tol=1e-5, abs_tol=1e-6)


def test_what_no_part_expects_has_probability_zero_and_a_small_one_does_not_vanish() -> None:
    """Infinite losses, and sums of exponentials beyond the range of floats."""

    class Fixed:
        def __init__(self, loss: float) -> None:
            self.loss = loss

        def read(self, params: Any, streams: int) -> Any:
            return lambda batch, losses: losses.fill(self.loss)

    def loss(*parts: float) -> float:
        model = Mixture(V, {str(k): Fixed(x) for k, x in enumerate(parts)})  # type: ignore[misc]
        params = MixtureParams(np.array([[0.25, 0.75]]), dict.fromkeys(model.parts))
        return model.read(params, 1)(Batch(np.zeros((1, 1), int), np.zeros((1, 1), int)))

    assert loss(math.inf, math.inf) == math.inf
    assert math.isclose(loss(math.inf, 2.0), 2 - math.log(0.75))
    assert math.isclose(loss(2000.0, 2000.0), 2000)


def test_an_ngram_knows_the_longest_context_that_it_has_seen() -> None:
    """Read and stepped, across windows, and not beyond where a text begins."""
    train, ids = text(40).tolist(), text(33, seed=5).tolist()
    model = NGram(V, 5)
    params = model.fit(np.array(train))
    assert model.context_lengths(params) == 5
    fresh = [t in (0, 11, 12, 29) for t in range(32)]
    begin, expected = 0, []
    for t in range(32):
        begin = t if fresh[t] else begin
        expected.append(seen_context(train, ids[begin : t + 1], 5))
    assert set(expected) > {1, 4}
    reader, found = model.read(params, 1), []
    column, marks = np.array(ids)[:, None], np.array(fresh)[:, None]
    for window in (slice(0, 9), slice(9, 32)):
        reader(Batch(column[:-1][window], column[1:][window], marks[window]))
        found += reader.context[:, 0].tolist()
    assert found == expected
    steps = model.begin(params, 2)
    for t in range(11):
        steps.step([0, ids[t]])
        assert steps.context[1] == expected[t]


# Weights


def oracle_em(losses: list[list[float]], pseudo: list[float], start: list[float]) -> list[float]:
    """Plain Python, as in a textbook; until nothing changes."""
    weights = start
    for _ in range(20_000):
        total = list(pseudo)
        for column in zip(*losses, strict=True):
            joint = [w * math.exp(-loss) for w, loss in zip(weights, column, strict=True)]
            total = [t + j / sum(joint) for t, j in zip(total, joint, strict=True)]
        new = [t / sum(total) for t in total]
        if new == weights or max(abs(a - b) for a, b in zip(new, weights, strict=True)) < 1e-12:
            break
        weights = new
    return new


def some_losses(n: int = 60) -> np.ndarray:
    rng = np.random.default_rng(0)
    losses = rng.exponential(1, (3, n))
    losses[2, ::5] = math.inf
    return np.asarray(losses)


def test_weights_are_those_of_plain_em_and_the_likelihood_never_falls() -> None:
    """From even weights, with a part whose probability is 0 here and there."""
    losses = some_losses()
    iterations = list(em(losses))
    likelihoods = [float(np.log(w @ np.exp(-losses)).sum()) for w in iterations]
    assert len(likelihoods) > 10
    assert all(b >= a - 1e-12 for a, b in pairwise(likelihoods))
    expected = oracle_em(losses.tolist(), [0.0] * 3, [1 / 3] * 3)
    np.testing.assert_allclose(iterations[-1], expected, atol=1e-6)
    np.testing.assert_array_equal(fit_weights(losses), iterations[-1][None])


def test_weights_of_a_bucket_are_its_own_as_far_as_it_has_symbols() -> None:
    """Those of the whole text count as some symbols more; an empty bucket has them alone."""
    losses, context = some_losses(), np.repeat([0, 2], 30)
    whole = fit_weights(losses)[0]
    weights = fit_weights(losses, context, 3)
    np.testing.assert_allclose(weights[1], whole, rtol=1e-12)
    pseudo = (PSEUDO_COUNT * whole).tolist()
    for length, part in ((0, losses[:, :30]), (2, losses[:, 30:])):
        expected = oracle_em(part.tolist(), pseudo, whole.tolist())
        np.testing.assert_allclose(weights[length], expected, atol=1e-6)
    assert np.abs(weights[0] - weights[2]).max() > 1e-3
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)


def test_a_part_that_is_always_better_gets_everything() -> None:
    """And where no part gives a symbol anything, no weights can be fitted."""
    losses = np.array([[2.0] * 50, [0.1] * 50, [math.inf] * 50])
    np.testing.assert_allclose(fit_weights(losses), [[0, 1, 0]], atol=1e-7)
    losses[:, 7] = math.inf
    with pytest.raises(DataError, match="every part gives probability 0 to 1 symbol "):
        fit_weights(losses)


# Stored


def test_stored_arrays_come_back_and_others_are_refused() -> None:
    """Under the prefix of each part; weights that are none; a part's own complaint names the part."""
    for buckets in (False, True):
        model, params = mixture(buckets)
        again = model.restore(dict(params))
        assert dict(params).keys() == dict(again).keys()
        for name, array in params.items():
            np.testing.assert_array_equal(array, again[name])
    good = dict(params)
    half = good["weights"] / 2
    minus = np.tile([2.0, -0.5, -0.5], (4, 1))
    for change, words in (
        ({"weights": half}, "do not sum to 1"),
        ({"weights": minus}, "do not sum to 1"),
        ({"weights": half * math.nan}, "do not sum to 1"),
        ({"weights": good["weights"][:2]}, "2 buckets"),
        ({"weights": good["weights"][:, :2]}, "weights is float64"),
        ({"weights": np.array(1.0)}, "weights is float64"),
        ({"weights": good["weights"].astype(np.float32)}, "weights is float32"),
        ({"parts.a.order": np.array(3)}, "part a: order is 3"),
        ({"parts.c.order": np.array(3)}, "parts.c.order is not an array"),
    ):
        with pytest.raises(ValueError, match=words):
            model.restore(good | change)
    with pytest.raises(ValueError, match="weights is"):
        model.restore({name: array for name, array in good.items() if name != "weights"})
    with pytest.raises(ValueError, match="weights is"):
        Mixture(V).restore({"weights": np.ones((1, 0))})


# Runs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a net, an n-gram and one without smoothing, of one prepared text; and strangers."""
    home, text = tmp_path_factory.mktemp("runs"), TEXT[::4]
    (home / "text.txt").write_text(text, encoding="utf-8")
    (home / "other.txt").write_text(text[::-1], encoding="utf-8")
    (home / "few.txt").write_text(text.replace("k", ""), encoding="utf-8")
    rnnlm.prepare([home / "text.txt"], home / "data")
    data, ngram = home / "data", "model.kind=ngram"
    rnnlm.train(tiny_config(data, home / "net", "train.epochs=1"))
    for name, path, *keys in (
        ("ngram", data, "model.order=3"),
        ("sparse", data, "model.order=8", "model.smoothing=none"),
        ("other", home / "other.txt", "model.order=2"),
        ("few", home / "few.txt", "model.order=2"),
        ("byte", home / "text.txt", "model.order=2", "data.level=byte"),
        ("unvalidated", home / "text.txt", "model.order=2", "data.val_fraction=0"),
    ):
        settings = (f"data.path={path}", f"run.dir={home / name}", ngram, *keys)
        rnnlm.train(rnnlm.make_config(None, *settings))
    return home


def test_the_chain_of_commands(runs: Path, tmp_path: Path) -> None:
    """mix, info, eval, sample and mix again, when the runs that were mixed are gone."""
    for name in ("net", "ngram", "sparse"):
        shutil.copytree(runs / name, tmp_path / name)
    parts = [tmp_path / name for name in ("net", "ngram", "sparse")]
    run = tmp_path / "mixed"
    said = says("mix", *parts, "--out", run, "--buckets", "context")
    assert f"part 2, {parts[1] / 'best.npz'}: validation perplexity" in said
    assert f"part 3, {parts[2] / 'last.npz'}: validation perplexity infinite" in said
    assert "next: rnnlm sample" in said
    for part in parts:
        shutil.rmtree(part)
    events = [(r["event"], r.get("split")) for r in rnnlm.read_metrics(run / "metrics.jsonl")]
    assert events == [*[("part", "val")] * 3, ("eval", "val"), ("eval", "test"), ("end", None)]
    losses = [r["loss"] for r in rnnlm.read_metrics(run / "metrics.jsonl")]
    assert losses[3] < min(losses[:2]) and losses[2] is None
    figures = json.loads(says("eval", run, "--split", "val", "--json"))
    assert figures["nats_per_symbol"] == losses[3] == rnnlm.load(run).progress.best_loss
    told = says("info", run).splitlines()
    assert (
        told[1] == "model: mixture of 3 models, weights for each length of the context seen, 0 to 2"
    )
    assert told[2].startswith("  1: weight 0.") and told[2].endswith(
        rnnlm.load(runs / "net").model.describe()
    )
    assert ": 3-gram, smoothing kneser_ney: " in told[3]
    drawn = says("sample", run, "--prime", "The ", "--length", "50", "--seed", "1")
    assert drawn == says("sample", run, "--prime", "The ", "--length", "50", "--seed", "1")
    assert "=== sample 2 ===" in says("sample", run, "--num-samples", "2", "--top-k", "3")
    again = says("mix", run, runs / "ngram", "--out", tmp_path / "again")
    assert (
        len(says("compare", run, shutil.copytree(run, tmp_path / "other"), "--json").split("\n"))
        == 3
    )
    assert any(line.startswith("    1: weight 0.") for line in again.splitlines())
    assert (
        json.loads(says("eval", tmp_path / "again", "--split", "val", "--json"))["nats_per_symbol"]
        <= losses[3] + 1e-6
    )
    assert "(rnnlm mix makes one of" in says("train", "--resume", run, code=1)
    sets = ("--set", f"data.path={runs / 'data'}", "--run-dir", tmp_path / "new")
    assert "(rnnlm mix makes one of" in says("train", *sets, "--init-from", run, code=1)
    for config in ((), (run / "config.yaml",)):
        options = ("--set", "model.kind=mixture", *sets)
        assert "(rnnlm mix makes one of" in says("train", *config, *options, code=1)
    assert not (tmp_path / "new").exists()


def test_a_mixture_in_a_script_and_its_checkpoint_to_the_bit(runs: Path, tmp_path: Path) -> None:
    """Saved again, the same bits; a changed array beside a right manifest is noticed."""
    parts = [rnnlm.load(runs / name) for name in ("net", "ngram")]
    result = rnnlm.mix(parts, tmp_path / "mixed")
    assert (result.reason, result.best_step) == ("finished", 1)
    mixed = result.checkpoint()
    ids = mixed.ids(TEXT[:300])
    own = np.zeros((2, 299, 1))
    whole = Batch(ids[:-1, None], ids[1:, None])
    with blas.one_thread():
        for part, losses in zip(parts, own, strict=True):
            part.model.read(part.params, 1)(whole, losses)
    p = mixed.params["weights"][0] @ np.exp(-own[:, :, 0])
    assert math.isclose(rnnlm.evaluate(mixed, TEXT[:300]).nats, -np.log(p).sum(), rel_tol=1e-6)
    mixed.save(tmp_path / "again.npz")
    again = rnnlm.load(tmp_path / "again.npz")
    assert again.config == mixed.config
    for name, array in mixed.params.items():
        np.testing.assert_array_equal(array, again.params[name])
    bad = MixtureParams(mixed.params.weights / 2, mixed.params.parts)
    with pytest.raises(CheckpointError, match="do not sum to 1"):
        replace(mixed, params=bad).save(tmp_path / "again.npz")
    other = replace(mixed, config=mixed.config.with_values("model", parts={}))
    with pytest.raises(CheckpointError, match="not written"):
        other.save(tmp_path / "again.npz")
    assert rnnlm.mix([parts[0]] * 2, tmp_path / "twice").reason == "finished"  # and is read again


def test_parts_of_other_data_are_mixed_and_it_is_said(runs: Path, tmp_path: Path) -> None:
    """On the data of the first, or data that is named."""
    said = command("mix", runs / "ngram", runs / "other", "--out", tmp_path / "a")
    note = f"part 2, {runs / 'other' / 'best.npz'}: trained on other data than {runs / 'data'}\n"
    assert said.stderr == note
    result = rnnlm.mix(
        [rnnlm.load(runs / "unvalidated"), rnnlm.load(runs / "ngram")],
        tmp_path / "b",
        data=runs / "data",
    )
    assert result.best_loss is not None


def test_a_mixture_of_lines_backwards(tmp_path: Path) -> None:
    """A validation text of one empty line is one; the total is that of the weighted means."""
    (tmp_path / "a.txt").write_text("ab\nba\nabb\n\n", encoding="utf-8")
    parts = []
    for order in (1, 3):
        keys = ("data.unit=line", "data.reverse=true", "data.shuffle_lines=false")
        keys += ("data.val_fraction=0.25", "data.test_fraction=0", "model.kind=ngram")
        paths = (f"data.path={tmp_path / 'a.txt'}", f"run.dir={tmp_path / str(order)}")
        done = rnnlm.train(rnnlm.make_config(None, *keys, *paths, f"model.order={order}"))
        parts.append(done.checkpoint())
    mixed = rnnlm.mix(parts, tmp_path / "mixed").checkpoint()
    assert [rnnlm.evaluate(at, "\n").symbols for at in parts] == [1, 1]
    nats = 0.0
    for line in ("abb", "b"):
        for end in range(len(line) + 1):
            ending, symbol = line[len(line) - end :], ("\n" + line)[len(line) - end]
            p = [rnnlm.next_probabilities(at, ending)[symbol] for at in parts]
            nats -= math.log(float(mixed.params["weights"][0] @ p))
    assert rnnlm.evaluate(mixed, "abb\nb").nats == pytest.approx(nats, rel=1e-12)


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        (["ngram"], [], "a mixture is of two models or more, not of 1"),
        (["ngram", "few"], [], "vocabulary"),
        (["ngram", "byte"], [], "level (byte, not char)"),
        (["unvalidated", "ngram"], [], "no validation text"),
        (["net", "net"], ["--buckets", "context"], "add an n-gram"),
        (["sparse", "sparse"], [], "every part gives probability 0"),
        (["ngram", "nowhere"], [], "no such file"),
        (["ngram", "net"], ["--data", "nowhere"], "not a prepared folder"),
    ],
)
def test_what_cannot_be_mixed_is_refused(
    names: list[str], options: list[str], words: str, runs: Path, tmp_path: Path
) -> None:
    """In one line, and no folder is left."""
    paths = [runs / name for name in names]
    assert words in says("mix", *paths, *options, "--out", tmp_path / "run", code=1)
    assert not (tmp_path / "run").exists()
    assert "already holds" in says("mix", runs / "net", runs / "ngram", "--out", runs, code=1)


def test_a_wrong_value_in_a_script_is_an_error_of_rnnlm(runs: Path, tmp_path: Path) -> None:
    """No traceback of Python's."""
    one = rnnlm.load(runs / "ngram")
    with pytest.raises(CheckpointError, match="a list of checkpoints"):
        rnnlm.mix(one, tmp_path / "run")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="part 2: expected a checkpoint"):
        rnnlm.mix([one, runs / "net"], tmp_path / "run")  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="buckets must be context"):
        rnnlm.mix([one, one], tmp_path / "run", buckets="length")
    with pytest.raises(ConfigError, match="nested too deeply"):
        deep = one
        for k in range(9):
            deep = rnnlm.mix([deep, one], tmp_path / f"{k}").checkpoint()
    assert k == 3


def test_parts_in_a_config_are_models_with_their_keys() -> None:
    """Names, options and mistakes in them, as everywhere in a config."""
    config = rnnlm.make_config(
        None, "model.kind=mixture", "model.parts={a: {cell: gru}, b: {kind: ngram, order: 3}}"
    )
    assert config.model["parts"]["a"]["cell"] == {"name": "gru", "reset_after": False}
    assert config.model["parts"]["b"]["order"] == 3
    assert rnnlm.make_config(None, *[]).model["kind"] == "recurrent"
    many = ", ".join(f"n{k}: ngram" for k in range(33))
    for parts, words in (
        ("{a: {cel: gru}}", "unknown key model.parts.a.cel; did you mean model.parts.a.cell"),
        ("{a: {kind: ngram, cell: gru}}", "unknown key"),
        ("{a: {kind: katz}}", "model.parts.a.kind must be one of"),
        ("{a.b: ngram}", "must be a mapping from names"),
        ("{A: ngram}", "must be a mapping from names"),
        (f"{{{many}}}", "at most 32"),
        ("ngram", "must be a mapping from names"),
        ("{a: &a ngram, b: *a}", "anchors"),
    ):
        with pytest.raises(ConfigError, match=words):
            rnnlm.make_config(None, "model.kind=mixture", f"model.parts={parts}")
