"""Optimizers: how a gradient changes the parameters, element by element or matrix by matrix.

An optimizer is a function `(w, g, tmp, t, *, <state>, <options>)` over flat vectors of equal length.
It updates `w` in place from the gradient `g`, which it may overwrite; `tmp` is scratch memory and `t`
counts the updates from 1. Its keywords declare the rest:

- keywords without a default are its state: vectors as long as `w`, zeros before the first update, which
  it updates in place; checkpoints keep them under these names;
- keywords with a default are its options in the config, within the limits that their types declare.

An option `spare_biases` is true only for chunks of biases: the engine cuts them out where it is set.

Every element is updated by itself, so the vectors can be cut into chunks without changing the result.
Only an optimizer in BY_MATRIX sees which elements are a matrix: the engine gives it each matrix by
itself, all its arrays of the matrix's shape (K, N), and the rest as flat chunks.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Annotated

import numpy as np

from ..arrays import Array
from ..config.kinds import Number
from .limits import Rate, Share

Small = Annotated[float, Number(low=1e-30, high=1e6)]  # above 0 in float32: it is divided by


def sgd(
    w: Array,
    g: Array,
    tmp: Array,
    t: int,
    *,
    velocity: Array,
    learning_rate: Rate = 0.5,
    momentum: Share = 0.0,
    nesterov: bool = False,
) -> None:
    """Stochastic gradient descent: v = μ v + g;  w -= lr · v, with Nesterov's form lr · (g + μ v)
    (Sutskever, Martens, Dahl and Hinton 2013, section 2, with the rate outside the velocity).
    """
    np.multiply(velocity, momentum, velocity)
    np.add(velocity, g, velocity)
    if nesterov:
        np.multiply(velocity, momentum, tmp)
        np.add(tmp, g, tmp)
        np.multiply(tmp, learning_rate, tmp)
    else:
        np.multiply(velocity, learning_rate, tmp)
    np.subtract(w, tmp, w)


def rmsprop(
    w: Array,
    g: Array,
    tmp: Array,
    t: int,
    *,
    square: Array,
    learning_rate: Rate = 0.002,
    decay: Share = 0.95,
    epsilon: Small = 1e-8,
) -> None:
    """s = ρ s + (1 - ρ) g²;  w -= lr · g / (√s + ε)  (Tieleman and Hinton 2012, lecture 6e)."""
    _moving_average(square, g, tmp, decay)
    np.sqrt(square, tmp)
    _divided_step(w, g, tmp, learning_rate, epsilon)


def adagrad(
    w: Array,
    g: Array,
    tmp: Array,
    t: int,
    *,
    square: Array,
    learning_rate: Rate = 0.05,
    epsilon: Small = 1e-10,
) -> None:
    """s += g²;  w -= lr · g / (√s + ε)  (Duchi, Hazan and Singer 2011, diagonal form)."""
    np.multiply(g, g, tmp)
    np.add(square, tmp, square)
    np.sqrt(square, tmp)
    _divided_step(w, g, tmp, learning_rate, epsilon)


def adam(
    w: Array,
    g: Array,
    tmp: Array,
    t: int,
    *,
    m: Array,
    v: Array,
    learning_rate: Rate = 0.002,
    beta1: Share = 0.9,
    beta2: Share = 0.999,
    epsilon: Small = 1e-8,
) -> None:
    """m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²;  w -= lr · m̂ / (√v̂ + ε), where
    m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ)  (Kingma and Ba 2015, algorithm 1).
    """
    # v = β₂ v + (1 - β₂) g²
    _moving_average(v, g, tmp, beta2)
    # m = β₁ m + (1 - β₁) g
    np.multiply(m, beta1, m)
    np.multiply(g, 1 - beta1, g)
    np.add(m, g, m)
    # w -= lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)
    np.sqrt(v, tmp)
    np.multiply(tmp, 1 / math.sqrt(1 - beta2**t), tmp)
    _divided_step(w, m, tmp, learning_rate / (1 - beta1**t), epsilon)


def adamw(
    w: Array,
    g: Array,
    tmp: Array,
    t: int,
    *,
    m: Array,
    v: Array,
    learning_rate: Rate = 0.002,
    beta1: Share = 0.9,
    beta2: Share = 0.999,
    epsilon: Small = 1e-8,
    weight_decay: Rate = 0.01,
    spare_biases: bool = False,
) -> None:
    """w -= lr · λ w, then Adam's step  (Loshchilov and Hutter 2019, algorithm 2). Of biases that are
    spared, λ is 0.
    """
    if not spare_biases:
        np.multiply(w, 1 - learning_rate * weight_decay, w)
    options = {"learning_rate": learning_rate, "beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    adam(w, g, tmp, t, m=m, v=v, **options)


def muon(
    w: Array,
    g: Array,
    tmp: Array,
    t: int,
    *,
    m: Array,
    v: Array,
    learning_rate: Rate = 0.005,
    momentum: Share = 0.95,
    matrix_rate: Rate = 0.4,
    beta1: Share = 0.9,
    beta2: Share = 0.999,
    epsilon: Small = 1e-8,
    weight_decay: Rate = 0.0,
) -> None:
    """Of a matrix (K, N): m = μ m + g;  w -= lr · (s √max(K, N) · orthogonal(g + μ m) + λ w), where s
    is `matrix_rate` (Jordan et al. 2024, Muon; the factor √max(K, N) from Liu et al. 2025,
    arXiv:2502.16982, equation 4, who have s = 0.2). The rest is updated as by AdamW.
    """
    if w.ndim == 1:
        adamw(
            w,
            g,
            tmp,
            t,
            m=m,
            v=v,
            learning_rate=learning_rate,
            beta1=beta1,
            beta2=beta2,
            epsilon=epsilon,
            weight_decay=weight_decay,
        )
        return
    np.multiply(w, 1 - learning_rate * weight_decay, w)
    np.multiply(m, momentum, m)
    np.add(m, g, m)
    np.multiply(m, momentum, tmp)
    np.add(tmp, g, tmp)
    np.multiply(orthogonal(tmp), learning_rate * matrix_rate * math.sqrt(max(w.shape)), tmp)
    np.subtract(w, tmp, w)


def orthogonal(a: Array) -> Array:
    """About U Vᵀ of A = U Σ Vᵀ (K, N): all singular values are brought to between 0.6 and 1.3, but for
    those far below the largest.

    Five steps X <- 3.4445 X - 4.775 X Xᵀ X + 2.0315 (X Xᵀ)² X, from A / |A|: a polynomial of each
    singular value, which takes all of them near 1 (Jordan et al. 2024, Muon; Newton and Schulz).
    """
    # A product of a matrix and its transpose is symmetric, and half the work: the smaller one is made
    x = a.T if a.shape[0] > a.shape[1] else a
    x = x / (np.abs(x).max() or 1)  # first, so that squares neither overflow nor vanish
    x = x / (math.sqrt(np.vdot(x, x)) or 1)
    for _ in range(5):
        xx = x @ x.T
        x = 3.4445 * x + (2.0315 * (xx @ xx) - 4.775 * xx) @ x
    return x.T if a.shape[0] > a.shape[1] else x


def _divided_step(w: Array, g: Array, tmp: Array, learning_rate: float, epsilon: float) -> None:
    """w -= lr · g / (tmp + ε)"""
    np.add(tmp, epsilon, tmp)
    np.divide(g, tmp, tmp)
    np.multiply(tmp, learning_rate, tmp)
    np.subtract(w, tmp, w)


def _moving_average(square: Array, g: Array, tmp: Array, decay: float) -> None:
    """square = decay · square + (1 - decay) · g²"""
    np.multiply(square, decay, square)
    np.multiply(g, g, tmp)
    np.multiply(tmp, 1 - decay, tmp)
    np.add(square, tmp, square)


Optimizer = Callable[..., None]

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": sgd,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adam": adam,
    "adamw": adamw,
    "muon": muon,
}
BY_MATRIX: frozenset[Optimizer] = frozenset({muon})


def state_names(optimizer: Optimizer) -> list[str]:
    """The names of an optimizer's state vectors: its keywords without a default."""
    parameters = inspect.signature(optimizer).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
