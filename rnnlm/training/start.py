"""A new run, for whatever way its model learns."""

from __future__ import annotations

from collections.abc import Iterator

from ..config.schema import Config
from ..errors import CheckpointError
from ..runs.checkpoint import Checkpoint
from ..wording import shown
from . import plan
from .counting import Counting, counts, preview_counting
from .loop import Training


def start(config: Config, name: str, init_from: Checkpoint | None = None) -> Training | Counting:
    """Make a run folder: see `Training.start`."""
    if init_from is not None and not isinstance(init_from, Checkpoint):
        raise CheckpointError(
            f"init_from must be a checkpoint, as rnnlm.load returns one, not {shown(init_from)}"
        )
    if counts(config):
        return Counting.start(config, name, init_from)
    return Training.start(config, name, init_from)


def preview(config: Config, init_from: Checkpoint | None = None) -> Iterator[str]:
    """Lines for a dry run: see `plan.preview`."""
    return (preview_counting if counts(config) else plan.preview)(config, init_from)
