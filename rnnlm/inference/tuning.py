"""The options of dynamic evaluation that suit a model and a text, by trials."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..errors import ConfigError, TrainingError
from ..models.base import LanguageModel
from .dynamic import Texts, evaluate_dynamic, options_of, used_options
from .evaluation import Evaluation
from .learning import Dynamic

STEPS = {"rate": 3, "segment": 2, "decay": 10, "weight_rate": 4}  # factors, in the order of trials
FARTHEST = 5  # steps in one direction, at most
GAIN = 0.0005  # nats per symbol that make another step worth while
PASSES = 2  # over all options: what is best for one depends on the others


def tune(
    model: LanguageModel, params: Any, texts: Texts, dynamic: Dynamic
) -> Iterator[tuple[Dynamic, Evaluation]]:
    """Evaluate the model with other options: first as given, then with one of STEPS after another
    larger, or else smaller, from the best so far, and on while that gains something.

    Where the predictions are not finite, nats are infinite. Raises as `evaluate_dynamic` does for the
    options as given, and ConfigError where the model has none of STEPS.
    """
    names = [name for name in STEPS if name in options_of(model)]
    if not names:
        raise ConfigError(f"this model has no rates to tune: {model.describe()}")
    best = dynamic, evaluate_dynamic(model, params, texts, dynamic)
    yield best
    known = {dynamic}

    def towards(name: str, factor: float) -> Iterator[tuple[Dynamic, Evaluation]]:
        nonlocal best
        for _ in range(FARTHEST):
            trial = _moved(best[0], name, factor)
            if trial is None or trial in known:
                return
            known.add(trial)
            try:
                found = trial, evaluate_dynamic(model, params, texts, trial)
            except TrainingError:
                used = used_options(model, trial)
                found = trial, replace(best[1], nats=math.inf, dynamic=used)
            yield found
            if found[1].nats > best[1].nats - GAIN * best[1].symbols:
                return
            best = found

    for _ in range(PASSES):
        start = best[0]
        for name in names:
            before = best[0]
            yield from towards(name, STEPS[name])
            if best[0] == before:
                yield from towards(name, 1 / STEPS[name])
        if best[0] == start:
            return


def _moved(dynamic: Dynamic, name: str, factor: float) -> Dynamic | None:
    """The options with one of them so many times as large, from 0 as by default; None where it may not
    be so large or small.
    """
    value = getattr(dynamic, name) * factor
    if not value and factor > 1:
        value = getattr(Dynamic(), name)
    try:
        rounded = int(value) if name == "segment" else float(f"{value:.3g}")
        return replace(dynamic, **{name: rounded})  # type: ignore[arg-type]
    except ConfigError:
        return None
