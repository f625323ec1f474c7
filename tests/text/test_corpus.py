"""Preparing text and opening what was prepared: against whole-string oracles, and against damage."""

from __future__ import annotations

import bz2
import concurrent.futures
import gzip
import hashlib
import io
import itertools
import json
import lzma
import os
import subprocess
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, TEXT, corpus_file, environment
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from rnnlm.errors import DataError
from rnnlm.runs.run_data import is_prepared
from rnnlm.storage import npy
from rnnlm.text import sources
from rnnlm.text.corpus import CORPUS_FILE, FILES, SPLITS, Corpus
from rnnlm.text.format import TextRules
from rnnlm.text.prepare import prepare
from rnnlm.text.sources import read_text
from rnnlm.text.vocabulary import ByteVocabulary, CharVocabulary

AWKWARD = "\0a\r\r\n\ne\u0301é\ufeff👩‍👧\U0010ffff紅\r"
ENCODINGS = ("utf-8", "utf-16", "utf-16-be", "utf-32", "utf-7", "gb18030")
CHUNKS = (1, 2, 3, 5, 8, 1 << 20)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def set_chunk(patch: pytest.MonkeyPatch, size: int) -> None:
    """How much text is read, and how many ids are worked on, at a time."""
    for module in (sources, npy):
        patch.setattr(module, "CHUNK", size)


def stream(text: str | bytes) -> io.BytesIO:
    """A standard input."""
    return io.BytesIO(text.encode() if isinstance(text, str) else text)


def prepared(*files: bytes, names: str = "{}.txt", **options: Any) -> tuple[Corpus, str]:
    """A corpus of these files in a folder that is gone afterwards, and the text it spells."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = [Path(folder, names.format(k)) for k in range(len(files))]
        for path, content in zip(inputs, files, strict=True):
            path.write_bytes(content)
        corpus = prepare(inputs, Path(folder, "out"), **options)
        return corpus, spelled(corpus)


def spelled(corpus: Corpus) -> str:
    """The text of all splits."""
    return corpus.vocabulary.text(np.concatenate([corpus[name] for name in SPLITS]))


def normalized(text: str) -> str:
    """The newline rule, on a whole string."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def contents(folder: Path) -> dict[str, bytes]:
    """Everything in a folder and below."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"<folder>"
        for path in folder.rglob("*")
    }


# Text to ids


@pytest.mark.parametrize("newlines", ["normalize", "keep"])
@pytest.mark.parametrize("chunk", CHUNKS)
def test_files_join_as_whole_strings_would_at_every_chunk_border(
    chunk: int, newlines: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark is dropped in each file; a CR and an LF meet across files and blocks."""
    set_chunk(monkeypatch, chunk)
    texts = ["\ufeff" + AWKWARD, "\n" + AWKWARD, "", AWKWARD]
    for encoding in ENCODINGS:
        corpus, text = prepared(
            *(text.encode(encoding) for text in texts), encoding=encoding, newlines=newlines
        )
        # utf-16 and utf-32 write a mark of their own, and only one is dropped
        marked = "".encode(encoding) != b""
        joined = "".join(text if marked else text.removeprefix("\ufeff") for text in texts)
        assert text == (normalized(joined) if newlines == "normalize" else joined)
        assert corpus.newlines_replaced == (9 if newlines == "normalize" else 0)
        assert corpus.encoding == encoding


