"""The models that are measured, and how many multiply-adds they need."""

from __future__ import annotations

from dataclasses import dataclass

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True)
class Case:
    """A model and the batch it is trained on; the same numbers in every library.

    `reset_after` picks the GRU of PyTorch and cuDNN, the only form that those have.
    """

    cell: str
    hidden: int
    layers: int = 2
    batch: int = 64
    window: int = 64
    vocabulary: int = 65
    reset_after: bool = True

    @property
    def label(self) -> str:
        form = ", reset before" if self.cell == "gru" and not self.reset_after else ""
        return f"{self.cell} {self.hidden}x{self.layers}{form}"

    @property
    def weights(self) -> int:
        """Weights that multiply every character: recurrent, between layers, output.

        The one-hot input picks a row of its table and multiplies nothing.
        """
        G, H = GATES[self.cell], self.hidden
        return self.layers * G * H * H + (self.layers - 1) * G * H * H + H * self.vocabulary

    @property
    def flops(self) -> int:
        """Floating-point operations of a training step's matrix products, per character.

        Two for a multiply-add; the backward pass has two products for each one of the forward pass.
        """
        return 3 * 2 * self.weights

    @property
    def weights_read(self) -> int:
        """Numbers that one step of sampling has to read: the weights and a row of the table."""
        return self.weights + GATES[self.cell] * self.hidden
