"""Registered functions say for themselves what options they take: their keyword parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args


class Limits(dict[str, float]):
    """The bounds of a number: `low` (at least), `above`, `high` (at most) and `below`.

    An option has those that stand in its type: `learning_rate: Annotated[float, Limits(low=0)]`.
    """


@dataclass(frozen=True)
class Option:
    """What a registered function says of one of its options."""

    default: Any
    type: type
    limits: Mapping[str, float]


Options = Mapping[str, Option]
Choices = Mapping[str, Options]  # name -> its options


def options(function: Callable[..., object]) -> dict[str, Option]:
    """The keyword parameters of a registered function that have a default."""
    return {
        name: _option(parameter)
        for name, parameter in inspect.signature(function, eval_str=True).parameters.items()
        if parameter.default is not parameter.empty
    }


def _option(parameter: inspect.Parameter) -> Option:
    kind, *notes = get_args(parameter.annotation) or (parameter.annotation,)
    limits = [note for note in notes if isinstance(note, Limits)]
    return Option(parameter.default, kind, limits[0] if limits else {})


def choices(table: Mapping[str, Callable[..., object]]) -> dict[str, dict[str, Option]]:
    """Every name in a table of registered functions, with its options."""
    return {name: options(function) for name, function in table.items()}