@given(
    texts=st.lists(st.text("ab\r\n\ufeff é紅😀"), min_size=1, max_size=3),
    chunk=st.integers(1, 9),
)
@settings(max_examples=40)
def test_any_text_is_read_as_whole_strings_are(texts: list[str], chunk: int) -> None:
    """And the number of line ends replaced is that of CRs."""
    expected = "".join(text.removeprefix("\ufeff") for text in texts)
    assume(expected)
    with pytest.MonkeyPatch.context() as patch:
        set_chunk(patch, chunk)
        corpus, text = prepared(*(text.encode() for text in texts))
    assert text == normalized(expected)
    assert corpus.newlines_replaced == expected.replace("\r\n", "\r").count("\r")
    assert corpus.vocabulary.symbols.tolist() == sorted(map(ord, set(text)))
    assert corpus.counts.tolist() == [text.count(chr(s)) for s in corpus.vocabulary.symbols]


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf-8", "naïve 紅\n".encode() + b"\xff..."),
        ("utf-8", "紅".encode() + b"a\xe7\xb4"),
        ("utf-8-sig", b"\xef\xbb\xbfabc\xff"),
        ("ascii", b"abc\xc3\xa9"),
        ("cp1252", b"abc\x81"),
        ("utf-16", "a😀".encode("utf-16") + b"\x00\xdc.."),
        ("utf-16-le", "ab".encode("utf-16-le") + b"\0"),
        ("utf-32", "ab".encode("utf-32") + b"\0\0\0\x7f"),
        ("shift_jis", "日本".encode("shift_jis") + b"\x81"),
        ("gb18030", "紅樓".encode("gb18030") + b"\xff"),
    ],
)
def test_undecodable_bytes_are_located_in_the_decompressed_file(
    encoding: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the offset where decoding the whole would fail, whatever the blocks."""
    path = tmp_path / "bad.txt.gz"
    path.write_bytes(gzip.compress(data))
    with pytest.raises(UnicodeDecodeError) as whole:
        data.decode("utf-8" if encoding == "utf-8-sig" else encoding)
    for chunk in CHUNKS:
        set_chunk(monkeypatch, chunk)
        with pytest.raises(DataError) as caught:
            read_text(path, TextRules.named("char", encoding))
        said = str(caught.value)
        assert (
            f"bad.txt.gz: not {encoding.removesuffix('-sig')} at byte {whole.value.start} " in said
        )
        assert said.endswith("convert the file")
        with pytest.raises(DataError) as caught:
            prepare(path, tmp_path / "out", encoding=encoding)
        assert 'encoding="latin-1"' in str(caught.value)
        assert 'use level="byte"' in str(caught.value)


def test_a_decoder_that_only_waits_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    """UTF-7 gives nothing until a shift ends; one that ends in time is text."""
    short, long = (b"+" + b"AGEAYQBh" * size + b"-" for size in (50_000, 500_000))
    assert read_text("-", TextRules.named("char", "utf-7"), stdin=stream(short)) == "aaa" * 50_000
    with pytest.raises(DataError, match=r"-: 1,048,576 bytes before byte .* in utf-7: .*encoding="):
        prepare("-", tmp_path / "out", encoding="utf-7", stdin=stream(b"abc" + long))


@given(data=st.binary(min_size=1), chunk=st.sampled_from(CHUNKS))
@settings(max_examples=30)
def test_bytes_are_taken_as_they_are(data: bytes, chunk: int) -> None:
    """No mark is dropped, no line end changed; the id is the rank of the byte."""
    data = b"\xef\xbb\xbf\r\n" + data
    with pytest.MonkeyPatch.context() as patch:
        set_chunk(patch, chunk)
        corpus, _ = prepared(data[:4], data[4:], level="byte")
    ids = np.concatenate([corpus[name] for name in SPLITS])
    assert bytes(corpus.vocabulary.symbols[ids].tolist()) == data
    assert (corpus.encoding, corpus.newlines, corpus.newlines_replaced) == (None, None, 0)


def test_lone_surrogates_pass_where_an_encoding_yields_them(tmp_path: Path) -> None:
    """Through the vocabulary in corpus.json too."""
    path = tmp_path / "text"
    path.write_bytes(b"a+2AA-b+3AA-")
    corpus = prepare(path, tmp_path / "out", encoding="utf-7")
    assert spelled(Corpus.open(corpus.folder)) == "a\ud800b\udc00"


@pytest.mark.parametrize("size", [1, 2, 128, 129, 256, 257, 1 << 16, (1 << 16) + 1])
def test_ids_take_the_smallest_type_that_holds_the_vocabulary(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And come out right where the type changes within the text."""
    set_chunk(monkeypatch, 5_000 if size > 1000 else 50)
    code_points = itertools.chain(range(0xD800), range(0xE000, 0x110000))
    text = "".join(map(chr, itertools.islice(code_points, size)))
    text = text[::-1] + text  # so that the symbols do not arrive in their order
    corpus = prepare("-", tmp_path / "out", stdin=stream(text), newlines="keep", test_fraction=0.3)
    dtype = np.uint8 if size <= 256 else np.uint16 if size <= 65536 else np.uint32
    assert {corpus[name].dtype for name in SPLITS} == {np.dtype(dtype)}
    assert len(corpus.vocabulary) == size
    assert spelled(corpus) == text


def test_the_files_are_what_numpy_saves(tmp_path: Path) -> None:
    """Byte for byte, so that anything can read them; hashes are those of the ids alone."""
    corpus = prepare("-", tmp_path / "out", stdin=stream(TEXT), val_fraction=0)
    index = json.loads((tmp_path / "out" / CORPUS_FILE).read_text())
    for name in SPLITS:
        buffer = io.BytesIO()
        np.save(buffer, corpus[name])
        assert (tmp_path / "out" / f"{name}.npy").read_bytes() == buffer.getvalue()
        entry = index["splits"][name]
        assert entry["sha256"] == hashlib.sha256(corpus[name].tobytes()).hexdigest()
        assert entry["sha256"] == corpus.sha256(name)
        assert entry["length"] == corpus.length(name) == len(corpus[name])
        V = len(corpus.vocabulary)
        assert entry["counts"] == np.bincount(corpus[name], minlength=V).tolist()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    assert corpus["val"].shape == (0,)
    assert not corpus["train"].flags.writeable


# Splits, vocabulary and what is said of them


@given(
    n=st.integers(1, 400),
    val=st.decimals(0, "0.49", places=3).map(float),
    test=st.decimals(0, "0.5", places=3).map(float),
)
@example(n=100, val=0.29, test=0.07)  # in floats 28.999999999999996 and 7.000000000000001
@settings(max_examples=25)
def test_validation_and_test_are_the_floor_of_their_decimal_share_at_the_end(
    n: int, val: float, test: float
) -> None:
    """Training text comes first, and there is some."""
    text = "".join(map(chr, range(1000, 1000 + n)))
    corpus, whole = prepared(text.encode(), val_fraction=val, test_fraction=test)
    sizes = [int(n * Decimal(str(share))) for share in (val, test)]
    assert [corpus.length(name) for name in ("val", "test")] == sizes
    assert corpus.length("train") == n - sum(sizes) > 0
    assert whole == text


def test_texts_of_their_own_leave_the_main_text_whole(tmp_path: Path) -> None:
    """A CR at the end of one text and an LF at the start of the next are two line ends."""
    for name, text in [("main", "abc\r"), ("val", "\nxy"), ("test", "z" * 10)]:
        (tmp_path / name).write_bytes(text.encode())
    corpus = prepare(
        tmp_path / "main", tmp_path / "out", val=tmp_path / "val", test=tmp_path / "test"
    )
    assert [corpus.vocabulary.text(corpus[name]) for name in SPLITS] == ["abc\n", "\nxy", "z" * 10]
    corpus = prepare(tmp_path / "test", tmp_path / "2", val=tmp_path / "val", test_fraction=0.2)
    assert [corpus.length(name) for name in SPLITS] == [8, 3, 2]


def test_a_given_vocabulary_is_used_as_it_is(tmp_path: Path) -> None:
    """Symbols that the text lacks keep their ids."""
    vocabulary = CharVocabulary(list(map(ord, "abcxyz")))
    corpus = prepare("-", tmp_path / "out", stdin=stream("cabz"), vocabulary=vocabulary)
    assert corpus.vocabulary == vocabulary
    assert corpus["train"].tolist() == [2, 0, 1, 5]
    assert corpus.unseen.tolist() == [ord("x"), ord("y")]


def test_characters_outside_a_given_vocabulary_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With their counts and first offsets, in the text that has them, and nothing is left behind."""
    set_chunk(monkeypatch, 3)
    vocabulary = CharVocabulary(list(map(ord, "\nabc")))
    with pytest.raises(DataError) as caught:
        prepare("-", tmp_path / "out", stdin=stream("ab\r\n☃ca☃é"), vocabulary=vocabulary)
    said = str(caught.value)
    assert said.startswith("the train text has characters outside the vocabulary (3 in all): ")
    assert "'☃' U+2603 ×2, first at 3; 'é' U+00E9 ×1, first at 7: " in said
    (tmp_path / "main").write_text("abcabc")
    with pytest.raises(DataError, match=r"the val text has .*'d' U\+0064 ×1, first at 1: "):
        prepare(
            tmp_path / "main",
            tmp_path / "out",
            val="-",
            stdin=stream("adc"),
            vocabulary=vocabulary,
        )
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="level byte, not char"):
        prepare("-", tmp_path / "out", vocabulary=ByteVocabulary([1]))


def test_the_summary_says_what_matters(tmp_path: Path) -> None:
    """Entropy in nats, as losses; line ends and unseen symbols only where there are any."""
    corpus = prepare("-", tmp_path / "1", stdin=stream("abcd" * 10), val_fraction=0.1)
    assert corpus.entropy == pytest.approx(np.log(4), rel=1e-12)
    assert corpus.summary() == [
        "40 characters, 4 distinct, unigram entropy 1.3863 nats per character",
        "train 34, val 4, test 2",
    ]
    corpus = prepare("-", tmp_path / "2", stdin=stream("a\r\n" * 9 + "é"), test_fraction=0.1)
    assert corpus.train_counts.tolist() == [9, 9, 0]
    assert corpus.summary()[2:] == [
        "9 line ends (CRLF or CR) turned into LF",
        "never seen in training (1): 'é' U+00E9",
    ]
    assert corpus.unseen.tolist() == [ord("é")]


def test_the_fingerprint_is_of_the_content_alone(tmp_path: Path) -> None:
    """Not of names, folders or containers; text rules, symbols and splits each change it."""
    (tmp_path / "a").write_text(TEXT)
    (tmp_path / "b.bz2").write_bytes(bz2.compress(TEXT.encode()))
    numbers = itertools.count()

    def fingerprint(name: str, **options: Any) -> str:
        return prepare(tmp_path / name, tmp_path / f"out{next(numbers)}", **options).fingerprint

    same = fingerprint("a")
    assert fingerprint("b.bz2") == same
    others = [
        fingerprint("a", newlines="keep"),
        fingerprint("a", level="byte"),
        fingerprint("a", val_fraction=0.06),
        fingerprint("a", vocabulary=CharVocabulary(range(128))),
    ]
    assert len({same, *others}) == 5


# Inputs


@pytest.mark.parametrize(
    ("names", "compress"),
    [("{}.GZ", gzip.compress), ("{}.txt.bz2", bz2.compress), ("{}.xz", lzma.compress)],
)
def test_compressed_files_are_read_as_their_content(
    names: str, compress: Callable[[bytes], bytes]
) -> None:
    """Several members too; sizes and hashes are those of the file itself."""
    parts = [TEXT[:999].encode(), TEXT[999:].encode()]
    raw = [compress(parts[0]), compress(parts[1][:5]) + compress(parts[1][5:])]
    corpus, text = prepared(*raw, names=names)
    assert text == TEXT
    assert [(s.bytes, s.sha256) for s in corpus.sources] == [
        (len(data), hashlib.sha256(data).hexdigest()) for data in raw
    ]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)],
)
@given(data=st.data())
@settings(max_examples=15)
def test_damaged_compressed_files_are_named_whatever_the_damage(
    suffix: str, compress: Callable[[bytes], bytes], data: st.DataObject
) -> None:
    """Cut short anywhere it is an error; changed anywhere it is one or another text, no traceback."""
    raw = bytearray(compress(TEXT.encode()))
    cut = data.draw(st.integers(1, len(raw) - 1))
    at, value = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"t.{suffix}")
        path.write_bytes(raw[:cut])
        with pytest.raises(DataError, match=f"t.{suffix}: cannot read"):
            read_text(path, TextRules.named("byte"))
        raw[at] = value
        path.write_bytes(raw)
        try:
            read_text(path, TextRules.named("byte"))
        except DataError as error:
            assert f"t.{suffix}: cannot read" in str(error)


def with_dictionary(data: bytes, code: int) -> bytes:
    """A .xz file that asks for another size of dictionary: 28 is 64 MB, 40 is 4 GB."""
    header = data[12:16] + bytes([code]) + data[17:20]
    return data[:12] + header + zlib.crc32(header).to_bytes(4, "little") + data[24:]


def test_a_dictionary_of_gigabytes_is_refused(tmp_path: Path) -> None:
    """Also in a later stream, where what is no stream at all is ignored; that of xz -9 is not."""
    path, data = tmp_path / "t.xz", lzma.compress(b"text")
    huge = with_dictionary(data, 40)
    for content in (huge, data + huge):
        path.write_bytes(content)
        with pytest.raises(
            DataError, match=r"t\.xz: cannot read \(unpacking takes more than 128 MB"
        ):
            read_text(path, TextRules.named("byte"))
    path.write_bytes(data + with_dictionary(data, 28) + b"more" * 9)
    assert read_text(path, TextRules.named("byte")) == b"texttext"


@pytest.mark.skipif(sys.platform != "linux", reason="paths may be shorter elsewhere")
def test_folders_may_be_deeper_than_calls(in_tmp: Path) -> None:
    """In order, files among folders."""
    folder = Path("in", *"d" * 1100)
    folders = [folder, *folder.parents][:-1]
    try:
        for path in reversed(folders):
            path.mkdir()
        for path in (folder, Path("in")):
            (path / "a").write_text("a")
            (path / "z").write_text("z")
        assert spelled(prepare("in", "out")) == "aazz"
    finally:
        for path in folders:  # whoever deletes it later may do so by recursion
            for name in ("a", "z"):
                (path / name).unlink(missing_ok=True)
            path.rmdir()


def test_folders_give_their_visible_files_in_order_and_loops_end(tmp_path: Path) -> None:
    """Hidden and special files, dead links and the folder being written are passed over."""
    books = tmp_path / "books"
    for name in ("b.txt", "a/2", "a/1", "c", ".hidden", ".git/config", "held/val"):
        (books / name).parent.mkdir(parents=True, exist_ok=True)
        (books / name).write_text(f"<{name}>")
    (books / "a" / "loop").symlink_to(books)
    (books / "self").symlink_to(books / "self")
    (books / "dead").symlink_to(books / "nothing")
    (books / "link").symlink_to(books / "c")
    os.mkfifo(books / "pipe")
    out, held = books / "out", books / "held" / "val"
    for force in (False, True):
        corpus = prepare(books, out, val=held, test_fraction=0, force=force)
        assert corpus.vocabulary.text(corpus["train"]) == "<a/1><a/2><b.txt><c><c>"
        assert corpus.vocabulary.text(corpus["val"]) == "<held/val>"
    assert [s.name for s in corpus.sources[:2]] == [f"{books}/a/1", f"{books}/a/2"]
    twice = prepare(books / "c", tmp_path / "twice", val=books / "held", test=[books / "held"])
    assert spelled(twice) == "<c>" + 2 * "<held/val>"
    with pytest.raises(DataError, match="no files to read"):
        prepare(out, out, force=True)
    with pytest.raises(DataError, match="no files to read"):
        prepare(books / ".git", books / ".git", force=True)
    with pytest.raises(DataError, match="no files that include and exclude leave to read"):
        prepare(books, tmp_path / "none", include=["*.md"])


def test_standard_input_is_read_among_files_but_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the sizes of the pieces it comes in."""
    (tmp_path / "-").write_text("no")
    (tmp_path / "a").write_text("A")
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()
    os.write(write, b"\xef\xbb\xbfpipe")
    os.close(write)
    with os.fdopen(read, "rb", buffering=0) as pipe:
        corpus = prepare(["a", "-", "a"], "out", stdin=pipe)
    assert spelled(corpus) == "ApipeA"
    assert [s.name for s in corpus.sources] == ["a", "-", "a"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream("typed")))
    assert spelled(prepare("-", "2")) == "typed"
    assert spelled(prepare("./-", "3")) == "no"
    for again in ({"inputs": ["-", "-"]}, {"inputs": "-", "val": "-"}):
        with pytest.raises(DataError, match="only once"):
            prepare(**again, out="4", stdin=stream("x"))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="no text"):
        prepare("-", "4")


