"""Gates: a ticket before the call, and back after it, however the call ends and whatever it is."""

import asyncio
import gc
import inspect
import sys
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from books import Book
from loops import LOOPS, run
from threads import together

from resilient import CircuitOpen, Event, RateLimited, listen
from resilient.drivers.gates.gate import NO_VALUE, gated, in_event_loop, reject
from resilient.drivers.wrapping.kind import Kind
from resilient.testing import FakeClock


def give(value: object) -> object:
    if isinstance(value, BaseException):
        raise value
    return value


async def give_async(value: object) -> object:
    await asyncio.sleep(0)
    return give(value)


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """What a call gives, awaited if it has to be; the class of what it raised."""
    try:
        value = call(*args)
        return asyncio.run(value) if inspect.iscoroutine(value) else value
    except BaseException as error:
        return type(error)


ENDS = [
    (7, "passed 7", 7),
    (KeyError("k"), "failed KeyError", KeyError),
    (SystemExit(), "failed SystemExit", SystemExit),
]


@pytest.mark.parametrize(("value", "told", "expected"), ENDS, ids=["value", "error", "exit"])
@pytest.mark.parametrize(
    ("call", "kind", "joins", "entered"),
    [
        (give, Kind.SYNC, False, "enter"),
        (give, Kind.EITHER, False, "enter soon"),
        (give_async, Kind.ASYNC, False, "ready"),
        (give_async, Kind.ASYNC, True, "join"),
    ],
)
def test_a_gate_hears_what_became_of_every_call(
    call: Callable[..., Any], kind: Kind, joins: bool, entered: str, value: object, told: str, expected: object
) -> None:
    """In every form, with the ticket that it gave."""
    book = Book(joins=joins)
    assert expected == outcome(gated(call, book, book, kind), value)
    assert [entered, told] == book.story


@pytest.mark.parametrize(("value", "told", "expected"), ENDS, ids=["value", "error", "exit"])
def test_a_coroutine_from_a_plain_function_passes_when_awaited(value: object, told: str, expected: object) -> None:
    """The first ticket goes back unused."""
    book = Book()
    assert expected == outcome(gated(lambda given: give_async(given), book, book, Kind.EITHER), value)
    assert ["enter soon", "forgotten", "ready", told] == book.story


def test_a_coroutine_that_is_not_let_through_is_closed() -> None:
    """Nothing warns of one that was never awaited."""
    book, closed = Book(), Book(CircuitOpen("book"))

    async def never() -> None:
        raise AssertionError

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert CircuitOpen is outcome(gated(lambda: never(), book, closed, Kind.EITHER))
        gc.collect()
    assert ["enter soon", "forgotten"] == book.story


@pytest.mark.parametrize(("call", "kind"), [(give, Kind.SYNC), (give, Kind.EITHER), (give_async, Kind.ASYNC)])
def test_what_is_rejected_is_never_called(call: Callable[..., Any], kind: Kind) -> None:
    """And gives no ticket back."""
    called: list[object] = []
    book = Book(CircuitOpen("book"))

    def plain(value: object) -> object:
        called.append(value)
        return call(value)

    async def coroutine(value: object) -> object:
        return plain(value)

    assert CircuitOpen is outcome(gated(coroutine if kind is Kind.ASYNC else plain, book, book, kind), 7)
    assert ([], []) == (called, book.story)


@pytest.mark.parametrize("joins", [False, True])
def test_a_gate_that_need_not_hear_is_told_nothing(joins: bool) -> None:
    """It only lets through; what may turn out to be async is told all the same."""
    book = Book(joins=joins)
    assert [7, 7, 7] == [
        outcome(gated(give, book, book, Kind.SYNC, hears=False), 7),
        outcome(gated(give_async, book, book, Kind.ASYNC, hears=False), 7),
        outcome(gated(give, book, book, Kind.EITHER, hears=False), 7),
    ]
    assert ["enter", "join" if joins else "ready", "enter soon", "passed 7"] == book.story


@pytest.mark.parametrize(("value", "expected"), [(7, 7), (KeyError("k"), KeyError), (SystemExit(), SystemExit)])
def test_a_gate_may_want_its_ticket_back_and_nothing_else(value: object, expected: object) -> None:
    """Of blocking calls; the other kinds are told."""
    book = Book()
    assert expected == outcome(gated(give, book, book, Kind.SYNC, leave=book.left), value)
    assert ["enter", "left"] == book.story
    assert expected == outcome(gated(give_async, book, book, Kind.ASYNC, leave=book.left), value)
    assert ["ready", "passed 7" if value == 7 else f"failed {type(value).__name__}"] == book.story[2:]


@pytest.mark.parametrize("loop", LOOPS)
def test_whether_blocking_would_block_a_loop(loop: str) -> None:
    """Inside one, yes; but not under virtual time, and not in a thread beside it."""

    async def main() -> list[bool]:
        with FakeClock():
            virtual = in_event_loop()
        beside: list[bool] = []
        assert [] == together(1, lambda n: beside.append(in_event_loop()))
        return [in_event_loop(), virtual, *beside]

    assert not in_event_loop()
    assert [True, False, False] == run(loop, main)


def test_where_no_loop_was_ever_loaded_none_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither asyncio nor trio is imported to find out."""
    monkeypatch.delitem(sys.modules, "asyncio")
    monkeypatch.delitem(sys.modules, "trio", raising=False)
    assert not in_event_loop()
    assert "asyncio" not in sys.modules


@pytest.mark.parametrize(("after", "at"), [(None, None), (4.0, 14.0)])
@pytest.mark.parametrize("name", ["db", ""])
def test_a_rejection_is_told_to_whoever_listens(name: str, after: float | None, at: float | None) -> None:
    """With the instant from which another call makes sense."""
    heard: list[Any] = []
    error = RateLimited(name, after)
    with FakeClock(start=10):
        assert error is reject(error, "RateLimiter", (heard.append,))
        assert error is reject(error, "RateLimiter", ())
        with listen(heard.append):
            reject(error, "RateLimiter", ())
    assert [(name or "RateLimiter", "RateLimiter", error, at)] * 2 == [
        (event.name, event.policy, event.error, event.retry_at) for event in heard
    ]


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_call_that_is_cancelled_is_one_that_failed(loop: str) -> None:
    """Its ticket comes back."""
    book = Book()

    async def forever() -> None:
        if loop == "trio":
            import trio

            await trio.sleep_forever()
        await asyncio.Event().wait()

    guarded: Callable[[], Coroutine[Any, Any, Any]] = gated(forever, book, book, Kind.ASYNC)

    async def main() -> None:
        if loop == "trio":
            import trio

            with trio.move_on_after(0):
                await guarded()
            return
        task = asyncio.create_task(guarded())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(loop, main)
    assert ["ready", "failed Cancelled" if loop == "trio" else "failed CancelledError"] == book.story


def test_events_are_of_the_closed_union() -> None:
    """What a listener of a rejection gets."""
    heard: list[Event] = []
    reject(CircuitOpen("db", 2.0), "CircuitBreaker", (heard.append,))
    assert ["db: circuit open: call rejected by 'db'; another call makes sense in 2 s"] == [str(e) for e in heard]


def test_no_value_says_so() -> None:
    """What a gate hears of a block that names no result."""
    assert "no value" == str(NO_VALUE)
