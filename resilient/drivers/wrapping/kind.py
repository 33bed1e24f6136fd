"""What calling a callable gives, as far as it can be told before it is called."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum, auto
from types import FunctionType, MethodType
from typing import Any

__all__ = ["Kind", "kind_of"]


class Kind(Enum):
    """What calling a callable gives."""

    SYNC = auto()
    ASYNC = auto()
    EITHER = auto()  # only its result will tell: a lambda, a bound method, a decorated coroutine function
    GENERATOR = auto()
    ASYNC_GENERATOR = auto()


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
