"""Named buffers that are reused in every step, so that no step allocates large arrays again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape
from .tape import Tape, Unrecorded

LONGEST_TAPE = 1024  # steps; each takes some kilobytes
# Tapes of one name that are kept: of whole windows and of the last, shorter one of an epoch, each with
# and without texts that begin inside. A tape is smaller than the activations of its window.
TAPES = 4


class Workspace:
    """Uninitialised arrays by name: `ws(name, *shape)`. The same name gives the same memory again.

    A buffer grows to the largest size that was asked for; smaller arrays use its first part (the last
    window of an epoch is shorter). The caller must write every element before reading it: tests fill
    all buffers with NaN (`poison`) and expect the same bits. At most `tapes` of a name are kept.
    `empty` allocates the buffers.
    """

    def __init__(
        self,
        dtype: DTypeLike = np.float32,
        tapes: int = TAPES,
        empty: Callable[[Shape, np.dtype[Any]], Array] = np.empty,
    ) -> None:
        self.dtype = np.dtype(dtype)
        self._most = tapes
        self._empty = empty
        self._flat: dict[str, Array] = {}
        self._tapes: dict[str, dict[object, Tape]] = {}

    def __call__(self, name: str, *shape: int, dtype: DTypeLike | None = None) -> Array:
        size = math.prod(shape)
        kind = self.dtype if dtype is None else np.dtype(dtype)
        flat = self._flat.get(name)
        if flat is None or flat.size < size or flat.dtype != kind:
            if flat is not None:
                self._tapes.clear()  # they would keep the memory that is replaced
            flat = self._flat[name] = self._empty((size,), kind)
        return flat[:size].reshape(shape)

    def tape(self, name: str, steps: int, *memory: Array, weights: int = 0) -> Tape:
        """The tape of that name for exactly this memory; a new one if nothing was recorded on it.

        `weights` is the number of the weights that the calls use (`Weights.number`). Windows of more
        than LONGEST_TAPE `steps` are not recorded.
        """
        if steps > LONGEST_TAPE:
            return Unrecorded()
        tapes = self._tapes.setdefault(name, {})
        key = (weights, *((a.ctypes.data, a.shape) for a in memory))
        if key not in tapes or not tapes[key].is_recorded:  # an interrupted recording starts anew
            tapes.pop(key, None)
            if len(tapes) == self._most:
                del tapes[next(iter(tapes))]
            tapes[key] = Tape()
        return tapes[key]

    @property
    def nbytes(self) -> int:
        """Bytes held by all buffers."""
        return sum(flat.nbytes for flat in self._flat.values())

    def poison(self) -> None:
        """Fill every buffer with NaN, or with ones in all bits where the dtype has no NaN."""
        for flat in self._flat.values():
            flat.fill(np.nan) if flat.dtype.kind == "f" else flat.view(np.uint8).fill(255)
