"""Makes golden.npz, the values of PyTorch that the suite is held against.

`python tests/support/golden.py` writes it.

Arrays are stored as `case/what/name` in rnnlm's own layout, so that the suite needs no PyTorch; the
entry `cases` is JSON and says what each case is. Everything is float64.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

T, B, V, E, H = 4, 3, 6, 4, 5

CELLS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    # name: PyTorch's module and its options, rnnlm's cell and its options
    "lstm": (nn.LSTM, {}, {"cell": "lstm"}),
    "gru": (nn.GRU, {}, {"cell": "gru", "reset_after": True}),
    "tanh": (nn.RNN, {"nonlinearity": "tanh"}, {"cell": "rnn", "activation": "tanh"}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}, {"cell": "rnn", "activation": "relu"}),
}

# PyTorch stacks its gates as i, f, g, o and r, z, n; rnnlm has i, f, o, g and r, z, n
GATES = {nn.LSTM: [0, 1, 3, 2], nn.GRU: [0, 1, 2], nn.RNN: [0]}

OPTIMIZERS: list[tuple[str, dict[str, Any]]] = [
    # rnnlm's optimizer and options
    ("sgd", {"learning_rate": 0.1}),
    ("sgd", {"learning_rate": 0.1, "momentum": 0.9}),
    ("sgd", {"learning_rate": 0.05, "momentum": 0.8, "nesterov": True}),
    ("rmsprop", {"learning_rate": 0.002, "decay": 0.95, "epsilon": 1e-8}),
    ("rmsprop", {"learning_rate": 0.1, "decay": 0.5, "epsilon": 0.1}),
    ("adagrad", {"learning_rate": 0.05, "epsilon": 1e-10}),
    ("adagrad", {"learning_rate": 0.3, "epsilon": 0.1}),
    ("adam", {"learning_rate": 0.002, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}),
    ("adam", {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.7, "epsilon": 0.1}),
    ("adamw", {"learning_rate": 0.002, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.01}),
    ("adamw", {"learning_rate": 0.1, "beta1": 0.8, "beta2": 0.9, "weight_decay": 0.5}),
]

TORCH_OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}
TORCH_NAMES = {"learning_rate": "lr", "decay": "alpha", "epsilon": "eps"}

START = np.random.default_rng(0).standard_normal(12)
GRADIENTS = np.random.default_rng(1).standard_normal((7, 12)) * np.logspace(-3, 2, 12)


class CharModel(nn.Module):
    """One-hot or embedded characters, PyTorch's own recurrent module, a linear output."""

    def __init__(self, name: str, layers: int, embedded: bool) -> None:
        super().__init__()
        make, options, _ = CELLS[name]
        self.embedding = nn.Embedding(V, E) if embedded else None
        self.rnn = make(E if embedded else V, H, num_layers=layers, **options)
        self.out = nn.Linear(H, V)

    def forward(self, ids: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        one_hot = nn.functional.one_hot(ids, V).double()
        x = one_hot if self.embedding is None else self.embedding(ids)
        hidden, final = self.rnn(x, state)
        return self.out(hidden), final

    def by_rnnlm_name(self, of: Any) -> dict[str, np.ndarray]:
        """`of` (the value or the gradient) of every parameter, in rnnlm's names and layout."""
        kind = type(self.rnn)
        order, gates = GATES[kind], len(GATES[kind])
        arrays = {} if self.embedding is None else {"embedding": of(self.embedding.weight)}
        for layer in range(self.rnn.num_layers):
            w_ih, w_hh, b_ih, b_hh = (
                of(getattr(self.rnn, f"{part}_l{layer}"))
                for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            prefix = f"layers.{layer}."
            # (gates·H, D), applied as W x, to gates of (D, H), applied as x W
            arrays[prefix + "Wx"] = w_ih.reshape(gates, H, -1).swapaxes(1, 2)[order]
            arrays[prefix + "Wh"] = w_hh.reshape(gates, H, H).swapaxes(1, 2)[order]
            b_ih, b_hh = b_ih.reshape(gates, H)[order], b_hh.reshape(gates, H)[order]
            if kind is nn.GRU:
                # the candidate's recurrent bias stands inside the reset, apart from the others
                arrays[prefix + "bh"] = b_hh[2].copy()
                b_hh[2] = 0
            # two biases that add up are one, and each has the gradient of the sum
            arrays[prefix + "b"] = b_ih + b_hh if of is value else b_ih
        arrays |= {"Wy": of(self.out.weight).T, "by": of(self.out.bias)}
        return arrays


def value(parameter: torch.Tensor) -> np.ndarray:
    """A copy of a tensor's numbers."""
    return parameter.detach().numpy().copy()


def gradient(parameter: torch.Tensor) -> np.ndarray:
    """A copy of its gradient."""
    assert parameter.grad is not None
    return parameter.grad.numpy().copy()


def model_case(name: str, layers: int, embedded: bool) -> dict[str, Any]:
    """Mean cross-entropy of one window, its gradients and the final state."""
    model = CharModel(name, layers, embedded)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.6 * torch.randn_like(parameter))
    ids, targets = torch.randint(V, (2, T, B))
    states = [
        (0.5 * torch.randn(layers, B, H)).requires_grad_() for _ in range(1 + (name == "lstm"))
    ]
    logits, final = model(ids, tuple(states) if name == "lstm" else states[0])
    loss = nn.functional.cross_entropy(logits.reshape(-1, V), targets.reshape(-1))
    loss.backward()
    finals = final if name == "lstm" else (final,)
    return {
        "ids": ids.numpy(),
        "targets": targets.numpy(),
        "state": np.stack([value(s) for s in states], axis=1),  # (L, S, B, H)
        "loss": value(loss),
        "final": np.stack([value(s) for s in finals], axis=1),
        "dstate": np.stack([gradient(s) for s in states], axis=1),
        **{f"params/{k}": a for k, a in model.by_rnnlm_name(value).items()},
        **{f"gradients/{k}": a for k, a in model.by_rnnlm_name(gradient).items()},
    }


def optimizer_steps(name: str, options: dict[str, Any]) -> np.ndarray:
    """The parameter after each step of GRADIENTS, starting at START."""
    renamed = {TORCH_NAMES.get(key, key): option for key, option in options.items()}
    if "beta1" in renamed:
        renamed["betas"] = (renamed.pop("beta1"), renamed.pop("beta2"))
    w = nn.Parameter(torch.tensor(START))
    optimizer = TORCH_OPTIMIZERS[name]([w], **renamed)
    path = []
    for g in GRADIENTS:
        w.grad = torch.tensor(g)
        optimizer.step()
        path.append(value(w))
    return np.array(path)


def main() -> None:
    """Write golden.npz beside this file."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    cases: dict[str, dict[str, Any]] = {"models": {}, "optimizers": {}}
    arrays: dict[str, Any] = {"optimizers/start": START, "optimizers/gradients": GRADIENTS}
    for name, (_, _, described) in CELLS.items():
        for layers, embedded in ((1, False), (2, False), (2, True)):
            case = f"{name}-{layers}-{'embedding' if embedded else 'onehot'}"
            cases["models"][case] = {**described, "layers": layers}
            for key, array in model_case(name, layers, embedded).items():
                arrays[f"{case}/{key}"] = array
    for number, (name, options) in enumerate(OPTIMIZERS):
        case = f"{name}-{number}"
        cases["optimizers"][case] = {"name": name, "options": options}
        arrays[f"{case}/steps"] = optimizer_steps(name, options)
    path = Path(__file__).with_name("golden.npz")
    np.savez_compressed(path, cases=np.array(json.dumps(cases)), **arrays)
    print(f"{path}: {path.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
