"""Language models by one protocol (`base`): one file for each, one line each in MODELS."""

from __future__ import annotations

from collections.abc import Callable

from .base import LanguageModel
from .jordan import Jordan
from .mixture import Mixture
from .ngram import NGram
from .recurrent import Recurrent
from .window import Window

__all__ = ["MODELS"]

MODELS: dict[str, Callable[..., LanguageModel]] = {
    "recurrent": Recurrent,
    "ngram": NGram,
    "mixture": Mixture,
    "window": Window,
    "jordan": Jordan,
}
