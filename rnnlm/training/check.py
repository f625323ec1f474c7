"""Analytic against numerical derivatives of a model's loss, on the text that it is trained on.

In float64, on one window of the training text: what `loss_and_grad` says of each parameter, and of the
initial state of a model whose gradient flows back through it, beside central differences
(f(x + εv) - f(x - εv)) / 2ε along a random direction v of length 1, and at the entry whose derivative
is the largest. Dropout, of weights too, draws the same masks each time. An activation with a kink
(relu) may fail where a difference steps over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..arrays import Array, Shape
from ..assembly import build_model, whole_config
from ..backend import blas
from ..backend.params import Parameters
from ..backend.seeds import Purpose, generator
from ..backend.workspace import Workspace
from ..config.schema import Config
from ..errors import ConfigError
from ..models.base import TrainableModel, UnrolledModel
from ..runs.checkpoint import Checkpoint
from ..runs.run_data import open_data, recorded_data
from ..text.batches import Batch
from ..text.corpus import Corpus
from ..watching import report
from ..wording import shown
from .plan import trainable

STEPS = 16  # of the window, at most
STREAMS = 3
EPSILON = 1e-4  # balances the error of the difference, ~ε², and that of rounding, ~1e-16 / ε
TOLERANCE = 1e-5  # of the relative error
ROUNDING = 1e-10  # differences below are those of rounding
STATE = "state"  # the initial state's name among the parameters
WRONG_BY = 1.01  # a gradient that is made wrong on purpose is multiplied by this


@dataclass(frozen=True)
class Derivative:
    """A derivative, once by backpropagation and once by differences.

    `name` is a parameter's, or `state`; with an index it is one entry, else a random direction.
    """

    name: str
    shape: Shape
    analytic: float
    numerical: float

    @property
    def error(self) -> float:
        """The difference, relative to the larger of both."""
        size = max(abs(self.analytic), abs(self.numerical))
        return abs(self.analytic - self.numerical) / size if size else 0.0

    @property
    def agrees(self) -> bool:
        """Whether they differ by no more than rounding and the size of ε explain."""
        difference = abs(self.analytic - self.numerical)
        return difference <= ROUNDING or self.error <= TOLERANCE  # NaN is neither


class GradientCheck:
    """A model with its parameters in float64, and a window of the training text."""

    def __init__(
        self, model: TrainableModel, params: Parameters, corpus: Corpus, config: Config
    ) -> None:
        t = config.train
        self.model, self.params, self.seed = model, params, t.seed
        steps = min(STEPS, max(length or STEPS for length in t.windows.values()))
        cut = corpus.format.batches
        self.batch: Batch = cut(corpus["train"], min(t.batch_size, STREAMS), steps, t.seed)(0, 0)
        B = self.batch.ids.shape[1]
        self.state = model.zero_state(B, np.float64)
        self.arrays: dict[str, Array] = dict(params)
        if isinstance(model, UnrolledModel):
            self._draws().standard_normal(out=self.state)
            self.state *= 0.1
            self.arrays[STATE] = self.state
            # A text that begins at the first step begins from zeros, whatever the state
            if self.batch.fresh is not None:
                fresh = self.batch.fresh.copy()
                fresh[0] = False
                self.batch = Batch(self.batch.ids, self.batch.targets, fresh)
        self._weights = model.weights(params, B)
        self._ws = Workspace(np.float64)
        self._d = params.like()

    @classmethod
    def of_config(cls, config: Config) -> GradientCheck:
        """With the parameters that a run of the config begins with. Raises ConfigError, DataError."""
        config, corpus = open_data(whole_config(config), None)
        model = trainable(build_model(config, len(corpus.vocabulary)), config)
        params = model.init(generator(config.train.seed, Purpose.INIT), np.float64)
        return cls(model, params, corpus, config)

    @classmethod
    def of_checkpoint(cls, at: Checkpoint) -> GradientCheck:
        """With a checkpoint's parameters, on the text of its run. Raises ConfigError, DataError."""
        model = trainable(at.model, at.config)
        params = Parameters(at.params.shapes, np.float64, at.params.flat.astype(np.float64))
        return cls(model, params, recorded_data(at), at.config)

    def derivatives(self, wrong: str | None = None) -> Iterator[Derivative]:
        """Two for each parameter and the initial state: along a direction, and at an entry.

        The gradient of `wrong`, where given, is made wrong on purpose. Raises ConfigError where that is
        no name of a parameter.
        """
        if wrong is not None and wrong not in self.arrays:
            raise ConfigError(
                f"{shown(wrong)} is not a gradient of this model; they are {', '.join(self.arrays)}"
            )
        with blas.one_thread():
            gradients = self._gradients()
            rng = self._draws()
            for done, (name, array) in enumerate(self.arrays.items()):
                g = gradients[name] * (WRONG_BY if name == wrong else 1)
                v = rng.standard_normal(g.shape)
                v /= np.linalg.norm(v)
                yield self._derivative(name, g, array, v)
                at = np.unravel_index(np.argmax(np.abs(g)), g.shape)
                v = np.zeros_like(g)
                v[at] = 1
                yield self._derivative(f"{name}[{','.join(map(str, at))}]", g, array, v)
                report("check", done + 1, len(self.arrays))

    def _derivative(self, name: str, g: Array, x: Array, v: Array) -> Derivative:
        before, losses = x.copy(), []
        for epsilon in (EPSILON, -EPSILON):
            np.add(before, epsilon * v, out=x)
            losses.append(self._loss())
        x[...] = before
        numerical = (losses[0] - losses[1]) / (2 * EPSILON)
        return Derivative(name, g.shape, float(np.vdot(g, v)), numerical)

    def _gradients(self) -> dict[str, Array]:
        """Of the mean loss, with respect to every parameter and the initial state."""
        dstate = np.zeros_like(self.state)
        self._loss(dstate)
        return {**{name: d.copy() for name, d in self._d.items()}, STATE: dstate}

    def _loss(self, dstate: Array | None = None) -> float:
        """The mean loss in nats per symbol and all penalties, by the call that training makes."""
        for refresh in self._weights.tasks:
            refresh()
        for number, drop in enumerate(self._weights.drops):
            drop(generator(self.seed, Purpose.WEIGHTS, 0, number))
        scale = 1 / max(1, self.batch.counted)
        masks = partial(generator, self.seed, Purpose.DROPOUT, 0)
        state = self.state.copy()
        penalties: list[float] = []
        unrolled = isinstance(self.model, UnrolledModel)
        into = {"dstate": dstate, "penalties": penalties} if unrolled else {}
        loss = self.model.loss_and_grad(
            self._weights, self.batch, state, self._d, self._ws, scale, masks=masks, **into
        )
        return loss * scale + sum(penalties)

    def _draws(self) -> np.random.Generator:
        return generator(self.seed, Purpose.CHECK)
