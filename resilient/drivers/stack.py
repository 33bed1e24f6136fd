"""Frames of the call stack, read by code that looks for its own callers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["locals_of"]

# Before 3.13 a frame's locals are a copy, which the frame would keep, with the errors in it.
_let_go: Callable[[Any], None] = dict.clear if sys.version_info < (3, 13) else lambda found: None


def locals_of(frame: FrameType, *names: str) -> list[Any]:
    """The values of some locals of a frame that is running; None for one that is not bound."""
    found = frame.f_locals
    values = [found.get(name) for name in names]
    _let_go(found)
    return values
