"""The reference is what the docstrings say."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def test_the_reference_is_up_to_date() -> None:
    """A fresh generation equals the page; if not, run ``python docs/make_reference.py``."""
    fresh = runpy.run_path(str(DOCS / "make_reference.py"))["reference"]()
    assert fresh == (DOCS / "reference.md").read_text(encoding="utf-8")
