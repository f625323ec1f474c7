"""What models of declared parameters have in common: first values, reading a checkpoint, evaluation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape
from ..backend import blas
from ..backend.params import Parameter, Parameters, check_array, count
from ..backend.workspace import Workspace
from ..errors import DivergedError
from ..text.batches import Batch
from .base import TrainableModel


class Declared(ABC):
    """A model that declares its `parameters`, each with its shape and its first values."""

    @property
    @abstractmethod
    def parameters(self) -> dict[str, Parameter]:
        """Every parameter under its name, in storage order."""

    @property
    @abstractmethod
    def symbol_axes(self) -> dict[str, int]:
        """By name, the parameters that have numbers for each symbol, and along which axis.

        The bias of the symbols in the output is `by`.
        """

    @property
    def shapes(self) -> dict[str, Shape]:
        return {name: parameter.shape for name, parameter in self.parameters.items()}

    @property
    def num_parameters(self) -> int:
        return count(self.shapes)

    def init(self, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Parameters:
        params = Parameters(self.shapes, dtype)
        with blas.one_thread():
            for name, parameter in self.parameters.items():
                parameter.init(params[name], rng)
        return params

    def with_symbols(self, params: Parameters, old: Array, log_frequency: Array) -> Parameters:
        """The rows and columns of `params` for symbols with an id in `old` (V,), their mean for others.

        In a model of biases alone, by is the log of each symbol's share and a constant: so the bias of
        a new symbol is the mean of the others, plus its `log_frequency` (V,) less the mean of theirs.
        """
        known = old >= 0
        taken = Parameters(self.shapes, params.flat.dtype)
        for name, view in taken.items():
            if name not in self.symbol_axes:
                view[...] = params[name]
                continue
            theirs, mine = (np.moveaxis(a, self.symbol_axes[name], 0) for a in (params[name], view))
            mine[known], mine[~known] = theirs[old[known]], theirs.mean(0)
        taken["by"][~known] += log_frequency[~known] - log_frequency[known].mean()
        return taken

    def zero_state(self: TrainableModel, B: int, dtype: DTypeLike = np.float32) -> Array:
        """By default zeros."""
        return np.zeros(self.state_shape(B), dtype)

    @property
    def masked_weights(self) -> int:
        """By default none."""
        return 0

    def calls_bytes(self, T: int, fresh: bool = False) -> int:
        """By default none."""
        return 0

    def read(self: WindowModel, params: Parameters, streams: int) -> Reading:
        return Reading(self, params, streams)

    def restore(self, arrays: Mapping[str, Array]) -> Parameters:
        """Parameters with these values, in float32. Raises ValueError unless each is there, has its
        shape and is finite, and nothing else is there.
        """
        shapes = self.shapes
        if set(arrays) != set(shapes):
            raise ValueError(f"arrays {str(sorted(set(arrays) ^ set(shapes)))[:80]}")
        for name, shape in shapes.items():
            check_array(name, arrays[name], shape)
        params = Parameters(shapes)
        for name, view in params.items():
            view[...] = arrays[name]
        return params


@runtime_checkable
class WindowModel(TrainableModel, Protocol):
    """A model that reads a window at once."""

    def loss(
        self, w: Any, batch: Batch, state: Array, ws: Workspace, losses: Array | None = None
    ) -> float:
        """Σ -ln p(target), in nats, over the targets that count; `state` becomes the state after the
        window. `losses` (T, B), where given, receives the loss of each target.
        """


class Reading:
    """Reads streams of text window by window, from the state before their first symbol."""

    def __init__(self, model: WindowModel, params: Parameters, streams: int) -> None:
        self._model = model
        self._weights = model.weights(params, streams, backward=False)
        self._state = model.zero_state(streams, params.flat.dtype)
        self._ws = Workspace(params.flat.dtype)

    def __call__(self, batch: Batch, losses: Array | None = None) -> float:
        return finite(self._model.loss(self._weights, batch, self._state, self._ws, losses))


def finite(loss: float) -> float:
    """The loss of a window. Raises DivergedError where it is not finite."""
    if not math.isfinite(loss):  # a softmax gives no probability of 0
        raise DivergedError("the model's predictions are not finite: its weights are too large")
    return loss
