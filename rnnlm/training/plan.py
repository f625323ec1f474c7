"""What a run will do, before it starts: its plan, a dry run, and checks of memory and validation."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from functools import partial

from ..assembly import build_model, whole_config
from ..backend.memory import available_memory, readable
from ..backend.ranks import world
from ..config.kinds import Interval, chosen_options
from ..config.schema import Config
from ..errors import ConfigError
from ..models.base import LanguageModel, TrainableModel, UnrolledModel
from ..optim import averages, schedules
from ..optim.averages import AVERAGES, none
from ..optim.optimizers import OPTIMIZERS, state_names
from ..optim.truncation import TRUNCATIONS, regular
from ..runs.checkpoint import Checkpoint
from ..runs.run_data import open_data
from ..text.batches import Batches, Borders, Variation
from ..text.corpus import Corpus
from ..text.vocabulary import NewSymbols
from ..wording import counted, share
from .beginning import about_beginning
from .course import Course
from .engine import training_bytes, whole_matrices
from .resume import adopt_config
from .validation import Validation

SHORT = "windows of fewer than 5 steps do not vary"
COPIES = 28  # bytes for each element of a matrix that is updated as a whole
READ = 16 << 20  # bytes of a raw text for a dry run
FACTOR = 21  # bytes for each factor of a truncation: while it is drawn, and as the model takes it


def plan(model: TrainableModel, config: Config, corpus: Corpus, course: Course) -> Iterator[str]:
    """Lines that say what a run will do: data, model, memory, steps."""
    t, noun = config.train, corpus.vocabulary.noun
    yield from about(model, corpus)
    first, *later = (
        (s.epoch, counted(round(s.number * corpus.scale), "window"), s.windows)
        for s in course.stages
    )
    _, number, windows = first
    left_out = f"; {windows.left_out(0):,} left out" if corpus.scale == 1 else ""
    yield (
        f"steps: {counted(t.epochs, 'epoch')} of {number}: "
        f"{counted(t.batch_size, 'stream')}, {counted(windows.seq_length, noun)} each"
        f"{''.join(f', from epoch {e} on {n} of {w.seq_length:,}' for e, n, w in later)}"
        f"{''.join(_varied(course, config))}{left_out}{''.join(_limits(config))}"
    )
    yield from _learning(config, course, corpus.scale)
    val = Validation.of(config, course, len(corpus["val"]))
    early = "" if val.first_after is None else f", first after step {val.first_after:,}"
    if not val.whole:
        size = f"{val.symbols:,} of {counted(len(corpus['val']), noun)}"
        yield f"validation: on the first {size}{early}; on all of them at the end"
    elif val.symbols > t.eval_streams and early:
        yield f"validation: every {t.eval_every}{early}"
    yield f"memory: about {_memory(memory_needed(model, config, course))}"


def _varied(course: Course, config: Config) -> Iterator[str]:
    t = config.train
    if t.vary_length:
        yield f", {course.largest.longest} at most"
    if t.offset != "zero":
        yield ", from another place in each epoch"
    if t.reset:
        yield f", one in {round(1 / t.reset):,} from the zero state"


def _learning(config: Config, course: Course, scale: float) -> Iterator[str]:
    """What becomes of an average of the weights, and of a warm-up that the run does not get out of."""
    t = config.train
    steps = limited(round(course.steps(t.epochs) * scale), config)
    warmup = t.schedule.get("warmup_steps", 0)
    if warmup > steps:
        yield (
            f"learning rate: it rises until the run ends: train.schedule.warmup_steps is {warmup:,}, "
            f"and the run has {counted(steps, 'step')}"
        )
    if AVERAGES[name := t.average["name"]] is none:
        return
    waits = name in averages.NEEDS_VALIDATION
    last = course.epochs(int((steps - 1) / scale))
    if not waits and AVERAGES[name](0, last, (), **chosen_options(t.average)) is None:
        yield f"weights: their average ({name}) would begin after the end of the run: there is none"
    else:
        yield f"weights: their average ({name}){', once it begins,' * waits} is validated and saved"


def limited(steps: int, config: Config) -> int:
    """How many of so many steps a run makes."""
    most = config.train.max_steps
    return steps if most is None else min(steps, most)


def _limits(config: Config) -> Iterator[str]:
    t = config.train
    if t.max_steps is not None:
        yield f"; at most {counted(t.max_steps, 'step')}"
    if t.max_minutes is not None:
        yield f"; at most {Interval(t.max_minutes, 'minutes')}"


def about(model: LanguageModel, corpus: Corpus) -> Iterator[str]:
    """Lines that say what data and model a run has."""
    sizes = ", ".join(f"{corpus.length(split):,} {split}" for split in ("train", "val", "test"))
    symbols, noun = counted(len(corpus.vocabulary), "symbol"), corpus.vocabulary.noun
    yield f"data: {corpus.folder}: {sizes} {noun}s, {symbols}"
    if corpus.scale > 1:
        yield f"estimated from the first {READ >> 20} MB, all symbols perhaps not among them"
    if (unknown := corpus.vocabulary.unknown_id) is not None:
        counts = corpus.train_counts
        yield f"training: {share(int(counts[unknown]), int(counts.sum()), noun)} are <unk>"
    rules = corpus.format.rules
    if rules.of_lines:
        sizes = ", ".join(f"{corpus.units(split):,} {split}" for split in ("train", "val", "test"))
        yield f"lines: {sizes}, each a text of its own"
    if rules.reverse:
        yield "direction: from the end of a text to its beginning"
    yield f"model: {model.describe()}"


def preview(
    config: Config, init_from: Checkpoint | None = None, unknown: NewSymbols = "error"
) -> Iterator[str]:
    """Lines for a dry run: the resolved config and the plan. No file is written.

    Raises ConfigError or DataError as the start of the run would.
    """
    config = whole_config(config)
    if init_from is not None:
        config = adopt_config(config, init_from)
    config, corpus = estimated_data(config, init_from, unknown)
    check_validation(config, corpus)
    model = trainable(build_model(config, len(corpus.vocabulary)), config)
    course = checked_course(model, config, corpus)
    yield from config.to_yaml().splitlines()
    yield from plan(model, config, corpus, course)
    if init_from is not None:
        yield from about_beginning(init_from, corpus)


def estimated_data(
    config: Config, init_from: Checkpoint | None = None, unknown: NewSymbols = "error"
) -> tuple[Config, Corpus]:
    """The data of a dry run: of a long raw text only its beginning, unless a window is a stream."""
    t = config.train
    most = max(READ, *(8 * t.batch_size * (n or math.inf) for n in t.windows.values()))
    return open_data(config, None, init_from, unknown, most)


def trainable(model: LanguageModel, config: Config) -> TrainableModel:
    """A model that gradient descent can train as the config says. Raises ConfigError for another."""
    if not isinstance(model, TrainableModel):
        raise ConfigError(f"gradient descent cannot train this model: {model.describe()}")
    name = config.train.truncation["name"]
    if TRUNCATIONS[name] is not regular and not isinstance(model, UnrolledModel):
        raise ConfigError(
            f"train.truncation {name}: only a recurrent model can be cut inside a window: leave the "
            "key out"
        )
    return model


def training_course(config: Config, corpus: Corpus) -> Course:
    """The windows of the training text, by epoch.

    Raises ConfigError for keys that mean nothing to it, DataError where it is too short.
    """
    t, rules = config.train, corpus.format.rules
    for key, given, why in (
        ("vary_length", t.vary_length and t.seq_length is None, "a window is a whole stream"),
        ("vary_length", t.vary_length and min(n or 5 for n in t.windows.values()) < 5, SHORT),
        ("offset", t.offset != "zero" and rules.of_lines, "lines come in another order each epoch"),
        ("reset", t.reset and rules.of_lines, "every line begins from the zero state"),
    ):
        if given:
            raise ConfigError(f"train.{key}: {why}: leave the key out")
    vary = Variation(t.vary_length, t.offset == "random", t.reset)
    cut = partial(corpus.format.batches, corpus["train"], t.batch_size, seed=t.seed, vary=vary)
    return Course({epoch: cut(length) for epoch, length in t.windows.items()})


def checked_course(model: TrainableModel, config: Config, corpus: Corpus) -> Course:
    """The windows of the training text, and memory for them.

    Raises ConfigError and DataError as `training_course` and `check_memory` do.
    """
    course = training_course(config, corpus)
    check_memory(model, config, course)
    return course


def check_validation(config: Config, corpus: Corpus) -> None:
    """Raise ConfigError where the config asks for a validation that its text does not allow."""
    t, size = config.train, len(corpus["val"])
    size = min(size, t.eval_symbols or size)
    if 1 < size <= t.eval_streams and not corpus.format.rules.of_lines:
        raise ConfigError(
            f"train.eval_streams: {counted(t.eval_streams, 'stream')} for a validation text of "
            f"{counted(size, corpus.vocabulary.noun)}: at most {size - 1} works"
        )
    if not corpus.format.can_evaluate(corpus["val"]):
        needs = {
            "train.patience": t.patience is not None,
            f"train.average {t.average['name']}": t.average["name"] in averages.NEEDS_VALIDATION,
            f"train.schedule {t.schedule['name']}": t.schedule["name"]
            in schedules.NEEDS_VALIDATION,
        }
        for key in (key for key, needed in needs.items() if needed):
            raise ConfigError(f"{key} needs a validation text: set data.val_fraction")


def check_memory(model: TrainableModel, config: Config, course: Course) -> None:
    """Raise ConfigError when fewer bytes are free than training takes on the ranks of this machine.

    It names the largest window that fits.
    """
    here, windows = world().here, course.largest

    def size_here(seq_length: int) -> int:
        return sum(_size(model, config, windows, seq_length, rank) for rank in here)

    need, have = size_here(windows.seq_length), available_memory()
    if have is not None and need > have:
        largest = bisect_right(range(1, windows.seq_length), have, key=size_here)
        way = f"train.seq_length at most {largest} fits" if largest else "make the model smaller"
        several = f"{len(here)} ranks need" if len(here) > 1 else "training needs"
        raise ConfigError(
            f"{several} about {readable(need)} with seq_length {windows.seq_length}, and "
            f"{readable(have)} are free: {way}"
        )


def memory_needed(model: TrainableModel, config: Config, course: Course) -> list[int]:
    """About how many bytes training takes, on each rank."""
    windows = course.largest
    ranks = range(world().size)
    return [_size(model, config, windows, windows.seq_length, rank) for rank in ranks]


def _size(
    model: TrainableModel, config: Config, windows: Batches, seq_length: int, rank: int
) -> int:
    """The bytes that a rank takes, with another length of the windows."""
    t = config.train
    optimizer = OPTIMIZERS[t.optimizer["name"]]
    cut = Borders(windows.longest, seq_length, t.vary_length)
    factor = 0 if TRUNCATIONS[t.truncation["name"]] is regular else FACTOR
    matrices = (math.prod(model.shapes[name][-2:]) for name in whole_matrices(model, optimizer))
    engine = training_bytes(
        model,
        t.batch_size,
        cut.longest,
        len(state_names(optimizer)),
        windows.begins_inside,
        cut.shorter,
        averages=AVERAGES[t.average["name"]] is not none,
        rank=rank,
        ranks=world().size,
    )
    return engine + factor * t.batch_size * cut.longest + COPIES * max(matrices, default=0)


def _memory(sizes: list[int]) -> str:
    first, *others = sizes
    if not others:
        return readable(first)
    return f"{readable(first)} on rank 0, at most {readable(max(others))} on each other rank"
