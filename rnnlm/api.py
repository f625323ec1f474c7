"""Text in, text out: what scripts and the command line do with a checkpoint."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .arrays import Array
from .backend import blas
from .config.kinds import Integer, Number, RefusedError
from .errors import CheckpointError, ConfigError, DataError
from .inference.evaluation import Evaluation, perplexity
from .inference.evaluation import evaluate as evaluate_ids
from .inference.novel import KnownLines
from .inference.sampling import FILTERS, filter_kind, texts
from .inference.sampling import generate as generate_ids
from .inference.scoring import BLOCK, Lines, Scorer, Scores, Stream
from .runs.checkpoint import Checkpoint
from .runs.folder import find_checkpoint
from .runs.run_data import is_prepared, recorded_data
from .storage.atomic import as_path
from .text.corpus import Corpus
from .text.format import TextFormat
from .text.vocabulary import Unknown, Vocabulary
from .wording import counted, share, shown

MOST_SYMBOLS = 10**12  # of a sample; more than half a year of work
MOST_SAMPLES = 1 << 16  # side by side
MOST_DRAWN = 100  # lines drawn for each that is not in the training text


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

    A model of lines predicts every line by itself, from its first symbol to its newline. The figures
    are in nats and bits per symbol (character, byte or word), and in nats per character, which compares
    levels. Raises DataError for symbols outside the vocabulary (`unknown="skip"` leaves them out) and
    where there is nothing to predict, TrainingError where the predictions are not finite.
    """
    _check_checkpoint(checkpoint)
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
    return _evaluate(checkpoint, ids, corpus.length(split) - len(ids))


def _evaluate(checkpoint: Checkpoint, ids: Array, left_out: int) -> Evaluation:
    cut = checkpoint.format.batches
    result = evaluate_ids(checkpoint.model, checkpoint.params, ids, cut=cut)
    return replace(result.of_text(checkpoint.format, ids), left_out=left_out)


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, as JSON can hold it: a perplexity beyond float range is None."""
    p, vocabulary = checkpoint.progress, checkpoint.vocabulary
    unknown = vocabulary.unknown_id
    losses = {"training": p.train_loss, "validation": p.val_loss, "best": p.best_loss}
    return {
        "checkpoint": None if checkpoint.path is None else str(checkpoint.path),
        "model": checkpoint.model.describe(checkpoint.params),
        "params_sha256": checkpoint.params_sha256,
        "symbol": checkpoint.format.noun,
        "symbols": len(vocabulary),
        "vocabulary": excerpt(vocabulary),
        "unknown": None if unknown is None else int(checkpoint.counts[unknown]),
        "step": p.step,
        "epoch": p.epoch,
        "seconds": p.seconds,
        "losses": {
            name: {"nats_per_symbol": loss, "perplexity": perplexity(loss)}
            for name, loss in losses.items()
            if loss is not None
        },
        "best_step": p.best_step,
        "data": dict(checkpoint.data),
        "origin": dict(checkpoint.origin),
        "environments": [dict(entries) for entries in checkpoint.environments],
        "config": checkpoint.config.to_dict(),
    }


def describe(checkpoint: Checkpoint) -> Iterator[str]:
    """Lines that say what a checkpoint holds."""
    told = facts(checkpoint)
    noun = told["symbol"]
    yield from f"model: {told['model']}".splitlines()
    yield f"SHA-256 of the parameters: {told['params_sha256']}"
    yield f"vocabulary: {counted(told['symbols'], noun)}: {told['vocabulary']}"
    if told["unknown"] is not None:
        trained = int(checkpoint.counts.sum())
        yield f"training: {share(told['unknown'], trained, noun)} are <unk>"
    yield (
        f"position: step {told['step']:,}, epoch {told['epoch']:.4g}, "
        f"{told['seconds']:,.0f} s of training"
    )
    for name, loss in told["losses"].items():
        figure = loss["perplexity"]
        ratio = "beyond float range" if figure is None else f"{figure:.4f}"
        at = f" at step {told['best_step']:,}" if name == "best" else ""
        yield f"{name} loss: {loss['nats_per_symbol']:.4f} nats per {noun}, perplexity {ratio}{at}"
    if data := told["data"]:
        yield f"data: {data['folder']} ({data['fingerprint'][:16]})"
    if begun := told["origin"]:
        yield f"began with: {begun['checkpoint']} ({begun['params_sha256'][:16]})"
    for entries in told["environments"]:
        yield "computed by: " + ", ".join(f"{name} {value}" for name, value in entries.items())
    yield "config:"
    yield from ("  " + line for line in checkpoint.config.to_yaml().splitlines())


def excerpt(vocabulary: Vocabulary, most: int = 100) -> str:
    """The first symbols of a vocabulary, printable."""
    shown = vocabulary.text(range(min(most, len(vocabulary))))
    return repr(shown[:most])[1:-1] + (" ..." if max(len(vocabulary), len(shown)) > most else "")


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
    probable, by their names in `inference.sampling.FILTERS`: `temperature` divides the logits (below 1
    is safer, 0 takes the most probable symbol), `top_k` draws from the k most probable symbols only,
    `top_p` from the fewest whose probabilities reach p.

    A model of lines goes on to the end of one line, whose newline is left out; with `novel` the line,
    with its prime, is none of the training text. A model that reads backwards draws what leads up to
    `prime`, and the text begins after the last `stop`.

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
        novel=novel,
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
    novel: bool = False,
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
    growing = [_Sample(checkpoint.format, prime_ids, stop) for _ in range(num_samples)]
    return _pieces(growing, draw(num_samples=num_samples))


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
    recorded. Raises ConfigError for a model that reads no lines, DataError where that text is not found
    or the model draws hardly anything else.
    """
    prime_ids, draw = _drawing(checkpoint, prime, length, num_samples, seed, stop, unknown, filters)
    text_format = checkpoint.format
    if text_format.end is None:
        raise ConfigError(
            "novel: this model reads its text as one stream, so it draws no lines: train one with "
            "data.unit line"
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
            sample = _Sample(text_format, prime_ids, stop)
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
        first=checkpoint.counts / max(1, checkpoint.counts.sum()),
        end=text_format.end,
    )
    return prime_ids, draw


