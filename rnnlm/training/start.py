"""A new run, for whatever way its model learns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..config.schema import Config
from ..errors import ConfigError
from ..runs.checkpoint import Checkpoint, check_checkpoint
from ..runs.history import is_finished
from ..text.format import check_new_symbols
from ..text.vocabulary import NewSymbols
from . import plan
from .counting import Counting, counts, preview_counting
from .loop import Training
from .resume import made_longer


def start(
    config: Config, name: str, init_from: Checkpoint | None = None, unknown: NewSymbols = "error"
) -> Training | Counting:
    """Make a run folder: see `Training.start`."""
    if init_from is not None:
        check_checkpoint(init_from, "init_from: ")
    check_new_symbols(unknown)
    if counts(config):
        return Counting.start(config, name, init_from)
    return Training.start(config, name, init_from, unknown)


def resume_or_start(
    config: Config, name: str, init_from: Checkpoint | None = None, unknown: NewSymbols = "error"
) -> Training | Counting | None:
    """Go on with the run in `run.dir`, or start it where there is none; None where it is finished.

    What `config` was given may change as in a resume; a run whose end it moves is not finished.
    """
    if config.run.dir is None:
        raise ConfigError(
            "run.dir is not set: name the folder of the run to go on with or to start"
        )
    run = Path(config.run.dir)
    if not (run / "last.npz").is_file():
        return start(config, name, init_from, unknown)
    if is_finished(run) and not made_longer(run, config):
        return None
    return Training.resume(run, given=config)


def preview(
    config: Config, init_from: Checkpoint | None = None, unknown: NewSymbols = "error"
) -> Iterator[str]:
    """Lines for a dry run: see `plan.preview`."""
    if counts(config):
        return preview_counting(config, init_from)
    return plan.preview(config, init_from, unknown)
