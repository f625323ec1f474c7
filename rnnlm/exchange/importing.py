"""A run folder made of a model in another program's format."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import yaml

from ..assembly import build_model, make_config, read_config
from ..config.schema import Config, flat
from ..errors import CheckpointError, ConfigError, DataError
from ..runs.checkpoint import Checkpoint, Progress
from ..runs.finding import find_checkpoint
from ..runs.folder import Run
from ..runs.run_data import is_prepared
from ..storage.atomic import as_path, check_new
from ..text.corpus import Corpus
from ..text.format import TextFormat, TextRules
from ..text.sources import read_text
from ..wording import shown
from . import FORMATS
from .contract import Imported, Reader, Symbols

FIRSTS = 10**6  # what the frequencies of first symbols add up to


def import_model(
    path: str | Path,
    out: str | Path,
    *overrides: str,
    vocabulary: str | Path | None = None,
) -> Checkpoint:
    """Make the run folder `out` of a model in a file; its format is known by the suffix.

    `vocabulary` is a checkpoint, a run or a prepared folder with the model's symbols, or a text of them
    in the order of their ids. `overrides` are `section.key=value`, for what the file does not tell.
    Raises ConfigError, DataError or CheckpointError, and leaves no folder, where the file does not hold
    such a model.
    """
    path, out = as_path(path, DataError), as_path(out, CheckpointError)
    read = _reader(path)
    if out.is_dir() and any(out.iterdir()):
        check_new(out, ": name another with --out")
    data = make_config(None, *(o for o in overrides if o.startswith(("data.", "data="))))
    rules = TextRules.of(data.data)
    symbols = None if vocabulary is None else _symbols(as_path(vocabulary, DataError), rules)
    imported = read(path, symbols, rules)
    config = _config(path, imported, overrides)
    V = len(imported.format.vocabulary)
    try:
        params = build_model(config, V).restore(imported.params)
    except ValueError as error:
        raise DataError(f"{path}: does not hold such a model: {error}") from None
    first = np.ones(V) / V if imported.first is None else imported.first
    checkpoint = Checkpoint(
        config=config,
        format=imported.format,
        params=params,
        counts=np.ceil(first * FIRSTS).astype(np.int64),
        progress=Progress(started=time.time()),
    )
    _save(checkpoint, out)
    return Checkpoint.load(out / "best.npz")


def _reader(path: Path) -> Reader:
    """What reads files of this name."""
    suffix = path.suffix.lower()
    for form in FORMATS.values():
        if form.read is not None and suffix in form.reads:
            return form.read
        if suffix in form.refuses:
            raise DataError(f"{path}: {form.refuses[suffix]}")
    known = dict.fromkeys(suffix for form in FORMATS.values() for suffix in form.reads)
    raise DataError(
        f"{path}: not a name of a file to import: its suffix must be {' or '.join(known)}"
    )


def _symbols(path: Path, rules: TextRules) -> Symbols:
    """The symbols that a user names: of a model or text, or one after another in a file."""
    if is_prepared(path):
        found = Corpus.open(path).format
    elif path.is_dir() or path.suffix == ".npz":
        found = Checkpoint.load(find_checkpoint(path)).format
    else:
        units = rules.kind.units(read_text(str(path), rules))
        different, counts = np.unique(units, return_counts=True)
        if (counts > 1).any():
            twice = rules.kind.spell(different[counts > 1][0])
            raise DataError(
                f"{path}: a text of symbols in the order of their ids has {twice} twice"
            )
        vocabulary = rules.kind.of_text(different, counts)
        return Symbols(TextFormat(rules, vocabulary), vocabulary.lookup(units))
    return Symbols(found, np.arange(len(found.vocabulary)))


def _config(path: Path, imported: Imported, overrides: Iterable[str]) -> Config:
    """The config of the run. Raises ConfigError where an override contradicts the file."""
    settled = {"data": imported.format.rules.settings(), "model": dict(imported.model)}
    config = read_config(yaml.safe_dump(settled), str(path), overrides)
    now = dict(flat(config.to_dict()))
    for key, value in flat(settled):
        if now.get(key) != value:
            raise ConfigError(
                f"{key}: {shown(now.get(key))} contradicts {path}: it is {shown(value)}"
            )
    return config


def _save(checkpoint: Checkpoint, folder: Path) -> None:
    run = Run.create(folder)
    try:
        run.write_config(checkpoint.config)
        run.open_metrics(0)
        model = checkpoint.model.describe(checkpoint.params)
        run.log({"event": "end", "step": 0, "reason": "imported", "model": model})
        checkpoint.progress.metrics_bytes = run.metrics_length()
        checkpoint.save(run.best)
        checkpoint.save(run.last)
    finally:
        run.abandon()
