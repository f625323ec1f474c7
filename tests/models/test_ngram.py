"""Models that count: against dictionaries in every context, and as runs from the command line."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import says
from conftest import TEXT, corpus_file, tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_oracle import Oracle

import rnnlm
from rnnlm.errors import CheckpointError, ConfigError, DataError
from rnnlm.inference.evaluation import evaluate
from rnnlm.models import counting, ngram
from rnnlm.models.ngram import NGram
from rnnlm.models.smoothing import FALLBACK, SMOOTHINGS, _discounts
from rnnlm.text.batches import IGNORED, Batch, Streams

Text = tuple[list[int], list[bool] | None]


def markov(n: int, V: int, seed: int = 0) -> np.ndarray:
    """A text with something to learn: each symbol depends on the two before it."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(V, 0.2), (V, V)).cumsum(axis=2)
    ids = [0, 0]
    for u in rng.random(n - 2):
        ids.append(min(V - 1, int(P[ids[-2], ids[-1]].searchsorted(u))))
    return np.array(ids)


def whole(ids: Any, fresh: Any = None) -> Batch:
    """A text as one window of one stream."""
    column = np.asarray(ids)[:, None]
    marks = None if fresh is None else np.asarray(fresh)[:-1, None]
    return Batch(column[:-1], column[1:], marks)


def probabilities(model: NGram, params: ngram.Params, ids: Any, fresh: Any = None) -> np.ndarray:
    losses = np.full((len(ids) - 1, 1), np.nan)
    model.read(params, 1)(whole(ids, fresh), losses)
    return np.exp(-losses[:, 0])


