"""What a cell is: the contract that every recurrence fulfils.

Glossary. T steps, B streams, D input size, H hidden size, V vocabulary size, G gates. Row vectors,
time-major. `z` are the pre-activations `X Wx + H' Wh + b`, a prime marks the previous step, `d` +
name is the gradient of the loss with respect to that name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

from ..arrays import Array
from ..backend.params import Parameter
from ..backend.tape import Tape
from ..backend.workspace import Workspace

Weights = Mapping[str, Any]  # name -> Array, or PackedMatrix where the parameter is declared packed


class Cell(Protocol):
    """A recurrence. A cell is a frozen dataclass whose fields are its options in the config.

    It knows arrays only: no configs, files or vocabularies. The projection of its input and the
    gradients of that (`Wx`, `b`, `dX`) belong to the layer; the cell owns what `parameters` declares.

    `step` and `backward` do not compute: they record calls (`run(np.multiply, i, g, a)` records
    np.multiply(i, g, a)) that are replayed for every window, so they must not branch on values or
    allocate. Scratch memory comes from the workspace: `ws(name, *shape)`.
    """

    gates: ClassVar[tuple[str, ...]]
    """Names of the G blocks of z."""
    states: ClassVar[tuple[str, ...]]
    """Names of the S arrays that are carried from step to step; the output `h` comes first."""
    scale: ClassVar[tuple[float, ...]]
    """The factor for each gate with which z arrives. Sigmoid gates want z / 2, because
    σ(z) = (1 + tanh(z / 2)) / 2 and one tanh call then serves all gates; halving is exact."""
    saved: ClassVar[int]
    """How many blocks z has beyond its gates, for what the backward pass needs."""

    def parameters(self, hidden_size: int) -> dict[str, Parameter]:
        """The parameters of the recurrence."""

    def init_bias(self, b: Array) -> None:
        """Set the first values of the layer's bias b (G, H), given as zeros."""

    def step(self, run: Tape, p: Weights, z: Array, s_prev: Array, s: Array, ws: Workspace) -> None:
        """Record one step.

        z (G+saved, B, H) holds the scaled input projection and becomes the activations; the state s
        (S, B, H) follows from s_prev, which is other memory. In sampling, two axes stand in the place
        of B: blocks, and the rows of a block.
        """

    def backward(
        self,
        run: Tape,
        p: Weights,
        z: Array,
        s_prev: Array,
        s: Array,
        dh: Array,
        ds: Array,
        ws: Workspace,
    ) -> Iterator[int]:
        """Record the way back over a window, last step first; yield each step t when it is recorded.

        z (G+saved, T, B, H) are the activations and become dz, the gradient of the *unscaled*
        pre-activations; s_prev and s (S, T, B, H) are the states before and after each step; dh
        (T, B, H) is the gradient of the outputs. ds (S, B, H) is the gradient of the final state. When
        t is yielded it is that of the state before step t, which the caller may scale: so texts that
        begin inside the window keep their gradients apart. `p` has a packed parameter transposed under
        its name + "T".
        """

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s_prev: Array) -> None:
        """Fill the gradients `d` of the cell's parameters from dz and the states before each step."""
