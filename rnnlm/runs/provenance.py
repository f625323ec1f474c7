"""What computed a checkpoint: the versions and the machine, which decide its last bits."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from typing import Any

import numpy as np

from .. import __version__
from ..backend import blas

Environment = Mapping[str, str]  # names and values, such as `numpy`: `2.4.0`
MOST = 100  # environments that a checkpoint keeps, entries of one, and characters of an entry
TIME = "time"  # the entry that differs from one save to the next


@cache
def _machine() -> Environment:
    return {
        "rnnlm": __version__,
        "numpy": np.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **blas.identity(),
        # Not platform.platform(), which starts a process
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": str(os.cpu_count()),
    }


def here() -> Environment:
    """The versions, BLAS, platform and number of cores of this process, and the time (UTC)."""
    now = datetime.now(timezone.utc).isoformat(sep=" ", timespec="seconds")
    entries = {**_machine(), TIME: now.replace("+00:00", " UTC")}
    return {name: value[:MOST] for name, value in entries.items()}


def recorded(before: Sequence[Environment] = ()) -> tuple[Environment, ...]:
    """The environments of a run that goes on in this one: each with the time of its last checkpoint."""
    now = here()
    same = bool(before) and _without_time(before[-1]) == _without_time(now)
    return (*(before[:-1] if same else before), now)[-MOST:]


def checked(values: Any) -> tuple[Environment, ...]:
    """Environments from JSON. Raises ValueError unless they are ones that can be saved."""
    if type(values) is not list or len(values) > MOST:
        raise ValueError("environments")
    for entries in values:
        if type(entries) is not dict or len(entries) > MOST:
            raise ValueError("environments")
        for name, value in entries.items():
            if type(value) is not str or max(len(name), len(value)) > MOST:
                raise ValueError("environments: an entry")
    return tuple(values)


def _without_time(entries: Environment) -> Environment:
    return {name: value for name, value in entries.items() if name != TIME}
