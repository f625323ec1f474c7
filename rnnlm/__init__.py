"""Language models of your own text, on your own CPU: recurrent nets, n-grams, mixtures of both.

    import rnnlm
    checkpoint = rnnlm.load("runs/my-run")
    print(rnnlm.generate(checkpoint, prime="The ", length=200))

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing's own takes a while to load, and signals are caught after this

if TYPE_CHECKING:
    from .api.checkpoints import load as load
    from .api.evaluation import evaluate as evaluate
    from .api.sampling import generate as generate
    from .api.sampling import samples as samples
    from .api.sampling import stream as stream
    from .api.scoring import next_probabilities as next_probabilities
    from .api.scoring import score as score
    from .api.scoring import surprisal as surprisal
    from .assembly import make_config as make_config
    from .config.schema import Config as Config
    from .errors import CheckpointError as CheckpointError
    from .errors import ConfigError as ConfigError
    from .errors import DataError as DataError
    from .errors import RnnlmError as RnnlmError
    from .errors import TrainingError as TrainingError
    from .inference.evaluation import Evaluation as Evaluation
    from .inference.learning import Dynamic as Dynamic
    from .runs.checkpoint import Checkpoint as Checkpoint
    from .runs.history import history as history
    from .runs.history import read_metrics as read_metrics
    from .text.corpus import Corpus as Corpus
    from .text.prepare import prepare as prepare
    from .text.vocabulary import Vocabulary as Vocabulary
    from .training.loop import Event as Event
    from .training.loop import Training as Training
    from .training.mixing import mix as mix
    from .training.result import TrainingResult as TrainingResult
    from .training.result import resume as resume
    from .training.result import train as train
    from .training.result import train_events as train_events

_HOMES = {
    "api.checkpoints": ("load",),
    "api.evaluation": ("evaluate",),
    "api.sampling": ("generate", "samples", "stream"),
    "api.scoring": ("next_probabilities", "score", "surprisal"),
    "runs.checkpoint": ("Checkpoint",),
    "assembly": ("make_config",),
    "config.schema": ("Config",),
    "text.corpus": ("Corpus",),
    "text.prepare": ("prepare",),
    "errors": ("CheckpointError", "ConfigError", "DataError", "RnnlmError", "TrainingError"),
    "inference.learning": ("Dynamic",),
    "runs.history": ("history", "read_metrics"),
    "inference.evaluation": ("Evaluation",),
    "training.loop": ("Event", "Training"),
    "training.mixing": ("mix",),
    "training.result": ("TrainingResult", "resume", "train", "train_events"),
    "text.vocabulary": ("Vocabulary",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # type checkers know the names from above
    __all__ = [*_HOME]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, "__version__"])
