"""The recurrences: one file for each cell, one line each in `CELLS`; `contract` says what a cell is."""

from __future__ import annotations

from collections.abc import Callable

from .contract import Cell
from .gru import GRU
from .lstm import LSTM
from .rnn import RNN

__all__ = ["CELLS", "GRU", "LSTM", "RNN", "Cell"]

CELLS: dict[str, Callable[..., Cell]] = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
