"""Errors recognised by the dotted name of their class, importing nothing.

A class answers to the name under which it was defined, to every package above its module (libraries define
in ``lib.errors.exceptions.flood_420`` what they document as ``lib.errors.FloodWait``), and to any name under
which a module that is loaded already offers it (``socket.timeout`` is ``TimeoutError``). What raised an error
is loaded by then, so nothing ever needs importing.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from resilient.core.setting_errors import SettingValueError

__all__ = ["check_dotted_name", "is_named"]


def is_named(kind: type[object], dotted: str) -> bool:
    """Whether a class, or one it derives from, answers to a dotted name; for any class, not only errors."""
    module, _, name = dotted.rpartition(".")
    known = getattr(sys.modules.get(module), "__dict__", {}).get(name)
    if isinstance(known, type):
        return issubclass(kind, known)
    return dotted in _names(kind)  # type: ignore[arg-type]  # classes are hashable, whatever typeshed says


@lru_cache(maxsize=1024)
def _names(kind: type[Any]) -> frozenset[str]:
    names: set[str] = set()
    for base in kind.__mro__:
        parts = str(base.__module__ or "").split(".")
        names.update(".".join((*parts[:depth], base.__qualname__)) for depth in range(1, len(parts) + 1))
    return frozenset(names)


def check_dotted_name(argument: str, name: str) -> str:
    """The name, if it could be one of a class in a module.

    Raises:
        ValueError: it has no module, or a part of it is no identifier.
    """
    parts = name.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise SettingValueError(argument, f"must name a module and a class, such as 'httpx.ConnectError', got {name!r}")
    return name
