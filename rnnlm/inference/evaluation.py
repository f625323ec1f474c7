"""How well a model predicts a text: nats and bits per symbol, perplexity."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..backend.workers import available_cores
from ..errors import DataError
from ..models.base import LanguageModel, Reader, ReadsWhole
from ..text.batches import Batches, Streams
from ..text.format import TextFormat
from ..watching import report
from ..wording import counted

CHUNK = 128  # steps at a time; constant, because the bits of a matrix product depend on its size
MOST_ROWS = 4096  # of ids in a chunk, over all streams


def perplexity(nats_per_symbol: float) -> float | None:
    """exp of the mean cross-entropy, infinite where that is; None beyond the range of floats."""
    try:
        return math.exp(nats_per_symbol)
    except OverflowError:
        return None


def bits_per_symbol(nats_per_symbol: float) -> float:
    """The mean cross-entropy in bits."""
    return nats_per_symbol / math.log(2)


def in_json(figure: float | None) -> float | None:
    """A figure as JSON holds it, which knows no infinity: None, as beyond the range of floats."""
    return None if figure is None or math.isinf(figure) else figure


def figures(nats_per_symbol: float) -> dict[str, float | None]:
    """The figures of a loss, under the names that they have in metrics.jsonl."""
    values = {
        "loss": nats_per_symbol,
        "perplexity": perplexity(nats_per_symbol),
        "bits_per_symbol": bits_per_symbol(nats_per_symbol),
    }
    return {name: in_json(value) for name, value in values.items()}


@dataclass(frozen=True)
class Evaluation:
    """The cross-entropy of a text: the sum of -ln p, `nats`, over the `symbols` that were predicted.

    It is infinite where the model gave probability 0 to a symbol that came. The text of these symbols
    has so many `characters`, bytes that are no valid UTF-8 among them (None: nobody counted);
    `unknown` of the symbols are the unknown symbol, whose text is not that of what it stands for.
    `left_out` are the symbols outside the vocabulary that were not read. `dynamic` are the options by
    which the model learnt while it read (None: it did not; see `dynamic.Dynamic`). `source_entropy` is
    that of the source that the text was drawn from, in nats per symbol, where it is known.
    `read_again` symbols were read a second time, where segments of the text were read side by side
    (models/segments.py).
    """

    symbols: int
    nats: float
    characters: int | None = None
    unknown: int = 0
    lines: int | None = None  # texts of their own in it; None: it is one
    left_out: int = 0
    dynamic: Mapping[str, Any] | None = None
    source_entropy: float | None = None
    read_again: int = 0

    def of_text(self, text_format: TextFormat, ids: Array) -> Evaluation:
        """The same, with what there is to count in the text of the ids (n,) that were evaluated."""
        first = int(self.symbols < len(ids))  # a first symbol is not predicted
        predicted = ids[first : first + self.symbols]
        added = max(0, self.symbols - len(ids))  # the newline of a last line that had none
        return replace(
            self,
            characters=text_format.characters(predicted) + added,
            unknown=text_format.unknowns(predicted),
        )

    @property
    def nats_per_character(self) -> float | None:
        """The total over the characters, which compares models of all levels (not where symbols are
        unknown); None where no character was counted.
        """
        return self.nats / self.characters if self.characters else None

    @property
    def nats_per_line(self) -> float | None:
        """The mean of the lines' sums; None where the text is not read by lines."""
        return None if self.lines is None else self.nats / self.lines

    @property
    def above_source(self) -> float | None:
        """Nats per symbol above the entropy rate of the source; below it by chance only."""
        entropy = self.source_entropy
        return None if entropy is None else self.nats_per_symbol - entropy

    @property
    def nats_per_symbol(self) -> float:
        """The mean, which training calls the loss."""
        return self.nats / self.symbols

    @property
    def bits_per_symbol(self) -> float:
        """The mean in bits."""
        return bits_per_symbol(self.nats_per_symbol)

    @property
    def perplexity(self) -> float | None:
        """exp of the mean; None beyond the range of floats."""
        return perplexity(self.nats_per_symbol)

    def per_character(self) -> dict[str, Any]:
        """What metrics.jsonl has beside the loss, where symbols are not characters."""
        if self.characters in (None, self.symbols):
            return {}
        values: dict[str, Any] = {}
        if self.nats_per_character is not None:
            values["nats_per_character"] = in_json(self.nats_per_character)
        return values | ({"unknown": self.unknown} if self.unknown else {})


def evaluate_text(
    model: LanguageModel,
    params: Any,
    text_format: TextFormat,
    ids: Array,
    streams: int = 1,
    workers: int | None = None,
) -> Evaluation:
    """As `evaluate`, for the ids (n,) of a text in its format, whose characters are counted too."""
    result = evaluate(model, params, ids, streams, text_format.batches, workers)
    return result.of_text(text_format, ids)


def evaluate(
    model: LanguageModel,
    params: Any,
    ids: Array,
    streams: int = 1,
    cut: Callable[[Array, int, int], Batches] = Streams,
    workers: int | None = None,
) -> Evaluation:
    """-ln p of every symbol of `ids` (n,) but the first, given all symbols before it.

    `cut` (a text format's `batches`) makes windows of the ids, so many streams and steps of each.

    With one stream the figure is exact: the state starts at zero and is carried from the first symbol
    to the last. Chunks have a fixed size and are summed in float64, so that the result does not depend
    on the batch size and window of the config. More streams are faster and an approximation: the text
    is cut into that many, and each starts from the zero state. Lines are each read from the zero state,
    and so the figure is exact with any number of streams.

    A long text is read by recurrent networks in segments side by side, which start from estimates of
    the state, until they are seen to agree: about within 1e-6 nats of that figure (models/segments.py).
    They are shared by several `workers` (None: one for each core) where the process may fork; the bits
    do not depend on it.

    It is reported as `evaluation` (watching.py) after each chunk. Raises DataError where there is
    nothing to predict in so many streams, TrainingError where the weights of a model are too large for
    finite predictions.
    """
    chunk = min(CHUNK, max(1, MOST_ROWS // streams), max(1, (len(ids) - 1) // streams))
    try:
        batches = cut(ids, streams, chunk)
    except DataError:
        raise DataError(
            f"{counted(len(ids), 'symbol')} in {counted(streams, 'stream')}: nothing to predict; "
            "more text is needed"
        ) from None
    with blas.one_thread(), np.errstate(all="ignore"):  # the reader checks its sum
        reader = model.read(params, batches.streams)
        if isinstance(reader, ReadsWhole) and batches.streams == 1 and not batches.begins_inside:
            found = reader.whole(ids, workers or available_cores())
            if found is not None:
                return Evaluation(len(ids) - 1, found.nats, read_again=found.read_again)
        return read_through(reader, batches)


def read_through(reader: Reader, batches: Batches) -> Evaluation:
    """What a reader finds in the windows of a text, from the first to the last.

    It is reported as `evaluation` (watching.py) after each.
    """
    predicted, begun, losses = 0, 0, []
    for k in range(len(batches)):
        batch = batches(0, k)
        losses.append(reader(batch))
        predicted += batch.counted
        begun += 0 if batch.fresh is None else int(np.count_nonzero(batch.fresh))
        report("evaluation", k + 1, len(batches))
    lines = begun if batches.begins_inside else None
    return Evaluation(predicted, math.fsum(losses), lines=lines)