def test_standard_input_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    """A read from it gives None where nothing is there yet."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    with os.fdopen(read, "rb") as pipe, concurrent.futures.ThreadPoolExecutor(1) as pool:
        waited = threading.Event()

        class Observed:
            fileno = pipe.fileno

            def read(self, size: int) -> bytes | None:
                data = pipe.read(size)
                if data is None:
                    waited.set()
                return data

        job = pool.submit(prepare, "-", tmp_path / "out", stdin=Observed())
        waited.wait(60)
        os.write(write, b"late")
        os.close(write)
        assert spelled(job.result()) == "late"
        assert waited.is_set()


def test_a_text_alone_is_read_by_the_same_rules(tmp_path: Path) -> None:
    """Decompressed and decoded without its mark, its line ends left to the model's rule."""
    path = tmp_path / "text.xz"
    path.write_bytes(lzma.compress("\ufeffé\r\n".encode("utf-16-le")))
    assert read_text(path, TextRules.named("char", "utf-16-le")) == "é\r\n"
    assert read_text(path, TextRules.named("byte")) == "\ufeffé\r\n".encode("utf-16-le")
    assert read_text("-", TextRules.named("char", "latin-1"), stdin=stream(b"\xe9")) == "é"


# Refusals


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"level": "line"}, "'line' is not a level: use char, byte, word"),
    ({"newlines": "dos"}, "newlines 'dos'"),
    ({"level": "byte", "encoding": "utf-8"}, "leave the encoding out"),
    *(
        ({"encoding": encoding}, "is not an encoding of text files")
        for encoding in (
            "hex",
            "rot13",
            "zlib",
            "bogus",
            "",
            "a\0b",
            "idna",
            "punycode",
            "undefined",
            "unicode_escape",
        )
    ),
    *(
        ({"val_fraction": val, "test_fraction": test}, "less than 1 together")
        for val, test in [(-0.1, 0), (1, 0), (0, 1.5), (0.5, 0.5), (float("nan"), 0), (0, "x")]
    ),
    ({"test_fraction": float("inf")}, "test_fraction inf"),
    ({"inputs": []}, "no input"),
    ({"inputs": ["text", "missing"]}, "missing: cannot read"),
    ({"inputs": ["text", "a\0b"]}, "the name of a file"),
    ({"inputs": ""}, "the name of a file"),
    ({"inputs": "empty"}, "empty: there is no text to read"),
    ({"inputs": "mark"}, "mark: there is no text to read"),
    ({"val": "empty"}, "empty: there is no text to read"),
    ({"out": "text"}, "text: cannot hold a prepared corpus"),
    ({"out": "text/below"}, "cannot hold a prepared corpus|cannot write"),
    ({"out": "a\0b"}, "the name of a file"),
    ({"out": "dead"}, "dead: cannot write there"),
    ({"out": "full"}, "full: exists and is not empty"),
    ({"out": "full", "force": True}, "train.npy: a folder, where a file"),
]


