"""What everybody else may know of a language model.

A model is an architecture and holds no numbers: its numbers (`params`, arrays under names) go in with
every call. What they are, and what a text's state is, is the model's own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape
from ..backend.params import Parameters
from ..backend.workspace import Workspace
from ..text.batches import Batch

Masks = Callable[[int], np.random.Generator]  # layer -> the generator of its dropout mask


class Steps(Protocol):
    """N texts that advance side by side, one symbol a step."""

    def step(self, ids: Array | Sequence[int]) -> Array:
        """Feed one id per text (N,); the logits (N, V) of the next symbol, valid until the next step.

        Logits are log-probabilities up to a number that is the same for all symbols of a row.
        """


class Reader(Protocol):
    """B texts that are read side by side, window by window, their state carried on."""

    def __call__(self, batch: Batch, losses: Array | None = None) -> float:
        """Σ -ln p(target), in nats, over the targets of the next window that count.

        Where `losses` (T, B) float64 is given, each target's own goes there, 0 where it does not count.
        """


class LanguageModel(Protocol):
    """Predicts the next symbol from those before it."""

    @property
    def vocabulary_size(self) -> int:
        """V, the number of symbols."""

    def describe(self) -> str:
        """The model in one line."""

    def begin(self, params: Any, n: int) -> Steps:
        """N texts before their first symbol. Text i is the same alone and among others."""

    def read(self, params: Any, streams: int) -> Reader:
        """Streams of text before their first symbol."""


class Weights(Protocol):
    """Parameters made ready for windows: with the copies that a model's products want."""

    params: Parameters
    tasks: Sequence[Callable[[], None]]
    """Calls, independent of each other, that make the copies anew after an update."""


class TrainableModel(LanguageModel, Protocol):
    """A model whose parameters are found by gradient descent.

    Training reads a window with `loss_and_grad`, on the `Weights` that `weights` makes of the
    parameters. Its state is an array (..., B, K), so that the rows of a batch can be spread over
    workers.
    """

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every parameter, in storage order."""

    @property
    def num_parameters(self) -> int:
        """How many numbers the parameters hold."""

    def init(self, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Parameters:
        """Fresh parameters."""

    def state_shape(self, B: int) -> Shape:
        """(..., B, K), the shape of the state of B texts."""

    def zero_state(self, B: int, dtype: DTypeLike = np.float32) -> Array:
        """The state of B texts before their first symbol."""

    def weights(
        self,
        params: Parameters,
        rows: int,
        backward: bool = True,
        empty: Callable[[Shape, np.dtype[Any]], Array] = np.empty,
    ) -> Any:
        """The `Weights` for windows of `rows` streams; `empty` allocates the copies."""

    def window_bytes(self, T: int, B: int, fresh: bool = False) -> int:
        """About how many bytes a window of T steps and B streams takes, in float32.

        `fresh`: texts begin inside windows, not only at their first step.
        """

    def loss_and_grad(
        self,
        w: Any,
        batch: Batch,
        state: Array,
        d: Parameters,
        ws: Workspace,
        scale: float,
        masks: Masks | None = None,
    ) -> float:
        """Σ -ln p(target) over the targets that count, and in `d` the gradient of scale times that.

        `state` is carried on in place. `masks` gives the generator of each layer's dropout mask;
        without it nothing is dropped.
        """
