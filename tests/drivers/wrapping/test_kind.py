"""What calling a callable gives, told before it is called."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from resilient.core.setting_errors import SettingTypeError
from resilient.drivers.wrapping.kind import BLOCKING, Kind, checked_kind, kind_of


def plain(a: int, b: int = 2) -> int:
    return a


async def coroutine(a: int, b: int = 2) -> int:
    return a


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


class Callme:
    def __call__(self, a: int) -> int:
        return a


class CallmeAsync:
    async def __call__(self, a: int) -> int:
        return a


class Holder:
    def method(self, a: int) -> int:
        return a

    async def amethod(self, a: int) -> int:
        return a


def promises(a: int) -> Awaitable[Any]:
    return coroutine(a)


@functools.wraps(coroutine)
def disguised(*args: Any, **kwargs: Any) -> Any:
    return coroutine(*args, **kwargs)


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (plain, Kind.SYNC),
        (coroutine, Kind.ASYNC),
        (functools.partial(plain, 1), Kind.SYNC),
        (functools.partial(functools.partial(coroutine, 1), 2), Kind.ASYNC),
        (generator, Kind.GENERATOR),
        (async_generator, Kind.ASYNC_GENERATOR),
        (functools.partial(generator), Kind.GENERATOR),
        (Callme(), Kind.SYNC),
        (CallmeAsync(), Kind.ASYNC),
        (Holder().method, Kind.EITHER),
        (promises, Kind.EITHER),
        (Holder().amethod, Kind.ASYNC),
        (lambda: 1, Kind.EITHER),
        (disguised, Kind.EITHER),
        (len, Kind.EITHER),
        ([].append, Kind.EITHER),
    ],
    ids=lambda given: str(given) if isinstance(given, Kind) else type(given).__name__,
)
def test_kind_is_known_beforehand(call: Callable[..., Any], kind: Kind) -> None:
    """A callable is told apart by what calling it gives."""
    assert kind is kind_of(call)


async def later() -> None: ...


def now() -> None: ...


def items() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(("call", "kind"), [(later, Kind.ASYNC), (lambda: 1, Kind.EITHER)])
def test_a_function_of_a_kind_that_is_wanted_is_taken(call: Any, kind: Kind) -> None:
    """Its kind is told."""
    assert kind is checked_kind("fetch", call, (Kind.ASYNC, Kind.EITHER))


@pytest.mark.parametrize(
    ("call", "kinds", "text"),
    [
        (3, BLOCKING, "fetch must be a function, got 3"),
        (now, (Kind.ASYNC,), "fetch must be an async function, got <function now"),
        (later, BLOCKING, "fetch must be a blocking function, got <function later"),
        (items, BLOCKING, "fetch must be a function, not a generator, got <function items"),
    ],
)
def test_a_function_of_another_kind_is_refused(call: Any, kinds: tuple[Kind, ...], text: str) -> None:
    """By the setting's name, with what is wanted."""
    with pytest.raises(SettingTypeError, match=text) as caught:
        checked_kind("fetch", call, kinds)
    assert "fetch" == caught.value.setting


def test_what_is_wanted_and_what_else_there_is_can_be_said() -> None:
    """By whoever asks."""
    with pytest.raises(TypeError, match=r"fn must be a loop, got .*; elsewhere others run"):
        checked_kind("fn", later, BLOCKING, wanted="a loop", instead="; elsewhere others run")