@pytest.mark.parametrize(("options", "said"), BAD_SETTINGS, ids=str)
def test_what_cannot_be_used_is_refused_in_one_line_and_changes_nothing(
    options: dict[str, Any], said: str, in_tmp: Path
) -> None:
    """Each setting, input and output that cannot be."""
    Path("text").write_text(TEXT)
    Path("empty").touch()
    Path("mark").write_text("\ufeff")
    Path("dead").symlink_to("nowhere")
    Path("full/train.npy").mkdir(parents=True)
    before = contents(in_tmp)
    with pytest.raises(DataError, match=said) as caught:
        prepare(**{"inputs": "text", "out": "new/er", **options})
    assert "\n" not in str(caught.value)
    assert contents(in_tmp) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_missing_permissions_are_named(in_tmp: Path) -> None:
    """Of inputs and of the output."""
    Path("text").write_text(TEXT)
    Path("shut").mkdir(mode=0)
    for inputs, out in [("text", "shut"), ("text", "shut/in"), ("shut", "out")]:
        with pytest.raises(DataError, match="shut"):
            prepare(inputs, out)


def test_a_folder_that_holds_anything_is_refused_unless_forced(in_tmp: Path) -> None:
    """Then the files of the earlier prepare are replaced and the others stay."""
    prepare("-", "out", stdin=stream("first"))
    Path("out/notes").write_text("mine")
    before = contents(in_tmp)
    with pytest.raises(DataError, match="not empty"):
        prepare("-", "out", stdin=stream("second"))
    assert contents(in_tmp) == before
    old = Corpus.open("out")
    new = prepare("-", "out", stdin=stream("second"), force=True)
    assert spelled(new) == spelled(Corpus.open("out")) == "second"
    assert spelled(old) == "first"  # what is mapped already does not change
    assert sorted(p.name for p in Path("out").iterdir()) == sorted([*FILES, "notes"])
    Path("empty").mkdir()
    assert spelled(prepare("-", "empty", stdin=stream("x"))) == "x"


