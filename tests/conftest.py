"""What many tests share: small texts, quick runs, the corpora where they are."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from rnnlm.assembly import make_config
from rnnlm.backend import blas
from rnnlm.config.schema import Config

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
CORPORA = ROOT.parent / "shared" / "corpora"

TEXT = "".join(
    f"{who} {did} the {what} {when}.\n"
    for when in ("at noon", "by night", "twice", "in rain")
    for who in ("Mara", "The crow", "Old Ib", "A boy", "Nobody")
    for did in ("mended", "sold", "sang to", "lost")
    for what in ("kettle", "ferry", "bell", "map")
)

TINY = (
    "model.hidden_size=12",
    "model.num_layers=1",
    "train.epochs=2",
    "train.batch_size=8",
    "train.seq_length=32",
    "train.log_every=10",
)


# rnnlm is started some 200 times: compiled once for all, also where the environment forbids bytecode
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# the machine does not lose its power while they run; tests of what is synced put their own here
os.fsync = os.fstat  # type: ignore[assignment]

# how long an example takes says how busy the machine is
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

LONG = ("test_bits.py", "test_faults.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests begin first, so that at the end no worker waits for another's."""
    items.sort(key=lambda item: item.path.name not in LONG)


def pytest_collection_finish() -> None:
    """Collections of garbage leave out the modules and the thousands of tests that stay."""
    gc.collect()
    gc.freeze()


def corpus_file(name: str) -> Path:
    """A public corpus, or a skip that says why."""
    path = CORPORA / name
    if not path.is_file():
        pytest.skip(f"{path} is not on this machine")
    return path


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """A text of 10,000 characters on disk."""
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def tiny_config(text: Path, run: Path, *overrides: str) -> Config:
    """A run of a second or less."""
    return make_config(None, f"data.path={text}", f"run.dir={run}", *TINY, *overrides)


@pytest.fixture
def one_blas_thread() -> Iterator[None]:
    """As in training; threads of several test processes would wait for each other."""
    with blas.one_thread():
        yield


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def environment(**extra: str) -> dict[str, str]:
    """The environment for a process of its own."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **extra}
