"""What several commands take: names of files, a checkpoint, a text, keys of the config."""

from __future__ import annotations

import difflib
import re
import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import CheckpointError
from ..wording import counted, quoted
from .terminal import say_line

if TYPE_CHECKING:
    from ..config.schema import Config
    from ..runs.checkpoint import Checkpoint
    from ..text.vocabulary import NewSymbols


class Name(click.Path):
    """The name of a file or folder; an empty one would be taken for the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("a name is empty", param, ctx)
        return super().convert(value, param, ctx)


class Seed(click.types.IntParamType):
    """A seed, from 0 on, or `random`: one that is drawn, and said so that it can be given again."""

    name = "integer or random"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value != "random":
            seed: int = super().convert(value, param, ctx)
            return seed if seed >= 0 else self.fail("a seed is 0 or more, or random", param, ctx)
        seed = secrets.randbelow(1 << 32)
        say_line(f"seed: {seed}")
        return seed


SEED = Seed()
FILE = Name(path_type=Path)
CHECKPOINT = click.argument("checkpoint_or_run", required=False, type=FILE)
CHECKPOINTS = click.argument(
    "checkpoint_or_run", nargs=-1, type=FILE, metavar="[CHECKPOINT_OR_RUN]..."
)
UNKNOWN = click.option(
    "--unknown",
    type=click.Choice(["error", "skip"]),
    default="error",
    show_default=True,
    help="Symbols outside the vocabulary: refused, or left out.",
)


def new_symbols(unknown: NewSymbols, extend: bool, option: str, given: object) -> NewSymbols:
    """What becomes of symbols outside the vocabulary that an option gives. Raises UsageError."""
    if extend and unknown == "skip":
        raise click.UsageError("--extend-vocab and --unknown skip exclude each other")
    if given is None and (extend or unknown == "skip"):
        raise click.UsageError(f"--extend-vocab and --unknown are about the vocabulary of {option}")
    return "extend" if extend else unknown


class KeyGuesser(click.Command):
    """A command with keys of the config: an option that is one by a usual name gets what to type."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = list(args)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            own = [flag for parameter in self.params for flag in parameter.opts]
            misspelt = bool(difflib.get_close_matches(error.option_name, own, 1, 0.7))
            if (right := _as_setting(error.option_name, typed, not misspelt)) is None:
                raise
            message = f"No such option {error.option_name}; write {right}"
            raise click.NoSuchOption(error.option_name, message, ctx=ctx) from None


def _as_setting(option: str, typed: list[str], nearly: bool) -> str | None:
    """The `--set` that an unknown option stands for, with the value that was typed after it."""
    from ..assembly import key_for

    at = next((i for i, word in enumerate(typed) if word.startswith(option)), None)
    if at is None:
        return None
    name, equals, value = typed[at].lstrip("-").partition("=")
    key = key_for(name, nearly)
    if not equals:
        value = next((word for word in typed[at + 1 : at + 2]), "...")
    return key and f"--set {quoted(f'{key}={value}')}"


def settings(
    source: Path | None, overrides: Iterable[str], run_dir: Path | None
) -> tuple[Config, str]:
    """The config of a training, and the name of its run, from what stands after `rnnlm train`: a YAML
    file, or the text to train on. A YAML file is known by its suffix or its first line.
    """
    config, name = _config_and_name(source, overrides)
    if run_dir is not None:  # not as an override, which would read `null` as no folder
        config = config.with_values("run", dir=str(run_dir))
    return config, name


