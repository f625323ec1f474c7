"""Smoothing: from the counts of one level of n-grams to a share of each and a weight for what is below.

A smoothing is a function in `SMOOTHINGS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Array


@dataclass(frozen=True)
class Counts:
    """How often the n-grams of one level came."""

    counts: Array  # c(h, w) (M,) int64, at least 1
    context: Array  # (M,) the place of h among the C contexts
    contexts: int  # C
    vocabulary_size: int

    def per_context(self, values: Array | None = None) -> Array:
        """Σ_w of values (M,), or of ones, for each context: (C,)."""
        return np.bincount(self.context, values, self.contexts)


@dataclass(frozen=True)
class Discounts:
    """What is taken from the counts of n-grams that came once, twice and more often."""

    values: tuple[float, float, float] = (0.0, 0.0, 0.0)
    fallback: bool = False  # the counts allow none, so these are fixed ones


@dataclass(frozen=True)
class Estimate:
    """p(w | h) = share(h, w) + backoff(h) · p(w | h')."""

    share: Array  # (M,)
    backoff: Array  # (C,)
    discounts: Discounts = Discounts()


def kneser_ney(n: Counts) -> Estimate:
    """Interpolated modified Kneser-Ney smoothing (Chen and Goodman 1999, section 3.2)."""
    # c(w | h) = (c(h, w) - D(c(h, w))) / Σ_w c(h, w)
    # γ(h)     = (D₁ N₁(h·) + D₂ N₂(h·) + D₃₊ N₃₊(h·)) / Σ_w c(h, w)
    # Nᵢ(h·) is the number of different symbols that came i times after h. On all levels but the
    # highest c is the continuation count (see `Counted.continuations`).
    discounts = _discounts(np.bincount(np.minimum(n.counts, 5), minlength=6).tolist())
    D = np.array([0.0, *discounts.values])[np.minimum(n.counts, 3)]
    total = n.per_context(n.counts)
    return Estimate((n.counts - D) / total[n.context], n.per_context(D) / total, discounts)


FALLBACK = Discounts((0.5, 1.0, 1.5), fallback=True)  # as KenLM's --discount_fallback


def _discounts(n: Sequence[int]) -> Discounts:
    """D₁, D₂, D₃₊ from n[i], the number of n-grams that came i times.

    They fall back where one of n₁, n₂, n₃ is zero or a discount is below zero or above its count, as
    happens in small and in artificial texts.
    """
    # Y = n₁ / (n₁ + 2 n₂),  Dᵢ = i - (i + 1) Y nᵢ₊₁ / nᵢ  (Chen and Goodman 1999, equation 26)
    if not (n[1] and n[2] and n[3]):
        return FALLBACK
    Y = n[1] / (n[1] + 2 * n[2])
    D1, D2, D3 = (i - (i + 1) * Y * n[i + 1] / n[i] for i in (1, 2, 3))
    if not (0 <= D1 <= 1 and 0 <= D2 <= 2 and 0 <= D3 <= 3):
        return FALLBACK
    return Discounts((D1, D2, D3))


def witten_bell(n: Counts) -> Estimate:
    """Interpolated Witten-Bell smoothing (Witten and Bell 1991, method C; Chen and Goodman 1999)."""
    # p(w | h) = (c(h, w) + T(h) p(w | h')) / (Σ_w c(h, w) + T(h)), T(h) different symbols after h
    types = n.per_context()
    total = n.per_context(n.counts) + types
    return Estimate(n.counts / total[n.context], types / total)


def additive(n: Counts, k: float = 1.0) -> Estimate:
    """Additive smoothing (Lidstone 1920; with k = 1 Laplace's rule of succession)."""
    # p(w | h) = (c(h, w) + k) / (Σ_w c(h, w) + k V)
    kV = k * n.vocabulary_size
    total = n.per_context(n.counts) + kV
    return Estimate(n.counts / total[n.context], kV / total)


def none(n: Counts) -> Estimate:
    """Maximum likelihood: what was never seen after a context that was has probability 0."""
    # p(w | h) = c(h, w) / Σ_w c(h, w); for h never seen, 0/0, the longest part of h that was counts
    return Estimate(n.counts / n.per_context(n.counts)[n.context], np.zeros(n.contexts))


@dataclass(frozen=True)
class Smoothing:
    """How probabilities come from counts."""

    estimate: Callable[..., Estimate]
    continuations: bool = False  # the lower levels count the symbols before, not occurrences
    alone: bool = False  # p(w | h') is 1/V, whatever h'


SMOOTHINGS = {
    "kneser_ney": Smoothing(kneser_ney, continuations=True),
    "witten_bell": Smoothing(witten_bell),
    "additive": Smoothing(additive, alone=True),
    "none": Smoothing(none),
}