def save(array: Any) -> bytes:
    """An array as NumPy saves it."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "foreign",
    [
        {"train.npy": save(np.arange(9.0))},
        {"train.npy": save(np.arange(9, dtype="u1"))},
        {CORPUS_FILE: b'{"corpus": "of letters"}'},
        {CORPUS_FILE: b""},
        {**dict.fromkeys(FILES, b"mine"), "train.npy": save(np.arange(9, dtype="u1"))},
    ],
    ids=str,
)
def test_files_of_others_are_not_replaced(foreign: dict[str, bytes], in_tmp: Path) -> None:
    """Under the names of ours: without an index that says so ids are not ours, and not beside one."""
    for earlier in (False, True):
        out = Path(f"out-{earlier}")
        out.mkdir()
        if earlier and "train.npy" in foreign and foreign["train.npy"] == save(np.arange(9.0)):
            prepare("-", out, stdin=stream("first"), force=True)
        for name, content in foreign.items():
            (out / name).write_bytes(content)
        before = contents(in_tmp)
        with pytest.raises(DataError, match=r"not from an earlier prepare.*: move it") as caught:
            prepare("-", out, stdin=stream("text"), force=True)
        assert "\n" not in str(caught.value)
        assert contents(in_tmp) == before


def test_a_damaged_folder_is_replaced_when_forced(in_tmp: Path) -> None:
    """As the errors of opening advise; and one that version 0.1.0 wrote."""
    fixture = contents(ROOT / "tests" / "fixtures" / "prepared-0.1.0")
    for damage in (
        {},
        {CORPUS_FILE: fixture[CORPUS_FILE][:99]},
        {"val.npy": fixture["val.npy"][:140]},
    ):
        out = Path("out")
        out.mkdir(exist_ok=True)
        for name, content in {**fixture, **damage}.items():
            (out / name).write_bytes(content)
        assert spelled(prepare("-", out, stdin=stream("new"), force=True)) == "new"


class During(io.BytesIO):
    """A standard input; something is done while it is read."""

    def __init__(self, text: str, action: Callable[[], object]) -> None:
        super().__init__(text.encode())
        self.action = action

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if data:
            self.action()
        return data


@pytest.mark.parametrize("earlier", [True, False])
def test_of_two_that_prepare_into_one_folder_the_second_is_refused(
    earlier: bool, in_tmp: Path
) -> None:
    """While the first one reads, and without harm to it; so is who only opens, in one line."""
    if earlier:
        prepare("-", "out", stdin=stream("earlier"))

    def second() -> None:
        before = contents(in_tmp)
        for force in (False, True):
            with pytest.raises(DataError, match="out: another process is preparing into it"):
                prepare("-", "out", stdin=stream("second"), force=force)
        if not earlier:
            with pytest.raises(
                DataError, match="out: rnnlm prepare is running here, or was killed"
            ):
                Corpus.open("out")
            assert is_prepared(Path("out"))
        assert contents(in_tmp) == before

    assert spelled(prepare("-", "out", stdin=During("first", second), force=earlier)) == "first"
    assert sorted(contents(in_tmp / "out")) == sorted(FILES)


def test_what_comes_into_the_folder_while_text_is_read_is_not_replaced(in_tmp: Path) -> None:
    """It is looked at again before the first file takes its place."""
    for force in (False, True):
        comes = During("text", lambda: Path("out/train.npy").write_bytes(b"mine"))
        with pytest.raises(DataError, match=r"not empty|not from an earlier prepare"):
            prepare("-", "out", stdin=comes, force=force)
        assert contents(in_tmp) == {"out": b"<folder>", "out/train.npy": b"mine"}
        Path("out/train.npy").unlink()


def test_an_empty_folder_outlives_a_failure(in_tmp: Path) -> None:
    """Only what was made is taken away again."""
    Path("mine").mkdir()
    for out in ("mine", "mine/new/er"):
        with pytest.raises(DataError, match="no text"):
            prepare("-", out, stdin=stream(""))
        assert contents(in_tmp) == {"mine": b"<folder>"}


def test_new_folders_are_synced(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in the one above it, so that a power loss does not take the corpus away with its folder."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_ino))
    prepare("-", "new/out", stdin=stream("text"))
    folders = [Path().stat().st_ino, Path("new").stat().st_ino, Path("new/out").stat().st_ino]
    assert set(folders) <= set(synced)


DEATHS = """
import io, os, random, shutil, sys, traceback
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from faults import _die
from rnnlm.text.corpus import FILES, Corpus
from rnnlm.text.prepare import prepare
from rnnlm.errors import DataError

