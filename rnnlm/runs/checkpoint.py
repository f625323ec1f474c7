"""Checkpoints: one .npz with all that sampling from a model or scoring a text needs.

Members:

- the parameters under their names (`layers.0.Wh`, ...)
- `text`: the text format's JSON, as bytes
- `counts`: of each symbol in the training text
- `lead`, not in all: ids that come before a sample without a prime
- `config`: YAML
- `meta`: JSON with format, version, position, losses, the data's fingerprint, each array's dtype, shape
  and CRC-32; in newer files also the environments that computed them, and the checkpoint that a run
  with --init-from began with
- of a model that is trained step by step, `optimizer.<name>`: the optimizer's vectors, in the order of
  the parameters; where these are an average, also `optimizer.weights`, what the optimizer updates
- of such a model also `state` (L, S, B, H): the carried hidden state

Version 1, that of rnnlm 0.1.0, has `vocabulary` (the symbols' numbers) instead of `text`, and its text
rules are those of the config. Random numbers are functions of the seed and the step (see seeds.py), so
no state of a generator is saved.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array
from ..assembly import build_model, read_config
from ..backend.params import check_array
from ..config.schema import Config
from ..errors import CheckpointError, ConfigError, DataError
from ..models.base import LanguageModel, TrainableModel
from ..optim.averages import AVERAGES, none
from ..optim.optimizers import OPTIMIZERS, state_names
from ..storage.atomic import as_path, atomic_write
from ..storage.npz import read_npz, write_npz
from ..text.format import TextFormat, TextRules
from ..text.lead import LENGTH
from ..text.vocabulary import Unknown, Vocabulary
from ..wording import shown
from .provenance import Environment, checked

FORMAT = "rnnlm-checkpoint"
VERSION = 2
MAX_CONFIG = 1 << 16  # characters: YAML is slow to read, and a config is a page of text
# Keys of the data, and of the checkpoint that a run began with
RECORDS = {"data": ("folder", "fingerprint"), "origin": ("checkpoint", "params_sha256")}
WEIGHTS = "weights"  # among the optimizer's vectors
MAX_TEXT = 1 << 25  # bytes of the text format's JSON: enough for all of Unicode


@dataclass
class Progress:
    """How far a run has come: all that is carried from step to step besides the arrays."""

    step: int = 0
    epoch: float = 0.0
    seconds: float = 0.0  # of training, over all sessions
    loss_sum: float = 0.0  # nats since the last `train` line
    loss_symbols: int = 0
    best_loss: float | None = None  # nats per symbol on the validation text
    best_step: int | None = None
    bad_evals: int = 0  # evaluations since the best
    train_loss: float | None = None  # of the last `train` line
    val_loss: float | None = None  # of the last evaluation
    sampled_step: int = 0
    drops: int = 0  # of the learning rate, by validations
    averaged: int = 0  # updates whose weights the average has
    val_losses: list[float] = field(default_factory=list)  # that an average waits by
    owed_step: int = 0  # the step whose validation was interrupted; 0: none
    metrics_bytes: int = 0  # length of metrics.jsonl when this was saved
    started: float = 0.0  # seconds since 1970


@dataclass(frozen=True)
class Checkpoint:
    """A model with its text format, and the state of the run it comes from."""

    config: Config
    format: TextFormat
    params: Any  # arrays by name, as the model's `restore` makes them
    counts: Array  # (V,) of each symbol in the training text
    progress: Progress = field(default_factory=Progress)
    data: Mapping[str, str] = field(default_factory=dict)  # folder and fingerprint
    optimizer_state: Mapping[str, Array] = field(default_factory=dict)
    state: Array | None = None  # (L, S, B, H)
    environments: Sequence[Environment] = ()  # that computed it, the last one last
    origin: Mapping[str, str] = field(default_factory=dict)  # what its run began with
    lead: Array = field(default_factory=lambda: np.zeros(0, np.uint32))  # (n,): see text/lead.py
    path: Path | None = None  # where it was read from

    @cached_property
    def model(self) -> LanguageModel:
        return build_model(self.config, len(self.vocabulary))

    @property
    def params_sha256(self) -> str:
        """A hash of the parameters: of the name, dtype, shape and bytes of each array, by name."""
        digest = hashlib.sha256()
        for name in sorted(self.params):
            array = np.ascontiguousarray(self.params[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
        return digest.hexdigest()

    @property
    def vocabulary(self) -> Vocabulary:
        """The symbols and their ids."""
        return self.format.vocabulary

    @property
    def level(self) -> str:
        """What a symbol is: a name in LEVELS."""
        return self.format.level

    @property
    def frequencies(self) -> Array:
        """The share (V,) that each symbol has of the training text."""
        shares: Array = self.counts / max(1, self.counts.sum())
        return shares

    def ids(self, text: str | bytes, unknown: Unknown = "error") -> Array:
        """The ids (n,) of a text, read as the training text was: see TextFormat.ids."""
        return self.format.ids(text, unknown)

    def save(self, path: str | Path) -> None:
        """Write atomically. Raises CheckpointError when that fails, or when `load` would refuse the new
        file; an old file is then unchanged.
        """
        path = as_path(path, CheckpointError)
        arrays: dict[str, Array] = {
            **self.params,
            **{f"optimizer.{name}": vector for name, vector in self.optimizer_state.items()},
            "counts": self.counts,
        }
        if self.state is not None:
            arrays["state"] = self.state
        if self.lead.size:
            arrays["lead"] = self.lead
        try:
            _restore(self.config, self.model, arrays)
            arrays["text"] = _text_member(self.format, self.config)
            _progress(asdict(self.progress))
            _record("data", self.data)
            _record("origin", self.origin)
            checked([*self.environments])
        except (ValueError, DataError) as error:
            raise CheckpointError(
                f"{path}: not written, since it could not be read again: bad {error}; an old file is "
                "unchanged"
            ) from None
        arrays["config"] = np.array(self.config.to_yaml())
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "progress": asdict(self.progress),
            "data": dict(self.data),
            "origin": dict(self.origin),
            "environments": [dict(entries) for entries in self.environments],
            "arrays": {name: _describe(array) for name, array in arrays.items()},
        }
        arrays["meta"] = np.array(json.dumps(meta))
        try:
            with atomic_write(path) as file:
                write_npz(file, arrays)
        except OSError as error:
            need = sum(array.nbytes for array in arrays.values())
            raise CheckpointError(
                f"{path}: cannot write the checkpoint ({need / 1e6:.1f} MB needed): "
                f"{error.strerror or error}; an old file is unchanged"
            ) from None

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read and check a checkpoint. Raises CheckpointError that says what is wrong."""
        path = as_path(path, CheckpointError)
        arrays = read_npz(path)
        meta = _read_meta(path, arrays)
        described = {name: _describe(a) for name, a in arrays.items() if name != "meta"}
        if meta.get("arrays") != described:
            raise CheckpointError(f"{path}: damaged checkpoint: arrays differ from its manifest")
        with _refusing(path):
            return cls._from_arrays(path, arrays, meta)

    @classmethod
    def _from_arrays(cls, path: Path, arrays: dict[str, Array], meta: dict[str, Any]) -> Checkpoint:
        config = read_config(_config_text(arrays["config"]), f"{path}: config")
        name, read = TEXT_MEMBERS[meta["version"]]
        text_format = read(arrays.pop(name), config)
        model = build_model(config, len(text_format.vocabulary))
        own = {name: a for name, a in arrays.items() if name not in ("config", "meta")}
        params = _restore(config, model, own)
        return cls(
            config=config,
            format=text_format,
            params=params,
            counts=arrays["counts"],
            progress=_progress(meta["progress"]),
            data=_record("data", meta["data"]),
            optimizer_state={
                name.removeprefix("optimizer."): array.copy()
                for name, array in own.items()
                if name.startswith("optimizer.")
            },
            state=arrays["state"].copy() if "state" in arrays else None,
            origin=_record("origin", meta.get("origin", {})),
            environments=checked(meta.get("environments", [])),
            lead=arrays["lead"].copy() if "lead" in arrays else np.zeros(0, np.uint32),
            path=path,
        )


