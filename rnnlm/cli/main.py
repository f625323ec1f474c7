"""The command line: the group of commands, and errors in one line.

A command's module is loaded when the command is run, and loads NumPy only then, so that help and
completion come at once.
"""

from __future__ import annotations

import io
import signal
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from .. import __version__
from ..backend.launchers import started_as
from ..errors import RnnlmError
from ..interrupts import SIGPIPE, end_at_once, stop
from ..wording import typed
from .terminal import end_streams, open_streams, say, say_line

COMMANDS = {  # each is `command` in the module of its name; what `rnnlm --help` says of it
    "prepare": "Turn text into ids on disk: a vocabulary and three splits.",
    "train": "Train a model on a prepared folder or a raw text.",
    "sample": "Generate text.",
    "eval": "Measure how well a model predicts a text.",
    "info": "Say what is inside a checkpoint.",
    "compare": "Compare runs; those that differ only by seed are one.",
    "mix": "Mix trained models into one that predicts better than each.",
    "score": "Say how surprising a model finds each line of a text.",
    "export": "Write a model in another program's format.",
    "import": "Make a run of another program's model.",
    "corpus": "List public texts, or fetch one by its name.",
    "check": "Check a model's gradients against numerical derivatives.",
    "gradients": "Measure how far back a model's gradients reach.",
    "runs": "List the runs in a folder, and how each of them stands.",
    "plot": "Draw how training went, of one run or several.",
    "report": "Write a page that shows what a run has learnt.",
    "sweep": "Train many runs, and print their table.",
}


# What the processes that mpiexec starts do together; all else is for the first of them alone
TOGETHER = ("train", "sweep")


def main() -> None:
    """Run the command line in a process of its own."""
    from ..backend import blas

    blas.hold_from_start()
    open_streams()
    try:
        cli(prog_name="rnnlm")
    finally:
        stop.at_first = end_at_once
        end_streams()


class Commands(click.Group):
    """Loads a command to run it; turns every error into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in their order, not the alphabet's

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        if listed is None:  # completion of something unknown
            return name, None, rest
        if name not in TOGETHER and started_as()[0]:
            raise click.exceptions.Exit(0)
        return name, import_module(f".{name}", __package__).command, rest

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader went away, as `| head` does; Click would exit with 1
            raise click.exceptions.Exit(128 + SIGPIPE) from None

    def main(self, *args: Any, **options: Any) -> NoReturn:
        before = typed.set(True)
        try:
            code = self._exit_code(*args, **{**options, "standalone_mode": False})
        finally:
            typed.reset(before)
        sys.exit(code)

    def _exit_code(self, *args: Any, **options: Any) -> int:
        try:
            return super().main(*args, **options) or 0
        except click.Abort:  # Ctrl-C in a process that is not the command line's own
            return 128 + signal.SIGINT
        except click.ClickException as error:
            message = io.StringIO()
            error.show(message)
            say(message.getvalue().rstrip("\n"))
            return error.exit_code
        except RnnlmError as error:
            said = str(error)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            said = f"{where}{error.strerror or error}"
        except MemoryError:
            said = "not enough memory for what is asked"
        say_line(f"Error: {said}")
        return 1


LISTED = {name: click.Command(name, short_help=line) for name, line in COMMANDS.items()}


@click.group(
    cls=Commands, commands=LISTED, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="rnnlm")
def cli() -> None:
    """Train language models on your own text, on your own CPU: nets, counts, and mixtures of both.

    \b
    rnnlm train my.txt
    rnnlm sample --prime "Once "
    rnnlm eval
    """
