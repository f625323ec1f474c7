"""What tests run over: every cell, every kind of model that is trained, both kinds of input, one layer
and two, both precisions.
"""

from __future__ import annotations

import numpy as np
import pytest
from oracles import all_cells, all_others

every_cell = pytest.mark.parametrize("cell", all_cells(), ids=repr)
every_model = pytest.mark.parametrize("cell", [*all_cells(), *all_others()], ids=repr)
both_depths = pytest.mark.parametrize("depth", [1, 2])
both_inputs = pytest.mark.parametrize("embedding", [None, 4], ids=["one-hot", "embedding"])
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def masks(layer: int) -> np.random.Generator:
    """The generator of a layer's dropout mask: the same at every call."""
    return np.random.default_rng([3, layer])