def _config_text(array: Array) -> str:
    """The YAML of the config member. Raises ValueError for what is none."""
    if array.ndim or array.dtype.kind != "U" or array.dtype.itemsize > 4 * MAX_CONFIG:
        raise ValueError(f"array config: {array.dtype} {array.shape}")
    return str(array)


def _restore(config: Config, model: LanguageModel, arrays: Mapping[str, Array]) -> Any:
    """The parameters among the arrays of a checkpoint.

    Raises ValueError unless these are the arrays of a checkpoint with that config and model.
    """
    beside = {
        name: array
        for name, array in arrays.items()
        if name in ("counts", "state", "lead") or name.startswith("optimizer.")
    }
    known = _training_shapes(config, model) if isinstance(model, TrainableModel) else {}
    if strange := [name for name in beside if name not in ("counts", "lead", *known)]:
        raise ValueError(f"arrays {str(sorted(strange))[:80]}")
    for name, shape in known.items():
        if name in beside:
            check_array(name, beside[name], shape)
    counts = arrays["counts"]
    check_array("counts", counts, (model.vocabulary_size,), np.int64)
    if counts.min() < 0 or not counts.any():
        raise ValueError("array counts: not those of a text")
    if "lead" in beside:
        ids = beside["lead"]
        check_array("lead", ids, (min(ids.size, LENGTH),), np.uint32)
        if not ids.size or ids.max() >= model.vocabulary_size:
            raise ValueError("array lead: not ids of the vocabulary")
    return model.restore({name: a for name, a in arrays.items() if name not in beside})


