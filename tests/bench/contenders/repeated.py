"""Tasks that do one thing over and over."""

from __future__ import annotations

from abc import ABC, abstractmethod
from time import perf_counter

WARM_UP = 2


class Repeated(ABC):
    """A turn repeats `step`, which handles `amount` of something, for about the seconds it is given."""

    amount: float

    @abstractmethod
    def step(self) -> None:
        """Do it once, to the end."""

    def warm_up(self) -> None:
        """Steps before the first turn: allocation, compilation, caches."""
        for _ in range(WARM_UP):
            began = perf_counter()
            self.step()
            self._seconds = perf_counter() - began

    def turn(self, seconds: float) -> dict[str, float]:
        """The rate: amount per second. A step goes before it unmeasured, where that costs little."""
        if self._seconds < seconds / 4:
            self.step()
        count, began = 0, perf_counter()
        while (elapsed := perf_counter() - began) < seconds:
            self.step()
            count += 1
        self._seconds = elapsed / count
        return {"rate": self.amount / self._seconds}
