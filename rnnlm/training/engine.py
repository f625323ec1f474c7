"""One update of the parameters: forward and backward pass, clipping, optimizer, on a pool of workers.

The streams of a batch are split into shards, and the shards are dealt out to lanes. A lane is one
gradient buffer and one workspace: its shards are computed one after another, and their gradients add
up in its buffer. Lanes are computed in parallel, and their gradients are then summed in a fixed order.
Shards and lanes depend on the batch size alone, so the result has the same bits for any number of
workers: a worker computes one lane or several.

Under mpiexec, the lanes are dealt out to ranks, each with workers of its own. Rank 0 has the Engine
that training uses; the other ranks follow it. Each rank sums, clips and updates its share of the flat
vectors, and the new parameters are gathered (see reduction.py and ../backend/README.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ..arrays import Array, Shape
from ..backend import blas
from ..backend.params import Parameters, is_matrix
from ..backend.ranks import EndedError, Joined, Ranks, world
from ..backend.seeds import Purpose, generator
from ..backend.workers import WorkerPool, available_cores, make_pool, shared_zeros
from ..backend.workspace import Workspace
from ..errors import DivergedError
from ..models.base import TrainableModel
from ..optim.averages import move
from ..optim.optimizers import BY_MATRIX, Optimizer, state_names
from ..optim.truncation import Truncation, regular
from ..text.batches import ALL, Batch, Rows
from .reduction import REDUCTIONS

SHARD_ROWS = 40  # at most; measured in tests/bench/subjects/README.md
MIN_ROWS_TO_SPLIT = 16  # below, two half-batches cost more than one whole
MAX_LANES = 8  # bounds the memory for gradients and activations, whatever the batch
LARGEST = 1e18  # the largest gradient norm that an optimizer is given
ID_BYTES = 65  # of a symbol: its id and its target in three places, and the order by symbol
# Kept of each name: of every length that windows have, with texts that begin inside or not
TAPES = 24
CHUNK = 32768  # elements of a flat vector that are summed or updated at a time


def shard_rows(batch_size: int) -> list[slice]:
    """The rows of each shard: as equal as possible, 40 rows at most, two shards from 16 rows on.

    There are one or an even number, so that two or four workers have as many each.
    """
    count = max(math.ceil(batch_size / SHARD_ROWS), 2 if batch_size >= MIN_ROWS_TO_SPLIT else 1)
    count += count % 2 if count > 1 else 0
    borders = [batch_size * k // count for k in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(borders)]


def training_bytes(
    model: TrainableModel,
    batch_size: int,
    seq_length: int,
    slots: int,
    fresh: bool = False,
    shorter: Sequence[int] = (),
    *,
    averages: bool = False,
    rank: int = 0,
    ranks: int = 1,
) -> int:
    """About how many bytes an engine with `slots` optimizer vectors takes, in float32: that of one of
    several ranks, with `ordered` sums.

    `fresh`: texts begin inside windows, not only at their first step. `shorter` are the other lengths
    that windows have.

    It counts the parameters, the share of the optimizer's vectors and of other ranks' gradients, a
    gradient for each of its lanes (two where a lane has several shards), the copies of the weights and
    the masks of them, the window's ids, the activations of each lane, and its recorded calls of every
    length; on rank 0 the average, and the whole optimizer's vectors, which are there while it saves.
    """
    shards = shard_rows(batch_size)
    lanes = min(len(shards), MAX_LANES)
    mine = (rank + 1) * lanes // ranks - rank * lanes // ranks
    vectors = 1 + 2 + mine * (2 if len(shards) > lanes else 1) + (slots + lanes - mine) / ranks
    vectors += 0 if rank else averages + slots * (ranks > 1)
    rows = max(s.stop - s.start for s in shards)
    ids = batch_size * seq_length * ID_BYTES
    window = model.window_bytes(seq_length, rows, fresh)
    calls = sum(model.calls_bytes(length, fresh) for length in shorter)
    weights = 4 * (math.ceil(vectors * model.num_parameters) + model.masked_weights)
    return weights + ids + mine * (window + calls)


def whole_matrices(model: TrainableModel, optimizer: Optimizer) -> list[str]:
    """The parameters whose matrices an optimizer updates as a whole: not those with a row for each
    symbol.
    """
    if optimizer not in BY_MATRIX:
        return []
    return [n for n in model.shapes if is_matrix(n) and model.symbol_axes.get(n) != -2]


class Lane:
    """The buffers in which `shards` (their numbers) are computed one after another.

    `total` is the sum of their gradients, `part` the gradient of one shard.
    """

    def __init__(self, params: Parameters, shards: list[int]) -> None:
        self.shards = shards
        self.ws = Workspace(params.flat.dtype, TAPES)
        flat = shared_zeros(params.flat.shape, params.flat.dtype)
        self.total = Parameters(params.shapes, flat=flat)
        self.part = params.like() if len(shards) > 1 else self.total


class Engine:
    """Updates `params` in place, window by window. They are moved to shared memory first.

    `clip` is ("norm", limit), ("value", limit) or None. `threads` is the number of workers, by default
    one for each core. `optimizer_state` holds the optimizer's vectors by name, each as long as
    `params.flat`. `truncation` gives the factors of the gradient inside a window. `averages`: there is
    an `average` of the parameters beside them, at first what they are. A window of more than `longest`
    steps needs new workers.

    On several `ranks`, `optimizer_state` has only this rank's share of each vector: `restore` and
    `collect` exchange the whole ones, and `reduce` names how gradients are (see REDUCTIONS). Rank 0
    alone has the average. All other methods work as on a process alone.
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
        truncation: Truncation = regular,
        averages: bool = False,
        longest: int = 0,
        reduce: str = "ordered",
        ranks: Ranks | None = None,
    ) -> None:
        self._ranks = ranks = world() if ranks is None else ranks
        if ranks.number == 0:
            made = {
                "optimizer": optimizer,
                "options": options,
                "batch_size": batch_size,
                "clip": clip,
                "threads": threads,
                "seed": seed,
                "truncation": truncation,
                "longest": longest,
                "reduce": reduce,
            }
            zeros = {"shapes": params.shapes, "dtype": params.flat.dtype}
            ranks.tell([(Engine.follow, model, zeros, made)] * (ranks.size - 1))
        self.model, self.params, self.seed = model, params, seed
        self.truncation = truncation
        self.optimizer, self.options, self.clip = optimizer, options, clip
        dtype, size = params.flat.dtype, params.flat.size
        params.move_to(shared_zeros((size,), dtype))
        ranks.give(params.flat)
        # Flat vectors are worked on in chunks: rank r takes those from one border to the next
        spared = params.biases() if options.get("spare_biases") else []
        matrices = params.matrices(whole_matrices(model, optimizer))
        chunks, self._spared, self._matrices = _chunks(size, spared, matrices)
        self._chunk_shares = ranks.shares(len(chunks))
        ends = [0, *(chunk.stop for chunk in chunks)]
        self._borders = [ends[k] for k in self._chunk_shares]
        self._first, stop = self._borders[ranks.number : ranks.number + 2]
        names = state_names(optimizer)
        self.optimizer_state = {name: shared_zeros((stop - self._first,), dtype) for name in names}
        self.average = shared_zeros((size if averages else 0,), dtype)
        self.average[:] = params.flat[: self.average.size]
        self.shards = shard_rows(batch_size)
        lanes = min(len(self.shards), MAX_LANES)
        self._lane_shares = ranks.shares(lanes)
        dealt = [list(range(k, len(self.shards), lanes)) for k in range(lanes)]
        self._rows = [self._streams(dealt[slice(*ends)]) for ends in pairwise(self._lane_shares)]
        self._first_lane, stop = self._lane_shares[ranks.number : ranks.number + 2]
        self.lanes = [Lane(params, shards) for shards in dealt[self._first_lane : stop]]
        totals = [lane.total.flat for lane in self.lanes]
        self._reduction = REDUCTIONS[reduce](ranks, totals, self._lane_shares, self._borders, dtype)
        rows = max(s.stop - s.start for s in self.shards)
        self.weights = model.weights(params, rows, empty=shared_zeros)
        # Worker k takes chunks k, k + n, k + 2n, ... of the rank's own
        own = list(enumerate(chunks))[slice(*self._chunk_shares[ranks.number : ranks.number + 2])]
        threads = threads or max(1, available_cores() // ranks.neighbours)
        n = self._num_workers = min(threads, max(1, len(self.lanes), len(own)))
        self._chunks = [own[k::n] for k in range(n)]
        self._averaged = [chunks[k::n] if averages else [] for k in range(n)]
        self._scratch = [Workspace(dtype) for _ in range(n)]
        self._pool: WorkerPool | None = None
        # What workers write must be in shared memory
        self._losses = shared_zeros((lanes,), np.float64)
        self._squares = shared_zeros((len(chunks),), np.float64)  # Σ g² of each chunk
        self._not_finite = shared_zeros((len(chunks),), np.float64)  # NaN where an update made one
        self._zeros = np.zeros(max(c.stop - c.start for c in chunks), dtype)
        zero = model.zero_state(batch_size, dtype)
        self._state = shared_zeros(zero.shape, zero.dtype)
        self._window = _shared_batch(longest, batch_size)
        self._have_state = False  # whether the other ranks have the state of their streams
        self._tells_ids = True
        self._read: Callable[[int], Batch]

    def close(self) -> None:
        """End the workers; the next step starts others."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def step(
        self,
        batch: Batch,
        state: Array,
        step: int,
        learning_rate: float,
        share: float | None = None,
    ) -> tuple[float, float]:
        """Make update number `step`, from 1; `state` (..., B, K) is carried on in place. The average
        moves by `share` towards the updated parameters; with None it becomes what they are.

        Returns the mean loss in nats per symbol and the gradient's norm before clipping. At least one
        target of the batch must count: without one there is no mean.

        Raises DivergedError when one of them is not finite: nothing is changed then. Raises it too when
        the update made parameters or optimizer state that are not finite, and TrainingError when a
        worker process has ended, perhaps during an update: then parameters and optimizer state must not
        be used any more.
        """
        counted = batch.counted
        assert counted, "a batch without a target that counts"
        with blas.one_thread():
            T, scale = len(batch.ids), 1 / counted
            self._ranks.tell(self._steps_to_tell(batch, state, T, step, scale, learning_rate))
            pool = self._pool_for(T)
            _copy_batch(batch, self._window)
            self._state[...] = state
            loss, norm = self._make_step(pool, T, step, scale, learning_rate, share)
            state[...] = self._state
        return loss, norm

    def _make_step(
        self,
        pool: WorkerPool,
        T: int,
        step: int,
        scale: float,
        learning_rate: float,
        share: float | None = None,
    ) -> tuple[float, float]:
        """A step on the window and state that are in place; all ranks do it together."""
        ranks, chunks = self._ranks, self._chunk_shares
        if self.weights.drops:
            pool.run(self._drop, step)
        pool.run(self._run_lanes, T, step, scale)
        self._reduction()
        pool.run(self._reduce)
        ranks.gather((self._losses, self._lane_shares), (self._squares, chunks))
        loss = math.fsum(self._losses) * scale
        norm = math.sqrt(math.fsum(self._squares))
        factor = self._clipping_factor(loss, norm, step, learning_rate)
        pool.run(self._update, factor, step, learning_rate)
        ranks.gather((self.params.flat, self._borders), (self._not_finite, chunks))
        self._check_update(step)
        pool.run(self._refresh, share)
        return loss, norm

    def _pool_for(self, T: int) -> WorkerPool:
        """The workers. A window longer than all before needs more shared memory, and so new workers."""
        if len(self._window.ids) < T:
            self.close()
            self._window = _shared_batch(T, self._window.ids.shape[1])
        if self._pool is None:
            jobs = (self._run_lanes, self._reduce, self._update, self._refresh, self._drop)
            self._pool = make_pool(self._num_workers, jobs)
        return self._pool

    # The jobs of a step; each runs on all workers

    def _drop(self, worker: int, step: int) -> None:
        """Drop weights from the copies, for all shards the same."""
        for number in range(worker, len(self.weights.drops), self._num_workers):
            self.weights.drops[number](generator(self.seed, Purpose.WEIGHTS, step, number))

    def _run_lanes(self, worker: int, T: int, step: int, scale: float) -> None:
        """Forward and backward pass of the worker's lanes."""
        for k in range(worker, len(self.lanes), self._num_workers):
            loss = self._run_lane(self.lanes[k], T, step, scale)
            self._losses[self._first_lane + k] = loss

    def _run_lane(self, lane: Lane, T: int, step: int, scale: float) -> float:
        """Compute the lane's shards; their gradients add up in `lane.total`. Returns their loss."""
        loss = 0.0
        for k, shard in enumerate(lane.shards):
            rows = self.shards[shard]
            into = lane.part if k else lane.total
            draws = partial(generator, self.seed, Purpose.TRUNCATION, step, shard)
            flow = self.truncation(T, rows.stop - rows.start, draws)
            cuts = {} if flow is None else {"flow": flow}
            loss += self.model.loss_and_grad(
                self.weights,
                _columns(self._window, T, rows, lane.ws),
                self._state[..., rows, :],
                into,
                lane.ws,
                scale,
                masks=partial(self._mask_generator, step, shard),
                **cuts,
            )
            if k:
                np.add(lane.total.flat, into.flat, lane.total.flat)
        return loss

    def _mask_generator(self, step: int, shard: int, layer: int) -> np.random.Generator:
        return generator(self.seed, Purpose.DROPOUT, step, layer, shard)

    def _reduce(self, worker: int) -> None:
        """Sum the gradients of all lanes into the first, and its squares chunk by chunk."""
        ws = self._scratch[worker]
        total, *others = self._reduction.parts
        for number, chunk in self._chunks[worker]:
            here = self._in_share(chunk)
            g = total[here]
            for other in others:
                np.add(g, other[here], g)
            squares = ws("squares", g.size, dtype=np.float64)
            np.copyto(squares, g)
            self._squares[number] = np.dot(squares, squares)

    def _clipping_factor(self, loss: float, norm: float, step: int, learning_rate: float) -> float:
        """The factor that clips the gradient by norm, else 1.

        Raises DivergedError when loss or norm is not finite, or too large for the optimizer.
        """
        kind, limit = self.clip or ("none", math.inf)
        factor = min(1.0, limit / norm) if kind == "norm" and norm > 0 else 1.0
        clipped = min(norm, limit * math.sqrt(self.params.flat.size)) if kind == "value" else norm
        # Beyond LARGEST the optimizer's squares would overflow float32
        fits = clipped * factor * max(1.0, learning_rate) < LARGEST
        if not (math.isfinite(loss) and math.isfinite(norm) and fits):
            way = f"train.grad_clip.{kind}" if self.clip else "set train.grad_clip.norm"
            raise DivergedError(
                f"step {step}: loss {loss:g}, gradient norm {norm:g}: training diverged, and the "
                f"update was not made; lower train.optimizer.learning_rate or {way}"
            )
        return factor

    def _update(self, worker: int, factor: float, step: int, learning_rate: float) -> None:
        """Clip the gradient and run the optimizer, chunk by chunk."""
        ws = self._scratch[worker]
        kind, limit = self.clip or ("none", math.inf)
        gradient = self._reduction.parts[0]
        for number, chunk in self._chunks[worker]:
            here = self._in_share(chunk)
            g = gradient[here]
            if factor != 1.0:
                np.multiply(g, factor, g)
            if kind == "value":
                np.clip(g, -limit, limit, out=g)
            w = self.params.flat[chunk]
            state = {name: vector[here] for name, vector in self.optimizer_state.items()}
            options = self.options | {"learning_rate": learning_rate}
            if "spare_biases" in options:
                options["spare_biases"] = self._spared[number]
            shape = self._matrices.get(number, g.shape)
            w_g_tmp = (a.reshape(shape) for a in (w, g, ws("tmp", g.size)))
            shaped = {name: vector.reshape(shape) for name, vector in state.items()}
            self.optimizer(*w_g_tmp, step, **shaped, **options)
            # 0 · x is 0 for every finite x, however large, and NaN for infinity and NaN
            zeros = self._zeros[: g.size]
            self._not_finite[number] = sum(float(np.dot(a, zeros)) for a in (w, *state.values()))

    def _in_share(self, chunk: slice) -> slice:
        """Where a chunk is in vectors of which the rank has only its share."""
        return slice(chunk.start - self._first, chunk.stop - self._first)

    def _refresh(self, worker: int, share: float | None) -> None:
        """Make the copies of the updated weights that the products use, and move their average."""
        for task in self.weights.tasks[worker :: self._num_workers]:
            task()
        for chunk in self._averaged[worker]:
            w = self.params.flat[chunk]
            move(self.average[chunk], w, self._scratch[worker]("tmp", w.size), share)

    def _check_update(self, step: int) -> None:
        if self._not_finite.any():
            raise DivergedError(
                f"step {step}: the update made parameters that are not finite: training diverged; "
                "lower train.optimizer.learning_rate; the last checkpoint is kept"
            )

    # What ranks tell each other. Rank 0 tells (function, arguments), and the others call it

    def let_read(self, opened: Callable[[Array], Callable[[int], Batch]]) -> None:
        """From now on the other ranks are not told ids, and read what `step` is given on rank 0.

        Each calls `opened` with the numbers of its streams, and the reader that it returns with the
        number of updates before each step.
        """
        self._ranks.tell([(Engine._open, opened)] * (self._ranks.size - 1))
        self._tells_ids = False

    def _open(self, opened: Callable[[Array], Callable[[int], Batch]]) -> None:
        self._read = opened(self._rows[self._ranks.number])

    def restore(self, optimizer_state: Mapping[str, Array]) -> None:
        """Take the optimizer's whole vectors, by name; the other ranks get their shares."""
        self._ranks.tell([(Engine._take_vectors, list(optimizer_state))] * (self._ranks.size - 1))
        for name, vector in optimizer_state.items():
            shares = [vector[a:b] for a, b in pairwise(self._borders)]
            self.optimizer_state[name][:] = shares[0]
            self._ranks.swap(list(enumerate(shares))[1:], [])

    def _take_vectors(self, names: list[str]) -> None:
        for name in names:
            self._ranks.swap([], [(0, self.optimizer_state[name])])

    def collect(self, state: Array) -> dict[str, Array]:
        """The optimizer's whole vectors, by name; `state` becomes that of all streams.

        On several ranks `step` leaves it stale for the streams of the others.
        """
        if self._ranks.size == 1:
            return self.optimizer_state
        self._ranks.tell([(Engine._send_all,)] * (self._ranks.size - 1))
        vectors = {}
        for name, own in self.optimizer_state.items():
            whole = vectors[name] = np.empty(self._borders[-1], own.dtype)
            shares = [whole[a:b] for a, b in pairwise(self._borders)]
            shares[0][:] = own
            self._ranks.swap([], list(enumerate(shares))[1:])
        parts = [np.ascontiguousarray(state[..., rows, :]) for rows in self._rows]
        self._ranks.swap([], list(enumerate(parts))[1:])
        for rows, part in list(zip(self._rows, parts, strict=True))[1:] if self._have_state else ():
            state[..., rows, :] = part
        return vectors

    def _send_all(self) -> None:
        for vector in self.optimizer_state.values():
            self._ranks.swap([(0, vector)], [])
        own = self._state[..., self._rows[self._ranks.number], :]
        self._ranks.swap([(0, np.ascontiguousarray(own))], [])

    def _steps_to_tell(
        self, batch: Batch, state: Array, T: int, step: int, scale: float, learning_rate: float
    ) -> list[Any]:
        """A step as the other ranks are told it: each its streams; of the state, in the first step."""
        told = []
        for rows in self._rows[1:]:
            columns = batch.of(rows) if self._tells_ids else None
            at = None if self._have_state else state[..., rows, :]
            told.append((Engine._take_step, columns, at, T, step, scale, learning_rate))
        self._have_state = True
        return told

    def _take_step(
        self, columns: Batch | None, state: Array | None, T: int, step: int, *rest: Any
    ) -> None:
        with blas.one_thread():
            pool, rows = self._pool_for(T), self._rows[self._ranks.number]
            _copy_batch(columns or self._read(step - 1), self._window, rows)
            if state is not None:
                self._state[..., rows, :] = state
            self._make_step(pool, T, step, *rest)

    def _streams(self, lanes: list[list[int]]) -> Array:
        """The numbers of the streams in the shards of some lanes."""
        rows = [
            np.arange(self.shards[k].start, self.shards[k].stop) for lane in lanes for k in lane
        ]
        return np.concatenate([np.zeros(0, np.intp), *rows])

    @classmethod
    def follow(
        cls, ranks: Joined, model: TrainableModel, zeros: dict[str, Any], made: dict[str, Any]
    ) -> None:
        """Do what rank 0 tells, until it raises EndedError."""
        with closing(cls(model, Parameters(**zeros), **made, ranks=ranks)) as engine:
            while True:
                function, *arguments = ranks.told()
                function(engine, *arguments)


def follow(ranks: Joined) -> int:
    """Be another rank than 0 until that ends; returns its exit code."""
    try:
        try:
            function, *arguments = ranks.told()
            function(ranks, *arguments)
        except EndedError:
            raise
        except Exception as error:
            ranks.report(error)
    except EndedError as end:
        ranks.follow_out(end.code)
        return end.code
    raise AssertionError


def _chunks(
    size: int, spared: list[slice], matrices: list[tuple[slice, Shape]]
) -> tuple[list[slice], list[bool], dict[int, Shape]]:
    """Chunks of a flat vector, whether each is of what is spared, and the shapes of those that are a
    matrix, by number. The others have CHUNK elements at most.
    """
    cuts = [*spared, *(where for where, _ in matrices)]
    borders = sorted({0, size, *(at for s in cuts for at in (s.start, s.stop))})
    shapes = {where.start: shape for where, shape in matrices}
    chunks: list[slice] = []
    found: dict[int, Shape] = {}
    for a, b in pairwise(borders):
        if a in shapes:
            found[len(chunks)] = shapes[a]
        longest = b - a if a in shapes else CHUNK
        chunks += [slice(at, min(at + longest, b)) for at in range(a, b, longest)]
    inside = [any(s.start <= c.start < s.stop for s in spared) for c in chunks]
    return chunks, inside, found


def _shared_batch(T: int, B: int) -> Batch:
    """An empty batch of T steps and B streams in memory that workers share."""
    ids, targets = shared_zeros((2, T, B), np.intp)
    return Batch(ids, targets, shared_zeros((T, B), np.bool_))


def _copy_batch(batch: Batch, to: Batch, rows: Rows = ALL) -> None:
    """Copy a batch into the first steps of a longer one, into some of its streams."""
    T = len(batch.ids)
    assert to.fresh is not None
    to.ids[:T, rows], to.targets[:T, rows] = batch.ids, batch.targets
    to.fresh[:T, rows] = False if batch.fresh is None else batch.fresh


def _columns(batch: Batch, T: int, rows: slice, ws: Workspace) -> Batch:
    """A contiguous copy of the first T steps of a shard's streams."""
    parts = []
    for name, whole in vars(batch).items():
        part = ws(f"engine.{name}", T, rows.stop - rows.start, dtype=whole.dtype)
        np.copyto(part, whole[:T, rows])
        parts.append(part)
    return Batch(*parts)
