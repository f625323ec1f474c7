"""The public texts that can be fetched by name: one entry each, with what a copy is checked by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublicText:
    """A text that somebody publishes: `bytes` and `sha256` are those of the file at `address`.

    `loss` is the lowest validation loss of `recipe`, in nats per character. Another machine may differ
    in the third digit.
    """

    what: str
    licence: str
    address: str
    bytes: int
    sha256: str
    recipe: str
    loss: float


TEXTS: dict[str, PublicText] = {
    "tinyshakespeare": PublicText(
        what="40,000 lines of Shakespeare, the corpus of karpathy/char-rnn",
        licence="public domain",
        address="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        bytes=1_115_394,
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        recipe="rnnlm train configs/tinyshakespeare.yaml",
        loss=1.464,
    ),
    "timemachine": PublicText(
        what="The Time Machine by H. G. Wells, the corpus of Dive into Deep Learning",
        licence="public domain",
        address="http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        bytes=178_979,
        sha256="8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
        recipe="rnnlm train --set data.path=corpus:timemachine",
        loss=1.604,
    ),
    "names": PublicText(
        what="32,033 given names, one a line, the corpus of karpathy/makemore",
        licence="MIT",
        address="https://raw.githubusercontent.com/karpathy/makemore/master/names.txt",
        bytes=228_145,
        sha256="0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
        recipe="rnnlm train configs/names.yaml",
        loss=1.917,
    ),
}
