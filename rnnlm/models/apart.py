"""Reading with the layers of a stack on several workers, each a block of windows behind the one below.

The steps of one stream come one after another, so that a second worker cannot help with a step. But a
layer needs of the one below only its outputs: while that reads a block of windows, the layer above
reads the block before. Every call is the one that a single worker makes, and so the bits are the same.

Two workers share memory with the outputs of the layer below and the projection of them for the first
half of the gates of the layer above. So both have about as much to do: the worker above has the softmax
beside its steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING

import numpy as np

from ..arrays import Array
from ..backend.params import Parameters
from ..backend.tape import Unrecorded
from ..backend.workers import WorkerPool, forked, shared_zeros
from ..backend.workspace import Workspace
from ..text.batches import Batch
from .declared import Reading, finite
from .layers import dense_projection

if TYPE_CHECKING:
    from .recurrent import Recurrent
    from .weights import Weights

Block = list[Batch]

FEWEST = 1 << 14  # symbols of a text: for fewer, workers cost more than they save
MOST_WINDOWS = 8  # in a block
BLOCK_WORK = 1 << 27  # multiply-adds of a layer in a block: some milliseconds, then workers meet


class LayersApart(Reading):
    """As `Reading`, for a stack of recurrent layers."""

    def __init__(self, model: Recurrent, params: Parameters, streams: int) -> None:
        super().__init__(model, params, streams)
        self._stack = model

    def ahead(
        self, batches: Iterable[Batch], windows: int, workers: int, losses: Array | None = None
    ) -> Iterator[float]:
        """What the call gives for each of so many windows, in their order, with the same bits, on as
        many workers at most. `losses` (T, B) is for the steps of all windows.
        """
        batches = iter(batches)
        first = next(batches, None)
        if first is None:
            return
        batches = chain([first], batches)
        start, pool = 0, None
        workers = 1 if self._stack.skip else min(workers, self._stack.num_layers)
        if workers > 1 and first.ids.size * windows >= FEWEST:
            pipeline = Pipeline(self._stack, self._weights, self._state, first, workers)
            pool = forked(workers, [pipeline.work])
        if pool is None:
            for batch in batches:
                stop = start + len(batch.ids)
                yield self(batch, None if losses is None else losses[start:stop])
                start = stop
            return
        with closing(pool):
            for loss, each in pipeline.read(pool, batches):
                if losses is not None:
                    losses[start : start + len(each)] = each
                start += len(each)
                yield finite(loss)
        self._state[:] = pipeline.state


class Pipeline:
    """The memory that workers share, and what each of them does.

    Worker k reads block i - k while worker 0 reads block i. What it passes on has two places in memory,
    for even and odd blocks. No window is longer than the `first`.
    """

    def __init__(
        self, model: Recurrent, w: Weights, state: Array, first: Batch, workers: int
    ) -> None:
        (T, B), H, dtype = first.ids.shape, model.hidden_size, state.dtype
        self._model, self._weights, self._workers = model, w, workers
        self._workspaces = [Workspace(dtype) for _ in range(workers)]
        # The lower workers have one layer more, where they cannot have as many each
        self._borders = [-(-model.num_layers * k // workers) for k in range(workers + 1)]
        work = T * B * H * H * len(model.cell.gates)
        self._windows = n = min(MOST_WINDOWS, max(1, BLOCK_WORK // work))
        G = self._gates = -(-len(w.layers[-1]["b"]) // 2)
        self.state = shared_zeros(state.shape, dtype)
        self.state[:] = state
        places = workers - 1, 2, n
        self._outputs = shared_zeros((*places, T * B, H), dtype)
        self._projected = shared_zeros((*places, T * B, G, H), dtype)
        self._losses = shared_zeros((n, T, B), np.float64)
        self._totals = shared_zeros((n,), np.float64)

    def read(self, pool: WorkerPool, batches: Iterator[Batch]) -> Iterator[tuple[float, Array]]:
        """Of each window, in order, the sum of its losses and each of them (T, B).

        These are valid until the next.
        """
        under_way: deque[Block] = deque([[]] * self._workers, self._workers)  # of each worker
        blocks = iter(lambda: list(islice(batches, self._windows)), [])
        for number, block in enumerate(chain(blocks, repeat([], self._workers - 1))):
            under_way.appendleft(block)
            pool.run(self.work, number, list(under_way))
            for n, batch in enumerate(under_way[-1]):
                yield float(self._totals[n]), self._losses[n, : len(batch.ids)]

    def work(self, worker: int, number: int, under_way: list[Block]) -> None:
        """Read a worker's block, of those `under_way` (one for each), with its layers."""
        place = (number - worker) % 2
        for n, batch in enumerate(under_way[worker]):
            self._read(worker, (place, n), batch)

    def _read(self, worker: int, place: tuple[int, int], batch: Batch) -> None:
        model, w, ws, R = self._model, self._weights, self._workspaces[worker], batch.ids.size
        first, stop = self._borders[worker : worker + 2]
        X: Array | None
        projected: Array | None = None
        if worker:
            below = (worker - 1, *place)
            ids, X = batch.ids.reshape(R), ws("apart.X", R, model.hidden_size)
            np.copyto(X, self._outputs[below][:R])
            projected = self._projected[below][:R].swapaxes(0, 1)
        else:
            ids, X = model.inputs(w, batch, ws)
        for layer in range(first, stop):
            trace = model.forward_layer(
                w, layer, batch, ids, X, None, self.state, ws, projected=projected
            )
            X, projected = trace.output, None
        assert X is not None
        if stop == model.num_layers:
            losses = self._losses[place[1], : len(batch.ids)]
            self._totals[place[1]] = model.loss_of(w, X, batch, ws, losses)
        else:
            own = (worker, *place)
            np.copyto(self._outputs[own][:R], X)
            above, G = w.layers[stop], self._gates
            into = self._projected[own][:R].swapaxes(0, 1)
            dense_projection(Unrecorded(), X, above["Wx"][:G], above["b"][:G], into)
