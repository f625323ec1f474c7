"""One update: batch shards side by side, gradients summed in a fixed order, the optimizer spread out.

The rows of a batch are split into shards by a rule that looks at the batch size alone; every shard is
computed in the same way by whichever hand of the team takes it, into buffers of its own lane, and
lanes are added up in order. So the result has the same bits for any number of threads.
"""

from __future__ import annotations

import math
import os
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..backend.params import Parameters
from ..backend.seeds import Purpose, generator
from ..backend.workers import Team, make_team, shared_zeros
from ..backend.workspace import Workspace
from ..errors import TrainingError
from ..models.base import TrainableModel
from ..optim.optimizers import Optimizer, state_names
from ..text.batches import Batch

SHARD_ROWS = 32  # at most; measured in tests/bench/README.md
MIN_ROWS_TO_SPLIT = 16  # below, two half-batches cost more than one whole
MAX_LANES = 8  # gradient buffers and workspaces, whatever the batch
LARGEST = 1e18  # the largest gradient norm that an optimizer is given
ID_BYTES = 65  # of a symbol: its id and its target in three places, and the order by symbol
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


def training_bytes(model: TrainableModel, batch_size: int, seq_length: int, slots: int) -> int:
    """About how many bytes an engine with `slots` optimizer vectors takes, in float32.

    Parameters, the optimizer's vectors, a gradient per lane (two where a lane has several shards), the
    step's copies of the weights, the window's ids, and each lane's activations and recorded calls.
    """
    shards = shard_rows(batch_size)
    lanes = min(len(shards), MAX_LANES)
    vectors = 1 + slots + 2 + lanes * (2 if len(shards) > lanes else 1)
    rows = max(s.stop - s.start for s in shards)
    ids = batch_size * seq_length * ID_BYTES
    windows = lanes * model.window_bytes(seq_length, rows)
    return 4 * vectors * model.num_parameters + ids + windows


class Lane:
    """The buffers of the shards that are worked on one after another: lane k takes k, k+n, ..."""

    def __init__(self, params: Parameters, shards: list[int]) -> None:
        self.shards = shards
        self.ws = Workspace(params.flat.dtype)
        flat = shared_zeros(params.flat.shape, params.flat.dtype)
        self.total = Parameters(params.shapes, flat=flat)
        self.part = params.like() if len(shards) > 1 else self.total


