"""Parameters: one flat vector with named views, so that norms and updates work on a single array."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape


@dataclass(frozen=True)
class Parameter:
    """The declaration of one parameter of a cell or model.

    `init` fills an array of zeros with first values. A `packed` parameter holds matrices (G, K, N), one
    for each gate, which every step multiplies with few rows (see `tiles.PackedMatrix`).
    """

    shape: Shape
    init: Callable[[Array, np.random.Generator], None]
    packed: bool = False


def count(shapes: Mapping[str, Shape]) -> int:
    """The total number of elements of the named shapes."""
    return sum(math.prod(shape) for shape in shapes.values())


def check_array(
    name: str, array: Array, shape: Shape, dtype: type[np.generic] = np.float32
) -> None:
    """Raise ValueError unless an array has that shape and dtype and is finite."""
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"array {name}: {array.dtype} {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"array {name}: not finite")


def is_bias(name: str) -> bool:
    """Whether a parameter is a bias: its own name begins with b, as in `layers.0.b` and `by`."""
    return name.rpartition(".")[2].startswith("b")


def is_matrix(name: str) -> bool:
    """Whether a parameter holds matrices: its own name begins with W, as in `layers.0.Wh` and `Wy`."""
    return name.rpartition(".")[2].startswith("W")


class Parameters(Mapping[str, Array]):
    """A mapping from name to array, where every array is a view into one contiguous vector `flat`.

    Gradients use the same class: `d["Wy"]` is the gradient of `p["Wy"]`.
    """

    def __init__(
        self, shapes: Mapping[str, Shape], dtype: DTypeLike = np.float32, flat: Array | None = None
    ) -> None:
        self._shapes = dict(shapes)
        size = count(shapes)
        self._use(np.zeros(size, dtype) if flat is None else flat)

    def _use(self, flat: Array) -> None:
        assert flat.shape == (count(self._shapes),)
        self.flat = flat
        self._views: dict[str, Array] = {}
        start = 0
        for name, shape in self._shapes.items():
            stop = start + math.prod(shape)
            self._views[name] = flat[start:stop].reshape(shape)
            start = stop

    def move_to(self, flat: Array) -> None:
        """Move the values into `flat` and use it from now on. Views made before keep the old memory."""
        flat[:] = self.flat
        self._use(flat)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles contain only the vector; their views are made anew."""
        return Parameters, (self._shapes, self.flat.dtype, self.flat)

    def __getitem__(self, name: str) -> Array:
        return self._views[name]

    def __iter__(self) -> Any:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every array, in storage order."""
        return dict(self._shapes)

    def group(self, prefix: str) -> dict[str, Array]:
        """The arrays whose names start with `prefix`, under the rest of their names."""
        return {
            name[len(prefix) :]: view
            for name, view in self._views.items()
            if name.startswith(prefix)
        }

    def biases(self) -> list[slice]:
        """Where the biases stand in `flat`, in order."""
        return [where for name, where in self._places() if is_bias(name)]

    def matrices(self, names: Container[str]) -> list[tuple[slice, Shape]]:
        """Where each matrix (K, N) of these parameters stands in `flat`, and its shape, in order."""
        found = []
        for name, where in self._places():
            if name in names:
                shape = self[name].shape[-2:]
                starts = range(where.start, where.stop, math.prod(shape))
                found += [(slice(at, at + starts.step), shape) for at in starts]
        return found

    def _places(self) -> Iterator[tuple[str, slice]]:
        stop = 0
        for name, view in self.items():
            start, stop = stop, stop + view.size
            yield name, slice(start, stop)

    def like(self) -> Parameters:
        """Zeros of the same shapes and dtype."""
        return Parameters(self.shapes, self.flat.dtype)
