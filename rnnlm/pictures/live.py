"""The report of a run that is being trained: made anew at its evaluations, in little of its time."""

from __future__ import annotations

import time

from ..runs.history import DIVERGED, read_metrics
from ..training.at_once import AtOnce
from ..training.loop import Event, Training
from .log import Log, config, head, log_sections
from .page import REFRESH, Section, check_place, page, write_page

SHARE = 0.005  # of the time, at most
# The state of a run by the event that ended it
STATES = {"end": "finished", "interrupted": "stopped", DIVERGED: DIVERGED}


class LiveReport:
    """Writes `report.html` into the run folder when it is called with an evaluation, or with the end of
    the run, whatever ends it.

    Between two pages goes so much time that all of them take SHARE of it; the last one
    is always written. Raises DataError where something else has that name, also when it is made.
    """

    def __init__(self, training: Training | AtOnce) -> None:
        self._training = training
        self._path = training.run.folder / "report.html"
        self._due = 0.0
        check_place(self._path)

    def __call__(self, event: Event) -> None:
        """Write the page where it is due."""
        began = time.monotonic()
        state = STATES.get(event.kind, "training")
        if state == "training" and (event.kind != "eval" or began < self._due):
            return
        training = self._training
        log = Log(
            training.run.folder.absolute().name,
            training.model.describe(),
            training.corpus.vocabulary.noun,
            list(read_metrics(training.run.metrics)),
            training.config.to_yaml(),
        )
        write_page(self._path, _page(log, state))
        ended = time.monotonic()
        self._due = ended + (ended - began) / SHARE


def _page(log: Log, state: str) -> bytes:
    """The parts of the report that need no reading, for a run that is being trained or was just now."""
    more = {
        "finished": "What the model does with a text: <code>rnnlm report</code>, and the name of the "
        "run.",
        "stopped": "This run is stopped. To go on: <code>rnnlm train --resume</code>, and the name of "
        "the run.",
        DIVERGED: "The loss or the gradient of this run left the range of numbers. What to try stands "
        "in the error message.",
        "training": f"This run is being trained. The page loads itself again every {REFRESH} seconds.",
    }[state]
    sections = [*log_sections(log), Section("more", "More", f"<p>{more}</p>"), config(log)]
    return page(log.name, head(log, state), sections, {}, live=state == "training")
