"""Other systems, simulated: what only Linux or only POSIX has is hidden, and everything works.

None of this was run on macOS or Windows. Consoles in other encodings are real: they are streams.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TEXT
from faults import differences
from processes import forking
from systems import SYSTEMS, elsewhere

from rnnlm import Checkpoint, make_config
from rnnlm.assembly import build_model
from rnnlm.backend import blas
from rnnlm.cli.main import cli
from rnnlm.cli.terminal import Lenient, open_streams, show
from rnnlm.interrupts import SIGPIPE, stop
from rnnlm.storage import atomic
from rnnlm.text.format import LEVELS, TextFormat, TextRules
from rnnlm.wording import quoted

EXACT = ("sample.txt", "run/config.yaml", *(f"data/{s}.npy" for s in ("train", "val", "test")))
# `make systems` goes through all of them, which takes half a minute
CHOSEN = [*SYSTEMS][1:] if "EVERY_SYSTEM" in os.environ else ["macos", "windows"]
NO_FORKS = {"fork", "proc", "masks", "sysconf", "macos", "windows"}


def travelled(system: str, folder: Path) -> dict[str, Any]:
    """What a trip on a system says."""
    (folder / "text.txt").write_bytes(TEXT[:1500].encode())
    with blas.one_thread():  # or BLAS starts threads in a process that is forked
        return elsewhere(system, folder)


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A trip from which nothing is hidden: where it went, and what it said."""
    folder = tmp_path_factory.mktemp("linux")
    return folder, travelled("nothing", folder)


