"""The recurrences: a file and a line in `CELLS` for each cell. `contract` says what a cell is."""

from __future__ import annotations

from collections.abc import Callable

from .contract import Cell
from .gru import GRU
from .lstm import LSTM
from .rnn import RNN
from .sru import SRU

__all__ = ["CELLS", "GRU", "LSTM", "RNN", "SRU", "Cell"]

CELLS: dict[str, Callable[..., Cell]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM, "sru": SRU}
