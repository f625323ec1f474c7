"""What the fuzzer does to the content of files: bytes, trees of JSON, checkpoints and YAML.

Each change is a function of random numbers and the content; none knows what rnnlm makes of it.
"""

from __future__ import annotations

import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFE, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 62, (1 << 63) - 1)
JUNK = (None, True, 0, -1, 1.5, 1e308, 10**30, "", "x", "\n", "\x1b[31m", "\ud800", [], {}, [[]])


class WrongError(Exception):
    """A case that came out as it must not."""


# Bytes


def cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def drop(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 600)]


def insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.randbytes(rng.randint(1, 300))


def double(rng: random.Random, data: bytearray) -> None:
    a, b = sorted((rng.randrange(len(data)), rng.randrange(len(data))))
    at = rng.randrange(len(data))
    data[at:at] = data[a:b]


def blank(rng: random.Random, data: bytearray) -> None:
    """A sector that was never written."""
    at = rng.randrange(len(data)) // 512 * 512
    data[at : at + 512] = bytes(len(data[at : at + 512]))


def number(rng: random.Random, data: bytearray) -> None:
    """A number of 2, 4 or 8 bytes, as sizes and offsets are, replaced by another."""
    kind = rng.choice(("<H", "<L", "<Q"))
    at = rng.randrange(max(1, len(data) - struct.calcsize(kind)))
    value = struct.pack(kind, rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(kind)))
    data[at : at + len(value)] = value


BYTES = (cut, flip, drop, insert, double, blank, number)


def changed_bytes(rng: random.Random, data: bytes) -> tuple[str, bytes]:
    """The name of a change, and the data with it, where that is something else."""
    change, changed = rng.choice(BYTES), bytearray(data)
    change(rng, changed)
    return change.__name__, bytes(changed)


def change_byte(rng: random.Random, data: bytes) -> bytes:
    """One byte replaced, left out, or put in: by a likely one, so that the text stays what it is."""
    at, byte = rng.randrange(len(data)), rng.choice(b'0123456789abcdefxu-_. \\"\n\x00\xff')
    taken = data[at : at + 1]
    if taken.isdigit():
        byte = rng.choice(b"0123456789")
    elif taken.isalpha():
        byte = rng.choice((taken.swapcase()[0], *b"abcdefnrtuxz"))
    return data[:at] + bytes([byte] * rng.choice((1, 1, 1, 0))) + data[at + rng.choice((1, 1, 0)) :]


# Trees of JSON


def change_tree(rng: random.Random, node: Any) -> None:
    """Replace, remove, double or rename one thing somewhere in a tree."""
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        key = rng.choice(list(keys))
        if isinstance(node[key], (dict, list)) and node[key] and rng.random() < 0.8:
            node = node[key]
            continue
        break
    match rng.randrange(4):
        case 0:
            node[key] = rng.choice(JUNK)
        case 1:
            del node[key]
        case 2:
            value = node[key]
            node[key] = value + 1 if type(value) is int else [value]
        case 3 if isinstance(node, dict):
            node[rng.choice(("x", "step", "../../x", "é\n"))] = node[key]
        case _:
            node.append(node[key])


# Checkpoints


def changed_header(rng: random.Random, data: bytes) -> bytes:
    """A number in one of the zip's own records changed."""
    starts = [m.start() for m in re.finditer(rb"PK(\x03\x04|\x01\x02|\x05\x06)", data)]
    at = rng.choice(starts) + rng.randrange(4, 46, 2)
    kind = rng.choice(("<H", "<L", "<Q"))
    value = struct.pack(kind, rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(kind)))
    return data[:at] + value + data[at + len(value) :]


def read_members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def write_members(members: list[tuple[str, bytes]], compression: int = 0) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.lib.format.write_array(buffer, np.asanyarray(array), **options)
    return buffer.getvalue()


