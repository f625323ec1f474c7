r"""N-gram models in the ARPA format, which KenLM and SRILM read and write.

    \data\
    ngram 1=5               how many n-grams of order 1; such a line for each order
    \1-grams:
    -0.30103	a	-0.25    log₁₀ P(h, w), the symbols of h and w, and log₁₀ backoff(h w)
    \end\                   where (h, w) is itself a context

P and backoff are those of `models.ngram`: p(w | h) is P(h, w) where the n-gram is in the file, else
backoff(h) · p(w | h'). The empty context has no backoff weight, as all symbols are among the 1-grams.
A model with additive smoothing has none at all, so that no such file holds it. Zero is written as -99,
and what is read as -99 or less is zero, as in SRILM.

Symbols. Fields are separated by white space, and some words are reserved. So a character that is
white space, a control character or for another reason not printable, and the backslash, is written
as \u{..}, its code point in hexadecimal: a space is \u{20}, a newline \u{a}. So is the first character
of a symbol that reads <s>, </s> or, in capitals, <UNK>. All else is written as it is, in UTF-8, and
comes back exactly; a symbol of no characters, which a level may have, is \u{}. A byte is <0x0A>.

Begin and end. One long text has no sentences: <s> and </s> are listed with probability 0, since KenLM
wants them, and a text is to be scored without them (`score(text, bos=False, eos=False)`). Where every
line is a text, the newline is both what a line begins from and what it ends with: given as `boundary`,
it is written <s> where it begins an n-gram and </s> where it ends one, so that the programs score
whole lines. <unk> is listed with probability 0 unless it is one of the model's symbols.
"""

from __future__ import annotations

import math
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from ..arrays import Array
from ..backend.memory import available_memory, readable
from ..errors import DataError
from ..models.ngram import HIGHEST, IMPORTED, Level, Params, find, to_levels, to_params
from ..runs.checkpoint import Checkpoint
from ..text.format import LEVELS, TextFormat, TextRules
from ..text.vocabulary import Vocabulary
from .contract import Files, Format, Imported, Symbols

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
ZERO = -99.0  # log₁₀ of what counts as 0
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
ESCAPED = re.compile(r"\\u\{((?:10|0?[0-9a-f])?[0-9a-f]{1,4})\}")
DIGITS = 12  # of the numbers in the file
ROWS = 1 << 15  # n-grams that are worked on at a time
LONGEST_LINE = 1 << 20  # bytes
HIGHEST_WEIGHT = 300.0  # log₁₀
ROW_BYTES = 100  # of memory for each n-gram that is read


def token(symbol: str) -> str:
    """A symbol as the file has it."""
    if not symbol:
        return r"\u{}"
    if symbol in (BEGIN, END) or (symbol != UNKNOWN and symbol.lower() == UNKNOWN):
        return _escape(symbol[0]) + symbol[1:]
    return "".join(c if c.isprintable() and c not in " \\" else _escape(c) for c in symbol)


def _escape(character: str) -> str:
    return rf"\u{{{ord(character):x}}}"


def spelled(vocabulary: Vocabulary) -> list[str]:
    """The symbols (V,) as the file has them."""
    return [
        token(symbol) if isinstance(symbol, str) else f"<0x{symbol:02X}>"
        for symbol in vocabulary.to_json()["symbols"]
    ]


# Writing


def write(checkpoint: Checkpoint) -> Files:
    """A file with all n-grams of the model."""
    text = checkpoint.format
    lines = arpa_lines(checkpoint.params, spelled(text.vocabulary), text.end)
    return {".arpa": (line.encode() for line in lines)}


def arpa_lines(params: Params, words: Sequence[str], boundary: int | None = None) -> Iterator[str]:
    """The lines of a file, in pieces; `words` (V,) are its symbols, `boundary` the id that parts texts.

    Raises DataError for a model that this format cannot hold.
    """
    if params["alone"]:
        raise DataError(
            "a model with additive smoothing has no backoff weights: no ARPA file holds it"
        )
    levels = to_levels(params)
    specials = [BEGIN] + ([END] if boundary is None else [])
    specials += [UNKNOWN] if UNKNOWN not in words else []
    yield "\\data\\\n"
    for k, level in enumerate(levels):
        size = len(level.ngrams) if k else len(words) + len(specials)
        yield f"ngram {k + 1}={size}\n"
    for k in range(len(levels)):
        yield f"\n\\{k + 1}-grams:\n"
        yield from _ngrams(levels, k, words, boundary) if k else _unigrams(levels, words, boundary)
    yield "\n\\end\\\n"


