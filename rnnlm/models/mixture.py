"""Mixtures: the linear interpolation of whole models (Jelinek and Mercer 1980).

    p(w | h) = Σ_k λ_k(c) p_k(w | h),    Σ_k λ_k(c) = 1

c is the bucket of h. There is one bucket, or one for each length of the longest context at the end of
h that was seen in training by the first part that knows this, an n-gram. Nothing else is known of the
parts: they are models by the protocol in `base`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import Array
from ..config.kinds import MODEL, Several, option
from ..errors import DataError
from ..text.batches import Batch, Streams
from ..watching import report
from ..wording import counted
from .base import ContextModel, LanguageModel, ReadsWhole, Whole
from .segments import WINDOW

TOLERANCE = 1e-8  # EM ends when no weight changes by more,
MOST_ITERATIONS = 1000  # or where the parts are so alike that the weights hardly matter
PSEUDO_COUNT = 100  # symbols that speak for the weights of all buckets, beside a bucket's own


@dataclass(frozen=True, eq=False)
class MixtureParams(Mapping[str, Array]):
    """The weights λ (C, K) of K parts in C buckets, float64, and the parameters of each part.

    As a mapping: all arrays by name, those of a part under its prefix.
    """

    weights: Array
    parts: Mapping[str, Any]

    @cached_property
    def _arrays(self) -> dict[str, Array]:
        found = {"weights": self.weights}
        for name, params in self.parts.items():
            found |= {_prefix(name) + own: array for own, array in params.items()}
        return found

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


def _prefix(part: str) -> str:
    return f"parts.{part}."


@dataclass(frozen=True)
class Mixture:
    """A mixture of models of the same symbols; its weights and the parts' numbers are `params`."""

    vocabulary_size: int
    parts: Mapping[str, LanguageModel] = option(
        {}, "the models of a mixture by name, each with its `kind` and keys", Several(of=MODEL)
    )

    def describe(self, params: MixtureParams | None = None) -> str:
        """The mixture in one line; with its numbers, a line for each part: its weight in each bucket,
        and how it describes itself.
        """
        line = f"mixture of {len(self.parts)} models"
        if params is None:
            return f"{line} (rnnlm mix makes one of trained runs)"
        lines = [line]
        if len(params.weights) > 1:
            longest = len(params.weights) - 1
            lines[0] += f", weights for each length of the context seen, 0 to {longest}"
        for (name, part), weights in zip(self.parts.items(), params.weights.T, strict=True):
            shown = " ".join(f"{weight:.4f}" for weight in weights)
            about = part.describe(params.parts[name]).replace("\n", "\n  ")
            lines.append(f"  {name}: weight {shown}: {about}")
        return "\n".join(lines)

    def restore(self, arrays: Mapping[str, Array]) -> MixtureParams:
        """The arrays of a mixture, read from a file: each part checks its own.

        Raises ValueError unless these are whole, and the weights of each bucket sum to 1.
        """
        others = dict(arrays)
        weights = others.pop("weights", np.zeros(0))
        parts: dict[str, Any] = {}
        for name, part in self.parts.items():
            own = [key for key in others if key.startswith(_prefix(name))]
            try:
                parts[name] = part.restore(
                    {k.removeprefix(_prefix(name)): others.pop(k) for k in own}
                )
            except ValueError as error:
                raise ValueError(f"part {name}: {error}") from None
        if others:
            raise ValueError(f"{min(others)} is not an array of this model")
        if weights.dtype != np.float64 or weights.shape[1:] != (len(parts),) or not len(parts):
            raise ValueError(f"weights is {weights.dtype.name} {weights.shape}")
        if len(weights) not in (1, self.lengths_known(parts)):
            raise ValueError(f"weights has {len(weights)} buckets")
        if not ((weights >= 0).all() and np.allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-6)):
            raise ValueError("weights do not sum to 1")
        return MixtureParams(weights, parts)

    @property
    def knows_context(self) -> str | None:
        """The name of the first part that knows what contexts it has seen."""
        return next((n for n, part in self.parts.items() if isinstance(part, ContextModel)), None)

    def lengths_known(self, parts: Mapping[str, Any]) -> int:
        """How many lengths of context that part tells apart, by its parameters; 1 without one."""
        for name, part in self.parts.items():
            if isinstance(part, ContextModel):
                return part.context_lengths(parts[name])
        return 1

    def begin(self, params: MixtureParams, n: int) -> Steps:
        return Steps(self, params, n)

    def read(self, params: MixtureParams, streams: int) -> Reading:
        return Reading(self, params, streams)


class PartsReading:
    """The parts of a mixture read the same streams."""

    def __init__(self, model: Mixture, parts: Mapping[str, Any], streams: int) -> None:
        self._readers: dict[str, Any] = {
            name: part.read(parts[name], streams) for name, part in model.parts.items()
        }
        self._knows = model.knows_context
        self._found: dict[str, Array] = {}  # of a whole text: the losses that are still to be given

    def whole(self, ids: Array, workers: int) -> int | None:
        """Read the text `ids` (n,) of one stream with the parts that are faster so, before the calls
        for its windows; how many symbols were read again. None where no part is.
        """
        again = None
        for name, reader in self._readers.items():
            found = reader.whole(ids, workers, True) if isinstance(reader, ReadsWhole) else None
            if found is not None and found.losses is not None:
                self._found[name] = found.losses
                again = found.read_again + (again or 0)
        return again

    def __call__(self, batch: Batch) -> Array:
        """The loss of each part for each target of the next window, in nats: (K, T, B)."""
        losses = np.zeros((len(self._readers), *batch.ids.shape))
        for (name, reader), own in zip(self._readers.items(), losses, strict=True):
            if name in self._found:
                own[:, 0], self._found[name] = np.split(self._found[name], [len(own)])
            else:
                reader(batch, own)
        return losses

    @property
    def context(self) -> Array:
        """How long a context was seen before each target of that window, where a part knows: (T, B)."""
        assert self._knows is not None
        context: Array = self._readers[self._knows].context
        return context


