"""How surprising the model of a checkpoint finds lines and symbols."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..arrays import Array
from ..backend import blas
from ..errors import DataError
from ..inference.scoring import Lines, Scorer, Scores, Stream, in_batches
from ..runs.checkpoint import Checkpoint, check_checkpoint
from ..text.vocabulary import Unknown
from ..wording import shown


def score(
    checkpoint: Checkpoint, texts: Iterable[str | bytes], *, unknown: Unknown = "error"
) -> Array:
    """How surprising the model finds each of `texts`: -ln p in nats, float64, in their order.

    Each is a line that is read from the zero state: after a newline, with the newline that ends it
    predicted too, whether it is given or not (so `texts` can be an open file). Where the vocabulary has
    no newline, there is no end symbol, and the first symbol has the probability of its frequency in the
    training text. The bits of a score do not depend on the other texts. `evaluate` of a model whose
    unit is the line gives the sum.

    Raises DataError for a text with a newline inside, and for symbols outside the vocabulary
    (`unknown="skip"` leaves them out); TrainingError where the predictions are not finite.
    """
    check_checkpoint(checkpoint)
    if isinstance(texts, (str, bytes)):
        raise DataError("texts must be several texts, not one: put it into a list")
    lines = (_line(checkpoint, text, f"text {k:,}") for k, text in enumerate(texts, 1))
    scores = _scorer(checkpoint, unknown).lines(in_batches(lines), "text")
    return np.concatenate([np.zeros(0), *(block.totals for block in scores)])


def surprisal(checkpoint: Checkpoint, text: str | bytes, *, unknown: Unknown = "error") -> Array:
    """-ln p of each symbol of a text (n,), in nats, float64: how surprising the model finds it there.

    The text is read as a line in `score`, and its end symbol is left out: to rounding, the sum is its
    score without that. It may have several lines; the state is carried over them, unless the unit of
    the model is the line. Raises as `score` does.
    """
    check_checkpoint(checkpoint)
    lines = checkpoint.format.rules.of_lines
    ids = checkpoint.ids(_line(checkpoint, text, "the text", newlines=True), unknown)
    newline, first = checkpoint.format.newline, checkpoint.frequencies
    stream = Stream(checkpoint.model, checkpoint.params, newline, first, lines)
    nats = np.append(stream(ids), stream.rest())
    return nats[::-1] if checkpoint.format.rules.reverse else nats


def next_probabilities(
    checkpoint: Checkpoint, prime: str | bytes = "", *, unknown: Unknown = "error"
) -> dict[Any, float]:
    """The probability of each symbol after `prime`, by symbol, the most probable first.

    A symbol is a str, or at byte level a number. The prime is the beginning of a line, as in
    `surprisal`: before it is a newline, or where the vocabulary has none, nothing, and then the first
    symbol has the probability of its frequency in the training text. With a reversed model the prime is
    an ending, and the symbols are those before it.

    Raises DataError for symbols outside the vocabulary (`unknown="skip"` leaves them out).
    """
    check_checkpoint(checkpoint)
    rules, newline = checkpoint.format.rules, checkpoint.format.newline
    if rules.reverse:
        prime = _line(checkpoint, prime, "the prime", newlines=True)
    ids = checkpoint.format.prime(prime, unknown)
    if rules.of_lines:
        ids = ids[np.append(0, 1 + np.flatnonzero(ids == newline))[-1] :]
    p = checkpoint.frequencies
    with blas.one_thread(), np.errstate(all="ignore"):
        texts = checkpoint.model.begin(checkpoint.params, 1)
        for symbol in [*([] if newline is None else [newline]), *ids.tolist()]:
            logits = texts.step([symbol])[0].astype(np.float64)
            p = np.exp(logits - logits.max())
    p /= p.sum()
    symbols = checkpoint.vocabulary.to_json()["symbols"]
    return {symbols[i]: float(p[i]) for i in np.argsort(-p, kind="stable")}


def score_lines(
    checkpoint: Checkpoint,
    lines: Iterable[Lines],
    *,
    carry: bool = False,
    unknown: Unknown = "error",
) -> Iterator[Scores]:
    """The scores of lines that come some at a time, as `score` computes them.

    With `carry` all lines are one text: the state is carried from each to the next. Raises DataError as
    `score` does, naming the line, and where a model that reads backwards is to carry.
    """
    scorer = _scorer(checkpoint, unknown)
    return scorer.carried(lines) if carry else scorer.lines(lines)


def _scorer(checkpoint: Checkpoint, unknown: Unknown) -> Scorer:
    first = checkpoint.frequencies
    return Scorer(checkpoint.model, checkpoint.params, checkpoint.format, first, unknown)


def _line(checkpoint: Checkpoint, text: object, name: str, newlines: bool = False) -> Any:
    """A text as the model reads it, without the newline that ends it."""
    rules = checkpoint.format.rules
    if not isinstance(text, str if rules.encoding else (str, bytes)):
        raise DataError(
            f"{name} must be {'str' if rules.encoding else 'str or bytes'}, not {shown(text)}"
        )
    newline = "\n" if rules.encoding else b"\n"
    line = rules.read(text).removesuffix(newline)
    if not newlines and newline in line:
        raise DataError(f"{name} has a newline inside: every line is a text, so split it")
    return line
