"""Dynamic evaluation: what is learnt, when, and that nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from oracles import all_cells, model_losses

from rnnlm.backend.params import Parameters
from rnnlm.errors import ConfigError, TrainingError
from rnnlm.inference import dynamic
from rnnlm.inference.dynamic import Texts, evaluate_dynamic, learning_reader, options_of
from rnnlm.inference.evaluation import evaluate
from rnnlm.inference.learning import Dynamic
from rnnlm.inference.tuning import tune
from rnnlm.models.base import LanguageModel
from rnnlm.models.jordan import Jordan
from rnnlm.models.mixture import Mixture, MixtureParams
from rnnlm.models.ngram import NGram
from rnnlm.models.recurrent import Recurrent
from rnnlm.models.window import Window
from rnnlm.text.batches import Batch
from rnnlm.text.format import TextFormat, TextRules
from rnnlm.text.vocabulary import CharVocabulary

V = 5
RULES = TextRules("char", "utf-8", "normalize")
FORMAT = TextFormat(RULES, CharVocabulary(np.array([10, *range(97, 101)])))
MODELS: list[LanguageModel] = [
    Recurrent(V, hidden_size=6, num_layers=1),
    Jordan(V, hidden_size=6),
    Window(V, context=3, hidden_size=6),
]


def ids(n: int, seed: int = 0) -> np.ndarray:
    """A text that repeats a good deal."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.7, np.arange(n) % V, rng.integers(0, V, n)).astype(np.uint8)


def texts(read: np.ndarray, of_lines: bool = False) -> Texts:
    rules = replace(RULES, unit="line" if of_lines else "stream")
    return Texts(replace(FORMAT, rules=rules), read, lambda: ids(300, 9))


def fitted(model: LanguageModel) -> Any:
    return model.init(np.random.default_rng(0))


def mixture(buckets: bool = True) -> tuple[Mixture, MixtureParams]:
    net, counts = MODELS[0], NGram(V, 3)
    parts = {"net": fitted(net), "counts": counts.fit(ids(300, 9))}
    weights = np.full((3 if buckets else 1, 2), 0.5)
    return Mixture(V, {"net": net, "counts": counts}), MixtureParams(weights, parts)


def losses(model: LanguageModel, params: Any, read: np.ndarray, how: Dynamic) -> np.ndarray:
    """The loss of every symbol."""
    found, given = [], texts(read)
    batches = given.windows(how.segment)
    reader = learning_reader(model, params, given, how)
    for k in range(len(batches)):
        batch = batches(0, k)
        found.append(np.empty(batch.ids.shape))
        reader(batch, found[-1])
    return np.concatenate(found)[:, 0]


@pytest.mark.parametrize("rule", dynamic.RULES)
def test_a_segment_moves_the_parameters_as_by_hand(rule: str) -> None:
    """η r g and λ d (θ₀ - θ), g by differences of a float64 oracle, over two segments."""
    model = Recurrent(V, all_cells()[0], 2, 1)
    start = model.init(np.random.default_rng(0), np.float64)
    how, read = Dynamic(segment=4, rule=rule, rate=0.2, decay=0.3), ids(9)
    reader = learning_reader(model, start, texts(read), how)
    r, d = np.ones((2, start.flat.size))
    if rule == "rms":
        root = np.sqrt(dynamic.mean_squares(model, start, texts(read), 4))
        d = root / root.mean()
        r = 1 / (d + dynamic.EPSILON)
    theta, state = start.flat.copy(), model.zero_state(1, np.float64)
    for k in (0, 4):
        window = Batch(
            read[k : k + 4, None].astype(np.intp), read[k + 1 : k + 5, None].astype(np.intp)
        )

        def loss(
            flat: np.ndarray, window: Batch = window, state: np.ndarray = state
        ) -> tuple[np.ndarray, np.ndarray]:
            named = dict(Parameters(start.shapes, np.float64, flat))
            return model_losses(all_cells()[0], named, window.ids, window.targets, state)

        each, after = loss(theta)
        assert reader(window) == pytest.approx(each.sum(), abs=1e-9)
        g = np.empty_like(theta)
        for i in range(len(theta)):
            step = np.zeros_like(theta)
            step[i] = 1e-5
            g[i] = (loss(theta + step)[0].mean() - loss(theta - step)[0].mean()) / 2e-5
        theta = theta - 0.2 * r * g + np.minimum(0.3 * d, 1) * (start.flat - theta)
        state = after
        np.testing.assert_allclose(reader.params.flat, theta, rtol=0, atol=1e-8)
    assert np.abs(theta - start.flat).max() > 1e-3


