"""An n-gram that counts on while it reads: at every symbol the model that fitting again would give."""

from __future__ import annotations

import numpy as np
import pytest
from ngram_oracle import Oracle, events

from rnnlm.errors import ConfigError, DataError
from rnnlm.models import counting_on
from rnnlm.models.counting_on import CountingReader, count_on
from rnnlm.models.ngram import NGram
from rnnlm.models.smoothing import SMOOTHINGS
from rnnlm.text.batches import Batch


def window(ids: np.ndarray, fresh: np.ndarray) -> Batch:
    """A text as one window of one stream."""
    return Batch(ids[:-1, None], ids[1:, None], fresh[:-1, None])


def some_text(n: int, seed: int, lines: bool, V: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Ids (n,) that repeat a good deal, and marks where a text begins: at 0 alone, or at some 0s."""
    rng = np.random.default_rng(seed)
    ids = np.where(rng.random(n) < 0.6, np.arange(n) % V, rng.integers(0, V, n))
    fresh = (ids == 0) & lines
    fresh[0] = True
    return ids, fresh


@pytest.mark.parametrize("lines", [False, True], ids=["stream", "lines"])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_every_symbol_is_predicted_as_by_a_model_fitted_again(smoothing: str, lines: bool) -> None:
    """On the training text and all that was read before it, the discounts held."""
    V, order = 4, 3
    ids, fresh = some_text(60, 0, lines)
    if smoothing == "kneser_ney":
        ids[ids == 3] = 2  # a symbol that comes in the other text alone
    text, marks = some_text(50, 1, lines)
    model = NGram(V, order, smoothing)
    params = model.fit(ids, fresh=fresh)
    nats, context = count_on(model, params, (ids, fresh), window(text, marks))
    before = Oracle(ids.tolist(), fresh.tolist(), V, order, smoothing)
    read = list(events(text.tolist(), marks.tolist()))
    for t, (past, w) in enumerate(read):
        now = Oracle(
            ids.tolist(), fresh.tolist(), V, order, smoothing, 1.0, read[:t], before.discounts
        )
        h = past[max(0, len(past) - order + 1) :]
        assert np.exp(-nats[t]) == pytest.approx(now.p(h, w), abs=1e-12), t
        seen = next(k for k in reversed(range(len(h) + 1)) if h[len(h) - k :] in now.counts[k])
        assert context[t] == seen


def test_nothing_is_learnt_from_a_symbol_before_it_is_predicted() -> None:
    """Another future changes no prediction of the past, to the bit; what comes later it does."""
    ids, _ = some_text(400, 0, lines=False)
    text, marks = some_text(300, 1, lines=False)
    model = NGram(4, 4)
    params = model.fit(ids)
    other = text.copy()
    other[200:] = (other[200:] + 1) % 4
    nats, changed = (
        count_on(model, params, (ids, None), window(t, marks))[0] for t in (text, other)
    )
    np.testing.assert_array_equal(nats[:199], changed[:199])  # of symbols 1 to 199
    assert (nats[199:] != changed[199:]).any()


def test_a_reader_gives_the_losses_window_by_window() -> None:
    """As many as a window has steps, and how long a context was seen before each."""
    nats, context = np.arange(7.0), np.arange(7, dtype=np.int8)
    reader = CountingReader(nats, context)
    losses = np.empty((3, 1))
    steps = np.zeros((3, 1), np.int64)
    assert reader(Batch(steps, steps), losses) == 3.0
    assert reader(Batch(steps, steps), losses) == 12.0
    assert losses[:, 0].tolist() == [3.0, 4.0, 5.0] == reader.context[:, 0].tolist()


def test_what_cannot_be_counted_on_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of another training text, of a file, and a text that does not fit into memory."""
    ids, fresh = some_text(60, 0, lines=False)
    model = NGram(4, 3)
    with pytest.raises(ConfigError, match="read from a file"):
        count_on(NGram(4, 3, "imported"), {}, (ids, None), window(ids, fresh))
    with monkeypatch.context() as small:
        small.setattr(counting_on, "available_memory", lambda: 1000)
        with pytest.raises(DataError, match="use a shorter text"):
            count_on(model, model.fit(ids), (ids, None), window(ids, fresh))
    with pytest.raises(DataError, match="another training text"):
        count_on(model, model.fit(ids[:40]), (ids, None), window(ids, fresh))
