"""PyTorch, eager, on the CPU, with the threads it takes by itself."""

from __future__ import annotations

import math
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..models import Case
from ..resident import peak_resident
from .repeated import Repeated

LAYERS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


def about() -> dict[str, Any]:
    """PyTorch's version and threads."""
    return {"version": torch.__version__, "threads": torch.get_num_threads()}


def table_of(case: Case, embedding: bool) -> nn.Embedding:
    """A learned embedding of the hidden size, or the rows of the unit matrix: one-hot input."""
    V = case.vocabulary
    return nn.Embedding(V, case.hidden) if embedding else nn.Embedding.from_pretrained(torch.eye(V))


class CharModel(nn.Module):
    """Characters in, PyTorch's own recurrent module, logits out."""

    def __init__(self, case: Case, embedding: bool) -> None:
        super().__init__()
        self.table = table_of(case, embedding)
        self.rnn = LAYERS[case.cell](self.table.embedding_dim, case.hidden, case.layers)
        self.out = nn.Linear(case.hidden, case.vocabulary)

    def forward(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, state = self.rnn(self.table(ids), state)
        return self.out(hidden), state


def detached(state: Any) -> Any:
    """A state that the next window carries on, without its history."""
    return state.detach() if isinstance(state, Tensor) else tuple(s.detach() for s in state)


@torch.no_grad()
def load_rnnlm(model: CharModel, checkpoint: Path) -> None:
    """The weights of rnnlm's LSTM, whose gates are i, f, o, g; PyTorch's are i, f, g, o."""
    with np.load(checkpoint) as arrays:
        for layer in range(model.rnn.num_layers):
            for name, theirs in (("Wx", "weight_ih"), ("Wh", "weight_hh"), ("b", "bias_ih")):
                i, f, o, g = (torch.from_numpy(w.T) for w in arrays[f"layers.{layer}.{name}"])
                getattr(model.rnn, f"{theirs}_l{layer}").copy_(torch.cat([i, f, g, o]))
            getattr(model.rnn, f"bias_hh_l{layer}").zero_()
        model.out.weight.copy_(torch.from_numpy(arrays["Wy"].T))
        model.out.bias.copy_(torch.from_numpy(arrays["by"]))


class Trainer:
    """A model with fused Adam and clipping by norm; `bfloat16`: products in that precision."""

    def __init__(
        self, model: CharModel, learning_rate: float, clip: float, bfloat16: bool = False
    ) -> None:
        self.model, self._clip, self._bfloat16 = model, clip, bfloat16
        self._weights = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = torch.optim.Adam(self._weights, learning_rate, fused=True)

    def update(self, ids: Tensor, targets: Tensor, state: Any) -> Any:
        """One window (T, B), one update; the state to carry on."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
            logits, state = self.model(ids, state)
            loss = cross_entropy(logits.flatten(0, 1), targets.flatten())
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, self._clip)
        self._optimizer.step()
        return detached(state)


class Train(Repeated):
    """Whole training steps over random text."""

    def __init__(self, case: dict[str, Any], embedding: bool, bfloat16: bool = False) -> None:
        c = Case(**case)
        torch.manual_seed(0)
        self._trainer = Trainer(CharModel(c, embedding), 2e-3, 5.0, bfloat16)
        self._text = torch.randint(c.vocabulary, (c.window + 1, c.batch))
        self._state: Any = None
        self.amount = c.batch * c.window
        self.warm_up()

    def step(self) -> None:
        self._state = self._trainer.update(self._text[:-1], self._text[1:], self._state)


class Evaluate(Repeated):
    """The loss of a random text of `case.window` symbols, as one stream."""

    def __init__(self, case: dict[str, Any]) -> None:
        c = Case(**case)
        torch.manual_seed(0)
        self._model = CharModel(c, embedding=False)
        self._text = torch.randint(c.vocabulary, (c.window + 1, 1))
        self.amount = c.window
        self.warm_up()

    @torch.inference_mode()
    def step(self) -> None:
        logits, _ = self._model(self._text[:-1], None)
        cross_entropy(logits.flatten(0, 1), self._text[1:].flatten()).item()


class TrainMemory(Train):
    """Training steps, and the memory that the process has had at most."""

    def turn(self, seconds: float) -> dict[str, float]:
        return {**super().turn(seconds), "peak": peak_resident()}


def ids_of(path: Path) -> tuple[Tensor, int]:
    """The ids of a text, and the size of its vocabulary."""
    text = path.read_text(encoding="utf-8")
    id_of = {symbol: k for k, symbol in enumerate(sorted(set(text)))}
    return torch.tensor([id_of[symbol] for symbol in text]), len(id_of)


class Target:
    """rnnlm's recipe, evaluation and splits, on one-hot input, so that the model is the same.

    Its first weights are PyTorch's own, or those of a checkpoint of rnnlm.
    """

    def __init__(self, text: str, recipe: dict[str, Any], seed: int, weights: str | None) -> None:
        ids, V = ids_of(Path(text))
        held_out = math.floor(len(ids) / 20)  # for validation, and as much for the test
        self._val = ids[-2 * held_out : -held_out]
        B, self._T = recipe["train.batch_size"], recipe["train.seq_length"]
        train = ids[: -2 * held_out]
        length = (len(train) - 1) // B
        self._inputs = train[: length * B].reshape(B, length).T.contiguous()
        self._targets = train[1 : length * B + 1].reshape(B, length).T.contiguous()
        case = Case("lstm", recipe["model.hidden_size"], recipe["model.num_layers"], vocabulary=V)
        torch.manual_seed(seed)
        model = CharModel(case, embedding=False)
        if weights is not None:
            load_rnnlm(model, Path(weights))
        rate, clip = recipe["train.optimizer.learning_rate"], recipe["train.grad_clip.norm"]
        self._trainer = Trainer(model, rate, clip)
        self._every, self._steps, self._state = recipe["train.eval_every"], count(), None

    def turn(self) -> dict[str, Any]:
        """Seconds of training and of the evaluation after it, the step reached, the loss there."""
        began = perf_counter()
        for step in self._steps:
            self._update(step)
            if (step + 1) % self._every == 0:
                break
        trained = perf_counter()
        loss = self._evaluate()
        now = perf_counter()
        return {
            "seconds": now - began,
            "evaluation": now - trained,
            "step": step + 1,
            "loss": loss,
        }

    def _update(self, step: int) -> None:
        start = step % math.ceil(len(self._inputs) / self._T) * self._T
        if start == 0:
            self._state = None
        rows = slice(start, start + self._T)
        self._state = self._trainer.update(self._inputs[rows], self._targets[rows], self._state)

    @torch.no_grad()
    def _evaluate(self) -> float:
        """The whole validation text as one stream."""
        logits, _ = self._trainer.model(self._val[:-1, None], None)
        return cross_entropy(logits.flatten(0, 1), self._val[1:]).item()


class Sample(Repeated):
    """Characters drawn at temperature 1, `case.batch` texts side by side, from one-hot input.

    `cells` steps through nn.LSTMCell and its like, layer by layer, instead of calling nn.LSTM.
    """

    STEPS = 20

    def __init__(self, case: dict[str, Any], cells: bool) -> None:
        c = Case(**case)
        torch.manual_seed(0)
        self._model = CharModel(c, embedding=False)
        sizes = [c.vocabulary] + [c.hidden] * (c.layers - 1)
        self._cells = [CELLS[c.cell](size, c.hidden) for size in sizes] if cells else []
        self._ids = torch.zeros(c.batch, dtype=torch.long)
        self._state: Any = [None] * c.layers if cells else None
        self.amount = self.STEPS * c.batch
        self.warm_up()

    @torch.inference_mode()
    def step(self) -> None:
        advance = self._through_cells if self._cells else self._through_layers
        for _ in range(self.STEPS):
            p = torch.softmax(advance(), dim=-1)
            self._ids = torch.multinomial(p, 1)[:, 0]
            self._ids.tolist()

    def _through_layers(self) -> Tensor:
        logits, self._state = self._model(self._ids[None], self._state)
        return logits[0]

    def _through_cells(self) -> Tensor:
        x = self._model.table(self._ids)
        for k, cell in enumerate(self._cells):
            self._state[k] = cell(x, self._state[k])
            x = self._state[k] if isinstance(self._state[k], Tensor) else self._state[k][0]
        return self._model.out(x)


TASKS = {
    "train": Train,
    "memory": TrainMemory,
    "target": Target,
    "sample": Sample,
    "evaluate": Evaluate,
}
