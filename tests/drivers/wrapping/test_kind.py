"""What calling a callable gives, told before it is called."""

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from resilient.drivers.wrapping.kind import Kind, kind_of


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