def _training_shapes(config: Config, model: TrainableModel) -> dict[str, tuple[int, ...]]:
    """The shapes of what training carries from step to step beside the parameters."""
    vectors = state_names(OPTIMIZERS[config.train.optimizer["name"]])
    if AVERAGES[config.train.average["name"]] is not none:
        vectors.append(WEIGHTS)
    return {
        "state": model.state_shape(config.train.batch_size),
        **{f"optimizer.{name}": (model.num_parameters,) for name in vectors},
    }


# The member of the text format: its bytes must be exactly those that `save` writes


def _text_member(text_format: TextFormat, config: Config) -> Array:
    """The member that holds a text format. Raises ValueError where `load` would refuse it."""
    if text_format.rules != TextRules.of(config.data):
        raise ValueError(f"text rules: {text_format.rules.settings()}, unlike the config")
    data = json.dumps(text_format.to_json()).encode()
    if len(data) > MAX_TEXT:
        raise ValueError(f"array text: {len(data):,} bytes of symbols")
    return np.frombuffer(data, np.uint8)


def _read_text_member(array: Array, config: Config) -> TextFormat:
    """The text format of a member. Raises ValueError or DataError unless `save` writes it so."""
    if array.ndim != 1 or array.dtype != np.uint8 or array.size > MAX_TEXT:
        raise ValueError(f"array text: {array.dtype} {array.shape}")
    try:
        text_format = TextFormat.from_json(json.loads(array.tobytes()))
    except (ValueError, RecursionError):
        raise ValueError("array text: not JSON") from None
    if not np.array_equal(_text_member(text_format, config), array):
        raise ValueError("array text: not as rnnlm writes it")
    return text_format


def _read_vocabulary_member(array: Array, config: Config) -> TextFormat:
    """The text format of a version 1 checkpoint: the symbols' numbers, and the config's rules."""
    if array.ndim != 1 or array.dtype != np.uint32:
        raise ValueError(f"array vocabulary: {array.dtype} {array.shape}")
    rules = TextRules.of(config.data)
    return TextFormat(rules, rules.kind(array))


TEXT_MEMBERS: dict[int, tuple[str, Callable[[Array, Config], TextFormat]]] = {
    1: ("vocabulary", _read_vocabulary_member),
    VERSION: ("text", _read_text_member),
}


