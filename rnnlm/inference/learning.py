"""The options of dynamic evaluation, apart from it so that help is shown without loading NumPy."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.kinds import Integer, Number, RefusedError, Text, option, options
from ..errors import ConfigError
from ..wording import shown

# By default; the first two are the best that were tried on tiny Shakespeare's validation text
RATE, DECAY, WEIGHT_RATE = 0.3, 1e-3, 0.01


@dataclass(frozen=True)
class Dynamic:
    """How a model learns while it reads. Raises ConfigError for what an option does not take."""

    segment: int = option(
        20,
        "symbols that are predicted before anything is learnt from them",
        Integer(low=1, high=4096),
    )
    rule: str = option(
        "rms",
        "`rms`: the more its gradients changed in training, the less a parameter moves; `global`: all "
        "move alike",
        Text(one_of=("rms", "global")),
    )
    rate: float = option(RATE, "of the gradient steps", Number(low=0, high=1e30))
    decay: float = option(DECAY, "of the way back to what was trained", Number(low=0, high=1))
    weight_rate: float = option(WEIGHT_RATE, "of a mixture's weights", Number(low=0, below=1))

    def __post_init__(self) -> None:
        for name, declared in options(Dynamic).items():
            value, kind = getattr(self, name), declared.kind
            try:
                object.__setattr__(self, name, kind.read(str(value)))
            except RefusedError as refused:
                raise ConfigError(f"{name} must be {refused.must_be}, not {shown(value)}") from None
