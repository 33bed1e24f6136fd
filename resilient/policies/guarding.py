"""How a policy takes hold of whatever a user decorates with it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from resilient.drivers.wrapping.kind import Kind, kind_of

__all__ = ["decorated"]

# These become a compiled function. Any other callable keeps its type and attributes, behind a proxy: partials and
# builtins too, as a function in a class body is a method, and they are none.
FUNCTIONS = (FunctionType, MethodType)


def decorated(
    target: Any, guard: Callable[[Callable[..., Any], Kind], Callable[..., Any]], *, policy: str, streams: bool
) -> Any:
    """A function, method, classmethod, staticmethod, partial or callable object, guarded.

    Args:
        target: what is decorated.
        guard: makes the wrapper of a callable of some kind.
        policy: the policy's name, for errors.
        streams: whether generators are guarded too.

    Raises:
        TypeError: it cannot be guarded; the error says what to do instead.
    """
    if isinstance(target, (classmethod, staticmethod)):
        inner = decorated(target.__func__, guard, policy=policy, streams=streams)
        return type(target)(inner)
    if isinstance(target, type):
        raise TypeError(
            f"{policy} cannot decorate the class {target.__name__}: decorate its methods, guard one construction "
            f"with .call({target.__name__}, ...), or an instance with .proxy(...)"
        )
    if not callable(target):
        _close_unstarted(target)
        raise TypeError(f"{policy} can decorate functions, methods and callable objects, got {target!r}")
    kind = check_kind(target, policy=policy, streams=streams)
    wrapper = guard(target, kind)
    if isinstance(target, FUNCTIONS):
        return wrapper
    from resilient.policies.proxies import guarded_object

    return guarded_object(target, wrapper)


def check_kind(call: Callable[..., Any], *, policy: str, streams: bool) -> Kind:
    """The kind of a callable, if this policy can guard it.

    Args:
        call: what is to be guarded.
        policy: the policy's name, or name and form (``"Timeout.execute"``), for errors.
        streams: whether generators are guarded, and nothing else.

    Raises:
        TypeError: it is no callable, most likely the result of a call; or it is a generator function and the policy
            does not stream, or the other way round.
    """
    if not callable(call):
        raise _no_callable(call, policy)
    kind = kind_of(call)
    generator = kind in (Kind.GENERATOR, Kind.ASYNC_GENERATOR)
    name = getattr(call, "__qualname__", repr(call))
    if generator and not streams:
        instead = "Use Retry(..., streaming=True) to try again until the first item is out, or guard"
        raise TypeError(
            f"{name} is a generator function: calling it runs none of it, so {policy} would guard nothing. "
            f"{'Guard' if policy == 'catch' else instead} the function that makes each item"
        )
    if streams and kind is Kind.EITHER:  # taken at its word; what gives no iterator fails at its first item
        return Kind.ASYNC_GENERATOR if inspect.isasyncgenfunction(inspect.unwrap(call)) else Kind.GENERATOR
    if streams and kind in (Kind.SYNC, Kind.ASYNC):
        raise TypeError(f"{name} is no generator function: leave streaming=True out")
    return kind


def _no_callable(given: object, policy: str) -> TypeError:
    owner, _, form = policy.partition(".")
    form = form or "call"
    _close_unstarted(given)
    name, got = (given.__name__, "a coroutine") if inspect.iscoroutine(given) else ("function", repr(given))
    advice = f"write .{form}({name}, ...), not .{form}({name}(...))"
    return TypeError(f"{owner}.{form} takes the function and its arguments, got {got}: {advice}")


def _close_unstarted(given: object) -> None:
    """Nobody will await it now, and nobody needs to be warned of that."""
    if inspect.iscoroutine(given) and inspect.getcoroutinestate(given) == inspect.CORO_CREATED:
        given.close()
