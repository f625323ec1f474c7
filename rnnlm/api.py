"""Text in, text out: what scripts and the command line do with a checkpoint."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from .arrays import Array
from .config.kinds import Integer, Number, RefusedError
from .errors import CheckpointError, ConfigError, DataError
from .inference.evaluation import Evaluation, perplexity
from .inference.evaluation import evaluate as evaluate_ids
from .inference.sampling import FILTERS, filter_kind
from .inference.sampling import generate as generate_ids
from .runs.checkpoint import Checkpoint
from .runs.folder import find_checkpoint
from .runs.run_data import is_prepared, recorded_data
from .storage.atomic import as_path
from .text.corpus import Corpus
from .text.vocabulary import Unknown, Vocabulary
from .wording import counted, shown

MOST_SYMBOLS = 10**12  # of a sample; more than half a year of work
MOST_SAMPLES = 1 << 16  # side by side


def load(path: str | Path | None = None) -> Checkpoint:
    """Load a checkpoint: a file, a run folder's best (else last), or the newest run under ./runs.

    Raises CheckpointError when there is none or it is damaged. Where the newest run is damaged, no
    older one is taken in its place.
    """
    if path is not None:
        return Checkpoint.load(find_checkpoint(as_path(path, CheckpointError)))
    newest = find_checkpoint(None)
    try:
        return Checkpoint.load(newest)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; of the newest run: name another, or remove it") from None


def find_vocabulary(path: str | Path) -> Vocabulary:
    """The vocabulary of a checkpoint, a run folder or a prepared folder.

    Raises CheckpointError or DataError where the path is none of these, or damaged.
    """
    path = as_path(path, CheckpointError)
    if is_prepared(path):
        return Corpus.open(path).vocabulary
    return load(path).vocabulary


def evaluate(
    checkpoint: Checkpoint, text: str | bytes, *, unknown: Unknown = "error"
) -> Evaluation:
    """How well the model predicts a text: every symbol but the first, given all symbols before it.

    The figures are in nats and bits per symbol (character, or byte at byte level). Raises DataError for
    symbols outside the vocabulary (`unknown="skip"` leaves them out) and for a text of fewer than two
    symbols, TrainingError where the predictions are not finite.
    """
    _check_checkpoint(checkpoint)
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
    if len(ids) < 2:
        size = counted(len(ids), corpus.format.noun)
        raise DataError(
            f"{corpus.folder}: its {split} split has {size}, too few: name another split, or a text"
        )
    return _evaluate(checkpoint, ids, corpus.length(split) - len(ids))


def _evaluate(checkpoint: Checkpoint, ids: Array, left_out: int) -> Evaluation:
    cut = checkpoint.format.batches
    result = evaluate_ids(checkpoint.model, checkpoint.params, ids, cut=cut)
    return replace(result, left_out=left_out)


def describe(checkpoint: Checkpoint) -> Iterator[str]:
    """Lines that say what a checkpoint holds."""
    p, model, noun = checkpoint.progress, checkpoint.model, checkpoint.format.noun
    vocabulary = checkpoint.vocabulary

    def shown(loss: float) -> str:
        figure = perplexity(loss)
        return "beyond float range" if figure is None else f"{figure:.4f}"

    yield f"model: {model.describe(checkpoint.params)}"
    yield f"vocabulary: {counted(len(vocabulary), noun)}: {excerpt(vocabulary)}"
    yield f"position: step {p.step:,}, epoch {p.epoch:.4g}, {p.seconds:,.0f} s of training"
    for name, loss in (
        ("training", p.train_loss),
        ("validation", p.val_loss),
        ("best", p.best_loss),
    ):
        if loss is not None:
            at = f" at step {p.best_step:,}" if name == "best" else ""
            yield f"{name} loss: {loss:.4f} nats per {noun}, perplexity {shown(loss)}{at}"
    if checkpoint.data:
        yield f"data: {checkpoint.data['folder']} ({checkpoint.data['fingerprint'][:16]})"
    yield "config:"
    yield from ("  " + line for line in checkpoint.config.to_yaml().splitlines())


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `describe` says, as JSON holds it."""
    p = checkpoint.progress
    return {
        "checkpoint": str(checkpoint.path),
        "model": checkpoint.model.describe(checkpoint.params),
        "level": checkpoint.level,
        "vocabulary_size": len(checkpoint.vocabulary),
        "step": p.step,
        "epoch": p.epoch,
        "seconds": p.seconds,
        "train_loss": p.train_loss,
        "val_loss": p.val_loss,
        "best_loss": p.best_loss,
        "best_step": p.best_step,
        "data": dict(checkpoint.data),
        "config": checkpoint.config.to_dict(),
    }


def excerpt(vocabulary: Vocabulary, most: int = 100) -> str:
    """The first symbols of a vocabulary, printable."""
    shown = "".join(vocabulary.text([i]) for i in range(min(most, len(vocabulary))))
    return repr(shown)[1:-1] + (" ..." if len(vocabulary) > most else "")