class Engine:
    """Turns windows into updates of `params`, in place, after moving them to shared memory.

    `optimizer_state` is a dict of flat vectors. `clip` is ("norm", limit), ("value", limit) or None.
    """

    def __init__(
        self,
        model: TrainableModel,
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
        dtype, size = params.flat.dtype, params.flat.size
        params.move_to(shared_zeros((size,), dtype))
        names = state_names(optimizer)
        self.optimizer_state = {name: shared_zeros((size,), dtype) for name in names}
        self.shards = shard_rows(batch_size)
        lanes = min(len(self.shards), MAX_LANES)
        self.lanes = [Lane(params, list(range(k, len(self.shards), lanes))) for k in range(lanes)]
        rows = max(s.stop - s.start for s in self.shards)
        self.weights = model.weights(params, rows, empty=shared_zeros)
        self._team: Team | None = None
        # What hands read and write, beside parameters, gradients and the optimizer's vectors
        chunks = [slice(a, min(a + CHUNK, size)) for a in range(0, size, CHUNK)]
        self._hands = min(threads or available_cores(), max(lanes, len(chunks)))
        self._squares = shared_zeros((len(chunks),), np.float64)
        self._losses = shared_zeros((lanes,), np.float64)
        self._made = shared_zeros((len(chunks),), np.float64)  # of each chunk: 0, or not a number
        self._zeros = np.zeros(min(CHUNK, size), dtype)
        zero = model.zero_state(batch_size, dtype)
        self._state = shared_zeros(zero.shape, zero.dtype)
        self._window = _shared_batch(0, batch_size)
        # Chunks are dealt out, and every hand has its scratch
        numbered = list(enumerate(chunks))
        self._deals = [(numbered[k :: self._hands], Workspace(dtype)) for k in range(self._hands)]

    def close(self) -> None:
        """Let the team go; the next step makes another."""
        if self._team is not None:
            self._team.close()
            self._team = None

    def step(
        self, batch: Batch, state: Array, step: int, learning_rate: float
    ) -> tuple[float, float]:
        """Update number `step`, from 1; `state` (..., B, K) is carried on in place.

        Returns the mean loss in nats per symbol and the gradient's norm before clipping. Raises
        TrainingError, before parameters, optimizer state and `state` are changed, when either is not
        finite. Raises it too when what the update made is not finite, or when a process of the team is
        lost, in the middle of an update perhaps: parameters are not to be used any more then.
        """
        with blas.one_thread():
            T = len(batch.ids)
            team = self._team_for(T)
            _copy_batch(batch, self._window)
            self._state[...] = state
            scale = 1 / batch.counted
            team.run(self._run_lanes, T, step, scale)
            team.run(self._reduce)
            loss = math.fsum(self._losses) * scale
            norm = math.sqrt(math.fsum(self._squares))
            shrink = self._shrink(loss, norm, step, learning_rate)
            team.run(self._update, shrink, step, learning_rate)
            self._check_update(step)
            team.run(self._refresh)
            state[...] = self._state
        return loss, norm

    def _team_for(self, T: int) -> Team:
        """The team, a new one where windows are longer than before: their memory is shared by fork."""
        if len(self._window.ids) < T:
            self.close()
            self._window = _shared_batch(T, self._window.ids.shape[1])
        if self._team is None:
            jobs = (self._run_lanes, self._reduce, self._update, self._refresh)
            self._team = make_team(self._hands, jobs)
        return self._team

    def _run_lanes(self, hand: int, T: int, step: int, scale: float) -> None:
        for k in range(hand, len(self.lanes), self._hands):
            self._losses[k] = self._run_lane(self.lanes[k], T, step, scale)

    def _run_lane(self, lane: Lane, T: int, step: int, scale: float) -> float:
        """Forward and backward over the lane's shards, whose gradients add up in `lane.total`; the
        sum of their losses.
        """
        loss = 0.0
        for k, shard in enumerate(lane.shards):
            rows = self.shards[shard]
            into = lane.part if k else lane.total
            loss += self.model.loss_and_grad(
                self.weights,
                _columns(self._window, T, rows, lane.ws),
                self._state[..., rows, :],
                into,
                lane.ws,
                scale,
                masks=partial(self._mask_generator, step, shard),
            )
            if k:
                np.add(lane.total.flat, into.flat, lane.total.flat)
        return loss

    def _refresh(self, hand: int) -> None:
        for task in self.weights.tasks[hand :: self._hands]:
            task()

    def _mask_generator(self, step: int, shard: int, layer: int) -> np.random.Generator:
        return generator(self.seed, Purpose.DROPOUT, step, layer, shard)

    def _reduce(self, hand: int) -> None:
        """Sum the lanes' gradients into the first one's buffer, and each chunk's squares."""
        chunks, ws = self._deals[hand]
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

    def _update(self, hand: int, shrink: float, step: int, learning_rate: float) -> None:
        chunks, ws = self._deals[hand]
        kind, limit = self.clip or ("none", math.inf)
        gradient = self.lanes[0].total.flat
        for number, chunk in chunks:
            g = gradient[chunk]
            if shrink != 1.0:
                np.multiply(g, shrink, g)
            if kind == "value":
                np.clip(g, -limit, limit, out=g)
            w = self.params.flat[chunk]
            vectors = [vector[chunk] for vector in self.optimizer_state.values()]
            options = self.options | {"learning_rate": learning_rate}
            self.optimizer(w, g, ws("tmp", g.size), *vectors, t=step, **options)
            # 0 · x is 0 for every finite x, however large, and not a number for any other
            zeros = self._zeros[: g.size]
            self._made[number] = sum(float(np.dot(a, zeros)) for a in (w, *vectors))

    def _check_update(self, step: int) -> None:
        if self._made.any():
            raise TrainingError(
                f"step {step}: the update made parameters that are not finite: training diverged; "
                "lower train.optimizer.learning_rate; the last checkpoint is kept"
            )


def _shared_batch(T: int, B: int) -> Batch:
    """Room for a batch of T steps and B streams that workers see."""
    ids, targets = shared_zeros((2, T, B), np.intp)
    return Batch(ids, targets, shared_zeros((T, B), np.bool_))


def _copy_batch(batch: Batch, to: Batch) -> None:
    """Copy a batch into the first steps of another one."""
    T = len(batch.ids)
    assert to.fresh is not None
    to.ids[:T], to.targets[:T] = batch.ids, batch.targets
    to.fresh[:T] = False if batch.fresh is None else batch.fresh


def _columns(batch: Batch, T: int, rows: slice, ws: Workspace) -> Batch:
    """The first T steps of a shard's streams, contiguous."""
    parts = []
    for name, whole in vars(batch).items():
        part = ws(f"engine.{name}", T, rows.stop - rows.start, dtype=whole.dtype)
        np.copyto(part, whole[:T, rows])
        parts.append(part)
    return Batch(*parts)
