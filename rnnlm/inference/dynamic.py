"""Dynamic evaluation: a model goes on learning from a text while it is evaluated on it.

A text is read segment by segment. All symbols of a segment are predicted before anything is learnt
from it. What a model of parameters θ learns is a gradient step, and a step back towards the θ₀ of
training (Krause, Kahembwe, Murray and Renals 2018, arXiv:1709.07432, sections 3 and 4):

    θ ← θ - η r ⊙ g + min(λ d, 1) ⊙ (θ₀ - θ)      g: the gradient of the segment's mean loss

with r and d of a rule in RULES. An n-gram counts (see `models.counting_on`), and a mixture moves its
weights towards what its parts deserved, by online EM (Cappé and Moulines 2009, arXiv:0712.4273).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..backend.params import Parameters
from ..backend.workspace import Workspace
from ..config.kinds import options
from ..errors import ConfigError, DataError, TrainingError
from ..models.base import LanguageModel, Reader
from ..models.counting_on import CountingReader, count_on
from ..models.declared import WindowModel
from ..models.mixture import Mixture, MixtureParams
from ..models.ngram import NGram
from ..text.batches import Batch, Batches, Lines, Streams
from ..text.format import TextFormat
from ..watching import report
from ..wording import counted
from .evaluation import Evaluation, read_through
from .learning import Dynamic

STREAMS = 32  # of the training text, and
WINDOWS = 300  # windows at most, in which gradients are measured
EPSILON = 0.3  # beside d; smaller ones let what was rare in training move too far

T = TypeVar("T")


class Texts:
    """The ids (n,) that are read, in a text format, and those of the training text, where asked for."""

    def __init__(self, text_format: TextFormat, ids: Array, training: Callable[[], Array]) -> None:
        self.format, self.ids, self._training = text_format, ids, training
        self._known: dict[Any, Any] = {}

    @property
    def training(self) -> Array:
        """The ids of the training text. Raises DataError where it is not found."""
        return self.once("training", self._training)

    def once(self, key: Any, make: Callable[[], T]) -> T:
        """What `make` gives, made once for all readers of these texts."""
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found

    def windows(self, steps: int | None) -> Batches:
        """The text as one stream, in its order, in windows of so many steps; None: in one.

        Raises DataError where there is nothing to predict.
        """
        newline = self.format.newline
        if self.format.rules.of_lines and newline is not None:
            return Lines(self.ids, newline, 1, steps)
        if len(self.ids) < 2:
            raise DataError(f"{counted(len(self.ids), 'symbol')}: nothing to predict")
        return Streams(self.ids, 1, steps and min(steps, len(self.ids) - 1))


# Networks: gradient steps


def unscaled(squares: Callable[[], Array]) -> tuple[Array, Array]:
    """One rate for all parameters."""
    one = np.ones(1)
    return one, one


def rms(squares: Callable[[], Array]) -> tuple[Array, Array]:
    """Parameters whose gradients were large in training move less, and are drawn back more."""
    # r = 1 / (d + ε), d = √MS / mean(√MS)
    root = np.sqrt(squares())
    d = root / (root.mean() or 1.0)
    return 1 / (d + EPSILON), d


RULES = {"rms": rms, "global": unscaled}  # from MS to r and d


def mean_squares(model: WindowModel, params: Parameters, texts: Texts, segment: int) -> Array:
    """MS (P,) float64: the mean of g² over windows of the training text.

    g is the gradient of the mean loss of a window of `segment` steps and STREAMS streams. The windows
    are the first of an epoch, WINDOWS at most. Raises DataError where the text is too short for one.
    """
    ids = texts.training
    streams = max(1, min(STREAMS, (len(ids) - 1) // segment))
    batches = texts.format.batches(ids, streams, segment, seed=0)
    ws, d = Workspace(params.flat.dtype), params.like()
    weights = model.weights(params, streams)
    state = model.zero_state(streams, params.flat.dtype)
    total, number = np.zeros(params.flat.size), min(WINDOWS, len(batches))
    for k in range(number):
        batch = batches(0, k)
        model.loss_and_grad(weights, batch, state, d, ws, 1 / max(1, batch.counted))
        total += np.square(d.flat, dtype=np.float64)
        report("training text", k + 1, number)
    return total / number


class AdaptingReader:
    """Reads one stream; after each window it makes a gradient step on a copy of the parameters."""

    def __init__(
        self, model: WindowModel, params: Parameters, texts: Texts, dynamic: Dynamic
    ) -> None:
        dtype, key = params.flat.dtype, ("squares", id(params), dynamic.segment)
        r, d = RULES[dynamic.rule](
            lambda: texts.once(key, lambda: mean_squares(model, params, texts, dynamic.segment))
        )
        self._rate = (dynamic.rate * r).astype(dtype)
        self._decay = np.minimum(dynamic.decay * d, 1).astype(dtype)
        self._model, self._trained = model, params.flat
        self.params = Parameters(params.shapes, dtype, params.flat.copy())
        self._weights = model.weights(self.params, 1)
        self._state = model.zero_state(1, dtype)
        self._gradient, self._back = params.like(), np.empty_like(params.flat)
        self._ws = Workspace(dtype)

    def __call__(self, batch: Batch, losses: Array | None = None) -> float:
        model, w, ws, g = self._model, self._weights, self._ws, self._gradient
        if losses is not None:
            model.loss(w, batch, self._state.copy(), ws, losses)
        scale = 1 / max(1, batch.counted)
        loss = model.loss_and_grad(w, batch, self._state, g, ws, scale)
        if not math.isfinite(loss):
            raise TrainingError(
                "the predictions are not finite: lower the rate of dynamic evaluation, if not the "
                "model's weights are too large"
            )
        self._learn(g.flat)
        return loss

    def _learn(self, g: Array) -> None:
        # θ ← θ - η r ⊙ g + min(λ d, 1) ⊙ (θ₀ - θ)
        theta, back = self.params.flat, self._back
        np.subtract(self._trained, theta, back)
        np.multiply(back, self._decay, back)
        np.multiply(g, self._rate, g)
        np.subtract(theta, g, theta)
        np.add(theta, back, theta)
        for task in self._weights.tasks:
            task()


# N-grams and mixtures


def counting(model: NGram, params: Any, texts: Texts, dynamic: Dynamic) -> Reader:
    """A reader that counts what it reads, exactly at every symbol, whatever the segment."""

    def losses() -> tuple[Array, Array]:
        training = texts.format.to_count(texts.training)
        return count_on(model, params, training, texts.windows(None)(0, 0))

    return CountingReader(*texts.once(("counts", id(params)), losses))


class MixtureReader:
    """Reads one stream with parts that learn; after each window their weights are moved."""

    def __init__(
        self, model: Mixture, params: MixtureParams, texts: Texts, dynamic: Dynamic
    ) -> None:
        self._readers: dict[str, Any] = {
            name: learning_reader(part, params.parts[name], texts, dynamic)
            for name, part in model.parts.items()
        }
        self._knows, self._rate = model.knows_context, dynamic.weight_rate
        self.weights = params.weights.copy()

    def __call__(self, batch: Batch, losses: Array | None = None) -> float:
        each = np.zeros((len(self._readers), *batch.ids.shape))
        for reader, own in zip(self._readers.values(), each, strict=True):
            reader(batch, own)
        counts = batch.targets >= 0
        bucket = np.zeros(counts.shape, np.int8)
        if len(self.weights) > 1 and self._knows is not None:
            bucket = self._readers[self._knows].context
        # ln λ_k p_k of each target, and -ln p = -ln Σ_k λ_k p_k
        joint = np.log(self.weights[bucket[counts]]).T - each[:, counts]
        nats = -np.logaddexp.reduce(joint, axis=0)
        self._learn(bucket[counts], joint, nats)
        if losses is not None:
            losses[:] = 0
            losses[counts] = nats
        return float(nats.sum())

    def _learn(self, bucket: Array, joint: Array, nats: Array) -> None:
        # λ_k ← (1 - ρ) λ_k + ρ λ_k p_k / p for each symbol of the bucket, its λ those of before
        possible = np.isfinite(nats)
        deserved, symbols = np.zeros_like(self.weights), np.zeros(len(self.weights))
        np.add.at(deserved, bucket[possible], np.exp(joint + nats)[:, possible].T)
        np.add.at(symbols, bucket[possible], 1)
        kept = (1 - self._rate) ** symbols[:, None]
        self.weights *= kept
        self.weights += (1 - kept) * deserved / np.maximum(symbols, 1)[:, None]


# All of them


@dataclass(frozen=True)
class Learner:
    """How models of a kind learn while they read, and by which of the options."""

    kind: Any  # a class or a protocol
    reader: Callable[..., Reader]
    options: tuple[str, ...] = ()


LEARNERS = (
    Learner(Mixture, MixtureReader, ("segment", "weight_rate")),
    Learner(NGram, counting),
    Learner(WindowModel, AdaptingReader, ("segment", "rule", "rate", "decay")),
)


def _learner(model: LanguageModel) -> Learner:
    for learner in LEARNERS:
        if isinstance(model, learner.kind):
            return learner
    raise ConfigError(f"this model does not learn while it reads: {model.describe()}")


def options_of(model: LanguageModel) -> list[str]:
    """The options of `Dynamic` that say how a model learns, and its parts."""
    used = set(_learner(model).options)
    for part in model.parts.values() if isinstance(model, Mixture) else ():
        used |= set(options_of(part))
    return [name for name in options(Dynamic) if name in used]


def learning_reader(model: LanguageModel, params: Any, texts: Texts, dynamic: Dynamic) -> Reader:
    """A reader of one stream that learns after each window. The parameters are not changed.

    Raises ConfigError for a model that does not learn, DataError where it needs its training text and
    that is not found.
    """
    return _learner(model).reader(model, params, texts, dynamic)


def evaluate_dynamic(
    model: LanguageModel, params: Any, texts: Texts, dynamic: Dynamic
) -> Evaluation:
    """As `evaluate`, of a model that learns from each segment after it was predicted.

    It is reported as `evaluation` (watching.py) after each segment. Raises as `learning_reader` does,
    and TrainingError where the rate is too high for finite predictions.
    """
    with blas.one_thread(), np.errstate(all="ignore"):  # the readers check their sums
        batches = texts.windows(dynamic.segment)
        result = read_through(learning_reader(model, params, texts, dynamic), batches)
    return replace(result.of_text(texts.format, texts.ids), dynamic=used_options(model, dynamic))


def used_options(model: LanguageModel, dynamic: Dynamic) -> dict[str, Any]:
    """The options that say how a model learns."""
    return {name: getattr(dynamic, name) for name in options_of(model)}
