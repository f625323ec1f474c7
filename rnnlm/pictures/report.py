"""The report about a run: what its log says, and what its model does with a stretch of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ..analysis.memory import Connectivity, Places, connectivity, places
from ..analysis.predictions import Predictions, predictions
from ..analysis.stretch import Stretch
from ..analysis.symbols import Plane, plane
from ..analysis.units import Units, units
from ..arrays import Array
from ..errors import ConfigError, DataError
from ..runs.checkpoint import Checkpoint
from .charts import Series, chart, scatter
from .labels import label, shown
from .log import config, head, log_of, log_sections
from .page import Section, packed, page

LAGS, REMEMBERED = 64, 1000  # earlier symbols, and symbols whose prediction is followed back
WINDOW = 100  # symbols that are read from the zero state on
ACTIVATIONS = 1_000_000  # of all units together: bytes of the page
LISTED = 3  # units of each property, whose gates are in the page
BITS = math.log(2)

READING = """<div class="controls">
<div class="choices" data-part="modes" role="group" aria-label="Colour by"></div>
{controls}<div class="legend" data-part="legend"></div></div>{lists}
<div class="reading">
<div class="text" data-part="text" aria-label="{name}: choose with the arrow keys"></div>
<div class="panel" data-part="panel" aria-live="polite"></div></div>"""


def report(checkpoint: Checkpoint, stretch: Stretch, against: Checkpoint | None = None) -> bytes:
    """The report as one HTML file, about a run and a stretch of text that its model reads.

    `against` is another model that reads the same text. Raises DataError where it cannot read it,
    CheckpointError where the log beside the checkpoint is damaged, TrainingError where something is not
    finite.
    """
    predicted = predictions(checkpoint, stretch)
    log = log_of(checkpoint)
    names = [label(symbol) for symbol in checkpoint.vocabulary.to_json()["symbols"]]
    ids = stretch.ids[stretch.order]
    text = shown(stretch.pieces, [names[i] for i in ids])
    data: dict[str, Any] = {
        "noun": stretch.format.noun,
        "labels": names,
        "pieces": text.pieces,
        "joined": text.joined,
        "marked": text.marked,
        "surprisal": _surprisal(ids, predicted, stretch.format.rules.reverse),
    }
    if against is not None:
        data["surprisal"] |= _against(against, stretch)
    sections = log_sections(log)
    sections.append(_surprisal_section(stretch, predicted, against))
    if (cells := units(checkpoint, stretch)) is not None:
        data["cells"], section = _cells(cells)
        sections.append(section)
    connected = connectivity(checkpoint, stretch, REMEMBERED, LAGS)
    if connected is not None:
        data["memory"] = _memory(connected, stretch)
    where = places(checkpoint, stretch, predicted, WINDOW)
    sections.append(_memory_section(connected, where, stretch.format.noun))
    if (points := plane(checkpoint)) is not None:
        sections.append(_vocabulary_section(points, names))
    sections.append(config(log))
    return page(f"{log.name}", head(log), sections, data)


def _named(checkpoint: Checkpoint) -> str:
    return "the other" if checkpoint.path is None else checkpoint.path.absolute().parent.name


# Surprisal


def _surprisal(ids: Array, predicted: Predictions, reverse: bool) -> dict[str, Any]:
    many = "u2" if ids.max(initial=0) < 1 << 16 and predicted.top.max() < 1 << 16 else "u4"
    return {
        "nats": _bits(predicted.nats),
        "rank": packed(predicted.rank, "u2"),
        "entropy": _bits(predicted.entropy),
        "ids": packed(ids, many),
        "top": packed(predicted.top, many),
        "p": packed(predicted.p * 65535, "u2"),
        "k": predicted.top.shape[1],
        "expected": "expected before" if reverse else "expected here",
    }


def _bits(nats: Array) -> list[str]:
    """Thousandths of bits; the highest number stands for infinity."""
    return packed(np.where(np.isinf(nats), 65535, np.minimum(nats / BITS * 1000, 65534)), "u2")


def _against(other: Checkpoint, stretch: Stretch) -> dict[str, Any]:
    """What another model says of the same symbols."""
    mine, theirs = stretch.format, other.format
    if theirs.level != mine.level:
        raise ConfigError(
            f"--against: {_named(other)} reads {theirs.noun}s, and this model {mine.noun}s: name a run "
            f"of {mine.level} level"
        )
    symbols = mine.vocabulary.symbols[stretch.ids]
    try:
        known = theirs.vocabulary.lookup(symbols)
        theirs.vocabulary.check_known(symbols, known, "name a run that knows them")
        ids = theirs.translate(mine, stretch.ids)
    except DataError as error:
        raise DataError(f"--against {_named(other)}: {error}") from None
    nats = predictions(other, Stretch(theirs, ids, stretch.source)).nats
    return {"other": _bits(nats), "against": _named(other)}


def _surprisal_section(
    stretch: Stretch, predicted: Predictions, against: Checkpoint | None
) -> Section:
    mean = predicted.nats.mean() / BITS
    right = (predicted.rank == 1).mean()
    noun = stretch.format.noun
    told = (
        f"Every {noun} is coloured by what the model thought of it. Choose one to see what was "
        "expected there: with the pointer, a finger, or the arrow keys."
    )
    facts = (
        f"{stretch.source[0].upper()}{stretch.source[1:]}: {mean:.3f} bits per {noun}; the "
        f"first guess is right {right:.1%} of the time."
    )
    if against is not None:
        facts += (
            f" The difference is with {_named(against)}: {against.model.describe().split(':')[0]}."
        )
    html = f'<p>{escape(told)}</p><p class="note">{escape(facts)}</p>'
    return Section(
        "surprisal", "Surprisal", html + READING.format(controls="", lists="", name="Text")
    )


# Cells


def _cells(found: Units) -> tuple[dict[str, Any], Section]:
    L, (n, H) = len(found.layers), found.layers[0]["h"].shape
    symbols = min(n, max(1, ACTIVATIONS // (L * H)))
    h = np.concatenate([layer["h"][:symbols] for layer in found.layers], axis=1).T
    best = {
        name: np.argsort(-np.abs(r))[:LISTED].tolist() for name, r in found.correlations.items()
    }
    scales = np.maximum(1, np.abs(h).max(1))  # an SRU, a relu or an identity goes beyond ±1
    names = [name for name in found.layers[0] if name != "h"]
    listed = {unit for listed in best.values() for unit in listed}
    strength = {name: float(np.abs(r).max()) for name, r in found.correlations.items()}
    data = {
        "layers": L,
        "units": H,
        "symbols": symbols,
        "names": names,
        "h": packed(h / scales[:, None] * 127, "i1"),
        "scales": [float(f"{scale:.4g}") for scale in scales],
        "gates": {
            f"{name} {unit}": packed(found.layers[unit // H][name][:symbols, unit % H] * 255, "u1")
            for name in names
            for unit in sorted(listed)
        },
        "correlations": {name: packed(r * 100, "i1") for name, r in found.correlations.items()},
        "first": max(strength, key=strength.__getitem__, default=None),
    }
    rows = "".join(
        f"<li>{escape(name)}: layer {u // H + 1}, unit {u % H + 1}, "
        f"r = {found.correlations[name][u]:+.2f}</li>"
        for name, (u, *_) in sorted(best.items(), key=lambda item: -strength[item[0]])
    )
    html = (
        "<p>The output of one unit after every symbol, blue below zero and orange above. Units are "
        "sorted by how well they go along with something that can be said of the text: Pearson's "
        f"correlation, over {n:,} symbols.</p>"
        "<details><summary>The unit that follows each best</summary>"
        f"<ul>{rows}</ul></details>"
    )
    controls = (
        '<label>sort by <select data-part="track"></select></label> <label>layer <input type="number" '
        'min="1" data-part="layer"></label> <label>unit <input type="number" min="1" data-part="unit">'
        "</label>"
    )
    lists = '<div class="units" data-part="units" role="group" aria-label="Units"></div>'
    html += READING.format(controls=controls, lists=lists, name="Text by unit")
    if names:
        html += (
            "<h3>How often gates are shut and open</h3><p>A dot for each unit: the share of symbols at "
            "which its gate is below 0.1, and above 0.9 (Karpathy, Johnson and Fei-Fei 2015).</p>"
            f'<div class="charts">{"".join(_saturation(name, found) for name in names)}</div>'
        )
    return data, Section("cells", "Cells", html)


def _saturation(gate: str, found: Units) -> str:
    series = [
        Series(f"layer {number}", layer[gate][0], layer[gate][1], dots=True)
        for number, layer in enumerate(found.saturated[:4], 1)
    ]
    return chart(series, f"gate {gate} below 0.1", f"gate {gate} above 0.9")


# Memory


def _memory(found: Connectivity, stretch: Stretch) -> dict[str, Any]:
    """The norms relative to the largest of each symbol, in the order of the text."""
    order = stretch.order
    at = np.flatnonzero(order < len(found.inputs))  # in one piece
    norms = found.inputs[order[at]]
    most = norms.max(1, keepdims=True)
    share = np.divide(norms, most, np.zeros_like(norms), where=most > 0)
    return {
        "from": int(at[0]),
        "symbols": len(at),
        "lags": norms.shape[1],
        "way": -1 if stretch.format.rules.reverse else 1,
        "norms": packed(share * 255, "u1"),
    }


def _memory_section(found: Connectivity | None, where: Places, noun: str) -> Section:
    html = ""
    if found is not None:
        html = (
            f"<p>Choose a {noun}: the {noun}s before it are coloured by how much a change of each "
            "would change its log-probability: the norm of the gradient (connectivity, Madsen "
            "2019).</p>" + READING.format(controls="", lists="", name="Text by influence")
        )
    loss = f"loss, bits per {noun}"
    charts = [] if found is None else [_reach(found.layers)]
    charts += [
        _places(where.window / BITS, f"{noun}s read since the beginning", loss),
        _places(where.column / BITS, "column of the line", loss, first=1),
        _places(where.letter / BITS, "letters of the word already seen", loss),
        _places(where.right * 100, "letters of the word already seen", "first guess right, %"),
    ]
    return Section("memory", "Memory", f'{html}<div class="charts">{"".join(charts)}</div>')


def _reach(layers: Array) -> str:
    lags = np.arange(layers.shape[1])
    series = [Series(f"layer {k}", lags, norms) for k, norms in enumerate(layers[:4], 1)]
    return chart(series, "symbols back", "median norm of the gradient", log=True)


def _places(means: Array, x: str, y: str, first: int = 0) -> str:
    return chart([Series("", first + np.arange(len(means)), means)], x, y)


# Vocabulary


def _vocabulary_section(found: Plane, names: Sequence[str]) -> Section:
    kinds = [
        (names[i][:12], "s0" if names[i].islower() else "s1" if names[i][:1].isupper() else "s2")
        for i in found.ids
    ]
    first, second = (f"{share:.0%} of the variance" for share in found.shares)
    html = (
        f"<p>What the model learnt of each symbol (the parameter {escape(found.table)}), in the two "
        "directions in which symbols differ most: those that are used alike stand together.</p>"
        '<p class="note"><span class="key dot s0">small letters</span> '
        '<span class="key dot s1">capitals</span> <span class="key dot s2">others</span></p>'
    )
    return Section("vocabulary", "Vocabulary", html + scatter(kinds, found.places, first, second))
