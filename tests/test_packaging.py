"""What is installed: the package, and nothing of what stands beside it in the repository."""

from __future__ import annotations

import tomllib
from importlib.metadata import files
from pathlib import Path
from pkgutil import walk_packages

import resilient
from resilient.cli.app import COMMANDS

PACKAGE = Path(resilient.__file__).parent
PROJECT = Path(__file__).parents[1] / "pyproject.toml"
TARGETS = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
BESIDE = ("benchmarks", "demo", "docs", "tests")


def test_the_demo_is_no_part_of_the_package() -> None:
    """It has no file in its directory, cannot be imported as a part of it, and is no command."""
    modules = [module.name for module in walk_packages(resilient.__path__, "resilient.")]
    assert [] == [path for path in PACKAGE.rglob("*.py") if "demo" in path.relative_to(PACKAGE).parts]
    assert [] == [name for name in modules if "demo" in name.split(".")]
    assert "demo" not in COMMANDS


def test_the_wheel_is_the_package() -> None:
    """No file of the distribution lies in a directory that stands beside the package."""
    assert ["resilient"] == TARGETS["wheel"]["packages"]
    assert [] == [file for file in files("resilient-toolkit") or () if file.parts[0] in BESIDE]


def test_the_source_distribution_has_all_that_its_targets_need() -> None:
    """What is beside the package comes along with the Makefile that plays, tests and measures it."""
    assert {f"/{name}" for name in BESIDE} | {"/resilient", "/Makefile"} <= {*TARGETS["sdist"]["include"]}
