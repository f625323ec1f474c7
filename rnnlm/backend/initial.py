"""Initialisation of parameters: each function fills an array of zeros with first values."""

from __future__ import annotations

import math

import numpy as np

from ..arrays import Array


def zeros(array: Array, rng: np.random.Generator) -> None:
    """Leave the array as it is."""


def orthogonal(array: Array, rng: np.random.Generator) -> None:
    """A random orthogonal matrix for each gate of (G, H, H). It keeps the length of the state
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
    uniform(array, rng, math.sqrt(6 / (inputs + outputs)))


def unit_variance(array: Array, rng: np.random.Generator) -> None:
    """Uniform with variance 1, for matrices with a row for each symbol.

    A one-hot input selects a single row, which should have as much weight as the whole state has. With
    Glorot's limit, the loss of an LSTM 2 x 128 on tiny Shakespeare is 0.16 nats higher after 1,000
    steps.
    """
    uniform(array, rng, math.sqrt(3))


def between_table_and_output(array: Array, rng: np.random.Generator) -> None:
    """Uniform with variance 1 / √E, for a table (V, E) that is an output matrix too.

    As a table it should have variance 1, as an output matrix about 1 / E. For an LSTM of 128 units on
    tiny Shakespeare, E = 128, the test loss after 900 steps is 0.05 nats higher with variance 1, and
    0.07 with Glorot's limit.
    """
    uniform(array, rng, math.sqrt(3 / math.sqrt(array.shape[1])))


def uniform(array: Array, rng: np.random.Generator, limit: float) -> None:
    """Uniform within ±limit."""
    array[:] = rng.uniform(-limit, limit, array.shape)
