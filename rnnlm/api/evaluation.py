"""How well the model of a checkpoint predicts a text, or a split of its data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ..arrays import Array
from ..errors import DataError
from ..inference.dynamic import Texts, evaluate_dynamic
from ..inference.evaluation import Evaluation, evaluate_text
from ..inference.learning import Dynamic
from ..inference.tuning import tune
from ..runs.checkpoint import Checkpoint, check_checkpoint
from ..runs.run_data import recorded_data
from ..text.corpus import Corpus
from ..text.vocabulary import Unknown
from ..wording import counted


def evaluate(
    checkpoint: Checkpoint,
    text: str | bytes,
    *,
    unknown: Unknown = "error",
    dynamic: Dynamic | None = None,
) -> Evaluation:
    """How well the model predicts a text: every symbol but the first, given all symbols before it.

    A model of lines predicts every line by itself, from its first symbol to its newline. The figures
    are in nats and bits per symbol (character, byte or word), and in nats per character, which compares
    levels. With `dynamic` the model learns from the text while it reads, and that is another figure:
    its options are in the result. The checkpoint is not changed.

    Raises DataError for symbols outside the vocabulary (`unknown="skip"` leaves them out), where there
    is nothing to predict, and where a model that learns needs its training text and that is not found;
    ConfigError for a model that cannot learn so; TrainingError where the predictions are not finite.
    """
    return _evaluate(checkpoint, *_given(checkpoint, text, unknown), dynamic)


def evaluate_split(
    checkpoint: Checkpoint,
    split: str = "test",
    data: Path | None = None,
    *,
    unknown: Unknown = "error",
    dynamic: Dynamic | None = None,
) -> Evaluation:
    """As `evaluate`, for a split (`train`, `val` or `test`) of the data that the run recorded.

    That data is checked by its hash. `data` names another prepared folder instead. Raises DataError
    where the split has fewer than two symbols, or symbols outside the vocabulary (`unknown="skip"`
    leaves them out).
    """
    ids, left_out, entropy = _of_split(checkpoint, split, data, unknown)
    return replace(_evaluate(checkpoint, ids, left_out, dynamic), source_entropy=entropy)


def tune_split(
    checkpoint: Checkpoint,
    split: str,
    data: Path | None = None,
    *,
    unknown: Unknown = "error",
    dynamic: Dynamic,
) -> Iterator[tuple[Dynamic, Evaluation]]:
    """A split evaluated with one choice of rates after another: see `inference.tuning.tune`."""
    ids, left_out, _ = _of_split(checkpoint, split, data, unknown)
    texts = _texts(checkpoint, ids)
    for tried, result in tune(checkpoint.model, checkpoint.params, texts, dynamic):
        yield tried, replace(result, left_out=left_out)


def _given(checkpoint: Checkpoint, text: str | bytes, unknown: Unknown) -> tuple[Array, int]:
    """The ids (n,) of a text, and how many of its symbols are left out."""
    check_checkpoint(checkpoint)
    text = checkpoint.format.whole(text)
    ids = checkpoint.ids(text, unknown)
    return ids, checkpoint.format.length(text) - len(ids) if unknown == "skip" else 0


def _of_split(
    checkpoint: Checkpoint, split: str, data: Path | None, unknown: Unknown
) -> tuple[Array, int, float | None]:
    """The same of a split, and the entropy of the source that it was drawn from, where it is known."""
    corpus = recorded_data(checkpoint, instead="data") if data is None else Corpus.open(data)
    try:
        ids = checkpoint.format.translate(corpus.format, corpus[split], unknown)
    except DataError as error:
        raise DataError(f"{corpus.folder}: {error}") from None
    if not checkpoint.format.can_evaluate(ids):
        size = counted(len(ids), corpus.format.noun)
        raise DataError(
            f"{corpus.folder}: its {split} split has {size}, too few: name another split, or a text"
        )
    left_out = corpus.length(split) - len(ids)
    whole = None if left_out else corpus.drawn
    return ids, left_out, None if whole is None else whole.entropy


def _texts(checkpoint: Checkpoint, ids: Array) -> Texts:
    return Texts(checkpoint.format, ids, lambda: recorded_data(checkpoint)["train"])


def _evaluate(
    checkpoint: Checkpoint, ids: Array, left_out: int, dynamic: Dynamic | None
) -> Evaluation:
    model, params = checkpoint.model, checkpoint.params
    if dynamic is None:
        result = evaluate_text(model, params, checkpoint.format, ids)
    else:
        result = evaluate_dynamic(model, params, _texts(checkpoint, ids), dynamic)
    return replace(result, left_out=left_out)