def child(number, text, force):
    if (pid := os.fork()) == 0:
        try:
            _die(str(number))
            prepare("-", "out", stdin=io.BytesIO(text), force=force, level="byte")
            os._exit(0)
        except DataError as error:
            os._exit(1 if "not empty" in str(error) else 2)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def text():
    try:
        corpus = Corpus.open("out")
    except DataError as error:
        known = ("rnnlm prepare is running here, or was killed", "not a prepared folder")
        assert any(words in str(error) for words in known), error
        return None
    return bytes(corpus.vocabulary.symbols[corpus["train"]].tolist())

rng = random.Random(0)
for earlier in (b"an earlier text" * 9, None):
    for number in range(1, 99, 2):
        shutil.rmtree("out", ignore_errors=True)
        if earlier:
            prepare("-", "out", stdin=io.BytesIO(earlier), level="byte",
                    val_fraction=0, test_fraction=0)
            before = text()
        else:
            before = None
        code = child(number, b"first", earlier is not None)
        if code == 0:
            break
        assert code == -9, code
        assert text() in (before, b"first", None), (number, text())
        assert child(rng.randint(1, 12), b"second", False) in (-9, 0, 1)
        code = child(0, b"second", False)
        now = text()
        assert code == (0 if now == b"second" and earlier is None else 1), (number, code, now)
        assert now in (before, b"first") if earlier else now in (b"first", b"second"), (number, now)
        assert sorted(os.listdir("out")) == sorted(FILES), (number, os.listdir("out"))
    print(number)
"""


def test_a_death_at_any_operation_leaves_the_old_text_or_the_new(in_tmp: Path) -> None:
    """SIGKILL at every other one, and once more in the next prepare: the one after that tidies up."""
    command = [sys.executable, "-c", DEATHS, str(ROOT / "tests" / "robustness")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    operations = [int(line) for line in done.stdout.split()]
    assert len(operations) == 2
    assert min(operations) >= 19


def raising(function: Callable[..., Any], k: int, error: BaseException) -> Callable[..., Any]:
    """The function, except that call number k raises."""
    calls = itertools.count()

    def call(*arguments: Any, **options: Any) -> Any:
        if next(calls) == k:
            raise error
        return function(*arguments, **options)

    return call


STEPS = [(os, "fsync", 5, 7), (Path, "replace", 8, 4), (np, "bincount", 2, 2)]


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_after_a_failure_the_folder_is_as_before(
    error: BaseException, earlier: bool, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any step: no temporary file, no new folder, no old file changed or missing."""
    if earlier:
        prepare("-", "new/out", stdin=stream("first"), force=True)
    before = contents(in_tmp)
    for owner, name, *calls in STEPS:  # where there is an earlier text, and a new folder
        for k in range(calls[0 if earlier else 1]):
            with monkeypatch.context() as patch, pytest.raises((DataError, KeyboardInterrupt)):
                patch.setattr(owner, name, raising(getattr(owner, name), k, error))
                prepare("-", "new/out", stdin=stream("second"), force=True)
            assert contents(in_tmp) == before, (name, k)


