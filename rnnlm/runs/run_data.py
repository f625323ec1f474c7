"""The text of a run: opened or prepared when it starts, found again when it is resumed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from ..config.schema import Config, DataConfig
from ..corpora.fetch import local
from ..errors import CheckpointError, ConfigError, DataError
from ..text.corpus import CORPUS_FILE, SPLITS, Corpus, is_unfinished
from ..text.format import TextRules
from ..text.prepare import prepare, prepare_again
from ..text.vocabulary import NewSymbols
from ..wording import by_config, option, setting
from .checkpoint import Checkpoint


def is_prepared(folder: Path) -> bool:
    """Whether a path is a prepared folder, finished or not; one that cannot be read is not."""
    try:
        return (folder / CORPUS_FILE).is_file() or is_unfinished(folder)
    except (OSError, ValueError):
        return False


def open_data(
    config: Config,
    folder: Path | None,
    init_from: Checkpoint | None = None,
    unknown: NewSymbols = "error",
    most: float = math.inf,
) -> tuple[Config, Corpus]:
    """The corpus of `data.path`: a prepared folder, or raw text that is prepared into `folder` (None:
    into unnamed temporary files, about the first `most` bytes of it).

    With `init_from` the vocabulary is that of the checkpoint. `unknown` says what becomes of symbols
    that it does not have; a prepared folder of another vocabulary is prepared again, into `folder`.
    Returns also the config, with the text rules of the corpus in its `data` section. Raises ConfigError
    where keys that were given contradict a prepared folder.
    """
    d = config.data
    if d.path is None:
        text = setting("data.path=my.txt")
        raise ConfigError(f"data.path is not set: name a text file, for example {text}")
    name = local(d.path)
    path = Path(name)
    start = None if init_from is None else init_from.format
    if is_prepared(path):
        corpus = Corpus.open(path)
        _check_agreement(config, facing(corpus, d.reverse))
        if start is not None:
            if corpus.level != start.level:
                raise DataError(
                    f"{path}: prepared at {corpus.level} level, and {option('init_from')} is of "
                    f"{start.level} level: prepare it again"
                )
            corpus = prepare_again(corpus, folder, start.vocabulary, unknown)
        corpus = facing(corpus, d.reverse)
    else:
        rules = TextRules.of(d)
        _check_decoding(d, rules)
        settings = rules.settings()
        reverse = settings.pop("reverse")
        with by_config():
            corpus = prepare(
                [name],
                folder,
                **settings,
                shuffle_lines=d.shuffle_lines,
                val_fraction=d.val_fraction,
                test_fraction=d.test_fraction,
                vocabulary=None if start is None else start.vocabulary,
                min_count=d.min_count,
                max_vocabulary=d.max_vocabulary,
                unknown=unknown,
                most=most,
            )
        corpus = facing(corpus, reverse)
    return config.with_values("data", **corpus.format.rules.settings()), corpus


def facing(corpus: Corpus, reverse: bool) -> Corpus:
    """A corpus read in one direction or the other; a prepared folder serves both."""
    text_format = replace(corpus.format, rules=replace(corpus.format.rules, reverse=reverse))
    return replace(corpus, format=text_format)


def _check_decoding(data: DataConfig, rules: TextRules) -> None:
    for key in ("encoding", "newlines"):
        if rules.encoding is None and getattr(data, key) != getattr(DataConfig, key):
            raise ConfigError(
                f"data.{key}: nothing is decoded at {rules.level} level: leave the key out"
            )


def _check_agreement(config: Config, corpus: Corpus) -> None:
    _check_decoding(config.data, corpus.format.rules)
    if config.data.shuffle_lines is not None:
        raise ConfigError(
            f"data.shuffle_lines: {corpus.folder} is prepared, and its lines are split: leave the key "
            "out or prepare again"
        )
    total = sum(corpus.units(split) for split in SPLITS)
    noun = corpus.format.noun if corpus.format.end is None else "line"
    for name, value in corpus.format.rules.settings().items():
        wanted = getattr(config.data, name)
        if f"data.{name}" in config.given and wanted != value:
            raise ConfigError(
                f"data.{name}: {wanted} conflicts with {corpus.folder}, prepared with {value}: leave "
                "the key out or prepare again"
            )
    for name in ("min_count", "max_vocabulary"):
        if (wanted := getattr(config.data, name)) != getattr(DataConfig, name):
            raise ConfigError(
                f"data.{name}: {wanted} says how a vocabulary is made, and {corpus.folder} has one: "
                f"leave the key out, or prepare again with --{name.replace('_', '-')} {wanted}"
            )
    for split in ("val", "test"):
        fraction = getattr(config.data, f"{split}_fraction")
        if f"data.{split}_fraction" in config.given and (
            abs(total * fraction - corpus.units(split)) > 1
        ):
            raise ConfigError(
                f"data.{split}_fraction: {fraction} conflicts with {corpus.folder}, which has "
                f"{corpus.units(split)} of {total} {noun}s there: leave the key out or prepare again"
            )


def data_record(corpus: Corpus) -> dict[str, str]:
    """What a checkpoint records of its data, for `recorded_data` to find it again."""
    return {"folder": str(corpus.folder.absolute()), "fingerprint": corpus.fingerprint}


def same_data(at: Checkpoint, folder: Path) -> Corpus:
    """The corpus in a prepared folder. Raises DataError unless the run was trained on its content.

    Its files may have had another encoding, so the corpus gets the format of the run.
    """
    corpus = Corpus.open(folder)
    if corpus.fingerprint != at.data["fingerprint"]:
        raise DataError(
            f"{folder}: not the text that this run was trained on (its content hash differs): "
            f"restore it, or start a new run with {option('init_from')}"
        )
    return replace(corpus, format=at.format)


def recorded_data(at: Checkpoint, *others: Path, instead: str | None = None) -> Corpus:
    """Find the corpus that a run was trained on, by its content.

    Looks beside the checkpoint, in the folder that the run recorded, then in `others`. If it is in
    none of them, raises DataError that says what is in each. `instead` is the option that names another
    text, where there is one.
    """
    if not at.data:
        way = f": give some with {option(instead)}" if instead else ""
        raise CheckpointError(
            f"{at.path or 'this checkpoint'} recorded no data (an imported model has none){way}"
        )
    beside = [] if at.path is None else [at.path.parent / "data"]
    places: dict[Path, Path] = {}  # by absolute path, to try each only once
    for place in (*beside, Path(at.data["folder"]), *others):
        places.setdefault(place.absolute(), place)
    found = []
    for place in places.values():
        if not is_prepared(place):
            found.append(f"{place}: no prepared folder")
            continue
        try:
            return same_data(at, place)
        except DataError as error:
            found.append(str(error))
    raise DataError(f"the run's data was not found: {'; '.join(found)}")