@st.composite
def texts(draw: st.DrawFn, V: int) -> Text:
    ids = draw(st.lists(st.integers(0, V - 1), min_size=2, max_size=60))
    fresh = draw(st.none() | st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    return ids, fresh


@st.composite
def cases(draw: st.DrawFn) -> tuple[NGram, Text, Text]:
    V = draw(st.integers(1, 5))
    order, smoothing = draw(st.integers(1, 6)), draw(st.sampled_from(list(SMOOTHINGS)))
    k = draw(st.sampled_from([0.01, 1.0, 2.5])) if smoothing == "additive" else NGram.k
    model = NGram(V, order, smoothing, k)
    return model, draw(texts(V)), draw(texts(V))


@settings(max_examples=60)
@given(cases())
def test_probabilities_are_those_of_dictionaries(case: tuple[NGram, Text, Text]) -> None:
    """Every smoothing, orders 1 to 6, one text and many, windows read and steps taken."""
    model, train, other = case
    assert isinstance(model.order, int)
    oracle = Oracle(*train, model.vocabulary_size, model.order, model.smoothing, model.k)
    params = model.fit(np.array(train[0]), fresh=None if train[1] is None else np.array(train[1]))
    for ids, fresh in (train, other):
        expected = list(oracle.read(ids, fresh))
        found = probabilities(model, params, ids, fresh)
        np.testing.assert_allclose(found, [p for _, p in expected], rtol=1e-12, atol=1e-300)
    for h, _ in expected[:10]:
        steps = model.begin(params, 1)
        for symbol in h or (0,):
            logits = steps.step([symbol])
        row = [oracle.p(h, w) for w in range(model.vocabulary_size)]
        np.testing.assert_allclose(np.exp(logits[0]), row, rtol=1e-12, atol=1e-300)


@settings(max_examples=40)
@given(cases(), st.data())
def test_probabilities_sum_to_one_in_every_context(
    case: tuple[NGram, Text, Text], data: st.DataObject
) -> None:
    """Seen or not, short or long."""
    model, (ids, fresh), _ = case
    params = model.fit(np.array(ids), fresh=None if fresh is None else np.array(fresh))
    past = data.draw(st.lists(st.integers(0, model.vocabulary_size - 1), min_size=1, max_size=8))
    steps = model.begin(params, 1)
    for symbol in past:
        logits = steps.step([symbol])
        assert not np.isnan(logits).any()
        assert math.isclose(np.exp(logits).sum(), 1, rel_tol=1e-12)


def test_discounts_come_from_the_counts_of_a_long_text() -> None:
    """Where the text allows it, all three of every order, and not the fallback's."""
    ids = markov(4000, 20)
    model = NGram(20, 3)
    params = model.fit(ids)
    oracle = Oracle(ids.tolist(), None, 20, 3, "kneser_ney")
    np.testing.assert_allclose(params["discounts"], oracle.discounts, rtol=1e-12)
    assert params["fallback"].tolist() == [1, 0, 0]  # every symbol has many before it
    test = markov(300, 20, seed=1).tolist()
    expected = [p for _, p in oracle.read(test, None)]
    np.testing.assert_allclose(probabilities(model, params, test), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "n",
    [
        [0, 0, 5, 5, 5, 5],  # none seen once
        [0, 5, 0, 5, 5, 5],
        [0, 5, 5, 0, 5, 5],
        [0, 1, 1, 50, 5, 5],  # D₂ below 0
    ],
)
def test_discounts_fall_back_where_counts_allow_none(n: list[int]) -> None:
    assert _discounts(n) == FALLBACK


def test_a_model_says_that_its_discounts_fell_back() -> None:
    """In the numbers and in the line that describes it."""
    model = NGram(2, 2)
    params = model.fit(np.array([0, 1] * 20))
    assert params["fallback"].tolist() == [1, 1]
    assert params["discounts"].tolist() == [[0.5, 1, 1.5]] * 2
    assert "; order 1, 2: default discounts" in model.describe(params)
    assert model.describe() == "2-gram, smoothing kneser_ney"


def test_order_is_the_one_that_predicts_the_validation_text_best() -> None:
    """And the model is the one of that order, found without auto."""
    train, validation = np.split(markov(1500, 6), [1200])
    for smoothing in SMOOTHINGS:
        found = NGram(6, None, smoothing).fit(train, validation)
        fixed = [NGram(6, n, smoothing) for n in range(1, 8)]
        fitted = [model.fit(train) for model in fixed]
        losses = [
            model.read(params, 1)(whole(validation))
            for model, params in zip(fixed, fitted, strict=True)
        ]
        rises = next(i for i in range(1, 7) if not losses[i] < losses[i - 1])
        assert found["order"] == rises
        for name, array in fitted[rises - 1].items():
            assert np.array_equal(found[name], array), name


def test_the_search_for_an_order_ends() -> None:
    """Though a text that was counted is predicted better by every higher order."""
    ids = markov(300, 6)
    params = NGram(6, None, "witten_bell").fit(ids, ids)
    assert params["order"] == ngram.HIGHEST
    params = NGram(6).fit(ids, ids[:3])
    assert 1 <= params["order"] <= ngram.HIGHEST


def test_windows_and_streams_do_not_change_what_is_read() -> None:
    """Texts that begin anywhere, targets that do not count, windows shorter than a context."""
    rng = np.random.default_rng(0)
    model = NGram(6, 5)
    params = model.fit(markov(3000, 6))
    ids = rng.integers(0, 6, (41, 3))
    fresh = rng.random((40, 3)) < 0.1
    targets = np.where(rng.random((40, 3)) < 0.2, IGNORED, ids[1:])
    expected = np.stack(
        [-np.log(probabilities(model, params, ids[:, b], [*fresh[:, b], False])) for b in range(3)],
        1,
    )
    expected[targets == IGNORED] = 0
    for window in (1, 2, 3, 7, 40):
        reader, found, total = model.read(params, 3), np.full((40, 3), np.nan), 0.0
        for t in range(0, 40, window):
            part = slice(t, t + window)
            total += reader(Batch(ids[:-1][part], targets[part], fresh[part]), found[part])
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert math.isclose(total, expected.sum())
    assert (
        evaluate(model, params, ids[:, 0]).nats  # type: ignore[arg-type]
        == pytest.approx(model.read(params, 1)(whole(ids[:, 0])))
    )


def test_a_text_steps_alike_alone_and_among_others() -> None:
    """To the bit; and step by step it has the probabilities that reading gives it."""
    model = NGram(6, 4)
    params = model.fit(markov(2000, 6))
    ids = np.random.default_rng(1).integers(0, 6, (30, 5))
    together = model.begin(params, 5)
    alone = [model.begin(params, 1) for _ in range(5)]
    read = np.stack([probabilities(model, params, ids[:, b]) for b in range(5)], 1)
    for t in range(29):
        logits = together.step(ids[t])
        for b in range(5):
            assert np.array_equal(logits[b], alone[b].step(ids[t, b : b + 1])[0])
        stepped = np.exp(logits[np.arange(5), ids[t + 1]])
        np.testing.assert_allclose(stepped, read[t], rtol=1e-12)


def test_large_vocabularies_and_keys_that_leave_no_room() -> None:
    """20,000 words, and keys that are sorted by their places."""
    rng = np.random.default_rng(2)
    ids = (rng.zipf(1.3, 5000) % 20_000).astype(np.uint16)
    oracle = Oracle(ids.tolist(), None, 20_000, 3, "kneser_ney")
    model = NGram(20_000, 3)
    params = model.fit(ids)
    expected = [p for _, p in oracle.read(ids.tolist()[:500], None)]
    np.testing.assert_allclose(probabilities(model, params, ids[:500]), expected, rtol=1e-12)
    steps = model.begin(params, 1)
    for t in range(20):
        logits = steps.step(ids[t : t + 1])
    assert math.isclose(np.exp(logits[0]).sum(), 1, rel_tol=1e-10)

    keys = rng.integers(0, 1 << 40, 1000) >> rng.integers(0, 40, 1000)
    tight, roomy = keys.copy(), keys.copy()
    assert np.array_equal(counting.ranked(tight, 1 << 60), counting.ranked(roomy, 1 << 41))
    assert np.array_equal(tight, roomy)
    assert np.array_equal(np.unique(keys)[tight], keys)


def test_maximum_likelihood_is_infinite_where_nothing_was_seen() -> None:
    """Never NaN, and sampling goes on from a context that was never seen."""
    model = NGram(3, 2, "none")
    params = model.fit(np.array([0, 1, 0, 1, 0]))
    assert model.read(params, 1)(whole([0, 1, 0, 1])) == 0
    losses = np.empty((3, 1))
    assert model.read(params, 1)(whole([0, 1, 2, 0]), losses) == math.inf
    assert losses[1, 0] == math.inf and np.isfinite(losses[2, 0])
    steps = model.begin(params, 1)
    assert np.exp(steps.step([2])[0]).tolist() == [0.5, 0.5, 0]


def test_too_little_memory_is_refused_and_what_fits_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = markov(5000, 30)
    monkeypatch.setattr(counting, "available_memory", lambda: 350_000)
    with pytest.raises(
        DataError, match=r"order 4 in 4,999 symbols .* free: model.order at most 3$"
    ):
        NGram(30, 6).fit(ids)
    NGram(30, 3).fit(ids)
    monkeypatch.setattr(counting, "available_memory", lambda: 1000)
    with pytest.raises(DataError, match="a shorter text"):
        NGram(30, 1).fit(ids)


def test_what_cannot_be_counted_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to count"):
        NGram(3, 2).fit(np.array([1]))
    with pytest.raises(DataError, match="validation"):
        NGram(3).fit(np.array([1, 2, 1]))
    with pytest.raises(DataError, match="ids"):
        NGram(3, 2).fit(np.array([1, 3]))


@pytest.mark.parametrize("smoothing", list(SMOOTHINGS))
def test_stored_arrays_come_back(smoothing: str) -> None:
    """The same bits, whatever order of bytes or size the file had."""
    model = NGram(6, 3, smoothing)
    params = model.fit(markov(500, 6))
    assert all(a.dtype.kind in "fiu" for a in params.values())
    back = model.restore({name: a.astype(a.dtype.newbyteorder(">")) for name, a in params.items()})
    for name, array in params.items():
        assert np.array_equal(back[name], array) and back[name].dtype == array.dtype, name


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("order", lambda a: a + 1),
        ("order", lambda a: a - a),
        ("order", lambda a: a + 0.5),
        ("alone", lambda a: a[None]),
        ("discounts", lambda a: a * np.nan),
        ("fallback", lambda a: a[:-1]),
        ("levels.0.contexts", lambda a: a + 1),
        ("levels.0.contexts", lambda a: a[:0]),
        ("levels.1.contexts", lambda a: a[::-1]),
        ("levels.1.contexts", lambda a: a[:-1]),
        ("levels.1.contexts", lambda a: a.astype(np.float64)),
        ("levels.2.contexts", lambda a: a + 1000),
        ("levels.2.ngrams", lambda a: a - 2**62),
        ("levels.2.ngrams", lambda a: np.append(a[1:], a[-1:])),
        ("levels.2.ngrams", lambda a: a.astype(np.uint64) + np.uint64(2**63)),
        ("levels.2.ngrams", lambda a: a[None]),
        ("levels.1.probability", lambda a: a + 1),
        ("levels.1.probability", lambda a: -a),
        ("levels.1.probability", lambda a: a[1:]),
        ("levels.1.backoff", lambda a: a * np.inf),
        ("levels.1.backoff", lambda a: a - 2),
    ],
)
def test_arrays_that_no_model_has_are_refused(name: str, change: Any) -> None:
    model = NGram(6, 3)
    params = model.fit(markov(500, 6))
    with np.errstate(all="ignore"), pytest.raises(ValueError):
        model.restore(params | {name: change(params[name])})
    with pytest.raises(ValueError, match="missing"):
        model.restore({other: a for other, a in params.items() if other != name})
    with pytest.raises(ValueError, match="not an array of this model"):
        model.restore(params | {"levels.7.ngrams": params["order"]})


