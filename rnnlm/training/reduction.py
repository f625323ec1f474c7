"""How the gradients of all lanes come together when the lanes are on several ranks.

Every rank owns a share of each flat vector, between two of the `borders`, and sums the gradients there.
All ranks call a reduction at the same time, when the gradients of their lanes are done. Its `parts` are
then what the rank has to sum, in this order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Protocol

import numpy as np

from ..arrays import Array
from ..backend.ranks import Ranks
from ..backend.workers import shared_zeros


class Reduction(Protocol):
    """A way to exchange gradients."""

    parts: list[Array]

    def __call__(self) -> None:
        """Exchange gradients, until `parts` hold what they are to."""


class Ordered:
    """The gradient of every lane goes to the owner of each share, which sums them in the order of
    lanes, as a process alone does: the same bits for any number of ranks.

    `totals` are the gradients of the rank's own lanes; rank r has lanes[r] to lanes[r + 1].
    """

    def __init__(
        self,
        ranks: Ranks,
        totals: Sequence[Array],
        lanes: Sequence[int],
        borders: Sequence[int],
        dtype: np.dtype[np.generic],
    ) -> None:
        self._ranks = ranks
        shares = [slice(a, b) for a, b in pairwise(borders)]
        me, mine = ranks.number, shares[ranks.number]
        self.parts: list[Array] = []
        self._received: list[tuple[int, Array]] = []
        for r in range(ranks.size):
            if r == me:
                self.parts += [total[mine] for total in totals]
                continue
            count = lanes[r + 1] - lanes[r]
            got = [shared_zeros((mine.stop - mine.start,), dtype) for _ in range(count)]
            self.parts += got
            self._received += [(r, part) for part in got]
        self._sent = [
            (r, total[share]) for r, share in enumerate(shares) if r != me for total in totals
        ]

    def __call__(self) -> None:
        self._ranks.swap(self._sent, self._received)


class Fast:
    """MPI sums the gradients of all ranks, each the sum of its own lanes: fewer bytes where a rank has
    several lanes, and bits that depend on the number of ranks.
    """

    def __init__(
        self,
        ranks: Ranks,
        totals: Sequence[Array],
        lanes: Sequence[int],
        borders: Sequence[int],
        dtype: np.dtype[np.generic],
    ) -> None:
        self._ranks, self._borders = ranks, borders
        a, b = borders[ranks.number : ranks.number + 2]
        self._total, *self._others = totals or [np.zeros(borders[-1], dtype)]
        # Alone, there is nothing to exchange
        self.parts = [shared_zeros((b - a,), dtype)] if ranks.size > 1 else list(totals)

    def __call__(self) -> None:
        if len(self.parts) == 1:
            for other in self._others:
                np.add(self._total, other, self._total)
            self._ranks.add(self._total, self._borders, self.parts[0])


REDUCTIONS: Mapping[str, Callable[..., Reduction]] = MappingProxyType(
    {"ordered": Ordered, "fast": Fast}
)
