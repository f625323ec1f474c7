"""The house keeps its order: imports go down, one file prints, one file knows click."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "rnnlm"

# Each module may import those of the lines below its own, and its own package's.
LAYERS = [
    {"__main__"},
    {"cli"},
    {"api"},
    {"training"},
    {"evaluation", "sampling", "runs", "sources"},
    {"checkpoint"},
    {"corpus", "parallel", "choices"},
    {"model"},
    {"protocol"},
    {"batches", "cells", "layers", "optim", "schedules", "vocabulary", "team"},
    {"initial", "config"},
    {"workspace"},
    {"tape"},
    {"tiles"},
    {"params", "npz", "files", "memory", "seeds", "registry", "blas"},
    {"errors", "interrupts", "words"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


def home(path: Path) -> str:
    """A file's name in LAYERS; a folder counts as one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in the file."""
    depth = len(path.relative_to(PACKAGE).parts)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
            found |= set(names) - {"__version__"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    """A module knows what is below it, never what is above or beside."""
    name = home(path)
    for other in imported(path):
        same_pair = {name, other} in ({"corpus", "files"}, {"params", "npz"})
        assert RANK[name] < RANK[other] or same_pair, f"{name} imports {other}"


def test_every_module_has_its_place() -> None:
    """A new file is put somewhere on purpose."""
    assert {home(path) for path in MODULES} == set(RANK)


def test_only_the_command_line_prints_or_knows_click() -> None:
    """The library raises and yields."""
    for path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        calls = {
            n.func.id
            for n in ast.walk(tree)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        tops = {
            alias.name.split(".")[0]
            for n in ast.walk(tree)
            if isinstance(n, ast.Import)
            for alias in n.names
        } | {
            n.module.split(".")[0]
            for n in ast.walk(tree)
            if isinstance(n, ast.ImportFrom) and n.module and not n.level
        }
        if home(path) != "cli":
            assert "print" not in calls, path
            assert not {"click", "tqdm"} & tops, path


def test_runtime_dependencies_are_four() -> None:
    """numpy, click, tqdm, pyyaml, and nothing else is imported that Python does not bring."""
    import sys

    known = sys.stdlib_module_names | {"numpy", "click", "tqdm", "yaml", "rnnlm", "__future__"}
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                assert {a.name.split(".")[0] for a in node.names} <= known, path
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                assert node.module.split(".")[0] in known, path
