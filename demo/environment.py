"""Where the Pythons that the demo starts find what they import."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["environment"]

ROOT = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    """Our environment, with our own import path: a child imports what we import, whatever its directory.

    The whole path, since this tree alone would come before everything that is installed: its ``resilient`` would hide
    that of the wheel that we may run from. Without the safe path, ``python -m`` would put its directory first.
    """
    return os.environ | {"PYTHONPATH": os.pathsep.join((*sys.path, str(ROOT))), "PYTHONSAFEPATH": "1"}
