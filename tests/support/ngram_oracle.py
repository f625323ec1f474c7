"""N-gram models in dictionaries, slow and plain, as a textbook has them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cache

Context = tuple[int, ...]


def events(ids: Sequence[int], fresh: Sequence[bool] | None) -> Iterator[tuple[Context, int]]:
    """Every predicted symbol with all of its own text before it."""
    begin = 0
    for t in range(len(ids) - 1):
        if fresh is not None and fresh[t]:
            begin = t
        yield tuple(ids[begin : t + 1]), ids[t + 1]


class Oracle:
    def __init__(
        self,
        ids: Sequence[int],
        fresh: Sequence[bool] | None,
        V: int,
        order: int,
        smoothing: str,
        k: float = 1.0,
        more: Sequence[tuple[Context, int]] = (),
        discounts: list[tuple[float, float, float]] | None = None,
    ) -> None:
        """`more` events are counted beside those of the text; `discounts` are held, where given."""
        self.V, self.order, self.smoothing, self.k = V, order, smoothing, k
        self.counts: list[dict[Context, Counter[int]]] = []
        for size in range(order):  # of the context
            table: dict[Context, Counter[int]] = defaultdict(Counter)
            before: dict[tuple[Context, int], set[int]] = defaultdict(set)
            for past, w in [*events(ids, fresh), *more]:
                if len(past) < size:
                    continue
                h = past[len(past) - size :]
                if smoothing != "kneser_ney" or size == order - 1 or len(past) == size:
                    table[h][w] += 1
                elif past[-size - 1] not in before[h, w]:
                    before[h, w].add(past[-size - 1])
                    table[h][w] += 1
            self.counts.append(table)
        self.discounts = discounts or [self._discounts(size) for size in range(order)]
        self.p = cache(self._p)

    def _discounts(self, size: int) -> tuple[float, float, float]:
        n = Counter(c for table in self.counts[size].values() for c in table.values())
        if not (n[1] and n[2] and n[3]):
            return 0.5, 1.0, 1.5
        Y = n[1] / (n[1] + 2 * n[2])
        D = (1 - 2 * Y * n[2] / n[1], 2 - 3 * Y * n[3] / n[2], 3 - 4 * Y * n[4] / n[3])
        if any(not 0 <= d <= i for i, d in enumerate(D, 1)):
            return 0.5, 1.0, 1.5
        return D

    def _p(self, h: Context, w: int) -> float:
        """p(w | h) for a context of at most order - 1 symbols."""
        after = self.counts[len(h)].get(h)
        if self.smoothing == "additive":
            after = after or Counter()
            return (after[w] + self.k) / (after.total() + self.k * self.V)
        if after is None:
            return self._lower(h, w)
        total = after.total()
        if self.smoothing == "none":
            return after[w] / total
        if self.smoothing == "witten_bell":
            return (after[w] + len(after) * self._lower(h, w)) / (total + len(after))
        D = self.discounts[len(h)]
        taken = sum(D[min(c, 3) - 1] for c in after.values())
        own = after[w] - D[min(after[w], 3) - 1] if after[w] else 0.0
        return (own + taken * self._lower(h, w)) / total

    def _lower(self, h: Context, w: int) -> float:
        return self.p(h[1:], w) if h else 1 / self.V

    def read(
        self, ids: Sequence[int], fresh: Sequence[bool] | None
    ) -> Iterator[tuple[Context, float]]:
        """Each prediction's context and the target's probability."""
        for past, w in events(ids, fresh):
            h = past[max(0, len(past) - self.order + 1) :]
            yield h, self.p(h, w)