# Memory


def test_too_little_memory_is_said_of_the_text(
    in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is noticed, and nothing is left behind."""
    for owner, name in ((np, "full"), (np, "bincount"), (np, "take")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, raising(getattr(owner, name), 0, MemoryError()))
            with pytest.raises(DataError, match="not enough memory to prepare a text"):
                prepare("-", "new/out", stdin=stream(TEXT))
        assert contents(in_tmp) == {}
    (in_tmp / "text").write_text(TEXT)
    monkeypatch.setattr(
        sources._HashedFile, "read", raising(sources._HashedFile.read, 1, MemoryError())
    )
    with pytest.raises(DataError, match="text: too long for the memory"):
        read_text("text", TextRules.named("char", "utf-8"))


MEASURE = """
import re, sys
from pathlib import Path
from rnnlm.text.prepare import prepare

class Stream:
    def __init__(self, size):
        self.block, self.left = "It was — naïve 😀 text, in lines.\\r\\n".encode() * 1000, size
    def read(self, size):
        block = self.block[:min(size, self.left)]
        self.left -= len(block)
        return block

prepare("-", sys.argv[1], stdin=Stream(int(sys.argv[2])), encoding="utf-8")
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """60 MB from standard input take no more than 1 MB does, give or take a few blocks."""
    peaks = []
    for size in (10**6, 6 * 10**7):
        size -= size % 40_000  # whole lines
        command = [sys.executable, "-c", MEASURE, str(tmp_path / str(size)), str(size)]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) / 1e3)
    small, large = peaks
    assert large - small < 40


def test_a_large_vocabulary_is_encoded_as_by_the_naive_encoder(tmp_path: Path) -> None:
    """A real Chinese novel, 4,000 characters and more."""
    path = corpus_file("hongloumeng.txt")
    text = normalized(path.read_bytes().decode().removeprefix("\ufeff"))
    ids = {c: i for i, c in enumerate(sorted(set(text)))}
    corpus = prepare(path, tmp_path / "out")
    assert np.array_equal(np.concatenate([corpus[name] for name in SPLITS]), [ids[c] for c in text])