@forking
@pytest.mark.parametrize("system", CHOSEN)
def test_everything_is_the_same_where_something_is_missing(
    system: str, linux: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Prepared, trained, stopped, resumed, sampled, evaluated: the same bits and files, by processes
    or by threads.
    """
    folder, expected = linux
    assert expected["pools"] == ["ForkedWorkers"]
    said = travelled(system, tmp_path)
    assert said["pools"] == (["ThreadWorkers"] if system in NO_FORKS else ["ForkedWorkers"])
    assert (said["said"], said["files"]) == (expected["said"], expected["files"])
    assert differences(folder / "run", tmp_path / "run") == []
    for name in EXACT:
        assert (folder / name).read_bytes() == (tmp_path / name).read_bytes()
    for name in ("data/corpus.json", "run/metrics.jsonl", "run/config.yaml"):
        assert b"\r" not in (tmp_path / name).read_bytes()


# Files


@pytest.mark.parametrize("links", [True, False])
def test_a_file_keeps_a_second_name(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the file system has no links; never over what has the name."""
    if not links:
        monkeypatch.delattr(os, "link")
    best, known = tmp_path / "best", tmp_path / "known"
    with pytest.raises(FileNotFoundError):
        atomic.keep_as(best, known)
    best.write_text("old")
    atomic.keep_as(best, known)
    with atomic.atomic_write(best) as file:
        file.write(b"new")
    with pytest.raises(FileExistsError):
        atomic.keep_as(best, known)
    assert (best.read_text(), known.read_text()) == ("new", "old")
    assert len([*tmp_path.iterdir()]) == 2


@pytest.mark.parametrize("patience", [0, 60])
def test_a_file_that_another_program_has_open_is_waited_for(
    patience: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, where it cannot be replaced meanwhile; elsewhere a refusal is final."""
    held, replace = iter(range(2)), Path.replace

    def refusing(new: Path, path: Path) -> Path:
        for _ in held:
            raise PermissionError(13, "used by another process")
        return replace(new, path)

    monkeypatch.setattr(atomic, "HELD_OPEN", patience)
    monkeypatch.setattr(Path, "replace", refusing)
    try:
        with atomic.atomic_write(tmp_path / "a") as file:
            file.write(b"new")
    except PermissionError:
        assert patience == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a"] * (patience > 0)


def test_what_is_pasted_is_quoted_as_each_shell_reads_it() -> None:
    """cmd.exe and PowerShell take double quotes, and a backslash as it is."""
    assert quoted(r"runs\my-run", windows=True) == r"runs\my-run"
    assert quoted(r"C:\my runs\a & b", windows=True) == r'"C:\my runs\a & b"'
    assert quoted("", windows=True) == '""'
    assert quoted("my runs", windows=False) == "'my runs'"


# Consoles

SIGNS = "a\n\r\u00e9\u2014\u4e2d\U0001f600\u0416"  # in cp1252: four of these


@pytest.fixture(scope="module")
def many_signs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that draws signs of many encodings, each as often."""
    config = make_config(None, "model.hidden_size=4", "model.num_layers=1", "data.newlines=keep")
    model = build_model(config, len(SIGNS))
    params = model.init(np.random.default_rng(0))
    params.flat[:] = 0
    text_format = TextFormat(TextRules.of(config.data), LEVELS["char"](sorted(map(ord, SIGNS))))
    path = tmp_path_factory.mktemp("signs") / "\u4e2d.npz"
    Checkpoint(config, text_format, params, np.ones(len(SIGNS), np.int64)).save(path)
    return path


class Console(io.TextIOWrapper):
    """A standard stream in an encoding; as on Windows, a newline is two characters there."""

    def __init__(self, encoding: str, terminal: bool = False) -> None:
        self.content = io.BytesIO()
        super().__init__(self.content, encoding, newline="\r\n")
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Run a command on a console: its exit code, and what it wrote on both streams."""

    def run(encoding: str, *args: object, terminal: bool = False) -> tuple[int, str, str]:
        with monkeypatch.context() as patch:
            streams = Console(encoding, terminal), Console(encoding, terminal)
            patch.setattr(sys, "stdout", streams[0])
            patch.setattr(sys, "stderr", streams[1])
            open_streams()
            with pytest.raises(SystemExit) as ended:
                cli.main(list(map(str, args)))
            for stream in streams:
                stream.flush()
        out, err = (stream.content.getvalue().decode(encoding) for stream in streams)
        return int(str(ended.value)), out, err

    return run


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_what_a_console_cannot_encode_is_shown_escaped(
    encoding: str,
    console: Callable[..., tuple[int, str, str]],
    many_signs: Path,
    text_file: Path,
    tmp_path: Path,
) -> None:
    """Samples, tables, errors and bars; and a file or a pipe gets what the model drew."""
    shown = "\u4e2d".encode(encoding, "backslashreplace").decode(encoding)
    out = tmp_path / "out.txt"
    args = ("sample", many_signs, "--length", 60, "--seed", 3)
    assert console(encoding, *args, "--output", out)[0] == 0
    drawn = out.read_bytes().decode()
    assert set(SIGNS) <= set(drawn)
    code, piped, _ = console(encoding, *args)
    assert (code, piped) == (0, drawn.encode(encoding, "backslashreplace").decode(encoding))
    code, rows, _ = console(encoding, "score", many_signs, "--text", "a\u4e2d", "--tokens")
    assert code == 0
    assert shown in rows
    assert console(encoding, "info", many_signs)[0] == 0
    code, _, err = console(encoding, "eval", tmp_path / "\u4e2d")
    assert code == 1
    assert shown in err
    keys = ("data.path", "model.hidden_size", "train.epochs", "run.dir")
    values = (text_file, 2, 1, tmp_path / "\u4e2d")
    pairs = [
        part
        for pair in zip(keys, values, strict=True)
        for part in ("--set", "=".join(map(str, pair)))
    ]
    code, said, bar = console(encoding, "train", *pairs, terminal=True)
    assert code == 0
    assert f"run folder: {tmp_path}" in said and shown in said
    assert "100%|" in bar
    assert b"\r" not in (tmp_path / "\u4e2d" / "metrics.jsonl").read_bytes()
    assert b"\r" not in (tmp_path / "\u4e2d" / "config.yaml").read_bytes()


class Gone(io.StringIO):
    """A pipe that nobody reads any more, as Windows may say it."""

    def write(self, text: str) -> int:
        raise OSError(22, "Invalid argument")

    def fileno(self) -> int:
        raise ValueError("no file")


def test_a_reader_that_is_gone_is_known_by_either_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training stops, and any other command ends."""
    monkeypatch.setattr(stop, "signal", None)
    Lenient(Gone()).write("a")
    assert stop.signal == SIGPIPE
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(BrokenPipeError):
        show("a")