@dataclass(frozen=True, eq=False)
class Glance:
    """What a checkpoint says of its run. Its parameters are not read, nor are they checked."""

    path: Path
    config: Config
    progress: Progress
    data: Mapping[str, str]  # folder and fingerprint
    counts: Array  # (V,) of each symbol in the training text

    @cached_property
    def model(self) -> LanguageModel:
        return build_model(self.config, len(self.counts))

    @property
    def noun(self) -> str:
        """The word for a symbol."""
        return TextRules.of(self.config.data).kind.noun


def check_checkpoint(value: object, where: str = "") -> None:
    """Raise CheckpointError, which begins with `where`, for what is no checkpoint."""
    if not isinstance(value, Checkpoint):
        raise CheckpointError(
            f"{where}expected a checkpoint, as rnnlm.load returns one, not {shown(value)}"
        )


def glance(path: Path) -> Glance:
    """Read what a checkpoint says of its run. Raises CheckpointError as `load` does."""
    arrays = read_npz(path, only=("meta", "config", "counts"))
    meta = _read_meta(path, arrays)
    with _refusing(path):
        config = read_config(_config_text(arrays["config"]), f"{path}: config")
        counts = arrays["counts"]
        check_array("counts", counts, (counts.size,), np.int64)
        progress, data = _progress(meta["progress"]), _record("data", meta["data"])
        return Glance(path, config, progress, data, counts)


def read_progress(path: Path) -> Progress:
    """The progress in a checkpoint; its arrays are not read. Raises CheckpointError as `load` does."""
    meta = _read_meta(path, read_npz(path, only=("meta",)))
    with _refusing(path):
        return _progress(meta["progress"])


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn what bad contents raise into one error that names the file."""
    try:
        yield
    except (ConfigError, DataError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: bad or missing {error}") from None


def _describe(array: Array) -> list[Any]:
    return [array.dtype.str, list(array.shape), zlib.crc32(np.ascontiguousarray(array).data)]


def _read_meta(path: Path, arrays: dict[str, Array]) -> dict[str, Any]:
    """The member `meta`; CheckpointError unless it is of a checkpoint that this version reads."""
    try:
        meta = json.loads(str(arrays["meta"]))
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise KeyError
    except (KeyError, ValueError, RecursionError):
        raise CheckpointError(f"{path}: not an rnnlm checkpoint") from None
    version = meta.get("version")
    if type(version) is not int or version not in TEXT_MEMBERS:
        readable = " and ".join(map(str, TEXT_MEMBERS))
        raise CheckpointError(
            f"{path}: checkpoint format {shown(version)}, this rnnlm reads {readable}: use the version "
            "of rnnlm that wrote it"
        )
    progress = meta.get("progress")
    if version == 1 and isinstance(progress, dict):
        progress["loss_symbols"] = progress.pop("loss_chars", None)  # its name in version 1
    return meta


def _record(name: str, values: Any) -> dict[str, str]:
    """The record of a name in RECORDS, from JSON: nothing, or a text under each of its keys."""
    if not isinstance(values, dict) or values.keys() not in (set(), set(RECORDS[name])):
        raise ValueError(name)
    if not all(isinstance(value, str) for value in values.values()):
        raise ValueError(name)
    return dict(values)


def _progress(values: dict[str, Any]) -> Progress:
    """Progress from JSON, its types and ranges checked."""
    # These came after version 0.1.0
    values = {"owed_step": 0, "drops": 0, "averaged": 0, "val_losses": [], **values}
    if values.keys() != asdict(Progress()).keys():
        raise ValueError("progress")
    progress = Progress(**values)
    losses = values.pop("val_losses")
    if type(losses) is not list or not all(type(x) is float and 0 <= x < math.inf for x in losses):
        raise ValueError(f"progress.val_losses: {str(losses)[:80]}")
    for name, value in values.items():
        integer = isinstance(getattr(Progress(), name), int) or name == "best_step"
        optional = getattr(Progress(), name) is None
        fits = type(value) is int if integer else type(value) in (int, float)
        if not (fits and math.isfinite(value) and value >= 0) and not (optional and value is None):
            raise ValueError(f"progress.{name}: {value!r}")
    if (progress.best_loss is None) != (progress.best_step is None):
        raise ValueError("progress: a best loss without its step, or a step without its loss")
    return progress
