"""Public texts by name, from a local HTTP server: whole and verified, or refused in one line."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT, TEXT, TINY, corpus_file, environment

import rnnlm
from rnnlm.cli.main import cli
from rnnlm.corpora import fetch
from rnnlm.corpora.table import TEXTS, PublicText
from rnnlm.errors import DataError

BODY = TEXT.encode()
N = len(BODY)


class Server(ThreadingHTTPServer):
    """Answers each request in the next of its ways, the last of them again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ways: list[str] = ["well"]
        self.asked: list[str] = []  # path and Range of each request

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        ways, asked = self.server.ways, self.headers.get("Range", "")
        self.server.asked.append(f"{self.path} {asked}".strip())
        way = ways.pop(0) if len(ways) > 1 else ways[0]
        start = int(asked[6:-1]) if asked and way != "no range" else 0
        if way == "404":
            self.send_error(404)
        elif way.startswith("to "):
            self.send_response(302)
            self.send_header("Location", way[3:])
            self.end_headers()
        elif start and way == "416":
            self.send_error(416)
        else:
            body = {"wrong": BODY.swapcase(), "long": BODY + b"x", "short": BODY[:-1]}.get(
                way, BODY
            )
            told = way not in ("long untold", "broken untold")
            self.send_response(206 if start else 200)
            if told:
                self.send_header("Content-Length", str(len(body) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            self._send(way, body[start:])

    def _send(self, way: str, body: bytes) -> None:
        match way:
            case "broken" | "broken untold":
                self.wfile.write(body[: len(body) // 2])
            case "nothing":
                pass
            case "slow":
                for at in range(0, len(body), N // 4):
                    self.wfile.write(body[at : at + N // 4])
                    time.sleep(0.02)
            case "silent":
                self.wfile.write(body[: len(body) // 2])
                time.sleep(0.5)
            case "long untold":
                self.wfile.write(body + b"x" * 500_000)
            case _:
                self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """It serves the text `tiny`, and a cache of the test's own is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.005,))
        thread.start()
        sha256 = hashlib.sha256(BODY).hexdigest()
        entry = PublicText("a text", "free", f"{server.address}/a", N, sha256, "none", 1.0)
        monkeypatch.setitem(TEXTS, "tiny", entry)
        yield server
        server.shutdown()
        thread.join()


def kept() -> set[str]:
    """The names in the cache."""
    folder = fetch.place("tiny").parent
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def run(*args: str, code: int = 0) -> str:
    """What a command prints; for an error, its line."""
    done = CliRunner().invoke(cli, args)
    assert done.exit_code == code, done.output
    if code:
        assert done.stderr.splitlines()[-1].startswith("Error: ")
        assert "Traceback" not in done.stderr
    return done.stderr if code else done.stdout


@pytest.mark.parametrize(
    ("ways", "asked"),
    [
        (["well"], ["/a"]),
        (["slow"], ["/a"]),
        (["broken", "well"], ["/a", f"/a bytes={N // 2}-"]),
        (
            ["broken untold", "broken", "well"],
            ["/a", f"/a bytes={N // 2}-", f"/a bytes={N * 3 // 4}-"],
        ),
        (["broken", "no range"], ["/a", f"/a bytes={N // 2}-"]),
        (["broken", "416", "well"], ["/a", f"/a bytes={N // 2}-", "/a"]),
        (["to /b", "well"], ["/a", "/b"]),
        (["nothing", "well"], ["/a", "/a"]),
    ],
    ids=str,
)
def test_a_text_comes_whole(server: Server, ways: list[str], asked: list[str]) -> None:
    """Slow, broken off, without ranges, from another address; then it is there without a server."""
    server.ways = ways
    sizes = list(fetch.fetch("tiny"))
    assert sizes[0] == 0
    assert sizes[-1] == N
    assert server.asked == asked
    assert fetch.place("tiny").read_bytes() == BODY
    assert kept() == {"tiny.txt"}
    assert list(fetch.fetch("tiny")) == []
    assert len(server.asked) == len(asked)


@pytest.mark.parametrize(
    ("way", "words"),
    [
        ("wrong", "another SHA-256"),
        ("long", f"{N + 1:,} bytes, not {N:,}"),
        ("long untold", f"more than {N:,} bytes"),
        ("short", f"{N - 1:,} bytes, not {N:,}"),
        ("404", "404"),
        ("to file:///etc/hostname", "not allowed"),
        ("to ftp://127.0.0.1/a", "ftp"),
        ("to /a", "redirect"),
    ],
)
def test_what_is_not_the_text_is_refused_and_not_kept(server: Server, way: str, words: str) -> None:
    """In one line that says what to do."""
    server.ways = [way]
    said = run("corpus", "get", "tiny", code=1)
    assert words in said
    assert "data.path=FILE" in said
    assert "tiny.txt" not in kept()
    assert fetch._size(fetch.place("tiny").with_name("tiny.txt.part")) == 0
    server.ways = ["well"]
    assert run("corpus", "get", "tiny") == f"{fetch.place('tiny')}\n"


def test_a_transfer_goes_on_where_it_broke_off(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a later process too; a server that says nothing is not waited for without end."""
    monkeypatch.setattr(fetch, "TRIES", 1)
    monkeypatch.setattr(fetch, "TIMEOUT", 0.05)
    server.ways = ["silent", "broken", "well"]
    assert f"after {N // 2:,} of {N:,} bytes" in run("corpus", "get", "tiny", code=1)
    assert f"after {N * 3 // 4:,}" in run("corpus", "get", "tiny", code=1)
    assert kept() == {"tiny.txt.part"}
    run("corpus", "get", "tiny")
    assert fetch.place("tiny").read_bytes() == BODY
    assert server.asked[1:] == [f"/a bytes={N // 2}-", f"/a bytes={N * 3 // 4}-"]


def test_a_damaged_cache_is_made_good(server: Server) -> None:
    """What an editor or a disk changed is fetched again; so is a part that is none."""
    list(fetch.fetch("tiny"))
    file = fetch.place("tiny")
    file.write_bytes(BODY[:-1] + b"?")
    file.with_name("tiny.txt.part").write_bytes(BODY * 2)
    assert fetch.local("corpus:tiny") == str(file)
    assert file.read_bytes() == BODY


def test_two_at_once_fetch_it_once(server: Server) -> None:
    """The one that comes later waits, sees the bytes grow, and has the text too."""
    server.ways = ["slow"]
    first, second = fetch.fetch("tiny"), fetch.fetch("tiny")
    assert next(first) == 0
    assert next(first) > 0
    assert 0 <= next(second) <= N
    other = threading.Thread(target=lambda: list(second))
    other.start()
    assert list(first)[-1] == N
    other.join()
    assert server.asked == ["/a"]
    assert kept() == {"tiny.txt"}


def test_another_process_waits_for_the_lock(server: Server, tmp_path: Path) -> None:
    """And goes on from where the first one was killed."""
    script = (
        "import sys, hashlib; from rnnlm.corpora import fetch, table\n"
        f"table.TEXTS['tiny'] = table.PublicText('', '', {server.address + '/a'!r}, {N}, "
        f"{TEXTS['tiny'].sha256!r}, '', 1.0)\n"
        "print(sum(1 for _ in fetch.fetch('tiny')))"
    )
    server.ways = ["slow"]
    sizes = fetch.fetch("tiny")
    next(sizes), next(sizes)
    with subprocess.Popen(
        [sys.executable, "-c", script], env=environment(), stdout=subprocess.PIPE
    ) as other:
        time.sleep(0.2)
        sizes.close()  # as an interruption does
        assert other.stdout is not None
        assert int(other.stdout.read()) > 1
    assert other.returncode == 0
    assert server.asked[1].startswith("/a bytes=")
    assert kept() == {"tiny.txt"}


def test_get_copies_and_overwrites_nothing(server: Server, tmp_path: Path) -> None:
    """The copy is the file; an existing one is refused before anything is fetched."""
    out = tmp_path / "mine.txt"
    out.write_text("mine")
    assert "exists already" in run("corpus", "get", "tiny", "--out", str(out), code=1)
    assert server.asked == []
    out.unlink()
    assert run("corpus", "get", "tiny", "--out", str(out)) == f"{out}\n"
    assert out.read_bytes() == BODY
    assert "cannot write" in run("corpus", "get", "tiny", "--out", str(tmp_path / "no/x"), code=1)


def test_a_config_names_a_text(server: Server, tmp_path: Path) -> None:
    """`data.path: corpus:NAME` trains on it, from Python and from the command line."""
    config = rnnlm.make_config(None, "data.path=corpus:tiny", *TINY, f"run.dir={tmp_path / 'a'}")
    assert rnnlm.train(config).checkpoint().config.data.path == "corpus:tiny"
    sets = [part for key in TINY for part in ("--set", key)]
    fetch.place("tiny").unlink()
    said = run("train", *sets, "--set", "data.path=corpus:tiny", "--dry-run")
    assert "path: corpus:tiny" in said
    assert server.asked == ["/a", "/a"]
    assert "10," in run("prepare", "corpus:tiny", "--out", str(tmp_path / "data"))
    assert "did you mean tiny?" in run(
        "train", "--set", "data.path=corpus:tinny", "--dry-run", code=1
    )


def test_without_a_network_one_line_says_what_to_do(
    server: Server, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a proxy is set that is not there, and where the cache cannot be written."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    said = run("train", "--set", "data.path=corpus:tiny", code=1)
    assert "refused" in said
    assert "data.path=FILE" in said
    assert not (in_tmp / "runs").exists()
    (in_tmp / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_tmp / "file"))
    assert "XDG_CACHE_HOME" in run("corpus", "get", "tiny", code=1)


def test_list_names_every_text(server: Server) -> None:
    """With its address and licence, and whether it is here."""
    list(fetch.fetch("tiny"))
    said = run("corpus", "list")
    for name, text in TEXTS.items():
        assert f"corpus:{name}: " in said
        assert text.address in said
        assert text.licence in said
    assert said.count("in the cache") == 1


@pytest.mark.parametrize("name", TEXTS)
def test_the_table_is_right(name: str) -> None:
    """Size and hash are those of the text itself, and data/README.md has the same ones."""
    text = TEXTS[name]
    listed = (ROOT / "data" / "README.md").read_text("utf-8")
    assert f"| {text.bytes:,} | `{text.sha256}` |" in listed
    content = corpus_file(f"{name}.txt").read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (text.bytes, text.sha256)


def test_only_a_path_that_begins_with_corpus_is_a_name() -> None:
    """Anything else stays as it is; a name that is not in the table is never a file."""
    assert fetch.local("./corpus:x") == "./corpus:x"
    with pytest.raises(DataError, match="did you mean names"):
        fetch.local("corpus:name")
