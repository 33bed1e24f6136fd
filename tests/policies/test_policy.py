"""What all policies have in common: decorator, call, execute, proxy, patch, block, ``>>``."""

import asyncio
import functools
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest
from threads import together

from resilient import CircuitBreaker, Pipeline, Policy, Retry, Timeout, backoff
from resilient.drivers.blocks.attempts import AsyncAttempts, Attempts
from resilient.drivers.wrapping.kind import Kind
from resilient.testing import Script


class Loud(Policy):
    """A policy that doubles what it guards, blocking or async, and counts how often it was asked to guard."""

    __slots__ = ("guarded",)

    def __init__(self) -> None:
        object.__setattr__(self, "guarded", [])

    def guard(self, call: Any, kind: Kind, listeners: tuple[Any, ...] = ()) -> Any:
        self.guarded.append((kind, len(listeners)))

        async def later(value: Any) -> Any:
            return 2 * await value

        def doubled(*args: Any, **kwargs: Any) -> Any:
            value = call(*args, **kwargs)
            return later(value) if asyncio.iscoroutine(value) else 2 * value

        return doubled


async def seven() -> int:
    return 7


class Callme:
    def __call__(self, a: int) -> int:
        return a


class Client:
    def fetch(self, a: int) -> int:
        return a

    def items(self) -> Iterator[int]:
        yield 1


def test_it_decorates_whatever_can_be_called() -> None:
    """Functions, methods, builtins, partials, callable objects, coroutine functions."""
    loud = Loud()

    def plain(a: int) -> int:
        return a

    targets = [plain, Client().fetch, len, functools.partial(plain, 3), Callme()]
    assert [8, 8, 6, 6, 8] == [
        loud(target)(*args) for target, args in zip(targets, [(4,), (4,), ("abc",), (), (4,)], strict=True)
    ]
    assert 14 == asyncio.run(loud(seven)())
    assert [Kind.SYNC, Kind.EITHER, Kind.EITHER, Kind.SYNC, Kind.SYNC, Kind.ASYNC] == [kind for kind, _ in loud.guarded]


def test_call_makes_one_chain_for_each_kind() -> None:
    """However many functions are called."""
    loud = Loud()
    assert [6, 8, 6] == [loud.call(len, "abc"), loud.call(lambda a: 2 * a, 2), loud.call(functools.partial(len, "abc"))]
    assert (14, 14) == (asyncio.run(loud.call(seven)), asyncio.run(loud.call(lambda: seven())))
    assert [(Kind.EITHER, 0), (Kind.ASYNC, 0)] == loud.guarded
    assert 6 == loud.call(Callme(), a=3)
    assert (Kind.SYNC, 0) == loud.guarded[-1]


def test_call_takes_any_arguments() -> None:
    """Whatever they are called."""
    assert (1, {"fn": 2, "self": 3}) == Timeout(9).call(lambda a, **more: (a, more), 1, fn=2, self=3)


def test_execute_gives_an_outcome_for_everything_but_exits() -> None:
    """A value, an error, a coroutine's."""
    loud = Loud()
    assert 6 == loud.execute(len, "abc").value
    assert isinstance(loud.execute(len, 3).error, TypeError)  # type: ignore[arg-type]
    assert 14 == asyncio.run(loud.execute(seven)).value
    assert 14 == asyncio.run(loud.execute(lambda: seven())).value
    with pytest.raises(KeyboardInterrupt):
        loud.execute(Script(KeyboardInterrupt))
    assert {1} == {listeners for _, listeners in loud.guarded}


def test_a_proxy_guards_an_objects_methods() -> None:
    """All public ones that are no generators, or those that are named."""
    client: Client = Loud().proxy(Client())
    assert (8, [1], True) == (client.fetch(4), list(client.items()), isinstance(client, Client))
    assert 8 == Loud().proxy(Client(), methods=("fetch",)).fetch(4)


def test_a_patch_guards_a_module() -> None:
    """Until it is undone."""
    import sys

    module: Any = ModuleType("patched_by_test_policy")
    module.fetch = lambda a: a
    sys.modules[module.__name__] = module
    try:
        with Loud().patch("patched_by_test_policy:fetch"):
            assert 8 == module.fetch(4)
        assert 4 == module.fetch(4)
    finally:
        del sys.modules[module.__name__]


def test_two_policies_are_a_pipeline() -> None:
    """``outer >> inner``."""
    outer, inner = Loud(), Timeout(3)
    assert Pipeline(outer, inner) == outer >> inner
    assert NotImplemented is outer.__rshift__(3)  # type: ignore[arg-type]


def test_generators_are_refused() -> None:
    """In every form."""

    def items() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    for refuse in (Loud(), Loud().call, Loud().execute):
        for generator in (items, later, lambda: (yield), functools.partial(items)):
            with pytest.raises(TypeError, match="is a generator function"):
                refuse(generator)  # type: ignore[operator]


def test_what_has_no_block_form_says_so() -> None:
    """With what to do instead."""
    for loop in (iter, lambda policy: policy.__aiter__()):
        with pytest.raises(TypeError, match="Loud cannot guard a block, only a function: use @policy or policy.call"):
            loop(Loud())


def test_what_has_one_gives_attempts() -> None:
    """Blocking and async."""
    policy = Timeout(3)
    assert (Attempts, AsyncAttempts) == (type(iter(policy)), type(policy.__aiter__()))


def test_a_policy_is_plain_unless_it_says_otherwise() -> None:
    """It guards no streams, tries nothing again, and is the same inside a Retry."""
    loud = Loud()
    assert ("Loud", False, False, True) == (loud.kind, loud.streams, loud.tries_again, loud is loud.of_attempts())
    assert (True, True) == (Retry(on=OSError).tries_again, Retry(on=OSError, streaming=True).streams)


def test_a_subclass_has_to_guard() -> None:
    """There is nothing to call otherwise."""

    class Nothing(Policy):
        __slots__ = ()

    with pytest.raises(NotImplementedError):
        Nothing()(len)


def test_threads_may_make_the_chain_together() -> None:
    """Whoever comes first."""
    for _ in range(20):
        breaker = CircuitBreaker(window=1000)
        assert [] == together(8, lambda n: breaker.call(len, "abc"))  # noqa: B023
        assert 8 == breaker.metrics().calls


def test_a_policy_is_freed_with_its_last_reference() -> None:
    """What it made for ``call`` does not keep it alive."""
    policy = Pipeline(Timeout(9), CircuitBreaker(), Retry(on=OSError, backoff=backoff.constant(0)))
    assert 3 == policy.call(len, "abc")
    gc.collect()
    gc.disable()
    try:
        watched = weakref.ref(policy)
        del policy
        assert watched() is None
    finally:
        gc.enable()


def test_settings_cannot_be_changed() -> None:
    """A policy is a value."""
    with pytest.raises(AttributeError):
        Timeout(9).seconds = 3  # type: ignore[misc]


def test_with_alone_says_what_to_write_instead() -> None:
    """The loop: one block may need several attempts."""
    policy: Any = Retry(on=OSError)

    async def wrong() -> None:
        async with policy:
            raise AssertionError

    with pytest.raises(TypeError, match="`for attempt in policy:`"), policy:
        raise AssertionError
    with pytest.raises(TypeError, match="`async for attempt in policy:`"):
        asyncio.run(wrong())
