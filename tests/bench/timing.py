"""Rounds: every contender has a turn in each, one after another; figures are medians over rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from .process import Worker


@dataclass(frozen=True)
class Contender:
    """A task in a worker."""

    worker: Worker
    key: int

    def turn(self, **values: Any) -> dict[str, Any]:
        return self.worker.turn(self.key, **values)


class Rates(dict[str, list[float]]):
    """What the contenders reached in each round, by name; those that were missing are not in it."""

    def median(self, name: str) -> float | None:
        """The middle one of a contender's rounds."""
        return median(self[name]) if name in self else None

    def ratio(self, a: str, b: str) -> float | None:
        """The median of a/b, each pair from the same round."""
        if a not in self or b not in self:
            return None
        return median(x / y for x, y in zip(self[a], self[b], strict=True))

    def best(self, *names: str) -> str:
        """The one of these with the highest median; the first where none was measured."""
        there = [name for name in names if name in self]
        return max(there, key=lambda name: median(self[name])) if there else names[0]


def interleave(
    contenders: Mapping[str, Contender | None],
    rounds: int,
    seconds: float,
    rest: Callable[[], None],
) -> Rates:
    """Give every contender a turn of about `seconds` in each of the rounds: A B C A B C ..."""
    there = {name: each for name, each in contenders.items() if each is not None}
    rates = Rates({name: [] for name in there})
    for _ in range(rounds):
        for name, contender in there.items():
            rest()
            rates[name].append(contender.turn(seconds=seconds)["rate"])
    return rates
