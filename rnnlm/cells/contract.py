"""What a cell is: the contract that every recurrence fulfils.

Glossary. T steps, B streams, D input size, H hidden size, V vocabulary size, G gates, S states. Arrays
are time-major, vectors are rows. `z` are the pre-activations `X Wx + H' Wh + b`. A prime marks the
previous step. `d` before a name is the gradient of the loss with respect to it.
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

    It works on arrays and knows no configs, files or vocabularies. The layer computes the projection of
    the input, X Wx + b, and its gradients; the cell computes with the parameters that it declares.

    A cell gives `step`, or `forward` where a part of the work is for the whole window at once.

    `step`, `forward` and `backward` record calls that are replayed for every window:
    `run(np.multiply, i, g, a)` records np.multiply(i, g, a). So they must not branch on values or
    allocate. Scratch memory comes from the workspace: `ws(name, *shape)`.
    """

    gates: ClassVar[tuple[str, ...]]
    """Names of the G blocks of z."""
    states: ClassVar[tuple[str, ...]]
    """Names of the S arrays that are carried from step to step; the output `h` comes first."""
    scale: ClassVar[tuple[float, ...]]
    """A factor for each gate: `step` gets z multiplied by it. Sigmoid gates use 0.5, because
    σ(z) = (1 + tanh(z / 2)) / 2: then one call of tanh serves all gates. Halving is exact."""
    saved: ClassVar[int]
    """How many blocks z has after its gates, in which `step` keeps what `backward` needs."""
    keeping: ClassVar[Mapping[str, int]] = {}
    """Gates that keep the state where they are open (1), or let something new in (-1)."""
    carried: ClassVar[int] = 0
    """The number of the first state that the next step reads; those before are output only."""
    direct: ClassVar[int] = 0
    """How many of the last gates get the layer's input itself, times `scale`, where it has the size H
    and is not one-hot. They have no block in Wx and b then."""

    squashed: ClassVar[slice] = slice(0)
    """The states c = F c' + ..., 0 <= F <= 1, of which everything else sees only tanh(c): not how large
    they are, where that is ±1."""
    forgetting: ClassVar[slice] = slice(0)
    """Their gates F."""

    @property
    def bounded(self) -> bool:
        """Whether no output can be beyond ±1."""
        return True

    def parameters(self, hidden_size: int) -> dict[str, Parameter]:
        """The parameters of the recurrence."""

    def init_bias(self, b: Array) -> None:
        """Set the first values of the layer's bias b (G, H), which holds zeros; by default none."""
        return

    def step(self, run: Tape, p: Weights, z: Array, s_prev: Array, s: Array, ws: Workspace) -> None:
        """Record one step.

        z (G+saved, B, H) holds the input projection times `scale` and becomes the activations. s
        (S, B, H) becomes the state after the step, s_prev is the state before it; they do not share
        memory. In sampling there are two axes in the place of B: blocks, and the rows of a block.
        """

    def forward(
        self, run: Tape, p: Weights, z: Array, s_prev: Array, s: Array, ws: Workspace
    ) -> Iterator[int]:
        """Record a window; yield each step t before it is recorded, first step first.

        z (G+saved, T, B, H), s_prev and s (S, T, B, H) hold for every step what `step` has. When t is
        yielded, the states that are carried from step t - 1 are recorded. The caller may then record
        what makes s_prev of step t from them.
        """
        for t in range(z.shape[1]):
            yield t
            self.step(run, p, z[:, t], s_prev[:, t], s[:, t], ws)

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
        """Record the backward pass over a window, last step first; yield each step t once recorded.

        z (G+saved, T, B, H) holds the activations and becomes dz, the gradient of the pre-activations
        without `scale`. s_prev and s (S, T, B, H) are the states before and after each step. dh
        (T, B, H) is the gradient of the outputs. `p` holds each packed parameter transposed too, under
        its name + "T".

        ds (S, B, H) is the gradient of the final state at first. When t is yielded, it is the gradient
        of the state before step t. The caller may then record a product of ds with 0 for streams in
        which a text begins at step t: no gradient flows from one text into another.
        """

    def weight_gradients(self, d: Mapping[str, Array], z: Array, s_prev: Array) -> None:
        """Compute the gradients `d` of the cell's parameters from dz and the states before steps."""
