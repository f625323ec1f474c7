"""What may change in a config: when a run is resumed, and when one starts from other weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..assembly import make_config, read_config
from ..config.schema import MODEL, Config, differences, flat
from ..errors import ConfigError
from ..models.base import TrainableModel
from ..optim.schedules import NEEDS_TOTAL
from ..runs.checkpoint import Checkpoint
from ..runs.run_data import is_prepared
from ..storage.atomic import same_folder

# Keys that a resume may change, because they change no parameter at any step. `train.epochs` must stay
# where the schedule depends on the length of the run; the text is compared by its content.
RESUMABLE = frozenset(
    {
        "data.path",
        "run.dir",
        "train.epochs",
        "train.log_every",
        "train.sample_every",
        "train.checkpoint_every",
        "train.keep",
        "train.patience",
        "train.threads",
    }
)

ADOPTED = ("level", "newlines", "reverse")  # keys of `data` that a run takes from its --init-from


def adopt_config(config: Config, init_from: Checkpoint) -> Config:
    """The config with the model and text rules of the checkpoint that a run starts from.

    Dropout may differ: it changes no parameter.
    """
    if not isinstance(init_from.model, TrainableModel):
        raise ConfigError("--init-from: the model of that checkpoint has no weights to start from")
    theirs, ours = (dict(flat(c.to_dict())) for c in (init_from.config, config))
    for key, value in theirs.items():
        adopted = key.startswith("model.") or key in map("data.{}".format, ADOPTED)
        if adopted and key in config.given and ours.get(key) != value and key != "model.dropout":
            raise ConfigError(
                f"{key}: {ours.get(key)} conflicts with --init-from, which has {value}: "
                "leave the key out"
            )
    model = dict(init_from.config.model)
    for key in sorted(config.given):
        section, _, name = key.partition(".")
        if section == "model" and name and name.partition(".")[0] not in model:
            raise ConfigError(
                f"{key} conflicts with --init-from, a {model[MODEL.by]} model: leave the key out"
            )
    if "model.dropout" in config.given:
        model["dropout"] = config.model["dropout"]
    data = {name: getattr(init_from.config.data, name) for name in ADOPTED}
    return replace(config, model=model).with_values("data", **data)


def resumed_config(old: Config, folder: Path, overrides: list[str]) -> Config:
    """The run's config.yaml with overrides.

    Raises ConfigError where it differs from `old`, the config in last.npz, in a key that changes what
    the run computes.
    """
    path = folder / "config.yaml"
    if path.is_file():
        new = make_config(path, *overrides)
    else:
        new = read_config(old.to_yaml(), str(folder), overrides)
    for key, before, after in differences(old, new):
        fixed_length = key == "train.epochs" and new.train.schedule["name"] in NEEDS_TOTAL
        if key not in RESUMABLE or fixed_length:
            why = (
                f" (the {new.train.schedule['name']} schedule depends on it)"
                if fixed_length
                else ""
            )
            raise ConfigError(
                f"{folder}: cannot resume with {key} changed from {before} to {after}{why}: set "
                f"it back, or start a new run{'' if key.startswith('model.') else ' with --init-from'}"
            )
        if key == "data.path" and not (after and is_prepared(Path(after))):
            raise ConfigError(
                f"{folder}: cannot resume with data.path {after}, which is not a prepared folder: the "
                "run has its own copy of its text; leave the key out"
            )
        if key == "run.dir" and (after is None or not same_folder(Path(after), folder)):
            raise ConfigError(
                f"{folder}: cannot resume with run.dir {after}: a run goes on in its own folder, which "
                "may be moved as a whole; leave the key out"
            )
    return new
