"""Generators of random numbers, all from one seed.

A generator depends on nothing but the seed, its purpose and a position (a step, a layer, a shard). So
no generator's state has to be saved: a resumed run draws the same numbers, and samples drawn during
training do not change the training.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What the numbers are for. The values are part of the seed: changing one changes the numbers."""

    INIT = 0
    DATA = 1  # the order of lines
    DROPOUT = 2
    SAMPLE = 3
    SPLITS = 4  # which lines are for training, validation and test
    TRUNCATION = 5
    CHECK = 6  # directions and states of gradient checks
    RESET = 7  # which carried states are dropped
    WINDOWS = 8  # where windows end
    OFFSET = 9  # where streams begin
    SOURCE = 11  # tables of sources, and texts drawn from them
    WEIGHTS = 12  # which recurrent weights are dropped


def generator(seed: int, purpose: Purpose, *position: int) -> np.random.Generator:
    """The generator for one purpose at one position (NumPy's SeedSequence and PCG64)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose, *position])))
