"""A model as one JSON object, for a page without a server or any program that reads JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

from .. import __version__
from ..runs.checkpoint import Checkpoint
from .contract import Files, Format


def write(checkpoint: Checkpoint) -> Files:
    """A file with the config, the text format and the parameters."""
    return {".json": _pieces(checkpoint)}


def _pieces(checkpoint: Checkpoint) -> Iterator[bytes]:
    about = {
        "rnnlm": __version__,
        "model": checkpoint.model.describe(checkpoint.params),
        "config": checkpoint.config.to_dict(),
        "text": checkpoint.format.to_json(),
    }
    yield json.dumps(about)[:-1].encode() + b', "parameters": {'
    between = ""
    for name, array in checkpoint.params.items():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        entry = {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "base64": base64.b64encode(little.tobytes()).decode(),
        }
        yield f"{between}\n{json.dumps(name)}: {json.dumps(entry)}".encode()
        between = ","
    yield b"\n}}\n"


FORMAT = Format(write)