def test_streams_of_a_corpus_can_be_read() -> None:
    """What evaluation over many streams cuts a text into."""
    model = NGram(6, 3)
    ids = markov(500, 6)
    params = model.fit(ids)
    batches = Streams(ids, 4, 10)
    reader = model.read(params, 4)
    assert all(math.isfinite(reader(batches(0, k))) for k in range(len(batches)))


# Runs


def counted_run(text: Path, run: Path, *overrides: str) -> rnnlm.TrainingResult:
    keys = (f"data.path={text}", f"run.dir={run}", "model.kind=ngram", *overrides)
    return rnnlm.train(rnnlm.make_config(None, *keys))


def test_the_chain_of_commands(text_file: Path, tmp_path: Path) -> None:
    """train, info, eval and sample, as with any model."""
    run = tmp_path / "run"
    keys = (f"data.path={text_file}", "model.kind=ngram", "model.order=6")
    sets = [part for key in keys for part in ("--set", key)]
    planned = says("train", *sets, "--run-dir", run, "--dry-run")
    assert "model: 6-gram, smoothing kneser_ney" in planned and not run.exists()
    said = says("train", *sets, "--run-dir", run)
    assert "validation perplexity" in said and "test, checkpoint of step 1" in said
    assert {"config.yaml", "metrics.jsonl", "last.npz", "best.npz"} <= {
        path.name for path in run.iterdir()
    }
    events = [(r["event"], r.get("split")) for r in rnnlm.read_metrics(run / "metrics.jsonl")]
    assert events == [("eval", "val"), ("eval", "test"), ("end", None)]
    assert "model: 6-gram, smoothing kneser_ney: " in says("info", run)
    figures = json.loads(says("eval", run, "--split", "val", "--json"))
    checkpoint = rnnlm.load(run)
    assert figures["nats_per_symbol"] == checkpoint.progress.best_loss
    drawn = says("sample", run, "--prime", "The ", "--length", "50", "--seed", "1")
    assert drawn == says("sample", run, "--prime", "The ", "--length", "50", "--seed", "1")
    assert drawn.startswith("The ") and len(drawn) <= 55
    two = says("sample", run, "--length", "20", "--num-samples", "2", "--temperature", "0.5")
    assert "=== sample 2 ===" in two
    assert "this run is finished" in says("train", "--resume", run, code=1)