def _unigrams(levels: Sequence[Level], words: Sequence[str], boundary: int | None) -> Iterator[str]:
    """All symbols, seen or not, and the special ones."""
    V = len(words)
    p = np.full(V, levels[0].backoff[0] / V)
    p[levels[0].ngrams] = levels[0].probability
    backoffs = _backoffs(levels, np.arange(V)[:, None], V)
    begin = ""
    for id_, (word, log_p, backoff) in enumerate(zip(words, _logs(p), backoffs, strict=True)):
        if id_ == boundary:
            word, begin, backoff = END, backoff, ""
        yield f"{log_p}\t{word}{backoff}\n"
    yield f"{ZERO:g}\t{BEGIN}{begin}\n"
    if boundary is None:
        yield f"{ZERO:g}\t{END}\n"
    if UNKNOWN not in words:
        yield f"{ZERO:g}\t{UNKNOWN}\n"


def _ngrams(
    levels: Sequence[Level], k: int, words: Sequence[str], boundary: int | None
) -> Iterator[str]:
    """The n-grams of level k above 0."""
    V, level = len(words), levels[k]
    begin, end = list(words), list(words)
    if boundary is not None:
        begin[boundary], end[boundary] = BEGIN, END
    for start in range(0, len(level.ngrams), ROWS):
        part = slice(start, start + ROWS)
        node, symbol = np.divmod(level.ngrams[part], V)
        columns = []
        for above in reversed(levels[1 : k + 1]):
            node, oldest = np.divmod(above.contexts[node], V)
            columns.append(oldest)
        rows = np.stack([*columns, symbol], axis=1)
        if boundary is not None and (rows[:, 1:-1] == boundary).any():
            raise DataError("texts do not begin after each of their ends: give no boundary symbol")
        text = (
            " ".join((begin[row[0]], *(words[i] for i in row[1:-1]), end[row[-1]]))
            for row in rows.tolist()
        )
        numbers = _logs(level.probability[part]), _backoffs(levels, rows, V)
        yield "".join(
            f"{log_p}\t{line}{backoff}\n"
            for log_p, line, backoff in zip(numbers[0], text, numbers[1], strict=True)
        )


def _backoffs(levels: Sequence[Level], rows: Array, V: int) -> list[str]:
    """For n-grams (R, k) the field of their backoff weight, empty where they are no context."""
    fields, k = [""] * len(rows), rows.shape[1]
    if k < len(levels):
        known, nodes = _nodes([level.contexts for level in levels[: k + 1]], rows, V)
        weights = _logs(levels[k].backoff[nodes[known]])
        for i, weight in zip(np.flatnonzero(known).tolist(), weights, strict=True):
            fields[i] = f"\t{weight}"
    return fields


def _logs(p: Array) -> list[str]:
    """log₁₀ as text."""
    with np.errstate(divide="ignore"):
        logs = np.maximum(np.log10(p), ZERO)
    return [f"{x:.{DIGITS}g}" for x in logs.tolist()]


def _nodes(contexts: Sequence[Array], rows: Array, V: int) -> tuple[Array, Array]:
    """Which of the contexts (R, k), oldest symbol first, there are; and their places in level k."""
    known, nodes = np.ones(len(rows), np.bool_), np.zeros(len(rows), np.int64)
    for keys, symbols in zip(contexts[1:], rows.T[::-1], strict=False):
        nodes, there = find(keys, nodes * V + symbols)
        known &= there
    return known, nodes


# Reading