def test_mean_squares_are_of_the_gradients_of_the_training_text() -> None:
    """Those of windows of a segment, one after another, with the state carried on."""
    model = MODELS[0]
    assert isinstance(model, Recurrent)
    params, given = fitted(model), texts(ids(20))
    found = dynamic.mean_squares(model, params, given, 5)
    batches, squares = given.format.batches(given.training, dynamic.STREAMS, 5, 0), []
    state, d = model.zero_state(dynamic.STREAMS), params.like()
    for k in range(len(batches)):
        batch = batches(0, k)
        ws = dynamic.Workspace(np.float32)
        weights = model.weights(params, dynamic.STREAMS)
        model.loss_and_grad(weights, batch, state, d, ws, 1 / batch.counted)
        squares.append(d.flat.astype(np.float64) ** 2)
    np.testing.assert_allclose(found, np.mean(squares, axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "of_lines"),
    [*((model, False) for model in MODELS), (MODELS[0], True)],
    ids=["recurrent", "jordan", "window", "of lines"],
)
def test_without_rates_the_figure_is_the_static_one(model: LanguageModel, of_lines: bool) -> None:
    """And with them a text that repeats is predicted better; the parameters stay as they were."""
    params, given = fitted(model), texts(ids(200), of_lines)
    before = params.flat.copy()
    static = evaluate(model, params, given.ids, 1, given.format.batches)
    still = evaluate_dynamic(model, params, given, Dynamic(segment=128, rate=0, decay=0))
    assert still.nats == pytest.approx(static.nats, rel=1e-7 if of_lines else 0)
    assert (still.symbols, still.lines) == (static.symbols, static.lines)
    learnt = evaluate_dynamic(model, params, given, Dynamic(rule="global", rate=0.5))
    assert learnt.nats < static.nats
    assert learnt == evaluate_dynamic(model, params, given, Dynamic(rule="global", rate=0.5))
    np.testing.assert_array_equal(params.flat, before)


@pytest.mark.parametrize("kind", ["net", "mixture"])
def test_nothing_is_learnt_from_a_symbol_before_it_is_predicted(kind: str) -> None:
    """Another future changes no loss of the past, and another past does change the future's."""
    model, params = mixture() if kind == "mixture" else (MODELS[0], fitted(MODELS[0]))
    read, how = ids(120), Dynamic(segment=10)
    other, past = read.copy(), read.copy()
    other[65] = (other[65] + 1) % V
    past[15] = (past[15] + 1) % V
    as_read, changed, later = (losses(model, params, text, how) for text in (read, other, past))
    np.testing.assert_array_equal(as_read[:64], changed[:64])
    assert as_read[64] != changed[64]
    assert (as_read[90:] != later[90:]).any()


@pytest.mark.parametrize("buckets", [False, True], ids=["one", "by context"])
def test_a_mixtures_weights_follow_what_its_parts_deserve(buckets: bool) -> None:
    """As plain Python does it from the parts' own losses, in each bucket."""
    model, params = mixture(buckets)
    read, how = ids(60), Dynamic(segment=7, weight_rate=0.1)
    found = losses(model, params, read, how)
    parts = [losses(model.parts[n], params.parts[n], read, how) for n in model.parts]
    given = texts(read)
    counting = learning_reader(model.parts["counts"], params.parts["counts"], given, how)
    counting(given.windows(None)(0, 0))
    bucket = counting.context[:, 0].tolist() if buckets else [0] * 59
    weights = params.weights.tolist()
    for begin in range(0, 59, 7):
        held = [list(row) for row in weights]
        posteriors: dict[int, list[list[float]]] = {}
        for t in range(begin, min(begin + 7, 59)):
            joint = [w * np.exp(-part[t]) for w, part in zip(held[bucket[t]], parts, strict=True)]
            assert found[t] == pytest.approx(-np.log(sum(joint)), abs=1e-12)
            posteriors.setdefault(bucket[t], []).append([j / sum(joint) for j in joint])
        for b, rows in posteriors.items():
            kept = 0.9 ** len(rows)
            mean = np.mean(rows, axis=0)
            weights[b] = [kept * w + (1 - kept) * m for w, m in zip(held[b], mean, strict=True)]
    assert params.weights.min() == 0.5


def test_options_are_those_that_a_model_uses_and_others_are_refused() -> None:
    """An n-gram has none; wrong values and rates at which nothing is finite are errors in one line."""
    assert options_of(NGram(V)) == []
    assert options_of(mixture()[0]) == ["segment", "rule", "rate", "decay", "weight_rate"]
    for wrong in ({"segment": 0}, {"rule": "adam"}, {"rate": float("nan")}, {"weight_rate": 1}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            Dynamic(**wrong)  # type: ignore[arg-type]
    large = fitted(MODELS[0])
    large.flat.fill(np.inf)
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="lower the rate"):
        evaluate_dynamic(MODELS[0], large, texts(ids(40)), Dynamic(rule="global"))
    with pytest.raises(ConfigError, match="no rates"):
        next(tune(NGram(V), {}, texts(ids(20)), Dynamic()))


def test_tuning_goes_on_while_it_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    """As plain Python does: each option up, else down; beyond any grid; never what is not finite."""
    model, params, asked = *mixture(), []
    given = texts(ids(60))
    static = evaluate(model, params, given.ids, 1, given.format.batches)

    def bowl(model: Any, params: Any, texts: Texts, how: Dynamic) -> Any:
        asked.append(how)
        if how.decay > 0.05:
            raise TrainingError("too high")
        far = (how.rate / 24.3, how.segment / 5, how.decay / 0.01, how.weight_rate / 0.01)
        return replace(static, nats=sum(abs(np.log(x)) for x in far))

    with monkeypatch.context() as patched:
        patched.setattr("rnnlm.inference.tuning.evaluate_dynamic", bowl)
        tried = list(tune(model, params, given, Dynamic(weight_rate=0.64)))
    assert asked == [how for how, _ in tried] and len(set(asked)) == len(asked) <= 22
    best = min(tried, key=lambda pair: pair[1].nats)[0]
    assert best == Dynamic(segment=5, rate=24.3, decay=0.01, weight_rate=0.01)
    assert {how.rate for how in asked} == {0.3, 0.9, 2.7, 8.1, 24.3, 72.9}
    assert {result.nats for how, result in tried if how.decay > 0.05} == {np.inf}
    _, first = next(tune(model, params, given, Dynamic()))
    assert first == evaluate_dynamic(model, params, given, Dynamic())
