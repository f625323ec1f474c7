"""Bars on a terminal: that of a training, and those of passes over a text. Elsewhere there are none."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..watching import watching
from .terminal import say

if TYPE_CHECKING:
    from tqdm import tqdm

BAR = "{percentage:3.0f}%|{bar}| {desc}"
BESIDE_FIGURES = 17  # columns: ` 12%|`, ten of the bar, `| `
ALWAYS = 3  # figures that are shown on a terminal of any width
PASS = "{desc} {percentage:3.0f}%|{bar}| {remaining} left"
PASS_WITHOUT_END = "{desc} {n_fmt}, {elapsed}"
SHORT = 1.0  # seconds: a pass that takes less is not shown
REDRAW = 0.1  # seconds between two drawings


def make_bar(total: int | None, **options: Any) -> tqdm[Any]:
    """A bar on standard error; it is not drawn where that is no terminal."""
    # A TQDM_ variable that tqdm cannot use would end the run, some only when the bar is drawn
    for name in [name for name in os.environ if name.startswith("TQDM_")]:
        del os.environ[name]
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[type-arg]
        """Leaves room for the `^C` that a terminal shows."""

        @property
        def format_dict(self) -> Any:
            values: dict[str, Any] = {**super().format_dict}
            values["ncols"] = values["ncols"] and values["ncols"] - len("^C")
            return values

    tqdm.monitor_interval = 0  # its thread would keep the training from forking
    return Bar(total=total, miniters=1, dynamic_ncols=True, **options)


def fitting(figures: list[str], columns: int) -> str:
    """The first of the figures, as many as a bar on so many columns has room for."""
    count = ALWAYS
    while count < len(figures) and len(", ".join(figures[: count + 1])) <= columns - BESIDE_FIGURES:
        count += 1
    return ", ".join(figures[:count])


def duration(seconds: float) -> str:
    """`1:02:03`, `02:03`."""
    from tqdm import tqdm

    return tqdm.format_interval(seconds)


class StepsBar:
    """The bar of a training of `total` steps, of which `done` were done in `seconds` before."""

    def __init__(
        self, total: int, epochs: int, done: int, seconds: float, limit: float | None
    ) -> None:
        self.total, self._epochs, self._limit = total, epochs, limit
        self._first, self._began = done, seconds
        self._figures: list[str] = []  # of the last step
        self._pass, self._pass_began, self._drawn = "", 0.0, 0.0
        hidden = total == 1 or not sys.stderr.isatty()  # one step: there is nothing to see
        # A run that was made shorter may have more steps than it is to have
        self.bar = make_bar(max(total, done), initial=done, disable=hidden, bar_format=BAR)

    def step(self, record: dict[str, Any], others: Iterable[str]) -> None:
        """Show a step: epoch, loss and time left before the other figures."""
        self.bar.n = record["step"]
        if self.bar.disable or not self._may_draw(last=record["step"] == self.total):
            return
        epoch, loss = f"epoch {record['epoch']:.2f}/{self._epochs}", f"loss {record['loss']:.3f}"
        self._figures = [epoch, loss, f"{self._left(record)} left", *others]
        self._show_figures()

    def _show_figures(self) -> None:
        columns = self.bar.format_dict["ncols"] or 80
        self.bar.set_description_str(fitting(self._figures, columns))

    def _left(self, record: dict[str, Any]) -> str:
        """Time left, as long for a step as those of this session took, with all between them."""
        spent = record["seconds"] - self._began
        left = spent / (record["step"] - self._first) * (self.total - record["step"])
        if self._limit is not None:
            left = min(left, max(0.0, self._limit - record["seconds"]))
        return duration(left)

    def watch(self, what: str, done: int, total: int) -> None:
        """Show in the place of the figures how far an evaluation has come."""
        if self.bar.disable:
            return
        now = time.monotonic()
        if what != self._pass:
            self._pass, self._pass_began = what, now
        left = duration((now - self._pass_began) / done * (total - done))
        if done == total:
            self._pass = ""
            self._show_figures()
        elif self._may_draw():
            parts = [*self._figures[:1], f"{what} {done / total:.0%}", f"{left} left"]
            self.bar.set_description_str(", ".join(parts))

    def _may_draw(self, last: bool = False) -> bool:
        now = time.monotonic()
        if now - self._drawn < REDRAW and not last:
            return False
        self._drawn = now
        return True


class SweepBars:
    """A bar for all runs of a sweep, and one for each that is trained now; elsewhere than on a terminal
    a line for each that has ended.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        hidden = not sys.stderr.isatty()
        self.bar = make_bar(total, initial=done, disable=hidden, bar_format=BAR, position=0)
        self._runs: dict[str, tqdm[Any]] = {}

    def __enter__(self) -> SweepBars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in (*self._runs.values(), self.bar):
            bar.close()

    def show(self, running: Iterable[dict[str, Any]]) -> None:
        """Show what is trained now: of each `name`, and once it is known `step`, `total`, `epoch`,
        `loss`, and `left`, in seconds.
        """
        if self.bar.disable:
            return
        now = {told["name"]: told for told in running}
        for name in [name for name in self._runs if name not in now]:
            self._runs.pop(name).close()
        for name, told in now.items():
            if name not in self._runs:
                taken = {abs(bar.pos) for bar in self._runs.values()}
                place = next(n for n in range(1, len(taken) + 2) if n not in taken)
                self._runs[name] = make_bar(None, bar_format=BAR, position=place, leave=False)
            bar, figures = self._runs[name], [name]
            if "step" in told:
                bar.total, bar.n = told["total"], told["step"]
                figures += [f"epoch {told['epoch']:.2f}, loss {told['loss']:.3f}"]
                figures += [f"{duration(told['left'])} left"]
            bar.set_description_str(", ".join(figures))
        self.bar.set_description_str(f"{self._done} of {self._total} runs")

    def ended(self, name: str, error: str | None) -> None:
        """Show that a run has ended, and where that is known, with what error."""
        self._done += 1
        how = "finished" if error is None else f"failed: {error}"
        with self.bar.external_write_mode(sys.stderr):
            say(f"{self._done} of {self._total}: {name}: {how}")
        self.bar.update(1)


@contextmanager
def passes_shown() -> Iterator[None]:
    """Show a bar for each pass over a text inside this block that takes longer than a second."""
    if not sys.stderr.isatty():
        yield
        return
    bar = PassBar()
    with watching(bar.watch):
        try:
            yield
        finally:
            bar.close()


class PassBar:
    """The bar of one pass after another."""

    def __init__(self) -> None:
        self._what, self._done, self._began = "", 0, 0.0
        self._bar: tqdm[Any] | None = None

    def watch(self, what: str, done: int, total: int) -> None:
        """Show how far a pass has come."""
        now = time.monotonic()
        if what != self._what or done < self._done:
            self.close()
            self._what, self._began = what, now
        self._done = done
        if self._bar is None and now - self._began >= SHORT:
            form = PASS if total else PASS_WITHOUT_END
            self._bar = make_bar(
                total or None,
                desc=what,
                bar_format=form,
                leave=False,
                unit_scale=True,
                smoothing=0,
                delay=REDRAW,  # not drawn before it is told how much is done
            )
            self._bar.start_t -= now - self._began
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
