"""`rnnlm prepare` of folders: which files, what is between them, and what is no text."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import rnnlm

from rnnlm import Corpus


def text_of(out: Path) -> str:
    """All that was prepared."""
    corpus = Corpus.open(out)
    return "".join(corpus.vocabulary.text(corpus[split]) for split in ("train", "val", "test"))


@pytest.fixture
def books(in_tmp: Path) -> Path:
    """A folder with texts, other files, and a folder below."""
    folder = in_tmp / "books"
    (folder / "old").mkdir(parents=True)
    for name, text in (("a.txt", "one\r"), ("b.md", "two"), ("old/c.txt", "three")):
        (folder / name).write_bytes(text.encode())
    return folder


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), "one\ntwothree"),
        (("--include", "*.txt"), "one\nthree"),
        (("--include", "*.txt", "--exclude", "old/*"), "one\n"),
        (("--include", "a*", "--include", "*.md"), "one\ntwo"),
        (("--exclude", "*.txt"), "two"),
        (("--separator", r"\n\n"), "one\n\n\ntwo\n\nthree"),
        (("--separator", r"\n\n", "--level", "byte"), "one\r\n\ntwo\n\nthree"),
    ],
)
def test_files_of_a_folder_are_chosen_and_parted(
    books: Path, options: tuple[str, ...], expected: str
) -> None:
    """By patterns of their names, or of their paths in the folder."""
    rnnlm("prepare", books, "--out", "out", *options)
    assert text_of(Path("out")) == expected


def test_a_folder_of_which_nothing_is_left_is_refused(books: Path) -> None:
    """With its name."""
    assert (
        "books: no files"
        in rnnlm("prepare", books, "--out", "o", "--include", "*.x", code=1).stderr
    )


def test_what_is_no_text_is_named_or_left_out_and_counted(books: Path) -> None:
    """The files before and after it are whole."""
    (books / "b2.txt").write_bytes(b"x" * 3_000_000 + b"\xff")
    (books / "c.pdf").write_bytes(b"%PDF-1.5\n")
    said = rnnlm("prepare", books, "--out", "out", code=1).stderr
    assert "b2.txt: not utf-8 at byte 3,000,000" in said
    done = rnnlm("prepare", books, "--out", "out", "--skip-unreadable")
    assert text_of(Path("out")) == "one\ntwothree"
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert "b2.txt" in lines[0]
    assert "c.pdf" in lines[1]
    assert lines[2] == "left out: 2 files"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pdf", b"text after all", "a PDF, not a text: convert it first (pdftotext)"),
        ("a.txt", b"%PDF-1.4 ...", "a PDF"),
        ("a.docx", b"PK\x03\x04...", "a Word, OpenDocument or EPUB file"),
        ("a", b"PK\x03\x04...", "a Word, OpenDocument or EPUB file"),
        ("a.rtf", b"{\\rtf1 x}", "an RTF document"),
        ("a.txt", b"\n <!DOCTYPE HTML><p>x", "a web page"),
        ("a.HTM", b"plain", "a web page"),
        ("a.doc", b"\xd0\xcf\x11\xe0", "a Word document"),
        ("a", b"\x1f\x8b\x08\x00", "packed by gzip, not a text: give it a name that ends with .gz"),
        ("a.tar", b"a", "a tar archive"),
        ("a.txt", b"\x89PNG\r\n", "a picture"),
        (
            "a.txt",
            "\ufeffab".encode("utf-16-be"),
            "looks like utf-16, not utf-8: name its encoding",
        ),
        ("a.txt", "ab ".encode("utf-16-le"), "looks like utf-16-le, not utf-8"),
    ],
)
def test_documents_are_refused_with_what_converts_them(
    in_tmp: Path, name: str, content: bytes, words: str
) -> None:
    """By their names and by how they begin; bytes are bytes."""
    Path(name).write_bytes(content * 9)
    for command in (("prepare", name, "--out", "out"), ("train", name, "--dry-run")):
        assert words in rnnlm(*command, code=1).stderr
    rnnlm("prepare", name, "--out", "out", "--level", "byte")
