"""README.md and rnnlm/cli/README.md are right: what they name exists, and their example runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest
import yaml
from conftest import ROOT, environment

from rnnlm import make_config
from rnnlm.cli.main import COMMANDS
from rnnlm.models import MODELS
from rnnlm.optim.optimizers import OPTIMIZERS
from rnnlm.optim.schedules import SCHEDULES

README = (ROOT / "README.md").read_text("utf-8")
REFERENCE = (ROOT / "rnnlm" / "cli" / "README.md").read_text(
    "utf-8"
)  # the file that README.md names for it
BESIDE = [
    path
    for top in ("configs", "data", "rnnlm", "tests")
    for path in (ROOT / top).rglob("README.md")
]
LINK = re.compile(r"\]\((?!https?:)([^)]+)\)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OF_ALL = {"--help", "--version"}


def sections() -> dict[str, str]:
    """What stands under each heading that is a command: its name -> the heading and the text."""
    found = re.split(r"^### `rnnlm (?=\w)", REFERENCE, flags=re.M)[1:]
    return {text.split()[0].rstrip("`"): text.split("\n## ")[0] for text in found}


def command(name: str) -> click.Command:
    found = import_module(f"rnnlm.cli.{name}").command
    assert isinstance(found, click.Command)
    return found


def options(name: str) -> set[str]:
    """The options of a command, and those of the commands in it."""
    found = command(name)
    every = [found, *(found.commands.values() if isinstance(found, click.Group) else ())]
    params = (p for each in every for p in each.params)
    found_options = (p for p in params if isinstance(p, click.Option))
    return {flag for p in found_options for flag in (*p.opts, *p.secondary_opts)}


def test_the_example_in_the_readme_runs(tmp_path: Path) -> None:
    """Ten lines or so, in a clone whose data is a part of what is there."""
    (script,) = re.findall(r"```python\n(.*?)```", README, re.S)
    (tmp_path / "data").mkdir()
    text = (ROOT / "data" / "ferry.txt").read_text("utf-8")[:20_000]
    (tmp_path / "data" / "ferry.txt").write_text(text, "utf-8")
    run = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(
        run, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["val", "val", "test"]
    assert 1 < float(lines[-1]) < 10
    assert len(script.strip().splitlines()) <= 12


def test_the_readme_names_the_reference_and_every_command() -> None:
    """The commands in the order of `rnnlm --help`, each with a link to its section."""
    assert "](rnnlm/cli/README.md)" in README
    rows = re.findall(r"^\| \[`rnnlm (\w+)`\]\(rnnlm/cli/README\.md#rnnlm-(\w+)", README, re.M)
    assert rows == [(name, name) for name in COMMANDS]


def anchors(path: Path) -> set[str]:
    """The headings of a file, as links on GitHub name them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


def test_every_link_from_one_file_to_another_leads_somewhere() -> None:
    """To a file or folder that is there, and to a heading in it."""
    for path in (ROOT / "README.md", *BESIDE):
        for link in LINK.findall(path.read_text("utf-8")):
            name, _, heading = link.partition("#")
            target = (path.parent / name).resolve() if name else path
            assert target.exists(), f"{path}: {link}"
            assert not heading or heading in anchors(target), f"{path}: {link}"


def test_the_readme_is_short() -> None:
    """Under 300 lines, as its readers have been promised."""
    assert len(README.splitlines()) < 300


def test_every_command_has_its_section() -> None:
    """In the order of `rnnlm --help`."""
    assert list(sections()) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_section_of_a_command_names_its_options_and_no_others(name: str) -> None:
    """And its arguments, in the heading."""
    assert set(OPTION.findall(sections()[name])) == options(name)
    heading = sections()[name].splitlines()[0]
    for parameter in command(name).params:
        if isinstance(parameter, click.Argument):
            assert parameter.human_readable_name in heading


def test_no_option_in_the_readme_is_unknown() -> None:
    """Wherever it stands; one that follows a command is that command's."""
    text = README + REFERENCE
    assert set(OPTION.findall(text)) <= OF_ALL.union(*map(options, COMMANDS))
    for name, rest in re.findall(r"rnnlm (\w+)([^`\n]*)", text):
        assert set(OPTION.findall(rest)) <= OF_ALL | (options(name) if name in COMMANDS else set())


def config_keys() -> dict[str, str]:
    """The key and the default in each row of the README's table of keys."""
    return dict(re.findall(r"^\| `(\w+\.\w+)` \| `(.*?)` \|", REFERENCE, re.M))


@cache
def resolved(*overrides: str) -> Mapping[str, Mapping[str, object]]:
    """A config's values as they stand in YAML."""
    values: Mapping[str, Mapping[str, object]] = yaml.safe_load(
        make_config(None, *overrides).to_yaml()
    )
    return values


def model_keys(kind: str) -> Mapping[str, object]:
    """The section `model` of a kind of model."""
    return resolved(f"model.kind={kind}")["model"]


def test_the_table_of_keys_has_every_key_and_no_other() -> None:
    """In the order of config.yaml, the keys of each kind of model after those of the one before."""
    every = resolved() | {
        "model": dict.fromkeys(key for kind in MODELS for key in model_keys(kind))
    }
    assert list(config_keys()) == [
        f"{section}.{key}" for section in every for key in every[section]
    ]


@pytest.mark.parametrize(("key", "default"), config_keys().items())
def test_the_default_in_the_readme_changes_nothing_when_it_is_set(key: str, default: str) -> None:
    """In a model of the first kind that has the key."""
    kind = next((k for k in MODELS if key.removeprefix("model.") in model_keys(k)), "recurrent")
    start = f"model.kind={kind}"
    assert resolved(start, f"{key}={default}") == resolved(start)


def named(kind: str) -> dict[str, str]:
    """The names of one kind, with their options as the README has them."""
    return dict(re.findall(rf"^\| {kind} \| `(\w+)` \| (.*?) \|$", REFERENCE, re.M))


@pytest.mark.parametrize(
    ("kind", "table"),
    [("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)],
    ids=["optimizer", "schedule"],
)
def test_the_table_of_options_has_every_name_with_its_defaults(
    kind: str, table: Mapping[str, object]
) -> None:
    """And no option that there is not."""
    assert list(named(kind)) == list(table)
    for name, listed in named(kind).items():
        options = dict(re.findall(r"`(\w+): (.*?)`", listed))
        default = resolved(f"train.{kind}={name}")
        assert default["train"][kind].keys() == {"name", *options}  # type: ignore[attr-defined]
        sets = [f"train.{kind}.{option}={value}" for option, value in options.items()]
        assert resolved(f"train.{kind}={name}", *sets) == default
