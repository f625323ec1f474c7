"""The protocol of a language model: all that evaluation, sampling and training know of it.

A model is an architecture and holds no numbers: its parameters (`params`, arrays by name) are passed in
every call. Only the model knows what they mean, and what the state of a text is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import DTypeLike

from ..arrays import Array, Shape
from ..backend.params import Parameters
from ..backend.workspace import Workspace
from ..text.batches import Batch

# The number of a layer -> the generator of its dropout mask; further numbers are the model's own
Masks = Callable[[int], np.random.Generator]


class Steps(Protocol):
    """N texts, side by side, that grow by one symbol in each step."""

    def step(self, ids: Array | Sequence[int]) -> Array:
        """Feed one id per text (N,); the logits (N, V) of the next symbol, valid until the next step.

        Logits are log-probabilities plus a number that is the same for all symbols of a row.
        """


class Reader(Protocol):
    """B streams that are read side by side, window by window; it carries their state on."""

    def __call__(self, batch: Batch, losses: Array | None = None) -> float:
        """Read the next window; Σ -ln p(target), in nats, over its targets that count.

        `losses` (T, B) float64, where given, receives the loss of each target, 0 where it does not
        count. A symbol of probability 0 has an infinite loss. Raises TrainingError where the
        parameters are too large for the loss to be computed.
        """


class Whole(NamedTuple):
    """What was found in a whole text: the sum of its losses, how many symbols were read again, and
    where they are kept, the loss of each symbol but the first (n - 1,).
    """

    nats: float
    read_again: int
    losses: Array | None


@runtime_checkable
class ReadsWhole(Reader, Protocol):
    """A reader that is faster where it has a whole text."""

    def whole(self, ids: Array, workers: int, keep: bool = False) -> Whole | None:
        """Read the text `ids` (n,) of one stream, and `keep` each loss; None where that is not faster.

        The bits do not depend on the number of `workers`.
        """


class LanguageModel(Protocol):
    """Predicts the next symbol from the symbols before it."""

    @property
    def vocabulary_size(self) -> int:
        """V, the number of symbols."""

    def describe(self, params: Any = None) -> str:
        """The model in one line; with its parameters, what they tell beside, perhaps in more lines."""

    def restore(self, arrays: Mapping[str, Array]) -> Any:
        """The parameters from arrays by name, as a checkpoint holds them: anybody can have written it.

        Raises ValueError unless they are whole and ones that this model can have.
        """

    def begin(self, params: Any, n: int) -> Steps:
        """N texts before their first symbol. The logits of a text do not depend on the other texts."""

    def read(self, params: Any, streams: int) -> Reader:
        """A reader of `streams` streams, before their first symbol."""


@runtime_checkable
class ContextModel(LanguageModel, Protocol):
    """A model that knows, of each prediction, how long a context before it was seen in training.

    Its readers and steps say so after every call, in `context`: integers (T, B) or (N,), 0 where a
    target does not count.
    """

    def context_lengths(self, params: Any) -> int:
        """One more than the length of the longest context."""


@runtime_checkable
class CountedModel(LanguageModel, Protocol):
    """A model that reads its training text once."""

    def fit(
        self,
        ids: Array,
        validation: Array | None = None,
        *,
        fresh: Array | None = None,
        validation_fresh: Array | None = None,
    ) -> Any:
        """The parameters from the training text `ids` (n,); what the options leave open is chosen on
        `validation`.

        `fresh` (n,) and `validation_fresh` mark where texts begin, as in a `Batch`; None: one text.
        Raises DataError where there is nothing to count or memory does not suffice.
        """


class Weights(Protocol):
    """Parameters prepared for windows, with the copies that a model's products use."""

    params: Parameters
    tasks: Sequence[Callable[[], None]]
    """Calls that make the copies anew after an update; workers make them in any order."""

    drops: Sequence[Callable[[np.random.Generator], None]]
    """Calls that drop weights from the copies for a step of training, each with a generator of its
    own; in most models none. The parameters stay whole."""


@runtime_checkable
class TrainableModel(LanguageModel, Protocol):
    """A model that is trained by gradient descent, step by step.

    Training calls `loss_and_grad` for each window, with the `Weights` that `weights` makes of the
    parameters. The state is an array (..., B, K), so that the streams of a batch can be split into
    shards.
    """

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every parameter, in storage order."""

    @property
    def num_parameters(self) -> int:
        """The number of elements of all parameters."""

    @property
    def symbol_axes(self) -> Mapping[str, int]:
        """By name, the parameters that have numbers for each symbol, and along which axis."""

    def init(self, rng: np.random.Generator, dtype: DTypeLike = np.float32) -> Parameters:
        """Fresh parameters."""

    def with_symbols(self, params: Parameters, old: Array, log_frequency: Array) -> Parameters:
        """Parameters of this model from those of a model with other symbols, and else the same.

        `old` (V,) is the id that each symbol has there, -1 for a new one; `log_frequency` (V,) is the
        log of its share in the text that it comes from. Where nothing is new, nothing is predicted
        otherwise; else the old symbols keep the ratios of their probabilities.
        """

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

    @property
    def masked_weights(self) -> int:
        """How many weights have a mask that drops them, the same for all streams."""

    def window_bytes(self, T: int, B: int, fresh: bool = False) -> int:
        """About how many bytes a window of T steps and B streams takes, in float32.

        `fresh`: texts begin inside windows, not only at their first step.
        """

    def calls_bytes(self, T: int, fresh: bool = False) -> int:
        """About how many of them are for recorded calls, which are kept for every length T."""

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

        `state` becomes the state after the window. `masks` gives the generator of each layer's dropout
        mask; without it there is no dropout.
        """


@runtime_checkable
class UnrolledModel(TrainableModel, Protocol):
    """A model whose gradient flows back from step to step through its state.

    It has layers with outputs h, all of the same size.
    """

    num_layers: int
    hidden_size: int

    @property
    def bounded(self) -> bool:
        """Whether no output h can be beyond ±1."""

    def loss_and_grad(
        self,
        w: Any,
        batch: Batch,
        state: Array,
        d: Parameters,
        ws: Workspace,
        scale: float,
        masks: Masks | None = None,
        dstate: Array | None = None,
        flow: Array | None = None,
        dh: Array | None = None,
        penalties: list[float] | None = None,
        dinput: Array | None = None,
    ) -> float:
        """As in `TrainableModel`. `dstate` (..., B, K), the gradient of the final state, becomes that
        of the initial state; `flow` (T, B) has a factor for the gradient that flows from each step to
        the step before; `dh` (L, T, B, H) receives the gradient of every layer's output at every step,
        `dinput` (T, B) the norm of that of the input, an embedding or a one-hot vector.
        Where there are `masks`, `d` may be the gradient of scale times the loss and of penalties on
        activations. These go to the list `penalties`, never into the loss.
        """

    def recurrent_matrices(self, params: Any) -> list[dict[str, Array]]:
        """For each layer, the matrices (H, H) that a step multiplies its state by, by name."""

    def activations(
        self, w: Any, batch: Batch, state: Array, ws: Workspace
    ) -> list[dict[str, Array]]:
        """For each layer, what its sigmoid gates and its output `h` are over a window (T, B, H), by
        name. `state` becomes the final state.
        """
