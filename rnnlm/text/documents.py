"""Files that are no text in the encoding they are read in, known by their names and first bytes."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError

MARKS = {  # byte order marks; the longer ones first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Document:
    """A kind of file that is not text: its names, how it begins, and what makes text of it."""

    what: str
    suffixes: tuple[str, ...]
    begins: tuple[bytes, ...]  # in small letters
    way: str
    at: int = 0  # where it begins so


PANDOC = "pandoc -t plain"
DOCUMENTS = (
    Document("a PDF", (".pdf",), (b"%pdf-",), "convert it first (pdftotext)"),
    Document("an RTF document", (".rtf",), (b"{\\rtf",), f"convert it first ({PANDOC})"),
    Document(
        "a web page", (".html", ".htm"), (b"<!doctype html", b"<html"), f"convert it first ({PANDOC})"
    ),
    Document(
        "a Word document", (".doc",), (b"\xd0\xcf\x11\xe0",),
        "convert it first (libreoffice --convert-to txt)",
    ),
    Document(
        "a Word, OpenDocument or EPUB file, or a zip archive",
        (".docx", ".odt", ".epub"),
        (b"pk\x03\x04",),
        f"convert it first ({PANDOC})",
    ),
    Document("packed by gzip", (), (b"\x1f\x8b",), "give it a name that ends with .gz"),
    Document("packed by bzip2", (), (b"1ay&sy",), "give it a name that ends with .bz2", at=4),
    Document("packed by xz", (), (b"\xfd7zxz\0",), "give it a name that ends with .xz"),
    Document("packed by zstd", (".zst",), (b"\x28\xb5\x2f\xfd",), "unpack it first (unzstd)"),
    Document(
        "a tar archive", (".tar",), (b"ustar\0", b"ustar  \0"), "unpack it first (tar -xf)", at=257
    ),
    Document(
        "a picture", (), (b"\x89png", b"\xff\xd8\xff", b"gif87a", b"gif89a"), "name a text"
    ),
    Document("a program", (), (b"\x7felf",), "name a text"),
)  # fmt: skip


def refuse_document(name: str, begins: bytes) -> None:
    """Raise DataError for a document that is not text, by its name or its first bytes."""
    suffix = Path(name).suffix.lower()
    for kind in DOCUMENTS:
        start = begins[kind.at : kind.at + 256].lstrip().lower()
        if suffix in kind.suffixes or start.startswith(kind.begins):
            raise DataError(f"{name}: {kind.what}, not a text: {kind.way}, or leave it out")


def wide_encoding(begins: bytes) -> str | None:
    """The encoding of a text by its first bytes, where it is one of two or four bytes a character:
    from its byte order mark, or from zeros in every second place.
    """
    for mark, encoding in MARKS.items():
        if begins.startswith(mark):
            return encoding
    begins = begins[: 2 * min(len(begins) // 2, 2048)]
    zeros = begins[::2].count(0), begins[1::2].count(0)
    few, many = 0.1 * len(begins) / 2, max(8, 0.7 * len(begins) / 2)
    if zeros[1] >= many and zeros[0] <= few:
        return "utf-16-le"
    return "utf-16-be" if zeros[0] >= many and zeros[1] <= few else None
