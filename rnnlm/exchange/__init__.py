"""Models in the formats of other programs: one file for each, one line each in FORMATS.

A room of its own: only here are packages imported that are extras, and only where they are needed.
"""

from __future__ import annotations

from . import arpa, json, onnx, safetensors, torch
from .contract import Format

__all__ = ["FORMATS"]

FORMATS: dict[str, Format] = {
    "arpa": arpa.FORMAT,
    "safetensors": safetensors.FORMAT,
    "onnx": onnx.FORMAT,
    "torch": torch.FORMAT,
    "json": json.FORMAT,
}
