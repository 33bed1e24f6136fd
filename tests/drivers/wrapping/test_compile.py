"""Wrappers compiled for their callables: with their own parameters, by their own names."""

import asyncio
import functools
import inspect
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient import retry
from resilient.drivers.wrapping.compile import started_in
from resilient.testing import FakeClock

SENTINEL = object()
guard = retry(on=OSError, attempts=2)


def every_kind(a: int, /, b: int, c: object = SENTINEL, *rest: int, d: int, e: object = SENTINEL, **more: int) -> Any:
    """All parameter kinds."""
    return a, b, c, rest, d, e, more


async def every_kind_async(
    a: int, /, b: int, c: object = SENTINEL, *rest: int, d: int, e: object = SENTINEL, **more: int
) -> Any:
    """All parameter kinds."""
    return a, b, c, rest, d, e, more


class Holder:
    def method(self, a: int, b: int = 2) -> tuple[int, int]:
        return a, b

    def star(*args: Any) -> int:
        return len(args)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, 2), {"d": 4}), ((1, 2, 3, 4, 5), {"d": 4, "e": 5, "z": 6}), ((1,), {"b": 2, "d": 3, "a": 9})],
)
def test_all_parameter_kinds_arrive(args: tuple[int, ...], kwargs: dict[str, int]) -> None:
    """Positional-only, defaults by identity, rest, keyword-only and the remaining keywords."""
    assert every_kind(*args, **kwargs) == guard(every_kind)(*args, **kwargs)
    assert every_kind(*args, **kwargs) == asyncio.run(guard(every_kind_async)(*args, **kwargs))


def test_all_parameter_kinds_arrive_again_on_a_retry() -> None:
    """The second attempt gets just what the first got."""
    seen: list[Any] = []

    @retry(on=OSError, attempts=2, backoff=retry(on=OSError).backoff.jitter(0).floor(0))
    def fails_once(a: int, /, *rest: int, d: int, **more: int) -> None:
        seen.append((a, rest, d, more))
        if len(seen) == 1:
            raise OSError

    with FakeClock():
        fails_once(1, 2, 3, d=4, z=5)
    assert [(1, (2, 3), 4, {"z": 5})] * 2 == seen


@pytest.mark.parametrize(
    "call",
    [every_kind, every_kind_async, Holder.method, Holder().method, functools.partial(every_kind, 1, d=3), len],
    ids=["function", "async", "unbound", "bound", "partial", "builtin"],
)
def test_the_signature_is_the_calls_own(call: Callable[..., Any]) -> None:
    """``inspect.signature`` sees no difference."""
    assert inspect.signature(call) == inspect.signature(guard(call))


def test_parameters_are_real_not_just_shown() -> None:
    """The wrapper itself has the parameters and the very same defaults."""
    wrapper = guard(every_kind)
    assert every_kind.__code__.co_varnames[:7] == wrapper.__code__.co_varnames[:7]
    assert (SENTINEL,) == wrapper.__defaults__
    assert {"e": SENTINEL} == wrapper.__kwdefaults__
    assert SENTINEL is wrapper(1, 2, d=3)[2]


def test_a_wrong_call_is_a_type_error_and_never_retried() -> None:
    """A call that does not fit the signature fails at the wrapper, as it would without one."""
    guarded = retry(on=Exception, attempts=5)(Holder.method)
    with pytest.raises(TypeError, match=r"method\(\) missing 1 required positional argument: 'a'") as caught:
        guarded(Holder())  # type: ignore[call-arg]
    assert not hasattr(caught.value, "__notes__")


def test_identity_is_kept() -> None:
    """Name, qualified name, docstring, module, annotations and attributes are those of what is wrapped."""
    every_kind.marked = 1  # type: ignore[attr-defined]
    wrapper = guard(every_kind)
    for attribute in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__", "marked"):
        assert getattr(every_kind, attribute) == getattr(wrapper, attribute)
    assert wrapper.__wrapped__ is every_kind  # type: ignore[attr-defined]


NAMES = ["_call", "_rescue", "_error", "_failure", "_caught", "_policy", "_value", "_started", "__call", "call", "self"]


@given(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
def test_no_parameter_name_collides(names: list[str]) -> None:
    """Whatever a function calls its parameters, none meets a name of the wrapper's."""
    namespace: dict[str, Any] = {}
    exec(f"def target({', '.join(names)}): return ({', '.join(names)},)", namespace)
    values = tuple(range(len(names)))
    assert values == retry(on=OSError, timeout=9)(namespace["target"])(*values)


def test_bound_methods_lose_self_only() -> None:
    """A bound method is called with the rest of its parameters."""
    holder = Holder()
    assert (1, 2) == guard(holder.method)(1)
    assert 3 == guard(holder.star)(1, 2)


def positional_only(self: object, a: int, /, b: int) -> tuple[int, int]:
    return a, b


def test_a_bound_positional_only_self_is_dropped_too() -> None:
    """The slash stays where it was."""
    bound = positional_only.__get__(object())
    assert (1, 2) == guard(bound)(1, b=2)
    with pytest.raises(TypeError):
        guard(bound)(a=1, b=2)


def test_builtins_and_partials_are_called_as_they_are() -> None:
    """What has no code of its own gets a closure."""
    assert (3, (0, 1, SENTINEL, (), 3, SENTINEL, {})) == (
        guard(len)("abc"),
        guard(functools.partial(every_kind, 0, d=3))(1),
    )


def test_a_failing_builtin_is_retried() -> None:
    """The closure guards too."""
    guarded = retry(on=FileNotFoundError, attempts=2)(open)
    with pytest.raises(FileNotFoundError) as caught:
        guarded("/no/such/file")
    assert "gave up after 2 attempts" in caught.value.__notes__[0]


def test_a_partial_goes_by_the_name_of_its_function() -> None:
    """Unless it has one of its own."""
    named: Any = functools.partial(every_kind, 7)
    assert "every_kind" == guard(named).__name__
    assert "every_kind" == guard(functools.partial(named)).__name__
    named.__name__ = "own"
    assert "own" == guard(named).__name__


def test_tracebacks_show_the_function_by_name() -> None:
    """A traceback names the guarded function, and keeps the user's own frames in one piece."""

    @guard
    def outer() -> None:
        inner()

    def inner() -> None:
        raise ValueError("deep")

    try:
        outer()
    except ValueError as error:
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    assert ["test_tracebacks_show_the_function_by_name", "outer", "settle", "outer", "inner"] == names


@pytest.mark.parametrize(("policy", "started"), [(guard, None), (guard.with_(timeout=9), 3.0)])
def test_a_wrapper_shows_when_its_call_began(policy: Any, started: float | None) -> None:
    """Its frame holds the instant, whatever the local is called; None where nobody needs it."""
    with FakeClock(start=3):
        assert started == policy(lambda: started_in(sys._getframe(1)))()