def test_a_run_ends_with_the_same_result_in_a_script(text_file: Path, tmp_path: Path) -> None:
    """The result, the events, and the order that was found in both."""
    result = counted_run(text_file, tmp_path / "a")
    assert (result.reason, result.best_step) == ("finished", 1)
    assert result.best is not None and result.best.is_file() and result.last.is_file()
    config = rnnlm.make_config(tmp_path / "a" / "config.yaml", f"run.dir={tmp_path / 'b'}")
    events = list(rnnlm.train_events(config))
    assert [e.record.get("loss") for e in events] == [r.get("loss") for r in result.history]
    order = int(result.checkpoint().params["order"])
    assert result.history[-1]["model"].startswith(f"{order}-gram")
    assert rnnlm.evaluate(result.checkpoint(), TEXT[:500]).nats_per_symbol < 1


def test_a_checkpoint_comes_back_and_a_damaged_one_is_refused(
    text_file: Path, tmp_path: Path
) -> None:
    """The same bits; every array that is changed beside a right manifest is noticed."""
    counted_run(text_file, tmp_path / "run", "model.order=3")
    path = tmp_path / "run" / "last.npz"
    checkpoint = rnnlm.load(path)
    checkpoint.save(tmp_path / "again.npz")
    again = rnnlm.load(tmp_path / "again.npz")
    assert checkpoint.params.keys() == again.params.keys()
    for name, array in checkpoint.params.items():
        assert np.array_equal(array, again.params[name]), name
    for name, array in checkpoint.params.items():
        changed = replace(checkpoint, params=checkpoint.params | {name: array[..., None]})
        with pytest.raises(CheckpointError, match="not written"):
            changed.save(tmp_path / "again.npz")
    other = replace(checkpoint, config=rnnlm.make_config(None, f"data.path={text_file}"))
    with pytest.raises(CheckpointError, match="not written"):
        other.save(tmp_path / "again.npz")
    training = replace(checkpoint, state=np.zeros((1, 1, 32, 8), np.float32))
    with pytest.raises(CheckpointError, match="state"):
        training.save(tmp_path / "again.npz")
    content = bytearray(path.read_bytes())
    content[content.index(checkpoint.params["levels.2.probability"].tobytes())] ^= 1
    path.write_bytes(content)
    assert "damaged" in says("eval", path, code=1)