def read(path: Path, symbols: Symbols | None, rules: TextRules) -> Imported:
    """The n-grams of a file; its symbols must be those given, in any order."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe has no size, and cannot be read twice
            raise DataError(f"{path}: not a file")
        if symbols is None:
            with path.open("rb") as file:
                text = _format(_Lines(path, file), rules)
        else:
            text = symbols.format
        with path.open("rb") as file:
            reader = _Reader(_Lines(path, file), spelled(text.vocabulary), text.end)
            levels = reader.read(status.st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror or error}") from None
    model = {"kind": "ngram", "order": len(levels), "smoothing": IMPORTED}
    return Imported(model, text, to_params(levels), first=levels[0].probability)


def _format(lines: _Lines, rules: TextRules) -> TextFormat:
    """The symbols among the 1-grams of a file: characters, or bytes."""
    while lines.next() != b"\\1-grams:":
        pass
    numbers: dict[str, list[int]] = {"char": [], "byte": []}
    while not (line := lines.filled()).startswith(b"\\"):
        word = (line.split()[1:2] or [line])[0].decode(errors="replace")
        if word in (BEGIN, END) or word.lower() == UNKNOWN:
            continue
        if match := BYTE.fullmatch(word):
            numbers["byte"].append(int(match[1], 16))
            continue
        symbol = ESCAPED.sub(lambda match: chr(int(match[1], 16)), word)
        if len(symbol) != 1:
            raise lines.error(
                f"{_shown(word.encode())} is no character: name a checkpoint, run or prepared folder "
                "with these symbols (--vocab)"
            )
        numbers["char"].append(ord(symbol))
    level = "char" if numbers["char"] else "byte"
    if not numbers[level]:
        raise lines.error("no symbols among the 1-grams")
    if rules.of_lines:
        numbers[level].append(ord("\n"))
    if rules.level != level:
        rules = TextRules.named(level, unit=rules.unit, reverse=rules.reverse)
    return TextFormat(rules, LEVELS[level](sorted(set(numbers[level]))))


class _Lines:
    """The lines of a file, counted."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file
        self.number = 0

    def next(self) -> bytes:
        """The next line, without white space around it."""
        line = self._file.readline(LONGEST_LINE)
        self.number += 1
        if not line:
            raise self.error("the file ends before \\end\\")
        if len(line) == LONGEST_LINE:
            raise self.error("no line of an ARPA file is so long")
        return line.strip()

    def filled(self) -> bytes:
        """The next line that is not empty."""
        while not (line := self.next()):
            pass
        return line

    def error(self, message: str, number: int | None = None) -> DataError:
        return DataError(f"{self._path}:{number or self.number}: {message}")


def _shown(word: bytes) -> str:
    """A word of the file in a message."""
    text = word.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 40 else text[:40] + "...")


