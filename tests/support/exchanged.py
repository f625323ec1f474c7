"""What the tests of other programs' formats share: random models, and their logits by the oracles."""

from __future__ import annotations

from typing import Any

import numpy as np
from oracles import cell_forward, cell_keys, one_hot, output_matrix

from rnnlm.arrays import Array
from rnnlm.assembly import build_model, make_config
from rnnlm.backend.params import Parameters
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.text.format import TextFormat, TextRules
from rnnlm.text.vocabulary import CharVocabulary

SYMBOLS = '\n"aé\ud800\U0001f600'
V, H = len(SYMBOLS), 5


def random_checkpoint(
    cell: Any, layers: int, embedding: int | None, tie: bool = False, *keys: str
) -> Checkpoint:
    """A recurrent model with numbers of every sign in every parameter, biases too."""
    size = "null" if embedding is None else embedding
    keys += (f"hidden_size={H}", f"num_layers={layers}", f"embedding_size={size}", f"tie={tie}")
    config = make_config(None, *cell_keys(cell), *(f"model.{key}" for key in keys))
    model: Any = build_model(config, V)
    params = Parameters(model.shapes)
    params.flat[:] = np.random.default_rng(0).standard_normal(params.flat.size) * 0.4
    text = TextFormat(TextRules.named("char"), CharVocabulary(list(map(ord, SYMBOLS))))
    return Checkpoint(config, text, params, np.ones(V, np.int64))


def oracle_logits(checkpoint: Checkpoint, ids: Array) -> Array:
    """The logits (T, B, V) after each symbol of texts (T, B), in float64."""
    model: Any = checkpoint.model
    p = {name: array.astype(np.float64) for name, array in checkpoint.params.items()}
    X = one_hot(ids, V).reshape(*ids.shape, V)
    if "embedding" in p:
        X = X @ p["embedding"]
    seen = []
    for layer in range(model.num_layers):
        prefix = f"layers.{layer}."
        own = {name.removeprefix(prefix): p[name] for name in p if name.startswith(prefix)}
        zeros = np.zeros((len(model.cell.states), ids.shape[1], H))
        Y = cell_forward(model.cell, own, X, zeros)[0, 1:]
        X = Y + X if model.residual and layer else Y
        seen.append(X)
    X = np.concatenate(seen, axis=2) if model.skip else X
    logits: Array = X @ output_matrix(p) + p["by"]
    return logits
