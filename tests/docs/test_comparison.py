"""What docs/explanation/comparison.md says of other libraries is so: each row that a test can check.

They are installed for the benchmarks only; without them these tests are skipped.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import Retry, backoff
from resilient.testing import Script

tenacity = pytest.importorskip("tenacity")
stamina = pytest.importorskip("stamina")
backoff_library = pytest.importorskip("backoff")

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

OURS = Retry(on=OSError, attempts=3, backoff=backoff.constant(0))


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.getLogger("backoff").disabled = True
    before = stamina.instrumentation.get_on_retry_hooks()
    stamina.instrumentation.set_on_retry_hooks([])
    yield
    stamina.instrumentation.set_on_retry_hooks(before)
    logging.getLogger("backoff").disabled = False


def by_tenacity(**settings: Any) -> Decorator:
    return tenacity.retry(**{"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_none(), **settings})


def by_stamina(**settings: Any) -> Decorator:
    return stamina.retry(
        **{"on": OSError, "attempts": 3, "wait_initial": 0, "wait_jitter": 0, "wait_max": 0, **settings}
    )


def by_backoff(kind: Any = OSError, **settings: Any) -> Decorator:
    return backoff_library.on_exception(
        backoff_library.constant, kind, **{"max_tries": 3, "interval": 0, "jitter": None, **settings}
    )


# Generator functions


def cut_once() -> tuple[Callable[[], Iterator[int]], list[int]]:
    opened: list[int] = []

    def items() -> Iterator[int]:
        opened.append(1)
        yield 1
        if len(opened) == 1:
            raise OSError("cut")
        yield 2

    return items, opened


@pytest.mark.parametrize("guard", [by_tenacity(), by_backoff()], ids=["tenacity", "backoff"])
def test_generators_pass_unguarded(guard: Decorator) -> None:
    """A generator's error reaches the consumer, without another attempt."""
    items, opened = cut_once()
    with pytest.raises(OSError, match="cut"):
        list(guard(items)())
    assert len(opened) == 1


def test_stamina_delivers_items_twice() -> None:
    """A generator starts over after its first item was out."""
    items, _ = cut_once()
    assert [1, 1, 2] == list(by_stamina()(items)())


def test_we_refuse_generators_or_guard_them() -> None:
    """Here it is refused, or guarded until its first item is out, and then resumed."""
    items, _ = cut_once()
    with pytest.raises(TypeError, match="generator function"):
        OURS(items)
    assert [1, 2] == list(OURS.with_(streaming=True, resume=lambda last: iter([2]))(items)())


# Cancellation


async def calls_until_cancelled(guard: Decorator) -> int:
    calls = 0

    async def cancelled_once() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise asyncio.CancelledError

    try:
        await guard(cancelled_once)()
    except asyncio.CancelledError:
        return calls
    return calls


@pytest.mark.parametrize(
    ("guard", "calls"),
    [
        (by_tenacity(), 1),
        (by_tenacity(retry=tenacity.retry_if_not_exception_type(ValueError)), 2),
        (by_stamina(on=Exception), 1),
        (by_stamina(on=lambda error: not isinstance(error, ValueError)), 2),
        (by_backoff(Exception), 1),
        (by_backoff(BaseException), 2),
        (OURS.with_(on=lambda error: not isinstance(error, ValueError)), 1),
    ],
    ids=["tenacity", "tenacity predicate", "stamina", "stamina predicate", "backoff", "backoff named", "ours"],
)
def test_who_tries_a_cancellation_again(guard: Decorator, calls: int) -> None:
    """A cancellation is tried again by the others if a predicate takes it, or its class is named."""
    assert calls == asyncio.run(calls_until_cancelled(guard))


# Time


@pytest.mark.parametrize(
    ("guard", "within"),
    [
        (by_tenacity(stop=tenacity.stop_after_delay(0.3), wait=tenacity.wait_fixed(0.2)), False),
        (by_tenacity(stop=tenacity.stop_before_delay(0.3), wait=tenacity.wait_fixed(0.2)), True),
        (by_stamina(attempts=None, timeout=0.3, wait_initial=0.2, wait_max=0.2), False),
        (OURS.with_(attempts=None, timeout=0.3, backoff=backoff.constant(0.2)), True),
    ],
    ids=["tenacity", "tenacity before", "stamina", "ours"],
)
def test_whose_waits_stay_within_the_timeout(guard: Decorator, within: bool) -> None:
    """No wait begins that would end after the timeout; two waits of 0.2 s show who does not look ahead."""
    call = Script(OSError("down"))
    with pytest.raises((OSError, tenacity.RetryError)):
        guard(lambda: call())()
    assert within == (call.calls == 2)


def test_backoff_cuts_its_last_wait_short() -> None:
    """backoff sleeps until its max_time, and no longer."""
    call, began = Script(OSError("down")), time.monotonic()
    with pytest.raises(OSError, match="down"):
        by_backoff(max_tries=None, max_time=0.06, interval=10)(lambda: call())()
    assert time.monotonic() - began < 5


# What comes back


@pytest.mark.parametrize(
    ("guard", "kind"),
    [
        (by_tenacity(), tenacity.RetryError),
        (by_tenacity(reraise=True), ConnectionError),
        (by_stamina(), ConnectionError),
        (by_backoff(), ConnectionError),
        (OURS, ConnectionError),
    ],
    ids=["tenacity", "tenacity reraise", "stamina", "backoff", "ours"],
)
def test_what_is_raised_in_the_end(guard: Decorator, kind: type[Exception]) -> None:
    """The function's own error comes back, except from tenacity's default."""
    call = Script("fail")
    with pytest.raises(kind) as caught:
        guard(lambda: call())()
    assert type(caught.value) is kind
    assert 3 == call.calls


# What there is


@pytest.mark.parametrize(
    ("library", "names", "offered"),
    [
        (tenacity, ("wait_exception", "retry_if_result", "Retrying", "AsyncRetrying"), True),
        (stamina, ("retry_context", "set_testing"), True),
        (stamina.instrumentation, ("StructlogOnRetryHook", "PrometheusOnRetryHook"), True),
        (backoff_library, ("runtime", "on_predicate"), True),
    ],
    ids=["tenacity", "stamina", "stamina hooks", "backoff"],
)
def test_what_the_others_offer(library: Any, names: tuple[str, ...], offered: bool) -> None:
    """The names in the table exist."""
    assert [offered] * len(names) == [hasattr(library, name) for name in names]
