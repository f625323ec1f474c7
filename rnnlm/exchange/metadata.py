"""What files of other formats carry beside the numbers: the config and the text format, as text."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .. import __version__
from ..errors import DataError
from ..runs.checkpoint import Checkpoint
from ..text.format import TextFormat


def metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Texts by name: `rnnlm` (its version), `model` (in words), `config` (YAML), `text` (JSON: the
    level, and the symbols in the order of their ids).
    """
    return {
        "rnnlm": __version__,
        "model": checkpoint.model.describe(checkpoint.params),
        "config": checkpoint.config.to_yaml(),
        "text": json.dumps(checkpoint.format.to_json()),
    }


def text_format(found: Mapping[str, str]) -> TextFormat | None:
    """The text format in metadata, where there is one. Raises DataError where it is damaged."""
    if "text" not in found:
        return None
    try:
        return TextFormat.from_json(json.loads(found["text"]))
    except (ValueError, RecursionError):
        raise DataError("its metadata `text` is not JSON, as rnnlm writes it") from None
