"""How far back a loss reaches: the norm of its gradient with respect to earlier states.

The vanishing and exploding of gradients (Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio
2013, arXiv:1211.5063), measured on a text by the backward pass that training makes, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..backend.params import Parameters
from ..backend.seeds import Purpose, generator
from ..backend.workspace import Workspace
from ..errors import ConfigError, DataError
from ..models.base import LanguageModel, UnrolledModel
from ..runs.checkpoint import Checkpoint
from ..runs.run_data import recorded_data
from ..text.batches import IGNORED, Batch
from ..watching import report
from ..wording import counted

STREAMS = 32  # at most; of the stretch that is read
WINDOWS = 8  # in which gradients are measured, after one in which the state begins
# A gate beyond is saturated (Karpathy, Johnson and Fei-Fei 2015, arXiv:1506.02078)
LOW, HIGH = 0.1, 0.9
QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class LayerFlow:
    """What was measured of one layer. N gradients are followed back over K lags.

    `norms` (K+1, N) are ‖∂L_t/∂h_{t-k}‖, in nats, NaN where t - k is in a text before that of t.
    `matrices` are the singular values and the moduli of the eigenvalues of each recurrent matrix, the
    largest first. `linear` (K+1), of a layer with one matrix W alone, is the median of the norms that
    the gradients at lag 0 would have if nothing but W changed them: from its eigenvalues, as
    ‖∂L_t/∂h_t Q Λ^k Q⁻¹‖ with Wᵀ = Q Λ Q⁻¹. `saturated` are, for each sigmoid gate, the shares below
    0.1 and above 0.9, for the output h those below -0.9 and above 0.9, and of both the share at 0. An
    output that has no bound, as that of an SRU, is never saturated: there these two are NaN.
    """

    norms: Array
    matrices: dict[str, tuple[Array, Array]]
    linear: Array | None
    saturated: dict[str, tuple[float, float, float]]

    @property
    def quartiles(self) -> Array:
        """(3, K+1): the lower quartile, the median and the upper quartile of the norms of each lag; NaN
        where no text is so long.
        """
        found = np.full((len(QUARTILES), len(self.norms)), np.nan)
        for lag, norms in enumerate(self.norms):
            if (known := norms[~np.isnan(norms)]).size:
                found[:, lag] = np.quantile(known, QUARTILES)
        return found


def gradient_flow(checkpoint: Checkpoint, lags: int = 50, at_init: bool = False) -> list[LayerFlow]:
    """Measure each layer of a recurrent model on a stretch of its run's validation text.

    L_t is the loss at step t alone, and h_{t-k} the output of a layer k steps before: all ways from it
    to L_t count, also those through the layers above. With `at_init`, of the parameters that training
    began with. Reported as `gradients` (watching.py). Raises ConfigError for a model of another kind,
    DataError where the text is shorter than two windows of `lags` + 1 symbols.
    """
    model = unrolled(checkpoint.model)
    if at_init:
        params = model.init(generator(checkpoint.config.train.seed, Purpose.INIT), np.float64)
    else:
        trained = checkpoint.params
        params = Parameters(trained.shapes, np.float64, trained.flat.astype(np.float64))
    ids, T = recorded_data(checkpoint)["val"], lags + 1
    streams = min(STREAMS, (len(ids) - 1) // (2 * T))
    if not streams:
        raise DataError(
            f"the validation text has {counted(len(ids), 'symbol')}, too few for {lags} lags: at most "
            f"{max(0, (len(ids) - 1) // 2 - 1)} works"
        )
    # As in training, so that windows of lines are full
    windows = checkpoint.format.batches(ids, streams, T, checkpoint.config.train.seed)
    batches = [windows(0, k) for k in range(min(WINDOWS + 1, len(windows)))]
    batches = [batch for batch in batches if len(batch.ids) == T]
    with blas.one_thread(), np.errstate(all="ignore"):  # what explodes is shown
        norms, first, activations = _measured(model, params, batches)
    return [
        _layer(norms[layer], first[layer], matrices, activations[layer], model.bounded)
        for layer, matrices in enumerate(model.recurrent_matrices(params))
    ]


def unrolled(model: LanguageModel) -> UnrolledModel:
    """A model with recurrent layers alone. Raises ConfigError for another."""
    if not isinstance(model, UnrolledModel):
        raise ConfigError(
            "gradients are followed from step to step in recurrent layers (model.kind recurrent), not "
            f"in this model: {model.describe()}"
        )
    return model


def _measured(
    model: UnrolledModel, params: Parameters, batches: list[Batch]
) -> tuple[Array, Array, list[dict[str, Array]]]:
    """The norms (L, T, N), the gradients at lag 0 (L, N, H), and the activations of all windows."""
    (T, B), L, H = batches[0].ids.shape, model.num_layers, model.hidden_size
    ws, w, d = Workspace(np.float64), model.weights(params, B), params.like()
    state, dh = model.zero_state(B, np.float64), np.empty((L, T, B, H))
    norms, first, seen = [], [], []
    for k, batch in enumerate(batches):
        seen.append(model.activations(w, batch, state.copy(), ws))
        found = norms_by_lag(model, w, batch, state, d, ws, dh)
        if k or len(batches) == 1:  # the state of the first window begins with zeros
            found[:, _of_another_text(batch)] = np.nan
            norms.append(found)
            first.append(dh[:, -1].copy())
        report("gradients", k + 1, len(batches))
    layers = [
        {name: np.concatenate([s[layer][name] for s in seen]) for name in seen[0][layer]}
        for layer in range(L)
    ]
    return np.concatenate(norms, axis=2), np.concatenate(first, axis=1), layers


def norms_by_lag(
    model: UnrolledModel,
    weights: Any,
    batch: Batch,
    state: Array,
    d: Parameters,
    ws: Workspace,
    dh: Array,
    dinput: Array | None = None,
) -> Array:
    """(L, T, B): ‖∂L/∂h‖ for each layer and lag, L being the loss at the last step of a window alone.

    `state` is carried on in place; `d`, `dh` (L, T, B, H) and `dinput` (T, B) get what
    `loss_and_grad` writes.
    """
    last = np.full_like(batch.targets, IGNORED)
    last[-1] = batch.targets[-1]
    alone = Batch(batch.ids, last, batch.fresh)
    model.loss_and_grad(weights, alone, state, d, ws, 1.0, dh=dh, dinput=dinput)
    norms: Array = np.linalg.norm(dh, axis=-1)[:, ::-1]
    return norms


def saturation(a: Array, low: float = LOW) -> Array:
    """(2, H): the shares of all values (..., H) at which each unit is below `low`, and above HIGH."""
    rows = a.reshape(-1, a.shape[-1])
    return np.stack([(rows < low).mean(0), (rows > HIGH).mean(0)])


def _of_another_text(batch: Batch) -> Array:
    """(T, B) by lag: whether the step so far back is in a text before the last step's, or the last
    step has no target.
    """
    begun = np.zeros(batch.ids.shape, np.bool_)
    if batch.fresh is not None:
        begun[1:] = np.logical_or.accumulate(batch.fresh[::-1], axis=0)[:-1]
    np.logical_or(begun, batch.targets[-1] < 0, begun)
    return begun


def _layer(
    norms: Array,
    first: Array,
    matrices: dict[str, Array],
    activations: dict[str, Array],
    bounded: bool,
) -> LayerFlow:
    spectra = {
        name: (
            np.linalg.svd(matrix, compute_uv=False),
            np.sort(np.abs(np.linalg.eigvals(matrix)))[::-1],
        )
        for name, matrix in matrices.items()
    }
    saturated = {}
    for name, a in activations.items():
        low, high = saturation(a, -HIGH if name == "h" else LOW).mean(1).tolist()
        if name == "h" and not bounded:
            low, high = math.nan, math.nan
        saturated[name] = (low, high, float((a == 0).mean()))
    linear = None
    if len(matrices) == 1:
        (matrix,) = matrices.values()
        known = first[~np.isnan(norms[0])]
        linear = _linear(matrix, known, len(norms))
    return LayerFlow(norms, spectra, linear, saturated)


def _linear(matrix: Array, first: Array, lags: int) -> Array:
    """The median over rows g of `first` (N, H) of ‖g Q Λ^k Q⁻¹‖, for k below `lags`."""
    eigenvalues, Q = np.linalg.eig(matrix.T)
    rows, inverse, found = first @ Q, np.linalg.inv(Q), np.empty(lags)
    for lag in range(lags):
        found[lag] = np.median(np.linalg.norm((rows * eigenvalues**lag) @ inverse, axis=1))
    return found


def as_json(layers: list[LayerFlow]) -> dict[str, Any]:
    """The figures as JSON holds them, which knows neither NaN nor infinity: these are null."""

    def plain(values: Iterable[float]) -> list[float | None]:
        return [float(v) if np.isfinite(v) else None for v in values]

    return {
        "layers": [
            {
                "lower_quartile": plain(layer.quartiles[0]),
                "median": plain(layer.quartiles[1]),
                "upper_quartile": plain(layer.quartiles[2]),
                "linear": None if layer.linear is None else plain(layer.linear),
                "gradients": layer.norms.shape[1],
                "matrices": {
                    name: {
                        "spectral_radius": float(moduli[0]),
                        "singular_values": plain(singular),
                        "eigenvalue_moduli": plain(moduli),
                    }
                    for name, (singular, moduli) in layer.matrices.items()
                },
                "saturated": {
                    name: dict(zip(("low", "high", "zero"), plain(shares), strict=True))
                    for name, shares in layer.saturated.items()
                },
            }
            for layer in layers
        ]
    }
