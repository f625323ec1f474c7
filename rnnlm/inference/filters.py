"""What changes the probabilities of the symbols before one is drawn."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, get_type_hints

import numpy as np

from ..arrays import Array
from ..config.kinds import Integer, Kind, Number, RefusedError, kind_of
from ..errors import ConfigError
from ..wording import shown

# Filters change logits (N, V) in place before a symbol is drawn; a logit of -inf is never drawn. The
# annotation of a filter's value says what it may be, and its first sentence is the help of its option.


def temperature(logits: Array, value: Annotated[float, Number(low=0)]) -> None:
    """Divide the logits: below 1 is safer, above 1 bolder, 0 takes the most probable symbol."""
    if logits.dtype.type(value) > 0:
        # relative to the largest, so that a tiny temperature cannot overflow to +inf
        np.subtract(logits, logits.max(axis=1, keepdims=True), logits)
        with np.errstate(over="ignore"):
            np.divide(logits, value, logits)
    else:
        best = logits.argmax(axis=1)  # the first of equals
        logits.fill(-np.inf)
        logits[np.arange(len(logits)), best] = 0


def top_k(logits: Array, k: Annotated[int, Integer(low=1)]) -> None:
    """Draw from the k most probable symbols only (and those that equal the k-th)."""
    if k < logits.shape[1]:
        kth = np.partition(logits, -k, axis=1)[:, -k, None]
        logits[logits < kth] = -np.inf


def top_p(logits: Array, p: Annotated[float, Number(above=0, high=1)]) -> None:
    """Draw from the fewest most probable symbols whose probabilities reach p.

    Nucleus sampling: Holtzman et al. 2020, section 3.1.
    """
    order = np.argsort(-logits, axis=1, kind="stable")
    ranked = np.exp(np.take_along_axis(logits, order, 1) - logits.max(axis=1, keepdims=True))
    before = np.cumsum(ranked, axis=1) - ranked
    dropped = before >= p * ranked.sum(axis=1, keepdims=True)
    dropped[:, 0] = False
    np.put_along_axis(dropped, order, dropped.copy(), 1)
    logits[dropped] = -np.inf


FILTERS: dict[str, Callable[..., None]] = {
    "temperature": temperature,
    "top_k": top_k,
    "top_p": top_p,
}


def filter_kind(name: str) -> Kind:
    """The kind of a filter's value."""
    _, value, *_ = get_type_hints(FILTERS[name], include_extras=True).values()
    return kind_of(value)


def check_filters(names: Iterable[str]) -> None:
    """Raise ConfigError for a name that is no filter's."""
    for name in names:
        if name not in FILTERS:
            raise ConfigError(f"{name} is not a filter: there are {', '.join(FILTERS)}")


def filter_values(given: Mapping[str, float | None]) -> dict[str, float]:
    """The values of filters that were given, without those that change nothing.

    Raises ConfigError for names and values that no filter takes.
    """
    check_filters(given)
    values = {name: _value(name, value) for name, value in given.items() if value is not None}
    if values.get("temperature") == 1:
        del values["temperature"]
    return values


def _value(name: str, value: Any) -> float:
    """The value of a filter. Raises ConfigError for one that it does not take."""
    kind = filter_kind(name)
    try:
        if not isinstance(kind, Number) or isinstance(value, (bool, str, bytes)):
            raise RefusedError(kind.words())
        number: float = operator.index(value) if isinstance(kind, Integer) else float(value)
        if math.isnan(number):
            raise RefusedError(kind.words())
        kind.check(number)
    except RefusedError as refused:
        raise ConfigError(f"{name} must be {refused.must_be}, not {shown(value)}") from None
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name} must be {kind.words()}, not {shown(value)}") from None
    return number