def other_members(rng: random.Random, data: bytes) -> bytes:
    """Members renamed, missing, doubled, added, compressed or in another order."""
    members = list(read_members(data).items())
    at = rng.randrange(len(members))
    name, content = members[at]
    match rng.randrange(7):
        case 0:
            members[at] = (rng.choice(("x.npy", "../x.npy", "/etc/x", "a\nb.npy", "Wy")), content)
        case 1:
            del members[at]
        case 2:
            members.append((name, rng.choice(members)[1]))
        case 3:
            members.append(("extra.npy", npy(np.zeros(rng.randrange(5)))))
        case 4:
            return write_members(members, rng.choice((8, 12, 14)))
        case 5:
            bomb = npy(np.zeros(20_000_000, np.float32))
            return write_members([*members[:at], (name, bomb)], zipfile.ZIP_DEFLATED)
        case 6:
            rng.shuffle(members)
    return write_members(members)


SHAPES = (
    *("(1000000000000,)", "(-1,)", f"({1 << 62}, 4)", f"({1 << 64},)", "(0, 99999999999)", "(3L,)"),
    *("(True,)", "((3,),)", "()", f"({'9' * 3000},)", "(1.0,)", f"({'1,' * 1000})"),
)


def other_npy(rng: random.Random, data: bytes) -> bytes:
    """A member that is an array of another kind, or none, under a right checksum."""
    members = read_members(data)
    name = rng.choice(list(members))
    content = members[name]
    start = content.index(b"\n") + 1
    shape = rng.choice(SHAPES)
    header = rng.choice(
        (
            "{'descr': '<f4', 'fortran_order': False, 'shape': SHAPE, }",
            "{'descr': '<f4', 'fortran_order': True, 'shape': SHAPE, }",
            "{'descr': '|O', 'fortran_order': False, 'shape': SHAPE, }",
            "{'descr': '<U99999999', 'fortran_order': False, 'shape': SHAPE, }",
            "{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': SHAPE, }",
            "{'descr': '|V0', 'fortran_order': False, 'shape': SHAPE, }",
            "__import__('os').abort()",
            "(" * 900,
            "-" * 3000,
            "{'descr': '\\d', 'shape': 1 is 1}",
            "[" * 90 + "]" * 90,
        )
    ).replace("SHAPE", shape)
    text = header.encode() + b"\n"
    match rng.randrange(6):
        case 0 | 1 | 2:
            content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content[start:]
        case 3:
            content = content[:6] + bytes((rng.randrange(5), rng.randrange(3))) + content[8:]
        case 4:
            content = npy(np.array([{}, Exploding()], object), allow_pickle=True)
        case 5:
            content = changed_bytes(rng, content)[1]
    return write_members(list((members | {name: content}).items()))


