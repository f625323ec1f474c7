"""Registered functions say for themselves what options they take: their keyword parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

Options = Mapping[str, Any]  # option -> default
Choices = Mapping[str, Options]  # name -> its options


def options(function: Callable[..., object]) -> dict[str, Any]:
    """The keyword parameters of a registered function that have a default, with it."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }


def choices(table: Mapping[str, Callable[..., object]]) -> dict[str, dict[str, Any]]:
    """Every name in a table of registered functions, with its options."""
    return {name: options(function) for name, function in table.items()}