def test_an_infinite_loss_is_a_result(text_file: Path, tmp_path: Path) -> None:
    """Shown as infinite, null in JSON; there is no best checkpoint, and sampling works."""
    run = tmp_path / "run"
    keys = (f"data.path={text_file}", "model.kind=ngram", "model.order=8", "model.smoothing=none")
    sets = [part for key in keys for part in ("--set", key)]
    assert "validation perplexity infinite" in says("train", *sets, "--run-dir", run)
    assert not (run / "best.npz").exists()
    assert [r.get("loss") for r in rnnlm.read_metrics(run / "metrics.jsonl")] == [None] * 3
    assert "perplexity: infinite\n" in says("eval", run)
    assert json.loads(says("eval", run, "--json"))["perplexity"] is None
    assert math.isfinite(rnnlm.evaluate(rnnlm.load(run), TEXT[:2000]).nats)
    assert len(says("sample", run, "--length", "30", "--top-k", "2")) >= 30


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.epochs=3"], "train.epochs: a model that counts takes no key of train"),
        (["train.optimizer.learning_rate=1"], "train.optimizer: a model that counts"),
        (["model.order=0"], "model.order must be at least 1"),
        (["model.order=21"], "model.order must be at most 20"),
        (["model.order=true"], "model.order must be an integer or auto"),
        (["model.smoothing=katz"], "model.smoothing must be one of"),
        (["model.k=0"], "model.k must be above 0"),
        (["model.k=2"], "model.k: what additive smoothing adds; kneser_ney adds nothing"),
        (["model.hidden_size=8"], "is not an option of ngram"),
        (["data.val_fraction=0"], "auto is found on a validation text, and there is none"),
    ],
)
def test_what_a_run_cannot_do_is_refused(
    overrides: list[str], words: str, text_file: Path, tmp_path: Path
) -> None:
    """In one line, and no folder is left."""
    keys = [f"data.path={text_file}", "model.kind=ngram", *overrides]
    sets = [part for key in keys for part in ("--set", key)]
    assert words in says("train", *sets, "--run-dir", tmp_path / "run", code=1)
    assert not (tmp_path / "run").exists()


def test_weights_and_counts_do_not_start_from_each_other(text_file: Path, tmp_path: Path) -> None:
    counted = counted_run(text_file, tmp_path / "counted", "model.order=2").checkpoint()
    with pytest.raises(ConfigError, match="no weights to start from"):
        rnnlm.train(tiny_config(text_file, tmp_path / "run"), init_from=counted)
    keys = (f"data.path={text_file}", f"run.dir={tmp_path / 'run'}", "model.kind=ngram")
    with pytest.raises(ConfigError, match="starts from no checkpoint"):
        rnnlm.train(rnnlm.make_config(None, *keys), init_from=counted)
    with pytest.raises(ConfigError, match="gradient descent cannot train"):
        rnnlm.Training.start(rnnlm.make_config(None, *keys), "run")
    assert not (tmp_path / "run").exists()


def test_tiny_shakespeare_is_predicted_as_well_as_it_should_be(tmp_path: Path) -> None:
    """Kneser-Ney with the order that validation chooses."""
    result = counted_run(corpus_file("tinyshakespeare.txt"), tmp_path / "run")
    assert result.best_loss is not None and result.best_loss <= 1.4534
    assert result.history[1]["loss"] <= 1.5798