class Exploding:
    """Code that a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return WrongError, ("a pickle was opened",)


def first_version(meta: dict[str, Any]) -> None:
    """Make what a checkpoint says of itself that of version 1."""
    meta["version"] = 1
    meta["progress"]["loss_chars"] = meta["progress"].pop("loss_symbols")


def with_manifest(members: dict[str, bytes], change: Callable[[Any], None]) -> bytes:
    """The members with a manifest that agrees with them, and a further change of it."""
    arrays = {name: np.load(io.BytesIO(content)) for name, content in members.items()}
    meta = json.loads(str(arrays.pop("meta.npy")))
    meta["arrays"] = {
        name[:-4]: [a.dtype.str, list(a.shape), zlib.crc32(np.ascontiguousarray(a).data)]
        for name, a in arrays.items()
    }
    change(meta)
    return write_members(list((members | {"meta.npy": npy(np.array(json.dumps(meta)))}).items()))


def other_text(rng: random.Random, data: bytes) -> bytes:
    """Another text format, in agreement with the manifest."""
    members = read_members(data)
    if "text.npy" not in members:  # of version 1
        symbols = np.load(io.BytesIO(members["vocabulary.npy"]))
        symbols[rng.randrange(symbols.size)] = rng.choice(NUMBERS) & 0xFFFFFFFF
        members["vocabulary.npy"] = npy(symbols)
        return with_manifest(members, lambda meta: None)
    text = np.load(io.BytesIO(members["text.npy"])).tobytes()
    if rng.random() < 0.5:
        text = change_byte(rng, text)
    else:
        tree = json.loads(text)
        change_tree(rng, tree)
        text = json.dumps(tree).encode()
    members["text.npy"] = npy(np.frombuffer(text, np.uint8))
    return with_manifest(members, lambda meta: None)


def other_meta(rng: random.Random, data: bytes) -> bytes:
    """A manifest that says something else."""
    return with_manifest(read_members(data), lambda meta: change_tree(rng, meta))


def other_config(rng: random.Random, data: bytes) -> bytes:
    """Another config, in agreement with the manifest."""
    members = read_members(data)
    text = str(np.load(io.BytesIO(members["config.npy"])))
    if rng.random() < 0.2:
        size = rng.choice((4, 65536, 10**9))
        text = re.sub("hidden_size: 3", f"hidden_size: {size}", text)
    else:
        text = rng.choice(list(YAML_CHANGES.values()))(rng, text)
    members["config.npy"] = npy(np.array(text.encode("utf-8", "replace").decode()))
    return with_manifest(members, lambda meta: None)


def other_array(rng: random.Random, data: bytes) -> bytes:
    """An array of another type, shape or content, in agreement with the manifest."""
    members = read_members(data)
    name = rng.choice([name for name in members if name != "meta.npy"])
    array = np.load(io.BytesIO(members[name]))
    changes: list[Callable[[], Any]] = [
        lambda: array[None],
        lambda: array.reshape(-1)[:-1],
        lambda: np.concatenate([array.reshape(-1)] * 2),
        lambda: array.astype(
            ">U9" if array.dtype.kind == "U" else rng.choice((">f4", "<f8", "u1"))
        ),
        lambda: np.asfortranarray(array),
        lambda: np.zeros_like(array),
        lambda: np.negative(array) if array.dtype.kind in "if" else array,
        lambda: (
            np.full_like(array, float(rng.choice(("nan", "inf", "3e38"))))
            if array.dtype.kind == "f"
            else array.reshape(-1)[::-1]
        ),
        lambda: np.zeros((0, 10**12), array.dtype),
    ]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        members[name] = npy(rng.choice(changes)())
    return with_manifest(members, lambda meta: None)


CHECKPOINT_CHANGES: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "members": other_members,
    "npy": other_npy,
    "another manifest": other_meta,
    "another config": other_config,
    "another array": other_array,
    "another text": other_text,
}


# YAML: each change takes a whole config's text, and may use it or not


YAML_WORDS = (
    *("data", "model", "train", "run", "path", "hidden_size", "optimizer", "name", "grad_clip"),
    *("norm", "epochs", "eval_every", "seq_length", "full", "null", "~", "adam", "1 epoch", "true"),
    *("0", "-1", "1e309", "0x10", "1_000", "9" * 400, ".inf", "12:30:45", "2001-01-01", "٣", "é"),
    *("!!python/object/apply:os.abort []", "!!binary aGk=", "*a", "&a", "<<", "? ", "'", '"', "|"),
    *("{", "}", "[", "]", ": ", "- ", "\n", "\n  ", "\t", "#", "%YAML 9.9\n", "---\n", "...\n"),
    *('"\\e[31m"', '"a\\nb"', '"a\\nb": 1\n', "\x07", "\u2028", "\x85", "\ufeff", "\\"),
)
SECTIONS = ("data", "model", "train", "run", "a", "b")
TAGS = (
    *("!!str", "!!int", "!!float", "!!bool", "!!null", "!!binary", "!!timestamp", "!!set"),
    *("!!seq", "!!map", "!!omap", "!!merge", "!!value", "!!", "!", "!x", "!x!y", "!%41", "!%FF"),
    *("!<", "!<>", "!<tag:yaml.org,2002:int>", "!!python/name:os.abort"),
)
DIRECTIVES = (
    *("%YAML 1.1", "%YAML 1.2", "%YAML 1.", "%YAML .1", "%YAML 1", "%YAML", "%YAML 1.-1"),
    *("%YAML 9.9", "%YAML 1.1 x", "%YAML ٣.١", f"%YAML 1.{'1' * 5000}", f"%YAML {'9' * 5000}.1"),
    *("%TAG ! !", "%TAG !! tag:x,2000:", "%TAG !x! !%FF", "%TAG", "%TAG !", "%FOO bar", "%", "%%"),
    *("...", "--- x", "# \x85"),
)
NUMERALS = (
    *("9" * 5000, "-" + "9" * 5000, "1e" + "9" * 400, "0x" + "f" * 4000, f"0.{'0' * 5000}1"),
    *(str(1 << 31), str(1 << 63), str(1 << 64), str(10**18)),
    *("1e400", "-1e400", "1e-400", "5e-324", "1.8e308", "1e5", "1e", "e1", "nan", ".nan", "inf"),
    *(".inf", "-0", "-0.0", "+5", "5.", ".5", "1.0", "1.5", "--1", "1_0", "1__0", "0b11", "0o17"),
    *("017", "0x1F", "1:30", "1,5", "٣", "𝟛", "²", "½", "true", "~"),
)
UNITS = ("", "step", "steps", "epoch", "epochs", "minute", "minutes")
ODD_UNITS = ("s", "m", "epochsss", "stepss", "Epoch", "hours", "epoch s", "e", "minutess", "\xa0s")
ESCAPES = (
    *(r"\UFFFFFFFF", r"\U00110000", r"\U7FFFFFFF", r"\U0010FFFF", r"\U0000D800", r"\uD800\uDC00"),
    *(r"\uDFFF", r"\uFFFE", r"\uFEFF", r"\u202e", r"\u12", r"\U1234567", r"\x00", r"\x85", r"\x"),
    *(r"\xzz", r"\0", r"\z", "\\", r"\e[2J", r"\a", r"\n", r"\r", r"\t", r"\N", r"\_", r"\L"),
    *(r"\P", r"\/"),
)


def grammar(rng: random.Random, text: str) -> str:
    """Words of its grammar put in, lines doubled, moved or left out."""
    lines = text.splitlines(keepends=True) or [""]
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines))
        match rng.randrange(5):
            case 0:
                lines.insert(at, lines[rng.randrange(len(lines))])
            case 1:
                k = rng.randint(0, len(lines[at]))
                lines[at] = lines[at][:k] + rng.choice(YAML_WORDS) + lines[at][k:]
            case 2:
                head, colon, _ = lines[at].partition(": ")
                lines[at] = head + colon + rng.choice(YAML_WORDS) + "\n"
            case 3:
                lines[at] = lines[at].replace("  ", rng.choice(("", " ", "    ", "\t")), 1)
            case 4 if len(lines) > 1:
                del lines[at]
    return "".join(lines)


def words(rng: random.Random, text: str) -> str:
    """Nothing but words of the grammar."""
    return "".join(rng.choice(YAML_WORDS) for _ in range(rng.randint(1, 30)))


def aliases(rng: random.Random, text: str) -> str:
    """Anchors and aliases: a few that may be meant, some that hold themselves, and bombs."""
    match rng.randrange(3):
        case 0:  # each mapping or list holds the one before it many times
            width, held = rng.choice((2, 9, 90, 400)), "0"
            for level in range(rng.randint(2, 5)):
                pairs = (f"k{i}: {f'*a{level}' if i and level else held}" for i in range(width))
                held = f"&a{level + 1} {{{', '.join(pairs)}}}"
            return f"{held}\n"
        case 1:
            inner = rng.choice(("{k: *a}", "[*a]", "{*a : 1}", "{<<: *a}", "{? *a : *a}", "*a"))
            return f"{rng.choice(SECTIONS)}: &a {inner}\n"
    lines, anchored = text.splitlines(keepends=True), rng.randrange(text.count("\n"))
    for at in (anchored, rng.randrange(len(lines)), rng.randrange(len(lines))):
        head, colon, value = lines[at].partition(":")
        if at == anchored:
            lines[at] = f"{head}{colon} &a{value}"
        elif at > anchored or rng.random() < 0.1:
            lines[at] = rng.choice((f"{head}: *a\n", f"{head}: {{<<: *a}}\n", f"*a :{value}"))
    return "".join(lines)


def with_value(rng: random.Random, text: str, change: Callable[[str], str]) -> str:
    """One line's value, or its key, replaced."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    key, colon, value = lines[at].partition(":")
    indent = " " * (len(key) - len(key.lstrip()))
    if rng.random() < 0.8:
        lines[at] = f"{key}{colon} {change(value.strip())}"
    else:
        lines[at] = f"{indent}{change(key.strip())}{colon}{value}"
    return "\n".join(lines) + "\n"


