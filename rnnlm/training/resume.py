"""What may change in a config: when a run is resumed, and when one starts from other weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..assembly import TABLES, read_config
from ..config.kinds import MODEL
from ..config.parse import load_config
from ..config.schema import Config, differences, flat
from ..errors import ConfigError
from ..models.base import TrainableModel
from ..optim.schedules import NEEDS_TOTAL
from ..runs.checkpoint import Checkpoint
from ..runs.run_data import is_prepared
from ..storage.atomic import same_folder
from ..text.format import TextRules
from ..wording import option, quoted

# Keys that a resume may change, because they change no parameter at any step. LENGTH must stay where
# the schedule depends on it; the text is compared by its content.
RESUMABLE = frozenset(
    {
        "data.path",
        "run.dir",
        "run.tensorboard",
        "train.epochs",
        "train.log_every",
        "train.sample_every",
        "train.checkpoint_every",
        "train.keep",
        "train.patience",
        "train.threads",
        "train.max_steps",
        "train.max_minutes",
    }
)
LENGTH = ("train.epochs", "train.max_steps")
LIMITS = (*LENGTH, "train.max_minutes", "train.patience")  # what ends a run

# Keys that may differ from those of --init-from, because they change no parameter
REGULARISATION = frozenset(
    {
        "dropout",
        "output_dropout",
        "input_dropout",
        "embedding_dropout",
        "locked",
        "weight_dropout",
        "activation_penalty",
        "change_penalty",
    }
)
ADOPTED = ("level", "newlines", "reverse")  # keys of `data` that a run takes from its --init-from


def adopt_config(config: Config, init_from: Checkpoint) -> Config:
    """The config with the model and text rules of the checkpoint that a run starts from.

    Its regularisation may differ.
    """
    if not isinstance(init_from.model, TrainableModel):
        raise ConfigError(
            f"{option('init_from')}: the model of that checkpoint has no weights to start from: "
            f"{init_from.model.describe()}"
        )
    theirs, ours = (dict(flat(c.to_dict())) for c in (init_from.config, config))
    for key, value in theirs.items():
        section, _, name = key.partition(".")
        kept = {"model": name not in REGULARISATION, "data": name in ADOPTED}.get(section, False)
        if kept and key in config.given and ours.get(key) != value:
            raise ConfigError(
                f"{key}: {ours.get(key)} conflicts with {option('init_from')}, which has {value}: "
                "leave the key out"
            )
    model = dict(init_from.config.model)
    for key in sorted(config.given):
        section, _, name = key.partition(".")
        if section == "model" and name and name.partition(".")[0] not in model:
            raise ConfigError(
                f"{key} conflicts with {option('init_from')}, a {model[MODEL.by]} model: leave the "
                "key out"
            )
    for name in REGULARISATION:
        if f"model.{name}" in config.given:
            model[name] = config.model[name]
    data = {name: getattr(init_from.config.data, name) for name in ADOPTED}
    return replace(config, model=model).with_values("data", **data)


def resumed_config(
    old: Config, folder: Path, overrides: list[str], given: Config | None = None
) -> Config:
    """The run's config.yaml with overrides, and with the keys that `given` was given.

    Raises ConfigError where it differs from `old`, the config in last.npz, in a key that changes what
    the run computes.
    """
    path = folder / "config.yaml"
    if path.is_file():
        new = load_config(path, overrides, TABLES)
    else:
        new = read_config(old.to_yaml(), str(folder), overrides)
    if "train.eval_symbols" not in old.given:  # until then every validation read the whole text
        old = old.with_values("train", eval_symbols=None)
        if "train.eval_symbols" not in new.given:
            new = new.with_values("train", eval_symbols=None)
    new = new if given is None else _with_given(new, given)
    for key, before, after in differences(old, new):
        fixed_length = key in LENGTH and new.train.schedule["name"] in NEEDS_TOTAL
        if key not in RESUMABLE or fixed_length:
            why = (
                f" (the {new.train.schedule['name']} schedule depends on it)"
                if fixed_length
                else ""
            )
            way = f" with {option('init_from')} {quoted(str(folder))}"
            raise ConfigError(
                f"{folder}: cannot resume with {key} changed from {before} to {after}{why}: set "
                f"it back, or start a new run{'' if key.startswith('model.') else way}"
            )
        if key == "data.path" and not (after and is_prepared(Path(after))):
            raise ConfigError(
                f"{folder}: cannot resume with data.path {after}, which is not a prepared folder: the "
                f"run has its own copy of its text; give {before}, as before, or leave it out"
            )
        if key == "run.dir" and (after is None or not same_folder(Path(after), folder)):
            raise ConfigError(
                f"{folder}: cannot resume with run.dir {after}: a run goes on in its own folder, which "
                "may be moved as a whole; leave the key out"
            )
    return new


def made_longer(run: Path, given: Config) -> bool:
    """Whether a config changes what ends a run.

    Raises ConfigError where the run cannot go on with it.
    """
    old = Checkpoint.load(run / "last.npz").config
    changed = differences(resumed_config(old, run, []), resumed_config(old, run, [], given))
    return any(key in LIMITS for key, _, _ in changed)


def _with_given(config: Config, given: Config) -> Config:
    """A config with the keys that another one was given; the names of its text rules are Python's."""
    given = given.with_values("data", **TextRules.of(given.data).settings())
    for section, name in sorted({tuple(key.split(".")[:2]) for key in given.given if "." in key}):
        values = dict(given.model) if section == "model" else vars(getattr(given, section))
        config = config.with_values(section, **{name: values[name]})
    return config
