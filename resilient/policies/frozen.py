"""What all policies have in common: settings that never change, compare, hash and pickle."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

__all__ = ["Frozen", "by_name"]


K = TypeVar("K")


class Frozen:
    """Base of the policies, which are frozen dataclasses: pickled by their settings, shared state made anew."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The settings that are not the usual ones."""
        told = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
            if field.init and field.repr and getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # type: ignore[arg-type]  # subclasses are dataclasses
        return _remade, (type(self), settings)


def _remade(kind: type[Any], settings: dict[str, Any]) -> Any:
    return kind(**settings)


def by_name(example: str) -> Callable[[type[K]], type[K]]:
    """A class decorator that teaches that settings are given by name: by position they are a ``TypeError``."""

    def taught(kind: type[K]) -> type[K]:
        def make(cls: type[K], *arguments: object, **settings: object) -> K:
            if arguments:
                got = f"got {arguments[0]!r} by position"
                raise TypeError(f"{kind.__name__} takes its settings by name, such as {example}, {got}")
            return object.__new__(cls)

        make.__signature__ = inspect.signature(kind.__init__)  # type: ignore[attr-defined]  # what help() shows
        kind.__new__ = make  # type: ignore[assignment, method-assign]  # Python makes it a staticmethod
        return kind

    return taught
