"""Every published number names where it was published."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def vectors() -> list[Any]:
    """All tables of vectors of this directory, in one."""
    found: list[Any] = []
    for path in sorted(HERE.glob("test_*.py")):
        if path != Path(__file__):
            spec = importlib.util.spec_from_file_location(f"published.{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses look their module up
            spec.loader.exec_module(module)
            found += getattr(module, "VECTORS", [])
    return found


def test_every_vector_names_its_source() -> None:
    """A project or a text, and where in it."""
    assert [] == [vector for vector in vectors() if not vector.source.strip()]


def test_there_are_vectors_enough() -> None:
    """At least 80, without the smaller tables that stand beside them."""
    assert len(vectors()) >= 80
