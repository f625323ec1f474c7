"""What single units of a recurrent model follow in a text (Karpathy, Johnson and Fei-Fei 2015,
arXiv:1506.02078): correlations with what can be said of every character, and how saturated gates are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..backend.params import Parameters
from ..backend.workspace import Workspace
from ..inference.evaluation import CHUNK
from ..inference.gradients import saturation
from ..models.base import UnrolledModel
from ..runs.checkpoint import Checkpoint
from ..text.batches import IGNORED, Batch
from ..watching import report
from .stretch import Stretch

OPENING, CLOSING = "([{", ")]}"


def _since(text: str, marks: str) -> Array:
    """How many characters back the last of some marks is; at a mark itself 0."""
    at = np.arange(len(text))
    last = np.where([c in marks for c in text], at, -1)
    return at - np.maximum.accumulate(last)


def _in_quotes(text: str) -> Array:
    """Inside double quotes, straight or curly; an empty line ends what nobody closed."""
    inside, found = False, np.zeros(len(text))
    for i, c in enumerate(text):
        if c == '"':
            inside = not inside
        elif c in "“”":
            inside = c == "“"
        elif text[i - 1 : i + 1] == "\n\n":
            inside = False
        found[i] = inside
    return found


def _in_brackets(text: str) -> Array:
    """Inside round, square or curly brackets; an empty line ends what nobody closed."""
    depth, found = 0, np.zeros(len(text))
    for i, c in enumerate(text):
        depth = max(0, depth + (c in OPENING) - (c in CLOSING))
        if text[i - 1 : i + 1] == "\n\n":
            depth = 0
        found[i] = depth > 0
    return found


def _line_before(text: str) -> Array:
    """How long the line before is."""
    ends = [-1, *(i for i, c in enumerate(text) if c == "\n"), len(text)]
    lengths = [b - a for a, b in pairwise(ends)]
    return np.repeat([0, *lengths[:-1]], lengths)[: len(text)]


def _letters_of_word(text: str) -> Array:
    """Letters of the word so far; 0 at what is no letter."""
    found, n = np.zeros(len(text)), 0
    for i, c in enumerate(text):
        n = n + 1 if c.isalpha() else 0
        found[i] = n
    return found


TRACKED: dict[str, Callable[[str], Array]] = {  # each gives a number for every character of a text
    "position in the line": lambda text: _since(text, "\n"),
    "length of the line before": _line_before,
    "inside quotes": _in_quotes,
    "inside brackets": _in_brackets,
    "capital letter": lambda text: np.array([c.isupper() for c in text], float),
    "letters of the word so far": _letters_of_word,
    "space or newline": lambda text: np.array([c.isspace() for c in text], float),
    "vowel": lambda text: np.array([c in "aeiouAEIOU" for c in text], float),
    "digit": lambda text: np.array([c.isdigit() for c in text], float),
    "since the last . ! ? or :": lambda text: _since(text, ".!?:"),
}


@dataclass(frozen=True)
class Units:
    """The units of a recurrent model over a stretch, in the order of its text.

    `layers` are, for each layer, its sigmoid gates and its output `h` after every symbol: (n, H), by
    name. `correlations` are Pearson's of `h` of all layers with what a text says, (L·H,) by name: those
    of TRACKED that are not the same everywhere. `saturated` are, for each layer and gate, the shares of
    symbols (2, H) at which a unit's gate is below 0.1 and above 0.9.
    """

    layers: list[dict[str, Array]]
    correlations: dict[str, Array]
    saturated: list[dict[str, Array]]


def units(checkpoint: Checkpoint, stretch: Stretch) -> Units | None:
    """What the units of a model do over a stretch; None where it has none.

    Reported as `units` (watching.py).
    """
    model = checkpoint.model
    if not isinstance(model, UnrolledModel):
        return None
    layers = _activations(model, checkpoint.params, stretch)
    h = np.concatenate([layer["h"] for layer in layers], axis=1)
    ends = np.cumsum([len(piece) for piece in stretch.pieces]) - 1
    text = "".join(stretch.pieces)
    correlations = {}
    if text:
        for name, track in TRACKED.items():
            values = track(text)[np.maximum(ends, 0)]
            if values.std() > 0:
                correlations[name] = correlation(h, values)
    saturated = [
        {gate: saturation(a) for gate, a in layer.items() if gate != "h"} for layer in layers
    ]
    return Units(layers, correlations, saturated)


def correlation(h: Array, values: Array) -> Array:
    """Pearson's correlation of each column of h (n, U) with values (n,); 0 for one that is constant."""
    h, values = h - h.mean(0), values - values.mean()
    spread = np.sqrt((h * h).sum(0) * (values @ values))
    found: Array = np.divide(values @ h, spread, np.zeros(h.shape[1]), where=spread > 1e-9)
    return found


def _activations(
    model: UnrolledModel, params: Parameters, stretch: Stretch
) -> list[dict[str, Array]]:
    """Gates and outputs of each layer after each symbol (n, H), in the order of the text."""
    read, fresh = stretch.read
    with blas.one_thread(), np.errstate(all="ignore"):
        w, ws = model.weights(params, 1, backward=False), Workspace()
        state, seen = model.zero_state(1), []
        for k in range(0, len(read), CHUNK):
            part = read[k : k + CHUNK, None]
            targets = np.full_like(part, IGNORED)
            seen.append(
                model.activations(w, Batch(part, targets, fresh[k : k + CHUNK, None]), state, ws)
            )
            report("units", min(k + CHUNK, len(read)), len(read))
    order = stretch.order + len(read) - len(stretch.ids)
    return [
        {
            name: np.concatenate([part[layer][name][:, 0] for part in seen])[order]
            for name in seen[0][layer]
        }
        for layer in range(len(seen[0]))
    ]
