"""Makes golden_torch.npz: state dicts of PyTorch, and the logits of their models.

`python tests/support/golden_torch.py` writes it, so that the suite needs no PyTorch. Arrays are
float32, stored as `case/state/name`, `case/ids` (T, B) and `case/logits` (T, B, V).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

T, B, V, E, H = 9, 2, 6, 4, 3
CASES: dict[str, Any] = {
    "lstm": lambda i, layers: nn.LSTM(i, H, layers),
    "gru": lambda i, layers: nn.GRU(i, H, layers),
    "tanh": lambda i, layers: nn.RNN(i, H, layers),
    "relu": lambda i, layers: nn.RNN(i, H, layers, nonlinearity="relu", bias=False),
}


class CharModel(nn.Module):
    def __init__(self, name: str, layers: int) -> None:
        super().__init__()
        if layers > 1:
            self.encoder = nn.Embedding(V, E)
        self.recurrent = CASES[name](E if layers > 1 else V, layers)
        self.decoder = nn.Linear(H, V)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        one_hot = nn.functional.one_hot(ids, V).float()
        x = self.encoder(ids) if hasattr(self, "encoder") else one_hot
        logits: torch.Tensor = self.decoder(self.recurrent(x)[0])
        return logits


def main() -> None:
    """Write golden_torch.npz beside this file."""
    torch.manual_seed(0)
    arrays: dict[str, np.ndarray] = {}
    for name in CASES:
        for layers in (1, 2):
            model = CharModel(name, layers)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.copy_(0.7 * torch.randn_like(parameter))
            ids = torch.randint(V, (T, B))
            case = f"{name}-{layers}"
            arrays |= {f"{case}/state/{n}": a.numpy() for n, a in model.state_dict().items()}
            arrays |= {f"{case}/ids": ids.numpy(), f"{case}/logits": model(ids).detach().numpy()}
    path = Path(__file__).with_name("golden_torch.npz")
    np.savez_compressed(path, **arrays)
    print(f"{path}: {path.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
