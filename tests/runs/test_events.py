"""The event file of a run: what TensorBoard reads is what the log says, each step once."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import tiny_config

from rnnlm import Training, make_config, read_metrics, resume, train
from rnnlm.runs.events import NAMES, EventFile, crc32c


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a message of protocol buffers: numbers, and integers or bytes."""

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    at = 0
    while at < len(data):
        number, kind = divmod(varint(), 8)
        length = {1: 8, 5: 4}.get(kind) or varint()
        if kind == 0:
            yield number, length
        else:
            yield number, data[at : at + length]
            at += length


def events(folder: Path) -> list[dict[int, Any]]:
    """The messages in the one event file of a run."""
    (path,) = folder.glob(NAMES)
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        for part, end in ((data[:8], 8), (data[12 : 12 + length], 12 + length)):
            crc = crc32c(part)
            masked = (crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8 & 0xFFFFFFFF
            assert struct.unpack("<I", data[end : end + 4]) == (masked,)
        found.append(dict(fields(data[12 : 12 + length])))
        data = data[16 + length :]
    return found


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Tag, step and value of each number."""
    found = []
    for event in events(folder):
        for _, value in fields(event.get(5, b"")):
            parts = dict(fields(value))
            if 2 in parts:
                found.append((parts[1].decode(), event[2], struct.unpack("<f", parts[2])[0]))
    return found


def test_the_checksum_is_that_of_its_standard() -> None:
    """RFC 3720, and the check value of the catalogue of CRCs."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def test_an_event_file_says_what_the_log_says(text_file: Path, tmp_path: Path) -> None:
    """Also of a run that was killed, resumed, and asked for it late: each step once."""
    folder = tmp_path / "run"
    every = ("train.log_every=3", "train.eval_every=5", "train.sample_every=5")
    keys = (*every, "run.tensorboard=true")
    with Training.start(tiny_config(text_file, folder, *keys), "run") as training:
        for event in training.events():
            if event.record["step"] == 8:
                break  # the records of steps 3 and 6 come after the last checkpoint
    assert [step for tag, step, _ in scalars(folder) if tag == "loss/training"] == [3, 6]
    resume(folder, "train.max_steps=10")
    records = list(read_metrics(folder))
    expected = []
    for r in records:
        if r["event"] in ("train", "eval"):
            split = {"val": "validation"}.get(r.get("split", ""), r.get("split", "training"))
            expected.append((f"loss/{split}", r["step"], r["loss"]))
        names = ("learning_rate", "grad_norm", "symbols_per_second")
        expected += [(name, r["step"], r[name]) for name in names if name in r]
    told = scalars(folder)
    assert [part[:2] for part in told] == [part[:2] for part in expected]
    assert [part[2] for part in told] == pytest.approx([part[2] for part in expected], rel=1e-6)
    sample = next(r["text"] for r in records if r["event"] == "sample")
    lines = [line.encode() for line in sample.split("\n")]
    texts = [event[5] for event in events(folder) if b"text" in event.get(5, b"")]
    assert texts and all(b"    " + line in texts[0] for line in lines)
    resume(folder, "run.tensorboard=false")
    assert len(scalars(folder)) == len(told)


def test_a_model_that_is_made_at_once_has_events_too(text_file: Path, tmp_path: Path) -> None:
    """Its losses, at step 1. Without the key there is no file."""
    keys = ("model.kind=ngram", "model.order=2", f"data.path={text_file}")
    train(make_config(None, *keys, f"run.dir={tmp_path}/a", "run.tensorboard=true"))
    assert [part[:2] for part in scalars(tmp_path / "a")] == [
        ("loss/validation", 1),
        ("loss/test", 1),
    ]
    train(make_config(None, *keys, f"run.dir={tmp_path}/b"))
    assert not list((tmp_path / "b").glob("events*"))


def test_records_that_somebody_changed_are_passed_over(tmp_path: Path) -> None:
    """What is no number is not drawn; one beyond a float of 32 bits is infinite."""
    file = EventFile(tmp_path, 0.0)
    file.begin()
    at = {"step": 3, "seconds": 1.5}
    for record in (
        {"event": "train"},
        {"event": "train", "loss": "low", **at},
        {"event": "train", "loss": 1.0, "step": -1, "seconds": 0},
        {"event": "sample", "text": 5, **at},
        {"event": "train", "loss": 1e39, **at},
    ):
        file.add(record)
    file.close()
    assert scalars(tmp_path) == [("loss/training", 3, float("inf"))]