def tags(rng: random.Random, text: str) -> str:
    """Tags, which say of what type a value is."""
    for _ in range(rng.randint(1, 3)):
        text = with_value(rng, text, lambda value: f"{rng.choice(TAGS)} {value}")
    return text


def directives(rng: random.Random, text: str) -> str:
    """What may stand before a document."""
    chosen = rng.choices(DIRECTIVES, k=rng.randint(1, 2))
    return "\n".join((*chosen, rng.choice(("---\n", "")))) + text


def numerals(rng: random.Random, text: str) -> str:
    """Numbers that are huge, or written in all the ways that there are."""
    return with_value(rng, text, lambda value: rng.choice(NUMERALS))


def units(rng: random.Random, text: str) -> str:
    """Intervals, in units that there are or not."""
    key = rng.choice(("eval_every", "checkpoint_every", "log_every", "sample_every"))
    amount = rng.choice((*NUMERALS, "1", "10", "0.5", "1e-9"))
    gap = rng.choice((" ", " ", "  ", "", "\t"))
    value = f"{amount}{gap}{rng.choice((*UNITS, *ODD_UNITS))}"
    return re.sub(f"(?m)^  {key}: .*$", lambda _: f"  {key}: {value}", text)


def escapes(rng: random.Random, text: str) -> str:
    """Characters written as escapes, within quotes, in values and in keys."""

    def quoted(value: str) -> str:
        at = rng.randint(0, len(value))
        return f'"{value[:at]}{rng.choice(ESCAPES)}{value[at:]}"'

    return with_value(rng, text, quoted)


def absurd(rng: random.Random, text: str) -> str:
    """Depth, length, and models of terabytes."""
    big = (
        "model:\n" + "  <<: {x: 1}\n" * 50,
        "{a: " * rng.randint(10, 3000),
        "[" * rng.randint(10, 5000),
        f"model: {{cell: {'x' * 50_000}}}",
        "".join(f"k{i}: {i}\n" for i in range(5000)),
        "a: b\n" * 200_000,
        "model: {hidden_size: 65536, num_layers: 1000}",
        f"train: {{batch_size: {rng.choice((1 << 20, 10**9))}, seq_length: full}}",
        f"train: {{seq_length: {10 ** rng.choice((9, 18, 300, 4000))}}}",
    )
    return rng.choice(big)


YAML_CHANGES: dict[str, Callable[[random.Random, str], str]] = {
    "grammar": grammar,
    "words": words,
    "aliases": aliases,
    "tags": tags,
    "directives": directives,
    "numerals": numerals,
    "units": units,
    "escapes": escapes,
    "absurd": absurd,
}
