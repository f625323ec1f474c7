"""The house keeps its order: imports go down, one file prints, one file knows click."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "rnnlm"

# Each room, a folder or a file, may import those of the lines below its own, and itself.
ROOMS = [
    "__main__",
    "cli",
    "pictures",
    "analysis",
    "api",
    "exchange",
    "training",
    "inference",
    "runs",
    "assembly",
    "models",
    "cells",
    "optim",
    "text",
    "config",
    "corpora",
    "storage",
    "backend",
    "interrupts",
    "watching",
    "wording",
    "errors",
    "arrays",
]
RANK = {name: rank for rank, name in enumerate(ROOMS)}
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


def home(path: Path) -> str:
    """The room that a file is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def tree(path: Path) -> ast.Module:
    """What a file says."""
    return ast.parse(path.read_text("utf-8"))


@cache
def nodes(path: Path) -> list[ast.AST]:
    """All parts of it."""
    return list(ast.walk(tree(path)))


def imported(path: Path) -> set[str]:
    """The rooms that a file imports, wherever in the file."""
    depth = len(path.relative_to(PACKAGE).parts)
    found: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
            found |= set(names) - {"__version__"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    """A room knows what is below it, never what is above."""
    for other in imported(path) - {home(path)}:
        assert RANK[home(path)] < RANK[other], f"{path} imports {other}"


def test_every_room_has_its_place() -> None:
    """A new one is put somewhere on purpose."""
    assert {home(path) for path in MODULES} == set(RANK)


def test_only_the_command_line_prints_or_knows_click() -> None:
    """The library raises and yields."""
    for path in MODULES:
        calls = {
            n.func.id
            for n in nodes(path)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        tops = {
            alias.name.split(".")[0]
            for n in nodes(path)
            if isinstance(n, ast.Import)
            for alias in n.names
        } | {
            n.module.split(".")[0]
            for n in nodes(path)
            if isinstance(n, ast.ImportFrom) and n.module and not n.level
        }
        if home(path) != "cli":
            assert "print" not in calls, path
            assert not {"click", "tqdm"} & tops, path


# Each imported by one room alone, in functions that need it
EXTRAS = {
    "exchange": {"onnx"},
    "cli": {"matplotlib"},
    "pictures": {"matplotlib"},
    "backend": {"mpi4py"},
}


def packages(node: ast.AST) -> set[str]:
    """The packages outside rnnlm that are imported anywhere below a node."""
    found: set[str] = set()
    for below in ast.walk(node):
        if isinstance(below, ast.Import):
            found |= {alias.name.split(".")[0] for alias in below.names}
        elif isinstance(below, ast.ImportFrom) and not below.level and below.module:
            found.add(below.module.split(".")[0])
    return found


def test_runtime_dependencies_are_four() -> None:
    """numpy, click, tqdm, pyyaml, and nothing else is imported that Python does not bring; extras by
    one room, and when they are asked for.
    """
    import sys

    known = sys.stdlib_module_names | {"numpy", "click", "tqdm", "yaml", "rnnlm", "__future__"}
    for path in MODULES:
        extras = EXTRAS.get(home(path), set())
        for statement in tree(path).body:
            late = extras if isinstance(statement, ast.FunctionDef) else set()
            assert packages(statement) <= known | late, path
