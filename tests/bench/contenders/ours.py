"""rnnlm, through what its own training loop and command line call."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import rnnlm
from rnnlm.assembly import build_model, make_config
from rnnlm.backend.workers import available_cores
from rnnlm.inference.evaluation import evaluate
from rnnlm.inference.sampling import generate
from rnnlm.inference.scoring import Scorer, in_batches
from rnnlm.optim.optimizers import OPTIMIZERS
from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.text.batches import Batch
from rnnlm.text.format import TextFormat, TextRules
from rnnlm.text.vocabulary import CharVocabulary
from rnnlm.training.engine import Engine
from rnnlm.training.loop import Training

from ..models import Case
from ..resident import peak_resident, peak_with_children
from .repeated import Repeated

ENDLESS = 1 << 40


def about() -> dict[str, Any]:
    """rnnlm's version and threads."""
    return {"version": rnnlm.__version__, "threads": available_cores()}


def config_of(case: Case) -> Any:
    """A config with the case's model."""
    settings = {"cell": case.cell, "hidden_size": case.hidden, "num_layers": case.layers}
    if case.cell == "gru":
        settings["reset_after"] = str(case.reset_after).lower()
    return make_config(None, *(f"model.{name}={value}" for name, value in settings.items()))


class Train(Repeated):
    """Whole training steps over random text."""

    def __init__(self, case: dict[str, Any]) -> None:
        c = Case(**case)
        rng = np.random.default_rng(0)
        model = build_model(config_of(c), c.vocabulary)
        self._engine = Engine(
            model,
            model.init(rng),
            OPTIMIZERS["adam"],
            {},
            batch_size=c.batch,
            clip=("norm", 5.0),
        )
        self._state = model.zero_state(c.batch)
        text = rng.integers(c.vocabulary, size=(c.window + 1, c.batch))
        self._batch = Batch(text[:-1], text[1:])
        self._steps = 0
        self.amount = c.batch * c.window
        self.warm_up()

    def step(self) -> None:
        self._steps += 1
        self._engine.step(self._batch, self._state, self._steps, 2e-3)

    def close(self) -> None:
        """Stop the threads."""
        self._engine.close()


class TrainMemory(Train):
    """Training steps, and the memory that the process has had at most."""

    def turn(self, seconds: float) -> dict[str, float]:
        return {**super().turn(seconds), "peak": peak_with_children()}


class Target:
    """A run, recipe and all, as `rnnlm train` makes it; a turn goes on to the next evaluation."""

    def __init__(self, text: str, folder: str, recipe: dict[str, Any], seed: int) -> None:
        settings = {"data.path": text, "run.dir": folder, "train.seed": seed, **recipe}
        config = make_config(None, *(f"{name}={value}" for name, value in settings.items()))
        self._training = Training.start(config, "bench")
        self._events = self._training.events()

    def turn(self) -> dict[str, Any]:
        """Seconds of training and of the evaluation after it, the step reached, the loss there."""
        began = perf_counter()
        for event in self._events:
            if event.kind == "step":
                trained = perf_counter()
            elif event.kind == "eval":
                record = event.record
                return {
                    "seconds": perf_counter() - began,
                    "evaluation": perf_counter() - trained,
                    "step": record["step"],
                    "loss": record["loss"],
                }
        raise EOFError("the run is over")

    def close(self) -> None:
        """Let go of the run folder."""
        self._training.__exit__()


class Sample(Repeated):
    """Characters drawn from a model at temperature 1, `case.batch` texts side by side."""

    STEPS = 20

    def __init__(self, case: dict[str, Any]) -> None:
        c = Case(**case)
        model = build_model(config_of(c), c.vocabulary)
        params = model.init(np.random.default_rng(0))
        self._ids = generate(model, params, [0], ENDLESS, num_samples=c.batch)
        self.amount = self.STEPS * c.batch
        self.warm_up()

    def step(self) -> None:
        for _ in range(self.STEPS):
            next(self._ids).tolist()


class Evaluate(Repeated):
    """The loss of a random text of `case.window` symbols, as one stream."""

    def __init__(self, case: dict[str, Any]) -> None:
        c, rng = Case(**case), np.random.default_rng(0)
        self._model = build_model(config_of(c), c.vocabulary)
        self._params = self._model.init(rng)
        self._ids = rng.integers(c.vocabulary, size=c.window + 1)
        self.amount = c.window
        self.warm_up()

    def step(self) -> None:
        evaluate(self._model, self._params, self._ids)


class Score(Repeated):
    """Random lines of `case.window` letters on average, `case.batch` of them."""

    def __init__(self, case: dict[str, Any]) -> None:
        c, rng = Case(**case), np.random.default_rng(0)
        letters = "\n" + "".join(chr(ord("0") + k) for k in range(c.vocabulary - 1))
        model = build_model(config_of(c), c.vocabulary)
        text_format = TextFormat(TextRules.named("char"), CharVocabulary(list(map(ord, letters))))
        first = np.full(c.vocabulary, 1 / c.vocabulary)
        self._scorer = Scorer(model, model.init(rng), text_format, first)
        sizes = rng.integers(c.window // 2, c.window * 3 // 2, size=c.batch)
        self._lines = ["".join(rng.choice(list(letters[1:]), size=n)) for n in sizes]
        self.amount = int(sizes.sum()) + c.batch
        self.warm_up()

    def step(self) -> None:
        for scores in self._scorer.lines(in_batches(self._lines)):
            scores.totals.tolist()


class Prepare:
    """One text prepared, validation and test text set apart."""

    def __init__(self, text: str, folder: str) -> None:
        self._text, self._folder = text, folder

    def turn(self) -> dict[str, float]:
        """Seconds, and the memory that the process has had at most."""
        began = perf_counter()
        rnnlm.prepare([self._text], self._folder)
        return {"seconds": perf_counter() - began, "peak": peak_resident()}


class FreshCheckpoint:
    """A checkpoint of untrained weights, for the start-up of `rnnlm sample`."""

    def __init__(self, case: dict[str, Any], path: str) -> None:
        c = Case(**case)
        config = config_of(c)
        params = build_model(config, c.vocabulary).init(np.random.default_rng(0))
        symbols = np.arange(32, 32 + c.vocabulary, dtype=np.uint32)
        counts = np.ones(c.vocabulary, np.int64)
        text_format = TextFormat(TextRules.of(config.data), CharVocabulary(symbols))
        Checkpoint(config, text_format, params, counts).save(Path(path))


TASKS = {
    "evaluate": Evaluate,
    "score": Score,
    "train": Train,
    "memory": TrainMemory,
    "target": Target,
    "sample": Sample,
    "prepare": Prepare,
    "checkpoint": FreshCheckpoint,
}
