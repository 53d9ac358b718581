"""The architecture as a test: imports run downwards, heavy libraries stay where they belong, op names stay in ops/."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import minikin
from minikin.ops import OPS

ROOT = Path(minikin.__file__).parent
FLOORS = {
    0: ("errors", "graph", "fixedpoint", "boards", "version", "files", "display"),
    1: ("ops", "check", "interp"),
    2: ("importers", "exporters", "passes"),
    3: ("data", "train", "compress", "plan"),
    4: ("codegen",),
    5: ("vboard",),
    6: ("api", "bench", "demo"),
    7: ("cli", "__main__", "__init__"),
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}
MODULES = sorted(ROOT.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path: Path) -> None:
    floor = FLOOR_OF[room(path)]
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "minikin" and len(parts) > 1 and parts[1] in FLOOR_OF:
            assert FLOOR_OF[parts[1]] <= floor, f"{path.name} is on floor {floor} and imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    where = path.relative_to(ROOT).as_posix()
    for name in imports(path):
        package = name.split(".")[0]
        if package == "torch":
            assert where.startswith(("train/", "compress/", "ops/")) or where.startswith("importers/torch")
        if package == "unicorn":
            assert where == "vboard/unicorn_engine.py"
        if package == "minikin":
            assert where != "vboard/unicorn_engine.py"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_op_names_stay_in_ops(path: Path) -> None:
    """No module outside ops/, the importers and the exporters tests an op's name."""
    if room(path) in ("ops", "importers", "exporters"):
        return
    text = path.read_text()
    for op in OPS:
        assert not re.search(rf"\bop\b *(==|!=|in\b).*[\"']{op}[\"']", text), f"{path.name} tests for the op {op}"


def test_importing_is_light() -> None:
    heavy = "torch tensorflow ortools unicorn tflite rich typer jinja2 elftools sklearn"
    code = f"import sys, minikin; print([m for m in {heavy.split()!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
