"""One update: batch shards on threads, gradients summed in a fixed order, the optimizer spread out.

The rows of a batch are split into shards by a rule that looks at the batch size alone; every shard is
computed in the same way by whichever thread takes it, into buffers of its own lane, and lanes are
added up in order. So the result has the same bits for any number of threads.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from . import blas
from .errors import TrainingError
from .model import Model, StepWeights
from .optim import Optimizer, state_names
from .params import Array, Parameters
from .seeds import Purpose, stream
from .workspace import Workspace

SHARD_ROWS = 32  # at most; measured in tests/bench/README.md
MIN_ROWS_TO_SPLIT = 16  # below, two half-batches cost more than one whole
MAX_LANES = 8  # gradient buffers and workspaces, whatever the batch
LARGEST = 1e18  # the largest gradient norm that an optimizer is given
CHUNK = 32768  # elements of a flat vector that are worked on at a time


def available_cores() -> int:
    """How many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def shard_rows(batch_size: int) -> list[slice]:
    """The rows of each shard: as even as possible, two at least from 16 rows, 32 rows at most."""
    count = max(math.ceil(batch_size / SHARD_ROWS), 2 if batch_size >= MIN_ROWS_TO_SPLIT else 1)
    borders = [batch_size * k // count for k in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(borders)]


def training_bytes(model: Model, batch_size: int, seq_length: int, slots: int) -> int:
    """About how many bytes an engine with `slots` optimizer vectors takes, in float32.

    Parameters, the optimizer's vectors, a gradient per lane (two where a lane has several shards), the
    step's copies of the weights, and each lane's activations.
    """
    shards = shard_rows(batch_size)
    lanes = min(len(shards), MAX_LANES)
    vectors = 1 + slots + 2 + lanes * (2 if len(shards) > lanes else 1)
    rows = max(s.stop - s.start for s in shards)
    activations = lanes * model.activation_count(seq_length, rows)
    return 4 * (vectors * model.num_parameters + activations)


class Team:
    """A few threads that share out a list of independent tasks; the caller is one of them."""

    def __init__(self, threads: int) -> None:
        self._helpers = threads - 1
        self._pool = ThreadPoolExecutor(max(1, self._helpers), thread_name_prefix="rnnlm")

    def run(self, tasks: Iterable[Callable[[], object]]) -> None:
        """Run all tasks; the first error of any is raised here after all threads have stopped."""
        queue = iter(tasks)  # next() on a list's iterator is atomic

        def work() -> None:
            # No warnings of overflow: the loss and the norm are checked before they have an effect
            with np.errstate(all="ignore"):
                for task in queue:
                    task()

        futures = [self._pool.submit(work) for _ in range(self._helpers)]
        try:
            work()
        finally:
            errors = [future.exception() for future in futures]
        for error in errors:
            if error is not None:
                raise error

    def close(self) -> None:
        self._pool.shutdown()


class Lane:
    """The buffers of the shards that are worked on one after another: lane k takes k, k+n, ..."""

    def __init__(self, params: Parameters, shards: list[int]) -> None:
        self.shards = shards
        self.ws = Workspace(params.flat.dtype)
        self.total = params.like()
        self.part = params.like() if len(shards) > 1 else self.total
        self.loss = 0.0


class Engine:
    """Turns windows into updates of `params`, in place.

    `optimizer_state` is a dict of flat vectors. `clip` is ("norm", limit), ("value", limit) or None.
    """

    def __init__(
        self,
        model: Model,
        params: Parameters,
        optimizer: Optimizer,
        options: dict[str, Any],
        *,
        batch_size: int,
        clip: tuple[str, float] | None = None,
        threads: int | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.params, self.seed = model, params, seed
        self.optimizer, self.options, self.clip = optimizer, options, clip
        self.optimizer_state = {name: np.zeros_like(params.flat) for name in state_names(optimizer)}
        self.shards = shard_rows(batch_size)
        lanes = min(len(self.shards), MAX_LANES)
        self.lanes = [Lane(params, list(range(k, len(self.shards), lanes))) for k in range(lanes)]
        self.weights = StepWeights(model, params, rows=max(s.stop - s.start for s in self.shards))
        threads = threads or available_cores()
        self.team = Team(threads)
        size = params.flat.size
        chunks = [slice(a, min(a + CHUNK, size)) for a in range(0, size, CHUNK)]
        self._squares = np.zeros(len(chunks))
        # dealt out to as many tasks as there are threads, each with its scratch
        numbered = list(enumerate(chunks))
        self._deals = [(numbered[k::threads], Workspace(params.flat.dtype)) for k in range(threads)]

    def close(self) -> None:
        """Stop the threads."""
        self.team.close()

    def step(
        self, ids: Array, targets: Array, state: Array, step: int, learning_rate: float
    ) -> tuple[float, float]:
        """Update number `step`, from 1.

        `ids` and `targets` (T, B) are the window, `state` (L, S, B, H) is carried on in place.

        Returns the mean loss in nats per character and the gradient's norm before clipping. Raises
        TrainingError, before parameters and optimizer state are changed, when either is not finite.
        """
        with blas.one_thread():
            scale = 1 / ids.size
            run_lane = partial(self._run_lane, ids, targets, state, step, scale)
            self.team.run([partial(run_lane, lane) for lane in self.lanes])
            self.team.run([partial(self._reduce, *deal) for deal in self._deals])
            loss = math.fsum(lane.loss for lane in self.lanes) * scale
            norm = math.sqrt(math.fsum(self._squares))
            shrink = self._shrink(loss, norm, step, learning_rate)
            update = partial(self._update, shrink, step, learning_rate)
            self.team.run([partial(update, *deal) for deal in self._deals])
            self.team.run(self.weights.tasks)
        return loss, norm

    def _run_lane(
        self, ids: Array, targets: Array, state: Array, step: int, scale: float, lane: Lane
    ) -> None:
        """Forward and backward over the lane's shards; their gradients add up in `lane.total`."""
        lane.loss = 0.0
        for k, shard in enumerate(lane.shards):
            rows = self.shards[shard]
            own_state = state[:, :, rows]
            into = lane.part if k else lane.total
            lane.loss += self.model.loss_and_grad(
                self.weights,
                _columns(ids, rows, "engine.ids", lane.ws),
                _columns(targets, rows, "engine.targets", lane.ws),
                own_state,
                into,
                lane.ws,
                scale,
                masks=partial(self._mask_stream, step, shard),
            )
            if k:
                np.add(lane.total.flat, into.flat, lane.total.flat)

    def _mask_stream(self, step: int, shard: int, layer: int) -> np.random.Generator:
        return stream(self.seed, Purpose.DROPOUT, step, layer, shard)

    def _reduce(self, chunks: list[tuple[int, slice]], ws: Workspace) -> None:
        """Sum the lanes' gradients into the first one's buffer, and each chunk's squares."""
        total, *others = (lane.total.flat for lane in self.lanes)
        for number, chunk in chunks:
            g = total[chunk]
            for other in others:
                np.add(g, other[chunk], g)
            squares = ws("squares", g.size, dtype=np.float64)
            np.copyto(squares, g)
            self._squares[number] = np.dot(squares, squares)

    def _shrink(self, loss: float, norm: float, step: int, learning_rate: float) -> float:
        """The factor that clips the gradient by norm; raises where an update would not be finite."""
        kind, limit = self.clip or ("none", math.inf)
        shrink = min(1.0, limit / norm) if kind == "norm" and norm > 0 else 1.0
        clipped = min(norm, limit * math.sqrt(self.params.flat.size)) if kind == "value" else norm
        # Beyond LARGEST the optimizer's squares would overflow float32
        fits = clipped * shrink * max(1.0, learning_rate) < LARGEST
        if not (math.isfinite(loss) and math.isfinite(norm) and fits):
            raise TrainingError(
                f"step {step}: loss {loss:g}, gradient norm {norm:g}: training diverged, and the "
                "update was not made; lower train.optimizer.learning_rate or train.grad_clip.norm"
            )
        return shrink

    def _update(
        self,
        shrink: float,
        step: int,
        learning_rate: float,
        chunks: list[tuple[int, slice]],
        ws: Workspace,
    ) -> None:
        kind, limit = self.clip or ("none", math.inf)
        gradient = self.lanes[0].total.flat
        for _, chunk in chunks:
            g = gradient[chunk]
            if shrink != 1.0:
                np.multiply(g, shrink, g)
            if kind == "value":
                np.clip(g, -limit, limit, out=g)
            self.optimizer(
                self.params.flat[chunk],
                g,
                ws("tmp", g.size),
                *(vector[chunk] for vector in self.optimizer_state.values()),
                t=step,
                **(self.options | {"learning_rate": learning_rate}),
            )


def _columns(window: Array, rows: slice, name: str, ws: Workspace) -> Array:
    """A shard's columns of a window, contiguous."""
    columns = ws(name, len(window), rows.stop - rows.start, dtype=window.dtype)
    np.copyto(columns, window[:, rows])
    return columns