class Reading:
    """Streams of text that all parts read window by window."""

    def __init__(self, model: Mixture, params: MixtureParams, streams: int) -> None:
        self._parts = PartsReading(model, params.parts, streams)
        with np.errstate(divide="ignore"):
            self._log_weights = np.log(params.weights)

    def __call__(self, batch: Batch, losses: Array | None = None) -> float:
        # -ln p = -ln Σ_k exp(ln λ_k + ln p_k), relative to the largest, so that none underflows
        log_p = -self._parts(batch)
        if len(self._log_weights) == 1:
            log_p += self._log_weights[0][:, None, None]
        else:
            log_p += np.moveaxis(self._log_weights[self._parts.context], 2, 0)
        nats = np.where(batch.targets >= 0, -np.logaddexp.reduce(log_p, axis=0), 0)
        if losses is not None:
            losses[:] = nats
        return float(nats.sum())

    def whole(self, ids: Array, workers: int, keep: bool = False) -> Whole | None:
        again = self._parts.whole(ids, workers)
        if again is None:
            return None
        windows, nats = Streams(ids, 1, min(WINDOW, len(ids) - 1)), []
        losses = np.empty(len(ids) - 1) if keep else None
        for k in range(len(windows)):
            own = None if losses is None else losses[k * WINDOW :][:WINDOW, None]
            nats.append(self(windows(0, k), own))
            report("evaluation", k + 1, len(windows))
        return Whole(math.fsum(nats), again, losses)


class Steps:
    """N texts that advance together, one symbol a step, in all parts."""

    def __init__(self, model: Mixture, params: MixtureParams, n: int) -> None:
        self._parts: dict[str, Any] = {
            name: part.begin(params.parts[name], n) for name, part in model.parts.items()
        }
        self._knows = model.knows_context
        self._weights = params.weights
        self._p = np.empty((len(self._parts), n, model.vocabulary_size))
        self._mixed = np.empty((n, model.vocabulary_size))

    def step(self, ids: Array | Sequence[int]) -> Array:
        p = self._p
        for part, logits in zip(self._parts.values(), p, strict=True):
            logits[:] = part.step(ids)
        np.subtract(p, np.maximum.reduce(p, 2, keepdims=True), p)
        np.exp(p, p)
        if len(self._weights) == 1:
            weights = self._weights[0][:, None, None]
        else:
            assert self._knows is not None
            weights = self._weights[self._parts[self._knows].context].T[:, :, None]
        np.multiply(p, weights / np.add.reduce(p, 2, keepdims=True), p)
        np.add.reduce(p, 0, out=self._mixed)
        with np.errstate(divide="ignore"):
            np.log(self._mixed, self._mixed)
        return self._mixed


# Fitting


def fit_weights(losses: Array, context: Array | None = None, lengths: int = 1) -> Array:
    """The weights (C, K) with which the parts predict a text best, from their losses (K, n) on it.

    With `context` (n,), how long a context was seen before each symbol, each of the `lengths` has
    weights of its own; those of lengths with few symbols are drawn towards the weights of the whole
    text. Raises DataError where all parts give a symbol probability 0.
    """
    if impossible := int(np.count_nonzero(np.isinf(losses).all(axis=0))):
        raise DataError(
            f"every part gives probability 0 to {counted(impossible, 'symbol')} of the validation "
            "text: add a part with smoothing"
        )
    *_, whole = em(losses)
    if context is None:
        return whole[None]
    rows = []
    for length in range(lengths):
        *_, own = em(losses[:, context == length], prior=whole)
        rows.append(own)
    return np.stack(rows)


def em(losses: Array, prior: Array | None = None) -> Iterator[Array]:
    """The weights (K,) after each iteration of expectation maximisation, until they stand still.

    The likelihood of the text rises with every iteration (Dempster, Laird and Rubin 1977); without a
    `prior` it has one maximum. With a `prior` (K,), that counts as PSEUDO_COUNT more symbols.
    """
    # λ_k <- (1/n) Σ_t λ_k p_k(t) / Σ_j λ_j p_j(t)
    p = np.exp(losses.min(axis=0) - losses)  # relative to the best part, so that none underflows
    extra = np.zeros(len(p)) if prior is None else PSEUDO_COUNT * prior
    weights = np.full(len(p), 1 / len(p)) if prior is None else prior
    for _ in range(MOST_ITERATIONS):
        before = weights
        share = p * weights[:, None]
        share /= share.sum(axis=0)
        weights = share.sum(axis=1) + extra
        weights /= weights.sum()
        yield weights
        if np.abs(weights - before).max() <= TOLERANCE:
            return
