"""How callables are wrapped: what is done around the call, and what it is told."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from books import Book

from resilient import retry
from resilient.drivers.wrapping.compile import POLICY
from resilient.drivers.wrapping.kind import Kind
from resilient.drivers.wrapping.wrap import wrap_admitted, wrap_eager, wrap_gated, wrap_rescued, wrap_scoped

guard = retry(on=OSError, attempts=2)


def give(value: object, *, more: int = 0) -> object:
    """Gives or raises."""
    if isinstance(value, type) and issubclass(value, BaseException):
        raise value
    return value


async def give_async(value: object, *, more: int = 0) -> object:
    """Gives or raises."""
    return give(value, more=more)


@functools.wraps(give_async)
def disguised(*args: Any, **kwargs: Any) -> Any:
    return give_async(*args, **kwargs)


def ends(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What a call gives, or the class of what it raises."""
    try:
        value = call(*args, **kwargs)
        return asyncio.run(value) if inspect.iscoroutine(value) else value
    except BaseException as error:
        return type(error)


def test_async_stays_async() -> None:
    """Frameworks that look see a coroutine function, and only where there is one."""
    assert inspect.iscoroutinefunction(guard(give_async))
    assert not inspect.iscoroutinefunction(guard(give))


@pytest.mark.parametrize("target", [lambda value: give_async(value), disguised], ids=["lambda", "disguised"])
def test_a_coroutine_from_a_plain_function_is_guarded(target: Callable[..., Any]) -> None:
    """What turns out to be async is awaited under the policy."""
    assert [7, KeyError] == [ends(guard(target), value) for value in (7, KeyError)]


GATED = [
    (give, Kind.SYNC, False, "enter"),
    (give, Kind.EITHER, False, "enter soon"),
    (give_async, Kind.ASYNC, False, "ready"),
    (give_async, Kind.ASYNC, True, "join"),
]


@pytest.mark.parametrize(("call", "kind", "joins", "entered"), GATED)
def test_a_gate_gets_its_ticket_back_with_what_became_of_the_call(
    call: Callable[..., Any], kind: Kind, joins: bool, entered: str
) -> None:
    """Whatever that is; the arguments and the signature are the call's own."""
    book = Book(joins=joins)
    gated = wrap_gated(call, book, kind=kind)
    assert [7, KeyError, KeyboardInterrupt] == [
        ends(gated, value, more=1) for value in (7, KeyError, KeyboardInterrupt)
    ]
    assert [entered, "passed 7", entered, "failed KeyError", entered, "failed KeyboardInterrupt"] == book.story
    assert inspect.signature(call) == inspect.signature(gated)


def test_a_coroutine_is_adopted_and_its_ticket_forgotten() -> None:
    """It will have one of its own when it is awaited."""
    book = Book()
    gated = wrap_gated(lambda value: give_async(value), book, kind=Kind.EITHER, adopt=lambda coroutine: coroutine)
    assert 7 == ends(gated, 7)
    assert ["enter soon", "forgotten"] == book.story


@pytest.mark.parametrize(("call", "kind", "joins", "entered"), [case for case in GATED if case[1] is not Kind.EITHER])
def test_a_gate_that_hears_nothing_only_lets_through(
    call: Callable[..., Any], kind: Kind, joins: bool, entered: str
) -> None:
    """Nothing comes back."""
    book = Book(joins=joins)
    admitted = wrap_admitted(call, book, kind=kind)
    assert [7, KeyError] == [ends(admitted, 7, more=1), ends(admitted, KeyError)]
    assert [entered, entered] == book.story
    assert inspect.signature(call) == inspect.signature(admitted)


def test_a_scope_is_left_however_the_call_ends() -> None:
    """With its ticket."""
    left: list[object] = []
    scoped = wrap_scoped(give, lambda: "ticket", left.append)
    assert [7, KeyError, SystemExit] == [ends(scoped, value) for value in (7, KeyError, SystemExit)]
    assert ["ticket"] * 3 == left
    assert inspect.signature(give) == inspect.signature(scoped)


@pytest.mark.parametrize("kind", [Kind.SYNC, Kind.EITHER])
@pytest.mark.parametrize("value", [7, KeyError, SystemExit])
def test_the_limit_of_a_first_attempt_is_taken_off_before_anything_else(kind: Kind, value: object) -> None:
    """However it ends: what rescues it makes its own."""
    story: list[object] = []

    def call(value: object) -> object:
        story.append("call")
        return give(value)

    def rescue(policy: object, call: object, error: Exception, args: Any, kwargs: Any, *, started: float) -> str:
        story.append(("rescued", policy, type(error), args, kwargs, started))
        return "rescued"

    guarded = wrap_rescued(
        call, rescue, "policy", kind=kind, facts={"started": "now()"}, names={"now": lambda: 5.0},
        limit=lambda started: story.append(("limit", started)) or "token",  # type: ignore[func-returns-value]
        unlimit=lambda token: story.append(("unlimit", token)),
    )  # fmt: skip
    expected = {7: 7, KeyError: "rescued", SystemExit: SystemExit}[value]  # type: ignore[index]
    assert expected == ends(guarded, value)
    rescued = [("rescued", "policy", KeyError, (KeyError,), {}, 5.0)] if value is KeyError else []
    assert [("limit", 5.0), "call", ("unlimit", "token"), *rescued] == story


def test_wrappers_that_are_no_attempt_are_ours_all_the_same() -> None:
    """Tracebacks and searches pass over them."""
    guarded: Any = wrap_scoped(give, lambda: None, lambda ticket: None)
    assert "resilient.drivers.wrapped" == guarded.__globals__["__name__"]
    assert POLICY not in guarded.__globals__


def test_wrappers_of_wrappers_compile_too() -> None:
    """Names of ours in the layer below collide with none above."""
    book = Book()
    layered: Any = give
    for _ in range(4):
        layered = wrap_scoped(wrap_gated(layered, book, kind=Kind.SYNC), lambda: 1, lambda ticket: None)
    assert (7, 8) == (layered(7, more=1), len(book.story))


@pytest.mark.parametrize("kind", [Kind.SYNC, Kind.EITHER, Kind.ASYNC])
def test_a_whole_call_may_be_handed_over(kind: Kind) -> None:
    """With its arguments, positional ones by position."""

    async def run_async(args: Any, kwargs: Any) -> Any:
        return args, kwargs

    run = run_async if kind is Kind.ASYNC else lambda args, kwargs: (args, kwargs)
    assert ((7,), {"more": 1}) == ends(wrap_eager(give, run, kind=kind), 7, more=1)
