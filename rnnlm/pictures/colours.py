"""The colours of a page in light and dark: one hue that gets stronger, or two that are told apart by
people who see red and green alike. The ink stays readable on all of them.
"""

from __future__ import annotations

SCHEMES = ("light", "dark")
LEVELS = 16  # from nothing to the most
SIDES = 8  # levels on each side of zero
ANCHORS = {  # nothing, half, the most; and the most on the other side of zero
    "light": ("#fcfbf8", "#f8d991", "#ee9636", "#5fa8dc"),
    "dark": ("#16181a", "#543a16", "#a05a14", "#24649a"),
}


def sequential(scheme: str) -> list[str]:
    """LEVELS colours, from nothing to the most."""
    nothing, half, most, _ = ANCHORS[scheme]
    return [_between([nothing, half, most], k / (LEVELS - 1)) for k in range(LEVELS)]


def diverging(scheme: str) -> list[str]:
    """2 SIDES + 1 colours, from the most below zero to the most above."""
    nothing, _, most, least = ANCHORS[scheme]
    return [_between([least, nothing, most], k / (2 * SIDES)) for k in range(2 * SIDES + 1)]


def _between(stops: list[str], at: float) -> str:
    """The colour at a share of the way along some stops."""
    place = at * (len(stops) - 1)
    k = min(int(place), len(stops) - 2)
    pairs = zip(_rgb(stops[k]), _rgb(stops[k + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (place - k)):02x}" for a, b in pairs)


def _rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def style() -> str:
    """The colours as CSS: variables for each scheme, and a class for each level (q0, ..., d0, ...).
    Paper is light.
    """
    variables = {
        scheme: ";".join(
            f"--{kind}{k}:{colour}"
            for kind, colours in (("q", sequential(scheme)), ("d", diverging(scheme)))
            for k, colour in enumerate(colours)
        )
        for scheme in SCHEMES
    }
    classes = [f"q{k}" for k in range(LEVELS)] + [f"d{k}" for k in range(2 * SIDES + 1)]
    return (
        f":root{{{variables['light']}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{variables['dark']}}}}}"
        + "".join(f".{name}{{background-color:var(--{name})}}" for name in classes)
    )
