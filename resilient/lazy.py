"""Names of a package that are loaded when they are first used, so that importing it loads nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and the ``__dir__`` of a package.

    Args:
        package: its name.
        homes: for each public name the module that defines it; with a colon behind it, that module is what the name
            means.
    """
    namespace = vars(sys.modules[package])

    def load(name: str) -> Any:
        try:
            home = homes[name]
        except KeyError:
            raise AttributeError(f"module {package!r} has no attribute {name!r}") from None
        module = import_module(home.rstrip(":"))
        found = namespace[name] = module if home.endswith(":") else getattr(module, name)
        return found

    def names() -> list[str]:
        return sorted({*namespace, *homes})

    return load, names
