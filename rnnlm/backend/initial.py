"""First values of parameters: each function fills an array of zeros."""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array


def zeros(array: Array, rng: np.random.Generator) -> None:
    """Leave the zeros."""


def orthogonal(array: Array, rng: np.random.Generator) -> None:
    """An orthogonal matrix for each gate of (G, H, H), which neither grows nor shrinks the state
    (Saxe, McClelland and Ganguli 2014).
    """
    for gate in array:
        q, r = np.linalg.qr(rng.standard_normal(gate.shape))
        gate[:] = q * np.sign(np.diag(r))


def glorot_uniform(array: Array, rng: np.random.Generator) -> None:
    """Uniform within ±√(6 / (inputs + outputs)) for (..., inputs, outputs) (Glorot and Bengio 2010,
    equation 16).
    """
    inputs, outputs = array.shape[-2:]
    _uniform(array, rng, math.sqrt(6 / (inputs + outputs)))


def unit_variance(array: Array, rng: np.random.Generator) -> None:
    """Uniform with variance 1, for tables of symbols: a one-hot row has a single 1, and its symbol
    should weigh as much as the whole state.

    With Glorot's limit, LSTM 2 x 128 is 0.16 nats behind after 1,000 steps on tiny Shakespeare.
    """
    _uniform(array, rng, math.sqrt(3))


def _uniform(array: Array, rng: np.random.Generator, limit: float) -> None:
    array[:] = rng.uniform(-limit, limit, array.shape)
