"""One seed, many independent streams of random numbers.

Every stream is a pure function of the seed, its purpose and a position (a step, a layer, a shard), so
no generator's state has to be carried or saved: drawing a sample in training changes nothing else,
and a resumed run draws the same numbers.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for; the values are part of what makes runs repeatable."""

    INIT = 0
    DATA = 1  # nothing is drawn yet: windows are contiguous
    DROPOUT = 2
    SAMPLE = 3


def stream(seed: int, purpose: Purpose, *position: int) -> np.random.Generator:
    """The generator for one purpose at one position (NumPy's SeedSequence and PCG64)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, purpose, *position])))