def _pieces(growing: Sequence[_Sample], steps: Iterable[Iterable[int]]) -> Iterator[list[str]]:
    """What each step adds to each sample."""
    for ids in steps:
        yield [sample.feed(int(i)) for sample, i in zip(growing, ids, strict=True)]
        if all(sample.ended for sample in growing):
            return
    yield [sample.rest() for sample in growing]


class _Sample:
    """One text that grows: from ids to text as it completes, until its end or its stop."""

    def __init__(self, text_format: TextFormat, prime_ids: Array, stop: str) -> None:
        self._decoder, self._end = text_format.decoder(prime_ids), text_format.end
        self._gate = (FromText if text_format.rules.reverse else StopText)(stop)
        self.ended = False

    def feed(self, symbol_id: int) -> str:
        """The text that an id adds; nothing after the end."""
        if self.ended:
            return ""
        if symbol_id == self._end:
            return self.rest()
        text = self._gate.feed(self._decoder(symbol_id))
        self.ended = self._gate.stopped
        return text

    def rest(self) -> str:
        """What is still held back, at the end of the text; nothing when it has ended before."""
        if self.ended:
            return ""
        self.ended = True
        return self._gate.feed(self._decoder.flush()) + self._gate.rest()


class FromText:
    """Passes on what follows the last `stop` of a whole text, which was drawn from its end."""

    stopped = False

    def __init__(self, stop: str) -> None:
        self._stop = stop

    def feed(self, text: str) -> str:
        """What follows the last `stop`."""
        return text.rpartition(self._stop)[2] if self._stop else text

    def rest(self) -> str:
        """Nothing is held back."""
        return ""


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


# Scoring


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
    _check_checkpoint(checkpoint)
    if isinstance(texts, (str, bytes)):
        raise DataError("texts must be several texts, not one: put it into a list")
    lines = (_line(checkpoint, text, f"text {k:,}") for k, text in enumerate(texts, 1))
    scores = _scorer(checkpoint, unknown).lines(_batches(lines), "text")
    return np.concatenate([np.zeros(0), *(block.totals for block in scores)])


def surprisal(checkpoint: Checkpoint, text: str | bytes, *, unknown: Unknown = "error") -> Array:
    """-ln p of each symbol of a text (n,), in nats, float64: how surprising the model finds it there.

    The text is read as a line in `score`, and its end symbol is left out: to rounding, the sum is its
    score without that. It may have several lines; the state is carried over them, unless the unit of
    the model is the line. Raises as `score` does.
    """
    _check_checkpoint(checkpoint)
    lines = checkpoint.format.rules.of_lines
    ids = checkpoint.ids(_line(checkpoint, text, "the text", newlines=True), unknown)
    newline, first = checkpoint.format.newline, _first(checkpoint)
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
    _check_checkpoint(checkpoint)
    rules, newline = checkpoint.format.rules, checkpoint.format.newline
    if rules.reverse:
        prime = _line(checkpoint, prime, "the prime", newlines=True)
    ids = checkpoint.format.prime(prime, unknown)
    if rules.of_lines:
        ids = ids[np.append(0, 1 + np.flatnonzero(ids == newline))[-1] :]
    p = _first(checkpoint)
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
    first = _first(checkpoint)
    return Scorer(checkpoint.model, checkpoint.params, checkpoint.format, first, unknown)


def _first(checkpoint: Checkpoint) -> Array:
    """The frequencies of the symbols (V,) in the training text."""
    counts = checkpoint.counts
    return np.asarray(counts / max(1, counts.sum()), np.float64)


def _line(checkpoint: Checkpoint, text: object, name: str, newlines: bool = False) -> Any:
    """A text as the model reads it, without the newline that ends it."""
    rules = checkpoint.format.rules
    line: Any
    if rules.encoding is None and isinstance(text, (str, bytes)):
        line = checkpoint.vocabulary.units(text).tobytes()
    elif isinstance(text, str):
        line = rules.normalize(text)
    else:
        raise DataError(
            f"{name} must be {'str' if rules.encoding else 'str or bytes'}, not {shown(text)}"
        )
    newline: Any = "\n" if rules.encoding else b"\n"
    line = line.removesuffix(newline)
    if not newlines and newline in line:
        raise DataError(f"{name} has a newline inside: every line is a text, so split it")
    return line


def _batches(lines: Iterable[Any]) -> Iterator[Lines]:
    """Lines, some at a time."""
    batch: list[Any] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line) + 1
        if size >= BLOCK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
