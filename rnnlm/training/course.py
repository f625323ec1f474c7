"""The course of a training: which window of which epoch each step reads.

The length of windows may change where an epoch begins (`train.seq_length`), and with it the number of
steps of an epoch. All that is counted in epochs is asked here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from ..config.kinds import Interval
from ..text.batches import ALL, Batch, Batches, Rows


@dataclass(frozen=True, eq=False)
class Stage:
    """Epochs that are read in the same `windows`, `number` of them in each.

    `epoch` is the first of them, `step` the number of updates before it.
    """

    epoch: int
    step: int
    windows: Batches
    number: int

    def steps(self, every: Interval) -> int:
        """An interval in steps or epochs, in steps of this stage."""
        steps = every.steps(self.number)
        assert steps is not None, "an interval in minutes has no steps"
        return steps


class Course:
    """The stages of a training, from its windows by the epoch from which on they are read.

    The last stage has no end: how many epochs a run has may be changed.
    """

    def __init__(self, windows: Mapping[int, Batches]) -> None:
        assert 0 in windows, "no windows for the first epoch"
        self.stages: list[Stage] = []
        for epoch in sorted(windows):
            step = self.steps(epoch) if self.stages else 0
            self.stages.append(Stage(epoch, step, windows[epoch], len(windows[epoch])))
        self._starts = [stage.step for stage in self.stages]
        self.largest = max((stage.windows for stage in self.stages), key=lambda w: w.longest)
        """The windows with the longest of all."""

    def stage(self, step: int) -> Stage:
        """The stage of the update that follows `step` updates."""
        return self.stages[bisect_right(self._starts, step) - 1]

    def place(self, step: int) -> tuple[int, int]:
        """The epoch of that update, and the number of its window there, both from 0."""
        stage = self.stage(step)
        epochs, k = divmod(step - stage.step, stage.number)
        return stage.epoch + epochs, k

    def batch(self, step: int, rows: Rows = ALL) -> Batch:
        """What that update reads, of some of the streams."""
        return self.stage(step).windows(*self.place(step), rows)

    def steps(self, epochs: int) -> int:
        """How many updates the first `epochs` epochs have."""
        stage = [stage for stage in self.stages if stage.epoch <= epochs][-1]
        return stage.step + (epochs - stage.epoch) * stage.number

    def epochs(self, step: int) -> float:
        """How many epochs are read after `step` updates."""
        stage = self.stage(step)
        return stage.epoch + (step - stage.step) / stage.number

    def last(self, step: int) -> Stage:
        """The stage of the last of `step` updates; of none, the first."""
        return self.stage(max(0, step - 1))

    def left_out(self, step: int) -> int:
        """How many symbols are left out in the epoch of the last of `step` updates."""
        return self.last(step).windows.left_out(self.place(max(0, step - 1))[0])

    def due(self, every: Interval, step: int) -> bool:
        """Whether one of the intervals in steps or epochs that follow each other ends after `step`."""
        if every.unit == "steps":
            return step % every.amount == 0
        stage = self.last(step)
        before = round(stage.epoch % every.amount * stage.number)
        return (step - stage.step + before) % stage.steps(every) == 0

    def passed(self, every: Interval, since: int, step: int) -> bool:
        """Whether an interval in steps or epochs lies between `since` updates and `step` updates."""
        if every.unit == "steps":
            return step - since >= every.amount
        stage = self.last(step)
        epochs = self.epochs(step) - self.epochs(since)
        return round(epochs * stage.number) >= stage.steps(every)
