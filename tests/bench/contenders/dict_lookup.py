"""The encoder that small projects write: the whole text in memory, a dict looked up per character."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from ..resident import peak_resident


def about() -> dict[str, Any]:
    """NumPy's version."""
    return {"numpy": np.__version__}


class Prepare:
    """Text to two files of 16-bit ids, nine tenths of it for training."""

    def __init__(self, text: str, folder: str) -> None:
        self._text, self._folder = Path(text), Path(folder)

    def turn(self) -> dict[str, float]:
        """Seconds, and the memory that the process has had at most."""
        began = perf_counter()
        self._folder.mkdir()
        text = self._text.read_text(encoding="utf-8")
        id_of = {symbol: k for k, symbol in enumerate(sorted(set(text)))}
        border = len(text) * 9 // 10
        for name, part in (("train", text[:border]), ("val", text[border:])):
            ids = [id_of[symbol] for symbol in part]
            np.array(ids, dtype=np.uint16).tofile(self._folder / f"{name}.bin")
        return {"seconds": perf_counter() - began, "peak": peak_resident()}


TASKS = {"prepare": Prepare}
