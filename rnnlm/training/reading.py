"""What a step reads, and how other ranks than the first come to their part of it.

Where `data.path` names a prepared folder, each rank opens it and reads its own streams. Where it names
a text, rank 0 prepares that, and tells the others the ids of their streams.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..arrays import Array
from ..config.schema import Config
from ..errors import DataError
from ..text.batches import ALL, Batch, Rows
from ..text.corpus import Corpus
from ..text.format import TextFormat
from .course import Course
from .plan import training_course


def read(corpus: Corpus, course: Course, step: int, rows: Rows = ALL) -> Batch:
    """What the update after `step` updates reads of a corpus, of some of the streams.

    Raises DataError where an id is none of the vocabulary.
    """
    batch = course.batch(step, rows)
    if max(batch.ids.max(initial=0), batch.targets.max(initial=0)) >= len(corpus.vocabulary):
        raise DataError(
            f"{corpus.folder}: train.npy has changed since this run opened it: put it back, and resume "
            "the run"
        )
    return batch


def is_named(config: Config, corpus: Corpus) -> bool:
    """Whether the config names the prepared folder of a corpus, so that other ranks can open it too."""
    path = config.data.path
    return path is not None and Path(path).absolute() == corpus.folder.absolute()


def of_a_rank(config: Config, corpus: Corpus) -> Callable[[Array], Callable[[int], Batch]]:
    """For `Engine.let_read`: how another rank opens the prepared folder of a corpus."""
    return partial(_opened, config, corpus.folder.absolute(), corpus.fingerprint, corpus.format)


def _opened(
    config: Config, folder: Path, fingerprint: str, text_format: TextFormat, rows: Array
) -> Callable[[int], Batch]:
    """Open the folder in this process: what each step reads of the streams `rows`.

    Raises DataError where it is not there, or does not hold what it holds for rank 0.
    """
    try:
        corpus = Corpus.open(folder)
        if corpus.fingerprint != fingerprint:
            raise DataError(f"{folder}: not the text that rank 0 reads (its content hash differs)")
    except DataError as error:
        raise DataError(
            f"{error}; every rank opens this folder: copy it there, or train on the text "
            "itself, which rank 0 reads for all"
        ) from None
    corpus = replace(corpus, format=text_format)
    course = training_course(config, corpus)
    return lambda step: read(corpus, course, step, rows)
