"""The recurrences: one file per cell, one line each in `CELLS`.

Glossary. T steps, B streams, D input size, H hidden size, V vocabulary size, G gates. Row vectors,
time-major. `z` are the pre-activations `X Wx + H' Wh + b`, a prime marks the previous step, `d` +
name is the gradient of the loss with respect to that name.

A cell is a frozen dataclass whose fields are its options, with this contract (see `Cell`):

- `gates` names the G blocks of `z`, `states` the arrays carried from step to step (`h` first).
- `scale` is the factor per gate with which `z` arrives. Sigmoid gates want `z / 2`, because
  σ(z) = (1 + tanh(z / 2)) / 2 and one tanh call then serves all gates; halving is exact.
- `saved` counts the blocks that `z` has beyond its gates, for what the backward pass needs.
- `step` is one step: it turns z (G+saved, B, H), which holds the scaled input projection, into
  activations in place and fills the state s (S, B, H) from s_prev, which must not be the same memory.
  Sampling has two numbers in the place of B: blocks, and rows of a block.
- `backward` goes back over a window, z (G+saved, T, B, H) and the states s (S, T+1, B, H). It turns
  the activations into `dz`, the gradient of the *unscaled* pre-activations, and `ds` (S, B, H) from
  the gradient of the final state into that of the initial one. `dh` (T, B, H) is the gradient of the
  outputs.
- `weight_gradients` fills the gradients `d` of the cell's own parameters from dz and s.

`step` and `backward` compute nothing: they write down their calls, `run(np.multiply, i, g, a)` being
np.multiply(i, g, a), on a tape that is played for every window. All memory but the arguments comes
from the workspace.

Cells know arrays only: no configs, files or vocabularies. The input projection and its gradients
(`Wx`, `b`, `dX`) belong to the layer; a cell owns `Wh` and what else it declares in `shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol

from ..params import Array, Shape
from ..tape import Tape
from ..workspace import Workspace
from .gru import GRU
from .lstm import LSTM
from .rnn import RNN


class Cell(Protocol):
    """What the model asks of a recurrence; the module's text explains each member."""

    gates: ClassVar[tuple[str, ...]]
    states: ClassVar[tuple[str, ...]]
    scale: ClassVar[tuple[float, ...]]
    saved: ClassVar[int]

    def shapes(self, hidden_size: int) -> dict[str, Shape]: ...

    def init_bias(self, b: Array) -> None:
        """Set the initial bias b (G, H), given as zeros."""

    def step(
        self, run: Tape, p: Mapping[str, Array], z: Array, s_prev: Array, s: Array, ws: Workspace
    ) -> None: ...

    def backward(
        self,
        run: Tape,
        p: Mapping[str, Array],
        z: Array,
        s: Array,
        dh: Array,
        ds: Array,
        ws: Workspace,
    ) -> None: ...

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s: Array) -> None: ...


CELLS: dict[str, Callable[..., Cell]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