def generate(
    checkpoint: Checkpoint,
    prime: str | bytes = "",
    length: int = 500,
    *,
    seed: int = 0,
    stop: str = "",
    unknown: Unknown = "error",
    **filters: float | None,
) -> str:
    """The text that follows `prime`: `length` symbols at most (characters, or bytes at byte level).

    The text ends before the first `stop`, where that is given. The same seed gives the same text.
    Without a prime the text begins as one does after a paragraph, or else a line, of the training text
    (checkpoints of version 0.1.0: with a symbol drawn from its frequencies). `filters` change what is
    probable, by their names in `inference.sampling.FILTERS`: `temperature` divides the logits (below 1
    is safer, 0 takes the most probable symbol), `top_k` draws from the k most probable symbols only,
    `top_p` from the fewest whose probabilities reach p.

    Raises ConfigError for values out of range, DataError for symbols of the prime that are outside the
    vocabulary (`unknown="skip"` leaves them out).
    """
    pieces = stream(
        checkpoint,
        prime,
        length,
        seed=seed,
        stop=stop,
        unknown=unknown,
        **filters,
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
    **filters: float | None,
) -> Iterator[str]:
    """As `generate`, but yield the text in pieces, as they are drawn. None of them is empty.

    Errors are raised by the call itself, before the first piece.
    """
    _check_filters(filters)
    pieces = samples(
        checkpoint,
        prime,
        length,
        num_samples=1,
        seed=seed,
        stop=stop,
        unknown=unknown,
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
    **filters: float | None,
) -> Iterator[list[str]]:
    """As `stream`, for `num_samples` texts side by side: each step yields a list with a piece of each,
    perhaps an empty one.

    Text i is the same however many are drawn.
    """
    _check_checkpoint(checkpoint)
    _check_filters(filters)
    given = {name: _filter(name, v) for name, v in filters.items() if v is not None}
    index = operator.index
    words = f"an integer from 0 to {MOST_SYMBOLS:,}"
    _check("length", length, words, lambda v: 0 <= index(v) <= MOST_SYMBOLS)
    words = f"an integer from 1 to {MOST_SAMPLES:,}"
    _check("num_samples", num_samples, words, lambda v: 1 <= index(v) <= MOST_SAMPLES)
    _check("seed", seed, "an integer of at least 0", lambda v: index(v) >= 0)
    if not isinstance(stop, str):
        raise ConfigError(f"stop must be text, not {shown(stop)}")
    if given.get("temperature") == 1:
        del given["temperature"]
    first = checkpoint.counts / max(1, checkpoint.counts.sum())
    prime_ids = checkpoint.ids(prime, unknown)
    if prime and not len(prime_ids):
        raise DataError(f"no {checkpoint.format.noun} of the prime is in the vocabulary")
    return _texts(
        checkpoint,
        generate_ids(
            checkpoint.model,
            checkpoint.params,
            prime_ids if prime else checkpoint.lead,
            length,
            filters=given,
            seed=seed,
            num_samples=num_samples,
            first=first,
        ),
        num_samples,
        stop,
    )


def _texts(
    checkpoint: Checkpoint, steps: Iterable[Iterable[int]], num_samples: int, stop: str
) -> Iterator[list[str]]:
    """Ids to text as it completes, each sample until its own stop."""
    decoders = [checkpoint.format.decoder() for _ in range(num_samples)]
    gates = [StopText(stop) for _ in range(num_samples)]
    for ids in steps:
        pairs = zip(gates, decoders, ids, strict=True)
        yield [gate.feed(decoder(int(i))) for gate, decoder, i in pairs]
        if all(gate.stopped for gate in gates):
            return
    yield [
        gate.feed(decoder.flush()) + gate.rest()
        for gate, decoder in zip(gates, decoders, strict=True)
    ]


class StopText:
    """Passes text on until `stop` appears; holds back only what may be the beginning of `stop`."""

    def __init__(self, stop: str) -> None:
        self._stop, self._held, self.stopped = stop, "", False

    def feed(self, text: str) -> str:
        """What can be passed on after `text` was added."""
        if self.stopped or not self._stop:
            return "" if self.stopped else text
        held = self._held + text
        before, found, _ = held.partition(self._stop)
        if found:
            self.stopped, self._held = True, ""
            return before
        for n in range(min(len(held), len(self._stop) - 1), 0, -1):
            if self._stop.startswith(held[-n:]):
                self._held = held[-n:]
                return held[:-n]
        self._held = ""
        return held

    def rest(self) -> str:
        """What is still held back, at the end of the text."""
        held, self._held = self._held, ""
        return held


def _check_checkpoint(value: object) -> None:
    if not isinstance(value, Checkpoint):
        raise CheckpointError(
            f"expected a checkpoint, as rnnlm.load returns one, not {shown(value)}"
        )


def _check_filters(names: Iterable[str]) -> None:
    """Raise ConfigError for a name that is no filter's."""
    for name in names:
        if name not in FILTERS:
            raise ConfigError(f"{name} is not a filter: there are {', '.join(FILTERS)}")


def _filter(name: str, value: Any) -> float:
    """The value of a filter. Raises ConfigError for one that it does not take."""
    kind = filter_kind(name)
    try:
        if not isinstance(kind, Number) or isinstance(value, (bool, str, bytes)):
            raise RefusedError(kind.words())
        number: float = operator.index(value) if isinstance(kind, Integer) else float(value)
        if math.isnan(number):
            raise RefusedError(kind.words())
        kind.check(number)
    except RefusedError as refused:
        raise ConfigError(f"{name} must be {refused.must_be}, not {shown(value)}") from None
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{name} must be {kind.words()}, not {shown(value)}") from None
    return number


def _check(name: str, value: object, words: str, fits: Callable[[Any], bool]) -> None:
    """Raise ConfigError unless a value fits; one of a wrong type does not."""
    try:
        ok = not isinstance(value, (bool, str, bytes)) and fits(value)
    except (TypeError, ValueError, OverflowError):
        ok = False
    if not ok:
        raise ConfigError(f"{name} must be {words}, not {shown(value)}")
