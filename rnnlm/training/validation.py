"""When a run is validated, and on how much of its validation text.

Both follow from the config and from sizes, never from a clock, so that a resumed run is validated at
the same steps on the same text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..config.kinds import Interval
from ..config.schema import Config
from .course import Course, Stage

# Training symbols for each one that a validation reads. To read one costs as much time as to train on
# one to three (measured for all cells, 128 to 1,024 units), so validation takes a tenth at most
SPARE = 30
FEWER = 8  # times that many steps lie between two validations in the end


@dataclass(frozen=True)
class Validation:
    """The validations of a run."""

    course: Course
    every: Interval
    """`train.eval_every`."""
    symbols: int
    """How many symbols each reads, from the beginning of the validation text."""
    whole: bool
    """Whether that is the whole text; else it is a stretch of it."""
    further: Mapping[Stage, int | None]
    """Steps before the first validation of a long epoch; None where there are no further ones."""

    @classmethod
    def of(cls, config: Config, course: Course, length: int) -> Validation:
        """The validations of a training, with a validation text of `length` symbols."""
        t = config.train
        most = length if t.eval_symbols is None else t.eval_symbols

        def first_after(stage: Stage) -> int | None:
            window = stage.windows.streams * stage.windows.seq_length
            steps = max(1, math.ceil(SPARE * most / window))
            long = t.eval_every.unit == "epochs" and stage.steps(t.eval_every) >= 2 * steps
            return steps if long else None

        further = {stage: first_after(stage) for stage in course.stages}
        return cls(course, t.eval_every, min(length, most), length <= most, further)

    @property
    def first_after(self) -> int | None:
        """Steps before the first validation of all, where the first epoch is long."""
        return self.further[self.course.stages[0]]

    def due(self, step: int) -> bool:
        """Whether the run is validated after so many steps."""
        return self.counts(step) or self._further(step)

    def counts(self, step: int) -> bool:
        """Whether a validation then is one that `train.eval_every` asks for, and patience counts."""
        return self.course.due(self.every, step)

    def _further(self, step: int) -> bool:
        """In a long epoch also after 1, 2, 4 and each 8 times `first` steps, counted anew where the
        length of windows changes.

        They begin only where an interval is twice that, so that validation never takes more of the time
        than it does when the first one is done.
        """
        stage = self.course.last(step)
        first = self.further[stage]
        if first is None or (step - stage.step) % first:
            return False
        times = (step - stage.step) // first
        regular = times % FEWER == 0 or times in (1, 2, 4)
        return regular and stage.steps(self.every) >= 2 * first * min(times, FEWER)
