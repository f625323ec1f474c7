"""What the machine can do, in rnnlm's kind of process: sgemm on all cores, and reading memory."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import perf_counter
from typing import Any

import numpy as np

from rnnlm.backend import blas
from rnnlm.backend.workers import available_cores

from .repeated import Repeated

N = 2048
PRODUCTS = 3


def about() -> dict[str, Any]:
    """NumPy's version, and the BLAS it was built with."""
    built = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {"numpy": np.__version__, "blas": f"{built['name']} {built['version']}"}


class Sgemm:
    """2048 x 2048 products, a thread for each core and all at once, BLAS held to one thread."""

    def __init__(self) -> None:
        self._cores = available_cores()
        self._matrices = [_matrices(k) for k in range(self._cores)]
        self.turn()

    def turn(self, seconds: float = 0.0) -> dict[str, float]:
        """GFLOP/s: the sum over cores of the fastest product of each. Its length is its own."""
        del seconds
        barrier = Barrier(self._cores)
        with blas.one_thread(), ThreadPoolExecutor(self._cores) as pool:
            fastest = list(pool.map(lambda m: _fastest(m, barrier), self._matrices))
        return {"rate": sum(2 * N**3 / each for each in fastest) / 1e9}


def _fastest(matrices: Any, barrier: Barrier) -> float:
    a, b, out = matrices
    times = []
    barrier.wait()
    for _ in range(PRODUCTS):
        began = perf_counter()
        np.matmul(a, b, out)
        times.append(perf_counter() - began)
    return min(times)


@functools.cache
def _matrices(seed: int) -> Any:
    return np.random.default_rng(seed).random((3, N, N), np.float32)


class Read(Repeated):
    """Reading `numbers` float32 once, by one thread, as often as there is time; a rate of readings."""

    amount = 100

    def __init__(self, numbers: int) -> None:
        self._weights = np.random.default_rng(0).random(numbers, np.float32)
        self.warm_up()

    def step(self) -> None:
        for _ in range(100):
            np.dot(self._weights, self._weights)


TASKS = {"sgemm": Sgemm, "read": Read}