class _Reader:
    """Builds the levels of a model, section by section."""

    def __init__(self, lines: _Lines, words: Sequence[str], boundary: int | None = None) -> None:
        self._lines, self._words, self._boundary = lines, words, boundary
        self._V = V = len(words)
        self._ids = {word.encode(): i for i, word in enumerate(words)}
        if boundary is not None:  # has two other names
            del self._ids[words[boundary].encode()]
        self._begin, self._end, unknown = V, V + 1, V + 2  # in rows, until they are understood
        self._ids = {
            BEGIN.encode(): self._begin,
            END.encode(): self._end,
            UNKNOWN.encode(): unknown,
            UNKNOWN.upper().encode(): unknown,
            **self._ids,
        }
        self._contexts = [np.zeros(1, np.int64)]
        self._backoff = [np.zeros(1)]

    def read(self, file_size: int) -> list[Level]:
        """The levels of the model, from a file of so many bytes. Raises DataError, with the number of
        the line.

        How much probability the file gives out is not checked; that of an <unk> which is no symbol is
        left out.
        """
        sizes, line = self._header(file_size)
        levels = []
        for k, size in enumerate(sizes):
            if line != b"\\%d-grams:" % (k + 1):
                raise self._lines.error(f"{_shown(line)} instead of \\{k + 1}-grams:")
            ngrams, probability = self._section(k, size, last=k + 1 == len(sizes))
            levels.append(Level(self._contexts[k], self._backoff[k], ngrams, probability))
            line = self._lines.filled()
            if not line.startswith(b"\\"):
                raise self._lines.error(f"more than the {size:,} n-grams that the file says it has")
        if line != b"\\end\\":
            raise self._lines.error(f"{_shown(line)} instead of \\end\\")
        return levels

    def _header(self, file_size: int) -> tuple[list[int], bytes]:
        """How many n-grams of each order the file says it has; and the line after these."""
        while self._lines.next() != b"\\data\\":
            pass
        sizes: list[int] = []
        while not (line := self._lines.filled()).startswith(b"\\") or not sizes:
            match = re.fullmatch(rb"ngram\s+(\d{1,6})\s*=\s*(\d{1,18})", line)
            if not match or int(match[1]) != len(sizes) + 1 or len(sizes) == HIGHEST:
                raise self._lines.error(f"{_shown(line)} instead of 'ngram {len(sizes) + 1}='")
            sizes.append(int(match[2]))
            file_size -= sizes[-1] * (2 * len(sizes) + 2)  # a digit, two signs a symbol, an end
            if file_size < 0:
                raise self._lines.error(f"the file is too small for {sizes[-1]:,} n-grams")
        needed, have = ROW_BYTES * sum(sizes), available_memory()
        if have is not None and needed > have:
            raise self._lines.error(
                f"{sum(sizes):,} n-grams need about {readable(needed)}, and {readable(have)} are free"
            )
        return sizes, line

    def _section(self, k: int, size: int, last: bool) -> tuple[Array, Array]:
        """The n-grams of level k and their probabilities; finds the contexts of the next level."""
        ngrams = [(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))]
        contexts = [(np.zeros(0, np.int64), np.zeros(0))]
        for done in range(0, size, ROWS):
            rows, p, backoff, at = self._rows(k, min(ROWS, size - done))
            predicted, is_context = self._understand(rows, p, at)
            is_context &= ~np.isnan(backoff)
            if last and is_context.any():
                raise self._lines.error(
                    "a backoff weight, but no longer n-grams", _first(at, is_context)
                )

            nodes = self._known(rows[:, :-1], predicted, at)
            ngrams.append(((nodes * self._V + rows[:, -1])[predicted], p[predicted], at[predicted]))
            nodes = self._known(rows[:, 1:], is_context, at)
            contexts.append(((nodes * self._V + rows[:, 0])[is_context], backoff[is_context]))

        keys, p, at = (np.concatenate(parts) for parts in zip(*ngrams, strict=True))
        order = np.argsort(keys, kind="stable")
        keys, p, at = keys[order], p[order], at[order]
        same = keys[1:] == keys[:-1]
        if same.any():
            raise self._lines.error("this n-gram is in the file twice", int(at[1:][same].min()))
        if not k and len(keys) < self._V:
            missing = np.setdiff1d(np.arange(self._V), keys)[0]
            raise self._lines.error(
                f"the symbol {_shown(self._words[missing].encode())} is not among the 1-grams"
            )
        new, backoff = (np.concatenate(parts) for parts in zip(*contexts, strict=True))
        order = np.argsort(new)
        self._contexts.append(new[order])
        self._backoff.append(backoff[order])
        return keys, p

    def _rows(self, k: int, size: int) -> tuple[Array, Array, Array, Array]:
        """So many lines: symbols (R, k + 1), probabilities, backoff weights or NaN, line numbers."""
        lines, ids = self._lines, self._ids
        symbols: list[int] = []
        logs: list[float] = []
        weights: list[float] = []
        at = np.arange(size) + lines.number + 1
        for _ in range(size):
            fields = lines.next().split()
            if not fields or fields[0].startswith(b"\\"):
                raise lines.error("fewer n-grams than the file says it has")
            if not k + 2 <= len(fields) <= k + 3:
                raise lines.error(f"not a number, {k + 1} symbols and perhaps another number")
            try:
                logs.append(float(fields[0]))
                weights.append(float(fields[-1]) if len(fields) == k + 3 else 0.0)
            except ValueError:
                raise lines.error("a logarithm is not a number") from None
            if not (logs[-1] <= 0 and weights[-1] <= HIGHEST_WEIGHT):  # or NaN
                raise lines.error("a logarithm is not in range: no probability is above 1")
            if len(fields) == k + 2:
                weights[-1] = math.nan
            try:
                symbols += [ids[word] for word in fields[1 : k + 2]]
            except KeyError as error:
                raise lines.error(f"{_shown(error.args[0])} is no symbol of the model") from None
        rows = np.array(symbols, np.int64).reshape(size, k + 1)
        return rows, _powers(logs), _powers(weights), at

    def _understand(self, rows: Array, p: Array, at: Array) -> tuple[Array, Array]:
        """Put the boundary for <s> and </s>; which rows give a probability, and which a context."""
        begins: Array = np.zeros(len(rows), np.bool_)
        ends = begins
        if self._boundary is not None:
            begins, ends = rows[:, 0] == self._begin, rows[:, -1] == self._end
            rows[begins, 0] = rows[ends, -1] = self._boundary
        strange: Array = rows.max(axis=1) >= self._V
        bad, predicted = strange, ~strange
        if rows.shape[1] == 1:  # 1-grams, where the special words are just listed
            bad = strange & (rows[:, 0] == self._end) & (p > 0)
            predicted = ~(strange | begins)
        if bad.any():
            raise self._lines.error(
                "<s>, </s> or <unk> where it stands for no symbol of the model", _first(at, bad)
            )
        return predicted, ~(strange | ends)

    def _known(self, contexts: Array, needed: Array, at: Array) -> Array:
        """The places of contexts, of which the needed ones must be in the file."""
        known, nodes = _nodes(self._contexts, contexts, self._V)
        if (unknown := needed & ~known).any():
            raise self._lines.error("no backoff weight for a context", _first(at, unknown))
        return nodes


def _first(at: Array, where: Array) -> int:
    """The line number of the first row that is marked."""
    return int(at[where.argmax()])


def _powers(logs: list[float]) -> Array:
    """10 to the logarithms, 0 for what counts as 0."""
    a = np.array(logs)
    return np.where(a <= ZERO, 0.0, 10.0**a)


FORMAT = Format(
    write,
    kind="ngram",
    read=read,
    reads=(".arpa",),
)
