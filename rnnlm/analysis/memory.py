"""What a prediction rests on: which earlier symbols, how many of them, and where in a line or word."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..backend.params import Parameters
from ..backend.workspace import Workspace
from ..inference.gradients import norms_by_lag
from ..models.base import UnrolledModel
from ..runs.checkpoint import Checkpoint
from ..text.batches import IGNORED, Batch
from ..watching import report
from .predictions import Predictions
from .stretch import Stretch

STREAMS = 16  # windows of which gradients are computed together
FEWEST = 20  # symbols; a mean over fewer says little
COLUMNS, LETTERS = 80, 12  # of a line and of a word, at most


@dataclass(frozen=True)
class Connectivity:
    """How a prediction changes with earlier input (Madsen 2019, distill.pub, 10.23915/distill.00016).

    `inputs` (m, K) are the norms ‖∂ ln p(x_i)/∂ input at i-1-k‖ of the first m symbols of a stretch and
    K lags, 0 before its beginning: the input is the embedding, or the one-hot vector. `layers` (L, K)
    are the medians over symbols of the norms with respect to the output of each layer at i-1-k.
    """

    inputs: Array
    layers: Array


def connectivity(
    checkpoint: Checkpoint, stretch: Stretch, symbols: int, lags: int
) -> Connectivity | None:
    """Measure the first symbols of a stretch, in reading order; None for a model without a recurrence.

    The state before each window of `lags` steps is that of the text read from its beginning. Reported
    as `connectivity` (watching.py).
    """
    model, params = checkpoint.model, checkpoint.params
    if not isinstance(model, UnrolledModel):
        return None
    fed, fresh, skipped = stretch.fed
    fed, fresh = fed[: symbols - skipped], fresh[: symbols - skipped]
    targets = stretch.ids[skipped:symbols]
    m, B, L, H = len(fed), STREAMS, model.num_layers, model.hidden_size
    inputs, norms = np.zeros((m, lags)), np.full((L, m, lags), np.nan)
    with blas.one_thread(), np.errstate(all="ignore"):
        states = _states(model, params, fed, fresh)
        w, ws, d = model.weights(params, B), Workspace(), params.like()
        dh = np.empty((L, lags, B, H), np.float32)
        dinput = np.empty((lags, B), np.float32)
        for first in range(0, m, B):
            last = np.minimum(np.arange(first, first + B), m - 1)  # where each window ends
            steps = last - lags + 1 + np.arange(lags)[:, None]  # (K, B)
            inside, at = steps >= 0, np.maximum(steps, 0)
            wanted = np.broadcast_to(targets[last], (lags, B))
            state = np.ascontiguousarray(np.stack([states[k] for k in at[0]], -2))
            batch = Batch(fed[at], wanted, fresh[at] & inside)
            found = norms_by_lag(model, w, batch, state, d, ws, dh, dinput)
            n = min(B, m - first)
            inputs[first : first + n] = dinput[::-1, :n].T
            norms[:, first : first + n] = found[:, :, :n].swapaxes(1, 2)
            report("connectivity", first + n, m)
    padded = np.concatenate([np.zeros((skipped, lags)), inputs])
    return Connectivity(padded, _medians(norms))


def _states(model: UnrolledModel, params: Parameters, fed: Array, fresh: Array) -> list[Array]:
    """The state (..., K) of a text before each of its symbols (m,)."""
    w, ws, states = model.weights(params, 1, backward=False), Workspace(), []
    state = model.zero_state(1)
    target = np.full((1, 1), IGNORED)
    for symbol, begins in zip(fed, fresh, strict=True):
        states.append(state[..., 0, :].copy())
        batch = Batch(np.full((1, 1), symbol), target, np.full((1, 1), begins))
        model.activations(w, batch, state, ws)
    return states


def _medians(norms: Array) -> Array:
    """The median of norms (L, m, K) over m; those that are 0 are of another text and do not count."""
    found = np.full((norms.shape[0], norms.shape[2]), np.nan)
    for layer, lag in np.ndindex(found.shape):
        known = norms[layer, :, lag]
        known = known[known > 0]
        if len(known):
            found[layer, lag] = np.median(known)
    return found


@dataclass(frozen=True)
class Places:
    """Means over a stretch, in nats: `window` (T,), the loss after so many symbols that a model read
    since the zero state; `column` (C,), the loss in columns of a line, from 1; `letter` (W,), the loss
    of a letter after so many letters of its word, and `right` (W,), how often it was the most probable.
    NaN where there are fewer than FEWEST.
    """

    window: Array
    column: Array
    letter: Array
    right: Array


def places(checkpoint: Checkpoint, stretch: Stretch, predicted: Predictions, steps: int) -> Places:
    """Where in a window of `steps`, a line and a word the symbols of a stretch are hard to predict."""
    order = stretch.order
    pieces = np.array(stretch.pieces, object)
    nats, right = np.empty(len(order)), np.empty(len(order))
    text = np.empty(len(order), object)  # in reading order
    nats[order], right[order], text[order] = predicted.nats, predicted.rank == 1, pieces
    column, letter = np.zeros(len(order), int), np.full(len(order), -1)
    c = w = 0
    for i, piece in enumerate(text):
        column[i] = c
        letter[i] = w if piece.isalpha() else -1
        c, w = (0 if "\n" in piece else c + 1), (w + 1 if piece.isalpha() else 0)
    return Places(
        _window(checkpoint, stretch, steps),
        _means(column, nats, COLUMNS),
        _means(letter, nats, LETTERS),
        _means(letter, right, LETTERS),
    )


def _means(where: Array, values: Array, most: int) -> Array:
    """The means of values (n,) by the place `where` (n,) from 0 they are at, none at a negative one."""
    found = np.full(most, np.nan)
    for place in range(most):
        here = values[where == place]
        if len(here) >= FEWEST:
            found[place] = here[np.isfinite(here)].mean()
    return found


def _window(checkpoint: Checkpoint, stretch: Stretch, steps: int) -> Array:
    """The mean loss (T,) at each step of windows that all begin with the zero state."""
    fed, _, skipped = stretch.fed
    streams = len(fed) // steps
    if streams < FEWEST or stretch.format.rules.of_lines:
        return np.full(steps, np.nan)
    used = streams * steps
    ids, targets = (a[:used].reshape(streams, steps).T.copy() for a in (fed, stretch.ids[skipped:]))
    begins = np.zeros(ids.shape, np.bool_)
    begins[0] = True
    losses = np.empty(ids.shape)
    with blas.one_thread(), np.errstate(all="ignore"):
        checkpoint.model.read(checkpoint.params, streams)(Batch(ids, targets, begins), losses)
    return np.array([row[np.isfinite(row)].mean() for row in losses])