# Opening: nothing is trusted


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a prepared folder, with ids of two bytes."""
    text = "".join(map(chr, range(0x400, 0x500))) + TEXT
    folder = tmp_path_factory.mktemp("sound") / "out"
    prepare("-", folder, stdin=stream(text))
    return contents(folder)


@contextmanager
def folder_with(files: dict[str, bytes]) -> Iterator[Path]:
    """A folder of these files, while it is needed."""
    with tempfile.TemporaryDirectory() as name:
        for file, content in files.items():
            Path(name, file).write_bytes(content)
        yield Path(name)


def test_an_opened_corpus_is_the_prepared_one(sound: dict[str, bytes]) -> None:
    """With and without comparing hashes."""
    with folder_with(sound) as folder:
        for verify in (True, False):
            corpus = Corpus.open(folder, verify)
            assert normalized(spelled(corpus)).endswith(TEXT)
            assert corpus.level == "char"
            assert corpus.sources[0].name == "-"


@given(data=st.data())
@settings(max_examples=50)
def test_any_change_to_the_ids_is_refused(sound: dict[str, bytes], data: st.DataObject) -> None:
    """One byte changed, the end missing, or more at the end."""
    name = data.draw(st.sampled_from(FILES[:-1]))
    content = bytearray(sound[name])
    change = data.draw(st.sampled_from(["byte", "cut", "more"]))
    if change == "byte":
        # headers are where the structure is
        at = data.draw(st.integers(0, 127) | st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
    elif change == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content += data.draw(st.binary(min_size=1))
    with folder_with({**sound, name: bytes(content)}) as folder:
        with pytest.raises(DataError, match=rf"{name}: .*prepare again"):
            Corpus.open(folder)
        with suppress(DataError):
            assert Corpus.open(folder, verify=False)[name[:-4]].max() < 300


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda children: (
        st.lists(children, max_size=2) | st.dictionaries(st.text(), children, max_size=2)
    ),
    max_leaves=3,
)


@given(data=st.data())
@settings(max_examples=75)
def test_an_index_of_another_structure_is_refused_or_harmless(
    sound: dict[str, bytes], data: st.DataObject
) -> None:
    """Any part of corpus.json replaced, removed or doubled: a DataError, or the same text."""
    index = node = json.loads(sound[CORPUS_FILE])
    while True:
        key = data.draw(
            st.sampled_from(sorted(node))
            if isinstance(node, dict)
            else st.integers(0, len(node) - 1)
        )
        if not isinstance(node[key], (dict, list)) or not node[key] or data.draw(st.booleans()):
            break
        node = node[key]
    if data.draw(st.booleans()):
        node[key] = data.draw(JUNK)
    else:
        del node[key]
    with folder_with({**sound, CORPUS_FILE: json.dumps(index).encode()}) as folder:
        try:
            corpus = Corpus.open(folder)
        except DataError as error:
            assert str(error).startswith(f"{folder / CORPUS_FILE}: ")
            assert str(error).endswith(": prepare again")
        else:
            assert spelled(corpus).endswith(TEXT)
            assert all(isinstance(line, str) for line in corpus.summary())


@given(data=st.data())
@settings(max_examples=40)
@example(data=None)
def test_an_index_of_other_bytes_is_refused_or_says_the_same(
    sound: dict[str, bytes], data: st.DataObject | None
) -> None:
    """One byte changed or the end missing; where names of sources, counts and versions stand, each."""
    content = sound[CORPUS_FILE]
    if data is None:
        parts = (
            b'"version": ',
            b'"encoding": "',
            b'"newlines_replaced": ',
            b'"bytes": ',
            b'"sources',
        )
        changes = [
            (content.index(part) + len(part) + k, new)
            for part in parts
            for k in range(3)
            for new in b"013x }"
        ]
    else:
        changes = [(data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(-1, 255)))]
    for at, new in changes:
        changed = content[:at] + (b"" if new < 0 else bytes([new]) + content[at + 1 :])
        with folder_with({**sound, CORPUS_FILE: changed}) as folder:
            try:
                corpus = Corpus.open(folder)
            except DataError as error:
                assert "prepare again" in str(error)
            else:
                assert json.loads(changed) == json.loads(content), (at, new)
                assert spelled(corpus).endswith(TEXT)


def test_a_folder_of_version_0_1_0_opens() -> None:
    """Its index has no checksum; called by the version that has one, it is refused."""
    fixture = ROOT / "tests" / "fixtures" / "prepared-0.1.0"
    corpus = Corpus.open(fixture)
    assert spelled(corpus).startswith(
        "The lamp at the weir burns blue on odd nights.\nAsk why, and"
    )
    assert corpus.fingerprint.startswith("daa5dc89ecd22229")
    assert [corpus.length(name) for name in SPLITS] == [207, 59, 29]
    assert (corpus.encoding, corpus.sources[0].name) == ("utf-8", "weir.txt")
    files = contents(fixture)
    for old, new in ((b'version": 1', b'version": 2'), (b'"fo', b'"more": 1, "fo')):
        changed = files[CORPUS_FILE].replace(old, new)
        changed_folder = folder_with({**files, CORPUS_FILE: changed})
        with changed_folder as folder, pytest.raises(DataError, match="not as this version"):
            Corpus.open(folder)
    again, _ = prepared(spelled(corpus).encode(), val_fraction=0.2, test_fraction=0.1)
    assert again.fingerprint == corpus.fingerprint


def swell(path: Path) -> None:
    """Make a file of a gigabyte that takes no room."""
    with path.open("wb") as file:
        file.truncate(1 << 30)


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        (CORPUS_FILE, None, "not a prepared folder"),
        (CORPUS_FILE, Path.mkdir, "not a prepared folder"),
        (CORPUS_FILE, os.mkfifo, "not a prepared folder"),
        (CORPUS_FILE, lambda path: path.write_text("[" * 100_000), "not JSON"),
        (CORPUS_FILE, lambda path: path.write_text("9" * 10_000), "prepare again"),
        (CORPUS_FILE, lambda path: path.write_text("[]"), "prepare again"),
        (CORPUS_FILE, swell, "larger than any"),
        ("train.npy", None, "train.npy: missing"),
        ("train.npy", Path.mkdir, "train.npy: missing"),
        ("val.npy", os.mkfifo, "val.npy: missing"),
        ("test.npy", lambda path: np.save(path, np.zeros((3, 3), ">f8", "F")), "test.npy: not the"),
        ("test.npy", lambda path: np.save(path, np.array([{}]), True), "test.npy: not the"),
    ],
)
def test_what_stands_in_the_place_of_a_file_is_refused(
    name: str, make: Callable[[Path], object] | None, said: str, sound: dict[str, bytes]
) -> None:
    """Nothing, folders, pipes that would block, other arrays, absurd JSON."""
    with folder_with(sound) as folder:
        (folder / name).unlink()
        if make is not None:
            make(folder / name)
        with pytest.raises(DataError, match=said) as caught:
            Corpus.open(folder)
        assert "\n" not in str(caught.value)
        with pytest.raises(DataError, match="not a prepared folder"):
            Corpus.open(folder / "val.npy")


def test_arrays_of_another_layout_are_refused(sound: dict[str, bytes], tmp_path: Path) -> None:
    """The same ids big-endian, wider or in two dimensions; ids beyond the vocabulary, if unverified."""
    with folder_with(sound) as folder:
        ids = np.array(Corpus.open(folder)["val"])
        out_of_range = np.full_like(ids, 0xFFFF)
        for other in (ids.astype(">u2"), ids.astype("<u4"), ids[:, None], ids[None], ids[:-1]):
            np.save(folder / "val.npy", other)
            with pytest.raises(DataError, match=r"val\.npy: not the"):
                Corpus.open(folder, verify=False)
        np.save(folder / "val.npy", out_of_range)
        with pytest.raises(DataError, match="outside the vocabulary"):
            Corpus.open(folder, verify=False)
        np.save(folder / "val.npy", ids[::-1])
        with pytest.raises(DataError, match="changed since"):
            Corpus.open(folder)
        Corpus.open(folder, verify=False)
