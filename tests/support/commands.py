"""Commands, run in the process of the tests."""

from __future__ import annotations

from click.testing import CliRunner, Result
from conftest import TINY

from rnnlm.cli.main import cli

SETS = [part for key in TINY for part in ("--set", key)]


def rnnlm(*args: object, code: int = 0, stdin: bytes | None = None) -> Result:
    """Run a command; a traceback is never the answer."""
    result = CliRunner().invoke(cli, [str(a) for a in args], input=stdin)
    assert isinstance(result.exception, (SystemExit, type(None))), result.exception
    assert result.exit_code == code, result.output
    if code == 1:
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
    return result


def says(*args: object, code: int = 0) -> str:
    """All that a command says."""
    return rnnlm(*args, code=code).output
