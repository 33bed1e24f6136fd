"""What all policies have in common: settings that never change, compare, hash and pickle."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

__all__ = ["Frozen", "by_name"]


class Frozen:
    """Base of the policies, which are frozen dataclasses: pickled by their settings, shared state made anew."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        settings = {field.name: getattr(self, field.name) for field in fields(self) if field.init}  # type: ignore[arg-type]  # subclasses are dataclasses
        return _remade, (type(self), settings)


def _remade(kind: type[Any], settings: dict[str, Any]) -> Any:
    return kind(**settings)


def by_name(policy: str, example: str, arguments: tuple[object, ...]) -> None:
    """Teaches that a policy's settings are given by name.

    Raises:
        TypeError: some were given by position.
    """
    if arguments:
        raise TypeError(f"{policy} takes its settings by name, such as {example}, got {arguments[0]!r} by position")
