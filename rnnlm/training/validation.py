"""When a run is validated, and on how much of its validation text.

Both follow from the config and from sizes, never from a clock, so that a resumed run is validated at
the same steps on the same text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config.schema import Config
from ..text.batches import Batches

# Training symbols for each one that a validation reads. To read one costs as much time as to train on
# one to three (measured for all cells, 128 to 1,024 units), so validation takes a tenth at most
SPARE = 30
FEWER = 8  # times that many steps lie between two validations in the end


@dataclass(frozen=True)
class Validation:
    """The validations of a run."""

    every: int
    """Steps between the validations that `train.eval_every` asks for."""
    symbols: int
    """How many symbols each reads, from the beginning of the validation text."""
    whole: bool
    """Whether that is the whole text; else it is a stretch of it."""
    apart: int | None
    """Steps before the first validation of a long epoch; None where there are no further ones."""

    @classmethod
    def of(cls, config: Config, windows: Batches, length: int) -> Validation:
        """The validations of a training in `windows`, with a validation text of `length` symbols."""
        t = config.train
        every = t.eval_every.steps(len(windows))
        assert every is not None  # only checkpoints have intervals in minutes
        most = length if t.eval_symbols is None else t.eval_symbols
        apart = max(1, math.ceil(SPARE * most / (windows.streams * windows.seq_length)))
        long = t.eval_every.unit == "epochs" and every >= 2 * apart
        return cls(every, min(length, most), length <= most, apart if long else None)

    def due(self, step: int) -> bool:
        """Whether the run is validated after so many steps."""
        return self.counts(step) or self._further(step)

    def counts(self, step: int) -> bool:
        """Whether a validation then is one that `train.eval_every` asks for, and patience counts."""
        return step % self.every == 0

    def _further(self, step: int) -> bool:
        """In a long epoch also after 1, 2, 4 and each 8 times `apart` steps.

        They begin only where `every` is twice that, so that validation never takes more of the time
        than it does when the first one is done.
        """
        if self.apart is None or step % self.apart:
            return False
        times = step // self.apart
        regular = times % FEWER == 0 or times in (1, 2, 4)
        return regular and self.every >= 2 * self.apart * min(times, FEWER)
