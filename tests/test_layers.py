"""Imports point one way, and the core does no input or output: read off the syntax trees."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import resilient

ROOT = Path(resilient.__file__).parent

PUBLIC = "the public names"

# What each package may import of the others. testing is for users' suites: nothing but the command line uses it.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "lazy": set(),
    "core": {"errors"},
    "observe": {"errors", "core"},
    "drivers": {"errors", "core", "observe"},
    "presets": {"errors", "core", "drivers"},  # drivers for the clock: dates that a server names are on the wall
    "policies": {"errors", "core", "observe", "drivers"},
    "net": {"errors", "lazy", "core", "observe", "drivers", "policies"},
    "settings": {"errors", "core", "observe", "drivers", "presets", "policies"},
    "testing": {"errors", "core", "observe", "drivers", "policies"},
    "cli": {"core", "drivers", "policies", "settings", "testing", PUBLIC},
}

# A decision needs none of these. (typing, dataclasses, enum, math, functools and the like are free.)
IMPURE = {
    "time", "asyncio", "socket", "ssl", "select", "selectors", "threading", "_thread", "multiprocessing", "subprocess",
    "logging", "os", "io", "pathlib", "signal", "contextvars", "trio", "anyio", "uvloop", "random", "secrets", "wrapt",
}  # fmt: skip

MODULES = sorted(ROOT.rglob("*.py"))
DEMO = sorted((Path(__file__).parents[1] / "demo").glob("*.py"))


def imported(path: Path) -> set[str]:
    """The dotted names of everything a module imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def place(path: Path) -> str:
    """The package of a module, or its own name."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def dotted(path: Path) -> str:
    """The name under which a module is imported."""
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__")


@cache
def graph() -> dict[str, set[str]]:
    """What each module imports of the others, wherever in it: in functions and for type checkers, too.

    ``from package import module`` is an import of both.
    """
    modules = {dotted(path): imported(path) for path in MODULES}
    return {
        name: {
            known for full in found for known in (full, full.rpartition(".")[0]) if known in modules and known != name
        }
        for name, found in modules.items()
    }


def reached(module: str) -> set[str]:
    """Every module that one imports, and that those import in turn."""
    found: set[str] = set()
    pending = [module]
    while pending:
        new = graph()[pending.pop()] - found
        found |= new
        pending.extend(new)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    """errors <- core <- observe <- drivers <- policies <- cli; the package itself only names things."""
    own = place(path)
    if own in {"__init__", "__main__"}:
        return
    ours = {name.split(".")[1] for name in imported(path) if name.startswith("resilient.")}
    packages = {name if name in MAY_IMPORT else PUBLIC for name in ours}
    assert packages - {own} <= MAY_IMPORT[own]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_itself_through_others(path: Path) -> None:
    """There is no import circle, lazy imports included."""
    assert dotted(path) not in reached(dotted(path))


def test_the_package_needs_nothing_that_stands_beside_it() -> None:
    """Neither the demo nor the tests nor the benchmarks are installed."""
    beside = {"benchmarks", "demo", "docs", "tests"}
    assert [] == [path for path in MODULES if beside & {name.split(".")[0] for name in imported(path)}]


@pytest.mark.parametrize("path", sorted((ROOT / "core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_is_pure(path: Path) -> None:
    """No clock, no sleep, no socket, no thread, no chance of its own, no log. (A seed for a fresh iterator of
    waits, outside any call, is the one thing it may take from the system.)"""
    allowed = {"random"} if path.name == "backoff.py" else set()
    assert {name.split(".")[0] for name in imported(path)} & (IMPURE - allowed) == set()


def test_the_core_prints_and_opens_nothing() -> None:
    """Nor does it use the builtins that would."""
    for path in (ROOT / "core").glob("*.py"):
        called = {
            node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)
        }
        assert called & {"print", "open", "input"} == set(), path


def test_every_module_says_what_it_is() -> None:
    """A docstring each, in the demo too."""
    modules = MODULES + DEMO
    assert [] == [path for path in modules if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))]
