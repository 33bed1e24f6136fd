"""The Pythons that the demo starts: they import what the demo imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import demo
import resilient
from demo.environment import ROOT, environment


def imported(where: Path) -> list[str]:
    """The files that a child in this directory takes for the demo and for the library."""
    script = "import demo, resilient; print(demo.__file__, resilient.__file__, sep='\\n')"
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment(), cwd=where, capture_output=True, text=True, check=True
    )
    return ended.stdout.splitlines()


@pytest.mark.parametrize("inside", [True, False], ids=["in the tree", "elsewhere"])
def test_a_child_imports_what_we_import(inside, tmp_path):
    """Its directory makes no difference."""
    assert [demo.__file__, resilient.__file__] == imported(ROOT if inside else tmp_path)


def test_an_installed_library_comes_before_that_of_the_tree(tmp_path, monkeypatch):
    """Where the demo runs from a wheel, its children do so too."""
    installed = tmp_path / "resilient" / "__init__.py"
    installed.parent.mkdir()
    installed.touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert [demo.__file__, str(installed)] == imported(ROOT)
