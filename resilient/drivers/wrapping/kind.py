"""What calling a callable gives, as far as it can be told before it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum, auto
from types import FunctionType, MethodType
from typing import Any

from resilient.core.setting_errors import SettingTypeError

__all__ = ["BLOCKING", "Kind", "checked_kind", "kind_of"]


class Kind(Enum):
    """What calling a callable gives."""

    SYNC = auto()
    ASYNC = auto()
    EITHER = auto()  # only its result will tell: a lambda, a bound method, a decorated coroutine function
    GENERATOR = auto()
    ASYNC_GENERATOR = auto()


# Of functions that may be called from a thread, as their results are not to be awaited.
BLOCKING = (Kind.SYNC, Kind.EITHER)


def kind_of(call: Callable[..., Any]) -> Kind:
    """What calling this gives, as far as it can be known beforehand."""
    inner: Any = call
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not isinstance(inner, (FunctionType, MethodType, type)):
        method = getattr(type(inner), "__call__", None)  # noqa: B004  # which one, not whether
        inner = method if isinstance(method, FunctionType) else inner
    if inspect.iscoroutinefunction(inner):
        return Kind.ASYNC
    if inspect.isgeneratorfunction(inner):
        return Kind.GENERATOR
    if inspect.isasyncgenfunction(inner):
        return Kind.ASYNC_GENERATOR
    return Kind.SYNC if isinstance(inner, FunctionType) and _returns_its_result(inner) else Kind.EITHER


def _returns_its_result(function: FunctionType) -> bool:
    """Whether nothing about a plain function hints at a coroutine in its place."""
    promised = str(function.__annotations__.get("return", ""))
    return (
        function.__name__ != "<lambda>"
        and not hasattr(function, "__wrapped__")
        and not any(hint in promised for hint in ("Awaitable", "Coroutine", "Future", "Task"))
    )


def checked_kind(setting: str, call: object, kinds: tuple[Kind, ...], *, wanted: str = "", instead: str = "") -> Kind:
    """What calling a function gives, if it is one of these.

    Args:
        setting: the name of the argument.
        call: the function.
        kinds: what it may give.
        wanted: what the function should be, for the error.
        instead: what else there is, for the error.

    Raises:
        TypeError: it cannot be called, or gives something else.
    """
    if not callable(call):
        raise SettingTypeError(setting, f"must be a function, got {call!r}")
    kind = kind_of(call)
    if kind in kinds:
        return kind
    usual = "an async function" if Kind.ASYNC in kinds else "a blocking function"
    if kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR):
        usual = "a function, not a generator"
    raise SettingTypeError(setting, f"must be {wanted or usual}, got {call!r}{instead}")
