"""The symbols of a model as points in a plane: the first two principal components of what it learnt
of each, its embedding or, with one-hot input, its row of the first layer's weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..models.declared import Declared
from ..runs.checkpoint import Checkpoint

MOST = 200  # symbols, the most frequent; more could not be read


@dataclass(frozen=True)
class Plane:
    """The places (S, 2) of the symbols `ids` (S,), the most frequent first, and the shares (2,) of the
    variance that each direction has. `table` is the name of the parameter.
    """

    ids: Array
    places: Array
    shares: Array
    table: str


def plane(checkpoint: Checkpoint) -> Plane | None:
    """The plane of the symbols that the training text has; None where no parameter is about symbols
    that are read, or there are fewer than three.
    """
    model, params = checkpoint.model, checkpoint.params
    if not isinstance(model, Declared) or not model.symbol_axes:
        return None
    table, axis = next(iter(model.symbol_axes.items()))
    ids = np.argsort(-checkpoint.counts, kind="stable")[:MOST]
    ids = ids[checkpoint.counts[ids] > 0]
    rows = np.moveaxis(params[table], axis, 0)[ids].reshape(len(ids), -1).astype(np.float64)
    if len(ids) < 3 or rows.shape[1] < 2:
        return None
    rows -= rows.mean(0)
    U, S, _ = np.linalg.svd(rows, full_matrices=False)
    return Plane(ids, (U * S)[:, :2], (S**2 / max((S**2).sum(), 1e-30))[:2], table)
