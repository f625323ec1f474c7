"""How well the model of a checkpoint predicts a text, or a split of its data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..arrays import Array
from ..errors import DataError
from ..inference.evaluation import Evaluation, evaluate_text
from ..runs.checkpoint import Checkpoint
from ..runs.run_data import recorded_data
from ..text.corpus import Corpus
from ..text.vocabulary import Unknown
from ..wording import counted
from .checkpoints import check_checkpoint


def evaluate(
    checkpoint: Checkpoint, text: str | bytes, *, unknown: Unknown = "error"
) -> Evaluation:
    """How well the model predicts a text: every symbol but the first, given all symbols before it.

    A model of lines predicts every line by itself, from its first symbol to its newline. The figures
    are in nats and bits per symbol (character, byte or word), and in nats per character, which compares
    levels. Raises DataError for symbols outside the vocabulary (`unknown="skip"` leaves them out) and
    where there is nothing to predict, TrainingError where the predictions are not finite.
    """
    check_checkpoint(checkpoint)
    text = checkpoint.format.whole(text)
    ids = checkpoint.ids(text, unknown)
    left_out = checkpoint.format.length(text) - len(ids) if unknown == "skip" else 0
    return _evaluate(checkpoint, ids, left_out)


def evaluate_split(
    checkpoint: Checkpoint,
    split: str = "test",
    data: Path | None = None,
    *,
    unknown: Unknown = "error",
) -> Evaluation:
    """As `evaluate`, for a split (`train`, `val` or `test`) of the data that the run recorded.

    That data is checked by its hash. `data` names another prepared folder instead. Raises DataError
    where the split has fewer than two symbols, or symbols outside the vocabulary (`unknown="skip"`
    leaves them out).
    """
    corpus = recorded_data(checkpoint) if data is None else Corpus.open(data)
    try:
        ids = checkpoint.format.translate(corpus.format, corpus[split], unknown)
    except DataError as error:
        raise DataError(f"{corpus.folder}: {error}") from None
    if not checkpoint.format.can_evaluate(ids):
        size = counted(len(ids), corpus.format.noun)
        raise DataError(
            f"{corpus.folder}: its {split} split has {size}, too few: name another split, or a text"
        )
    result = _evaluate(checkpoint, ids, corpus.length(split) - len(ids))
    if corpus.drawn is None or result.left_out:
        return result
    return replace(result, source_entropy=corpus.drawn.entropy)


def _evaluate(checkpoint: Checkpoint, ids: Array, left_out: int) -> Evaluation:
    result = evaluate_text(checkpoint.model, checkpoint.params, checkpoint.format, ids)
    return replace(result, left_out=left_out)
