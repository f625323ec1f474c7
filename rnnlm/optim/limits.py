"""Limits of options that several files of this room declare."""

from __future__ import annotations

from typing import Annotated

from ..config.kinds import Integer, Number

Rate = Annotated[float, Number(low=0, high=1e6)]
Share = Annotated[float, Number(low=0, below=1)]  # of the past in a moving average; 1 never forgets
Count = Annotated[int, Integer(low=0, high=10**6)]
Times = Annotated[int, Integer(low=1, high=10**6)]
