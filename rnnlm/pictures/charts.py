"""Small charts as SVG, drawn with the colours of the page, so that they are right in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ..arrays import Array

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 40
MOST_POINTS = 400  # of a line; more are not seen


@dataclass(frozen=True)
class Series:
    """Values y (n,) at x (n,), NaN where there is none; `name` is for the legend, which needs none of a
    single one.
    """

    name: str
    x: Array
    y: Array
    dots: bool = False  # each value by itself, not a line


class _Axis:
    """A scale from values to places, with round numbers on it."""

    def __init__(self, values: Array, start: float, stop: float, log: bool = False) -> None:
        low, high = float(values.min()), float(values.max())
        if not low < high:
            room = 0.1 * abs(low) or 0.5
            low, high = low - room, high + room
        self.ticks = _powers(low, high) if log else _round_numbers(low, high)
        self._log = log
        self._low, self._high = (math.log(low), math.log(high)) if log else (low, high)
        self._start, self._stop = start, stop

    def __call__(self, value: float) -> float:
        value = math.log(value) if self._log else value
        share = (value - self._low) / (self._high - self._low)
        return self._start + share * (self._stop - self._start)


def _round_numbers(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / 3))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (step * f) <= 5)
    return [round(k * step, 12) for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten in a range, or where there are fewer than two, round numbers."""
    exponents = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    if len(exponents) < 2:
        return [tick for tick in _round_numbers(low, high) if tick > 0]
    return [10.0**e for e in exponents][:: -(-len(exponents) // 6)]


def chart(series: Sequence[Series], x: str, y: str, log: bool = False) -> str:
    """Series over one pair of axes as an SVG; `log`: y has a logarithmic scale. Nothing where
    all series together have fewer than two values.
    """
    known = [_known(s, log) for s in series]
    known = [s for s in known if len(s.x)]
    if sum(len(s.x) for s in known) < 2:
        return ""
    across = _Axis(np.concatenate([s.x for s in known]), LEFT, WIDTH - RIGHT)
    up = _Axis(np.concatenate([s.y for s in known]), HEIGHT - BOTTOM, TOP, log)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(y)} by {escape(x)}">'
    ]
    for tick in up.ticks:
        place = f"{up(tick):.1f}"
        parts.append(f'<path class="grid" d="M{LEFT} {place}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text class="tick end" x="{LEFT - 6}" y="{place}" dy="4">{number(tick)}</text>'
        )
    for tick in across.ticks:
        place = f"{across(tick):.1f}"
        parts.append(
            f'<text class="tick mid" x="{place}" y="{HEIGHT - BOTTOM + 16}">{number(tick)}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="name mid" x="{middle}" y="{HEIGHT - 4}">{escape(x)}</text>')
    for k, s in enumerate(known):
        places = [(across(a), up(b)) for a, b in zip(s.x.tolist(), s.y.tolist(), strict=True)]
        if s.dots or len(places) == 1:
            parts += [
                f'<circle class="s{k}" cx="{a:.1f}" cy="{b:.1f}" r="2.4"/>' for a, b in places
            ]
        else:
            line = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
            parts.append(f'<path class="line s{k}" d="M{line}"/>')
    parts.append("</svg>")
    keys = "".join(
        f'<span class="key {"dot " if s.dots else ""}s{k}">{escape(s.name)}</span>'
        for k, s in enumerate(known)
        if s.name
    )
    title = f"{escape(y)}{', logarithmic' if log else ''}"
    legend = f'<div class="note">{keys}</div>' if keys else ""
    return f"<figure><figcaption>{title}</figcaption>{''.join(parts)}{legend}</figure>"


def _known(s: Series, log: bool) -> Series:
    """The values that can be drawn, not too many."""
    x, y = np.asarray(s.x, float), np.asarray(s.y, float)
    keep = np.isfinite(x) & np.isfinite(y) & ((y > 0) | (not log))
    x, y = x[keep], y[keep]
    if len(x) > MOST_POINTS and not s.dots:
        chosen = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).astype(int))
        x, y = x[chosen], y[chosen]
    return Series(s.name, x, y, s.dots)


def number(value: float) -> str:
    """A number on an axis."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.10g}"


def scatter(labels: Sequence[tuple[str, str]], places: Array, x: str, y: str) -> str:
    """Labels, each with the class it is drawn in, at places (S, 2), as an SVG."""
    width, height, edge = 720, 460, 26
    across = _Axis(places[:, 0], edge, width - edge)
    up = _Axis(places[:, 1], height - edge - 14, edge)
    parts = [
        f'<svg class="chart wide" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(x)}">'
    ]
    parts += [
        f'<text class="symbol mid {kind}" x="{across(a):.1f}" y="{up(b):.1f}">{escape(text)}</text>'
        for (text, kind), (a, b) in zip(labels, places.tolist(), strict=True)
    ]
    parts.append(f'<text class="name mid" x="{width / 2}" y="{height - 4}">{escape(x)}</text>')
    parts.append(f'<text class="name" x="4" y="14">{escape(y)}</text></svg>')
    return "<figure>" + "".join(parts) + "</figure>"
