"""A run to look at: of a text with all that a page could get wrong."""

from __future__ import annotations

from pathlib import Path

from conftest import tiny_config

from rnnlm.runs.checkpoint import Checkpoint
from rnnlm.training.result import train

SCRIPT = "<script>window.ran=1</script>"
IMAGE = '<img src=x onerror="window.ran=1">'
SCRIPTS = (
    "naïve cafe\u0301 and हिन्दी\n"
    "שלום עולם\n"
    "مرحبا بالعالم\n"
    "漢字と한국어\n"
    "👩\u200d👩\u200d👧 a\x00b\x1b[0m\u202eabc\t.\n"
    "</script>&lt;\u2028\n"
)
TEXT = (SCRIPT + "\n" + IMAGE + "\n" + SCRIPTS) * 30


def pictured(folder: Path, *overrides: str) -> Checkpoint:
    """The checkpoint of a run of two steps on TEXT, which has drawn a sample."""
    text = folder / "text.txt"
    text.write_text(TEXT, "utf-8")
    few = ("train.max_steps=2", "train.log_every=1", "train.eval_every=2", "train.sample_every=2")
    return train(tiny_config(text, folder / "run", *few, *overrides)).checkpoint()
