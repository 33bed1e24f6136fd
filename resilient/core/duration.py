"""Durations and the other numbers of a policy, checked where they come in."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TypeAlias

from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["Duration", "number", "optional_seconds", "seconds", "share", "whole"]

MOST = 1e300  # what is to be multiplied and divided must stay a float

Duration: TypeAlias = int | float | timedelta
"""Seconds, as a number or a ``timedelta``."""


def seconds(name: str, value: object, *, least: float = 0.0, above: bool = False, subject: str = "") -> float:
    """A duration in seconds, checked.

    Args:
        name: the argument's name, for the error.
        value: what the user gave.
        least: the lower limit, seconds.
        above: whether the limit itself is excluded.
        subject: what the error is said of, where that is a part of the argument.

    Raises:
        TypeError: it is not a number of seconds or a ``timedelta``.
        ValueError: it is not finite, or below the limit.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise SettingTypeError(name, f"must be seconds (int, float) or a timedelta, got {value!r}", subject=subject)
    limit = f"{'>' if above else '>='} {least:g} s"
    try:
        number = float(number)
    except OverflowError:
        raise SettingValueError(
            name, f"must be finite and {limit}, got an integer beyond any float", subject=subject
        ) from None
    if not math.isfinite(number):
        raise SettingValueError(name, f"must be finite and {limit}, got {value!r}", subject=subject)
    if number < least or (above and number == least):
        raise SettingValueError(name, f"must be {limit}, got {value!r}", subject=subject)
    return number


def optional_seconds(name: str, value: object, *, above: bool = False) -> float | None:
    """A duration in seconds, or None for no limit."""
    return None if value is None else seconds(name, value, above=above)


def whole(name: str, value: object, *, least: int, subject: str = "") -> int:
    """A whole number at or above a limit.

    Args:
        name: the argument's name, for the error.
        value: what the user gave.
        least: the lower limit.
        subject: what the error is said of, where that is a part of the argument.

    Raises:
        TypeError: it is not an ``int``.
        ValueError: it is below the limit.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise SettingTypeError(name, f"must be a whole number >= {least}, got {value!r}", subject=subject)
    if value < least:
        raise SettingValueError(name, f"must be >= {least}, got {value!r}", subject=subject)
    return value


def number(name: str, value: object, *, least: float, above: bool = False, most: float = math.inf) -> float:
    """A finite number within limits.

    Args:
        name: the argument's name, for the error.
        value: what the user gave.
        least: the lower limit.
        above: whether the lower limit itself is excluded.
        most: the upper limit.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside the limits.
    """
    limits = f"{'>' if above else '>='} {least:g}" + (f" and <= {most:g}" if most < math.inf else "")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SettingTypeError(name, f"must be a number {limits}, got {value!r}")
    if not (least <= value <= min(most, MOST)) or (above and value == least):
        shown = repr(value) if abs(value) < MOST or isinstance(value, float) else "an integer beyond any float"
        raise SettingValueError(name, f"must be {limits}, got {shown}")
    return value


def share(name: str, value: object) -> float:
    """A share of calls, above 0 to 1."""
    return number(name, value, least=0, above=True, most=1)
