"""`rnnlm corpus`: prints the public texts that can be fetched by name, and fetches one, with a bar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from ..interrupts import end_cleanly, stop
from ..watching import report
from .arguments import FILE, example
from .bars import passes_shown
from .terminal import say_line, show, show_lines


@click.group("corpus", epilog=example("rnnlm corpus get tinyshakespeare --out shakespeare.txt"))
def command() -> None:
    """List public texts, or fetch one. A config names one too: data.path=corpus:tinyshakespeare."""


@command.command("list", epilog=example("rnnlm corpus list"))
def list_texts() -> None:
    """List the texts: address, size, licence, expected loss."""
    show_lines(_table())


@command.command("get", epilog=example("rnnlm corpus get names --out names.txt"))
@click.argument("name")
@click.option("--out", type=FILE, help="Copy it to this file, too.")
def get(name: str, out: Path | None) -> None:
    """Fetch a text, verify it, and print where it is.

    A text that is in the cache is not fetched again.
    """
    from ..corpora.fetch import PREFIX, copy
    from ..storage.atomic import check_new

    stop.at_first = end_cleanly
    if out is not None:
        check_new(out)
    path = Path(ready(f"{PREFIX}{name}"))
    if out is not None:
        copy(name, path := out)
    show(str(path))


def ready(path: str) -> str:
    """The file of a path `corpus:NAME`, fetched with a bar where it is missing; other paths stay."""
    from ..corpora.fetch import fetch, local, name_in, named

    if (name := name_in(path)) is not None:
        text, sizes = named(name), fetch(name)
        if next(sizes, None) is not None:
            say_line(f"fetching {name}, {text.bytes:,} bytes, from {text.address}")
            with passes_shown():
                for size in sizes:
                    report("fetching", size, text.bytes)
    return local(path)


def _table() -> Iterator[str]:
    from ..corpora.fetch import PREFIX, is_cached
    from ..corpora.table import TEXTS

    for name, text in TEXTS.items():
        here = ", in the cache" if is_cached(name) else ""
        yield f"{PREFIX}{name}: {text.bytes:,} bytes, {text.licence}{here}"
        yield f"  {text.what}"
        yield f"  {text.address}"
        yield f"  validation {text.loss} nats per character: {text.recipe}"
