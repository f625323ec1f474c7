"""Language models of your own text, on your own CPU: recurrent nets, n-grams, mixtures of both.

    import rnnlm
    checkpoint = rnnlm.load("runs/my-run")
    print(rnnlm.generate(checkpoint, prime="The ", length=200))

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing's own takes a while to load, and signals are caught after this

if TYPE_CHECKING:
    from .api.checkpoints import load
    from .api.evaluation import evaluate
    from .api.sampling import generate, samples, stream
    from .api.scoring import next_probabilities, score, surprisal
    from .assembly import make_config
    from .config.schema import Config
    from .errors import CheckpointError, ConfigError, DataError, RnnlmError, TrainingError
    from .inference.evaluation import Evaluation
    from .inference.learning import Dynamic
    from .runs.checkpoint import Checkpoint
    from .runs.folder import read_metrics
    from .runs.history import history
    from .text.corpus import Corpus
    from .text.prepare import prepare
    from .text.vocabulary import Vocabulary
    from .training.loop import Event, Training
    from .training.mixing import mix
    from .training.result import TrainingResult, resume, train, train_events

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
    "runs.folder": ("read_metrics",),
    "inference.learning": ("Dynamic",),
    "runs.history": ("history",),
    "inference.evaluation": ("Evaluation",),
    "training.loop": ("Event", "Training"),
    "training.mixing": ("mix",),
    "training.result": ("TrainingResult", "resume", "train", "train_events"),
    "text.vocabulary": ("Vocabulary",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Config",
    "ConfigError",
    "Corpus",
    "DataError",
    "Dynamic",
    "Evaluation",
    "Event",
    "RnnlmError",
    "Training",
    "TrainingError",
    "TrainingResult",
    "Vocabulary",
    "evaluate",
    "generate",
    "history",
    "load",
    "make_config",
    "mix",
    "next_probabilities",
    "prepare",
    "read_metrics",
    "resume",
    "samples",
    "score",
    "stream",
    "surprisal",
    "train",
    "train_events",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
