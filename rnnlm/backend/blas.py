"""BLAS uses one thread, always; nothing outside this module changes that.

The bits of a product depend on the number of threads that BLAS uses, and rnnlm has workers of its own,
so BLAS gets one thread. The command line sets the environment before NumPy is loaded
(`hold_from_start`). A library must not change its caller's process: there `one_thread` sets the loaded
OpenBLAS or MKL to one thread while a step, an evaluation or a sample is computed, and then restores
the number that was set before.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..arrays import Array

VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "OMP_NUM_THREADS",
)

# Before and after the names of OpenBLAS's functions, which differ from build to build
AFFIXES = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))
# Kernels that multiply small matrices without packing
SMALL_PRODUCT_CORES = (b"SkylakeX", b"Cooperlake", b"Sapphirerapids", b"SapphireRapids")

MEASURED_PRODUCTS = (
    (16, 16),
    (64, 65),
    (128, 32),
    (128, 128),
    (300, 48),
)  # K x N, with and without packing


def hold_from_start() -> None:
    """Make BLAS use one thread, whatever the environment says; call it before NumPy is imported."""
    os.environ.update(dict.fromkeys(VARIABLES, "1"))


class one_thread:  # noqa: N801 (used as a function is)
    """Set the loaded BLAS to one thread inside a `with` block.

    The setting belongs to the whole process. Where several threads are in such blocks, the last one to
    leave restores it. Warns once when BLAS cannot be set: results may then differ in their last bits
    with the number of threads.
    """

    _lock = threading.Lock()
    _inside = 0  # how many blocks are entered, in all threads
    _before = 1  # the number of threads to restore

    def __enter__(self) -> None:
        control = _control()
        if control is not None:
            get, set_ = control
            with one_thread._lock:
                if one_thread._inside == 0:
                    one_thread._before = get()
                one_thread._inside += 1
                if get() != 1:
                    set_(1)

    def __exit__(self, *_: object) -> None:
        control = _control()
        if control is not None:
            with one_thread._lock:
                one_thread._inside -= 1
                if one_thread._inside == 0 and one_thread._before != 1:
                    control[1](one_thread._before)


@functools.cache
def rows_at_once() -> int:
    """How many rows a product can have in the time of one row.

    Four where OpenBLAS multiplies small matrices without packing (its AVX-512 kernels), else one.
    """
    return 4 if _told("openblas_get_corename") in SMALL_PRODUCT_CORES else 1


@functools.cache
def identity() -> dict[str, str]:
    """The BLAS that NumPy loaded: `blas`, its name and version, and `kernel` where it tells."""
    import numpy

    built = numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    version = " ".join((_told("openblas_get_config") or b"").decode(errors="replace").split()[:2])
    core = _told("openblas_get_corename")
    return {
        "blas": version or f"{built.get('name')} {built.get('version')}",
        **({} if core is None else {"kernel": core.decode(errors="replace")}),
    }


def _told(name: str) -> bytes | None:
    """What a function of the loaded BLAS that returns text says; None if there is none."""
    function = _function(name)
    if function is None:
        return None
    function.restype = ctypes.c_char_p
    text: bytes | None = function()
    return text


@functools.cache
def rows_alike(rows: int, times: int = 1) -> Array:
    """Which of `rows` rows (a multiple of 12) of a product give the same bits as the first for the same
    numbers; also where the product has `times` as many rows, block after block.

    This is measured, since kernels differ in it. OpenBLAS's for Haswell take rows in groups of twelve,
    and the second six of them have other bits than the first; for AVX-512 all rows are alike.
    """
    import numpy as np

    alike = np.ones(rows, np.bool_)
    rng = np.random.default_rng(0)
    for K, N in MEASURED_PRODUCTS:
        row, W = (rng.standard_normal(shape, np.float32) for shape in ((1, K), (K, N)))
        for X in (np.tile(row, (rows, 1)), np.tile(row, (rows * times, 1))):
            product = (X @ W).reshape(-1, rows, N)
            alike &= (product == product[0, 0]).all(axis=(0, 2))
    return np.flatnonzero(alike)


@functools.cache
def _control() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """Functions that read and set the thread count of the BLAS that NumPy loaded."""
    for pair in (
        ("openblas_get_num_threads", "openblas_set_num_threads"),
        ("MKL_Get_Max_Threads", "MKL_Set_Num_Threads"),
    ):
        get, set_ = (_function(name) for name in pair)
        if get is not None and set_ is not None:
            return get, set_
    if any(os.environ.get(v) != "1" for v in VARIABLES):
        warnings.warn(
            "cannot hold this NumPy's BLAS to one thread: results may differ in their last bits "
            "from run to run; set OMP_NUM_THREADS=1 before Python starts to avoid that",
            RuntimeWarning,
            stacklevel=3,
        )
    return None


def _function(name: str) -> Any:
    """A function of the loaded BLAS by its plain name, with any of AFFIXES; None if there is none."""
    for path in _loaded_libraries():
        with suppress(OSError):
            library = ctypes.CDLL(path)
            for prefix, suffix in AFFIXES:
                function = getattr(library, f"{prefix}{name}{suffix}", None)
                if function is not None:
                    return function
    return None


def _loaded_libraries() -> Iterator[str]:
    """Paths of the BLAS libraries that this process has loaded (on Linux), and of those that came with
    NumPy.
    """
    import numpy

    names = ("blas", "mkl_rt")
    seen: set[str] = set()
    with suppress(OSError), Path("/proc/self/maps").open(errors="replace") as maps:
        for line in maps:
            path = line.split(maxsplit=5)[-1].strip()
            if any(name in Path(path).name for name in names):
                seen.add(path)
    root = Path(numpy.__file__).parent
    for folder in (root.parent / "numpy.libs", root / ".dylibs"):
        if folder.is_dir():
            seen.update(str(p) for p in folder.iterdir() if any(name in p.name for name in names))
    yield from sorted(seen)
