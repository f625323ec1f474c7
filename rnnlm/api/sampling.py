"""Texts that the model of a checkpoint draws."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..arrays import Array
from ..errors import ConfigError, DataError
from ..inference.filters import check_filters, filter_values
from ..inference.growing import GrowingText, grow
from ..inference.novel import KnownLines
from ..inference.sampling import generate as generate_ids
from ..inference.sampling import texts
from ..runs.checkpoint import Checkpoint, check_checkpoint
from ..runs.run_data import recorded_data
from ..text.vocabulary import Unknown
from ..wording import counted, option, shown

MOST_SYMBOLS = 10**12  # of a sample; more than half a year of work
MOST_SAMPLES = 1 << 16  # side by side
MOST_DRAWN = 100  # lines drawn for each that is not in the training text


def generate(
    checkpoint: Checkpoint,
    prime: str | bytes = "",
    length: int = 500,
    *,
    seed: int = 0,
    stop: str = "",
    unknown: Unknown = "error",
    novel: bool = False,
    **filters: float | None,
) -> str:
    """The text that follows `prime`: `length` symbols at most (characters, bytes or words).

    At word level a space at the end of the prime is left out: it comes with the word that is drawn
    (where a model reads backwards, a space before the prime).

    The text ends before the first `stop`, where that is given. The same seed gives the same text.
    Without a prime the text begins as one does after a paragraph, or else a line, of the training text
    (checkpoints of version 0.1.0: with a symbol drawn from its frequencies). `filters` change what is
    probable, by their names in `inference.filters.FILTERS`: `temperature` divides the logits (below 1
    is safer, 0 takes the most probable symbol), `top_k` draws from the k most probable symbols only,
    `top_p` from the fewest whose probabilities reach p.

    A model of lines goes on to the end of one line, whose newline is left out; with `novel` the line,
    with its prime, is none of the training text. A model that reads backwards draws what leads up to
    `prime`, and the text begins after the last `stop`.

    Raises ConfigError for values out of range, DataError for symbols of the prime that are outside the
    vocabulary (`unknown="skip"` leaves them out).
    """
    pieces = stream(
        checkpoint, prime, length, seed=seed, stop=stop, unknown=unknown, novel=novel, **filters
    )
    return "".join(pieces)


def stream(
    checkpoint: Checkpoint,
    prime: str | bytes = "",
    length: int = 500,
    *,
    seed: int = 0,
    stop: str = "",
    unknown: Unknown = "error",
    novel: bool = False,
    **filters: float | None,
) -> Iterator[str]:
    """As `generate`, but yield the text in pieces, as they are drawn. None of them is empty.

    Errors are raised by the call itself, before the first piece.
    """
    check_filters(filters)
    pieces = samples(
        checkpoint,
        prime,
        length,
        num_samples=1,
        seed=seed,
        stop=stop,
        unknown=unknown,
        novel=novel,
        **filters,
    )
    return (piece for (piece,) in pieces if piece)


def samples(
    checkpoint: Checkpoint,
    prime: str | bytes = "",
    length: int = 500,
    *,
    num_samples: int = 1,
    seed: int = 0,
    stop: str = "",
    unknown: Unknown = "error",
    novel: bool = False,
    **filters: float | None,
) -> Iterator[list[str]]:
    """As `stream`, for `num_samples` texts side by side: each step yields a list with a piece of each,
    perhaps an empty one.

    Text i is the same however many are drawn. A text that the model reads backwards comes whole.
    """
    if novel:
        lines, _ = novel_lines(
            checkpoint,
            prime,
            length,
            num_samples=num_samples,
            seed=seed,
            stop=stop,
            unknown=unknown,
            **filters,
        )
        return iter([lines])
    prime_ids, draw = _drawing(checkpoint, prime, length, num_samples, seed, stop, unknown, filters)
    growing = [GrowingText(checkpoint.format, prime_ids, stop) for _ in range(num_samples)]
    return grow(growing, draw(num_samples=num_samples))


def novel_lines(
    checkpoint: Checkpoint,
    prime: str | bytes = "",
    length: int = 500,
    *,
    num_samples: int = 1,
    seed: int = 0,
    stop: str = "",
    unknown: Unknown = "error",
    **filters: float | None,
) -> tuple[list[str], int]:
    """As `samples` with `novel`, and how many lines were drawn for them.

    A line is new where, with its prime, it is none of the lines of the training text that the run
    recorded. Raises ConfigError for a model that reads no lines and for a `stop`, DataError where that
    text is not found or the model draws hardly anything else.
    """
    prime_ids, draw = _drawing(checkpoint, prime, length, num_samples, seed, stop, unknown, filters)
    text_format = checkpoint.format
    if text_format.end is None:
        raise ConfigError(
            "novel: this model reads its text as one stream, so it draws no lines: train one with "
            "data.unit line"
        )
    if stop:
        raise ConfigError(
            f"{option('novel')} and {option('stop')} exclude each other: a line that is cut off is not "
            "the line that is new"
        )
    known = KnownLines(recorded_data(checkpoint)["train"], text_format.end)
    lines: list[str] = []
    drawn, most = 0, MOST_DRAWN * num_samples
    while drawn < most:
        steps = draw(num_samples=num_samples, begin=drawn)
        for ids in texts(steps, num_samples, text_format.end):
            drawn += 1
            if np.append(prime_ids, ids) in known:
                continue
            sample = GrowingText(text_format, prime_ids, "")
            lines.append("".join(map(sample.feed, ids)) + sample.rest())
            if len(lines) == num_samples:
                return lines, drawn
    raise DataError(
        f"of {counted(drawn, 'line')} that were drawn, {len(lines):,} are new, fewer than the "
        f"{num_samples:,} wanted: ask for fewer, or for a higher temperature"
    )


def _drawing(
    checkpoint: Checkpoint,
    prime: str | bytes,
    length: int,
    num_samples: int,
    seed: int,
    stop: str,
    unknown: Unknown,
    filters: Mapping[str, float | None],
) -> tuple[Array, Callable[..., Iterator[Array]]]:
    """The ids of the prime, and `generate` of inference/sampling.py for this model and text.

    Raises ConfigError or DataError for values that cannot be used.
    """
    check_checkpoint(checkpoint)
    given = filter_values(filters)
    index = operator.index
    words = f"an integer from 0 to {MOST_SYMBOLS:,}"
    _check("length", length, words, lambda v: 0 <= index(v) <= MOST_SYMBOLS)
    words = f"an integer from 1 to {MOST_SAMPLES:,}"
    _check("num_samples", num_samples, words, lambda v: 1 <= index(v) <= MOST_SAMPLES)
    _check("seed", seed, "an integer of at least 0", lambda v: index(v) >= 0)
    if not isinstance(stop, str):
        raise ConfigError(f"stop must be text, not {shown(stop)}")
    text_format = checkpoint.format
    prime_ids = text_format.prime(prime, unknown)
    if prime and not len(prime_ids):
        raise DataError(f"no {text_format.noun} of the prime is in the vocabulary")
    if text_format.end is not None and text_format.end in prime_ids:
        raise DataError("the prime has a newline, which ends a line: use a part of one line")
    draw = partial(
        generate_ids,
        checkpoint.model,
        checkpoint.params,
        [*text_format.start, *(prime_ids if prime else checkpoint.lead)],
        length,
        filters=given,
        seed=seed,
        first=checkpoint.frequencies,
        end=text_format.end,
    )
    return prime_ids, draw


def _check(name: str, value: object, words: str, fits: Callable[[Any], bool]) -> None:
    """Raise ConfigError unless a value fits; one of a wrong type does not."""
    try:
        ok = not isinstance(value, (bool, str, bytes)) and fits(value)
    except (TypeError, ValueError, OverflowError):
        ok = False
    if not ok:
        raise ConfigError(f"{name} must be {words}, not {shown(value)}")