def _config_and_name(source: Path | None, overrides: Iterable[str]) -> tuple[Config, str]:
    from ..assembly import TABLES, make_config
    from ..config.parse import load_config
    from ..config.tree import is_sweep
    from ..text.sources import COMPRESSED

    if source is None:
        return make_config(None, *overrides), "run"
    if (source / "last.npz").is_file():
        raise click.UsageError(f"{source} is a run: go on with it by --resume {argument(source)}")
    if source.suffix == ".npz":
        raise click.UsageError(f"{source} is a checkpoint: begin with its weights by --init-from")
    if _is_config(source):
        if is_sweep(source):
            raise click.UsageError(f"{source} is a sweep: write rnnlm sweep {argument(source)}")
        config = make_config(source, *overrides)
        if config.data.path != load_config(source, overrides, TABLES).data.path:
            say_line(f"text: {config.data.path}, beside the config")
        return config, source.stem
    config = make_config(None, *overrides)
    if "data.path" in config.given:
        raise click.UsageError(f"{source} is the text: leave --set data.path=... out")
    name = source.stem if source.suffix.lower() in COMPRESSED else source.name
    stem = Path(name.rpartition(":")[2]).stem or "run"
    # As a key that was given: `--resume-or-start` refuses a run with another text
    given = config.given | {"data.path"}
    return replace(config.with_values("data", path=str(source)), given=given), stem


def _is_config(source: Path) -> bool:
    """Whether a file is a config; where its name does not tell, its first line does, and it is said."""
    from ..config.tree import opens_as_config

    if source.is_dir():
        return False
    if source.suffix.lower() in (".yaml", ".yml"):
        return True
    if not source.exists() and "=" in source.name:
        raise click.UsageError(f"to set a key, write --set {quoted(str(source))}")
    if not opens_as_config(source):
        return False
    path = quoted(f"data.path={source}")
    say_line(f"{source}: a config, by its first line; to train on it as a text: --set {path}")
    return True


def example(text: str) -> str:
    """The example that ends a command's help."""
    return f"Example: {text}"


def argument(path: Path) -> str:
    """A path as it is typed after a command: quoted, and not taken for an option."""
    return quoted(f"./{path}" if str(path).startswith("-") else str(path))


def found(path: Path | None, text: str = "train") -> Checkpoint:
    """The checkpoint that a user means; where nobody named it, it is said which it is.

    `text` is the command, with an option, that takes a text: for where `path` names one.
    """
    from ..api.checkpoints import load
    from ..runs.finding import is_other_file

    try:
        checkpoint = load(path)
    except CheckpointError as error:
        if path is None or not is_other_file(path):
            raise
        way = f"if it is a text, write rnnlm {text} {argument(path)}"
        raise CheckpointError(f"{error}; {way}") from None
    if path is None:
        say_line(f"newest run: {checkpoint.path}")
    return checkpoint


def named_runs(paths: Iterable[Path]) -> list[Path]:
    """The runs and checkpoints that are named; what is neither is said, and left out.

    Where all are neither, all: whoever reads them says what is wrong.
    """
    from ..api.listing import runs_among

    runs, others = runs_among(paths)
    for path in others if runs else ():
        say_line(f"{path}: no run, and left out")
    return runs or others


def say_left_out(number: int, checkpoint: Checkpoint) -> None:
    """Say how many symbols `--unknown skip` left out."""
    if number:
        say_line(f"left out: {counted(number, checkpoint.format.noun)} outside the vocabulary")


ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.?)", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}


def unescaped(text: str, in_bytes: bool) -> str:
    r"""A text with \n, \t, \r, \\, \xNN, \uXXXX and \UXXXXXXXX replaced; `in_bytes`: \xNN is a byte."""

    def replaced(match: re.Match[str]) -> str:
        code = match[1]
        if code in ESCAPES:
            return ESCAPES[code]
        if len(code) < 2 or (number := int(code[1:], 16)) > 0x10FFFF:
            raise click.UsageError(
                f"{match[0]}: not an escape; there are \\n, \\t, \\r, \\\\, \\xNN, \\uXXXX, \\UXXXXXXXX"
            )
        # A byte that is not ASCII, as it stands in an argument of a command
        return chr(0xDC00 + number if in_bytes and code[0] == "x" and number > 127 else number)

    return ESCAPE.sub(replaced, text)


def read_text(name: str, checkpoint: Checkpoint) -> str | bytes:
    """A text for a model, through its encoding and level."""
    from ..text.sources import read_text

    return read_text(name, checkpoint.format.rules)
