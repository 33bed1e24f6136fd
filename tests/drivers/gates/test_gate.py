"""Gates: a ticket before the call, and back after it, however the call ends and whatever it is."""

import asyncio
import contextlib
import gc
import inspect
import sys
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from books import Book
from loops import LOOPS, run
from threads import together

from resilient import Bulkhead, CircuitOpen, Event, RateLimited, Timeout, current_deadline, listen
from resilient.drivers.gates.gate import NO_VALUE, close_block, gated, in_event_loop, open_block, reject
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


POLICY = object()


def opened(ticket: object, policy: object = POLICY) -> None:
    open_block(policy, ticket, sys._getframe(1))


def closed(policy: object = POLICY) -> Any:
    return close_block(policy, sys._getframe(1))


def test_blocks_of_one_frame_end_in_the_reverse_order() -> None:
    """As they nest; blocks of other policies are apart."""
    other = object()
    opened(1)
    opened("other", other)
    opened(2)
    assert [2, 1, "other"] == [closed(), closed(), closed(other)]


def test_frames_that_are_suspended_in_their_blocks_are_not_mixed_up() -> None:
    """Each generator ends its own."""

    def block(ticket: int) -> Iterator[int]:
        opened(ticket)
        yield 0
        yield closed()

    first, second = block(1), block(2)
    next(first), next(second)
    assert [1, 2] == [next(first), next(second)]


def test_a_block_that_was_carried_elsewhere_takes_the_latest_ticket() -> None:
    """An exit stack may be closed by another function."""
    opened(1)

    def elsewhere() -> Any:
        return closed()

    assert 1 == elsewhere()


def test_a_block_that_was_never_begun_is_noticed() -> None:
    """There is nothing to give back."""
    with pytest.raises(RuntimeError, match="ends that was never begun"):
        closed()


def test_exit_stacks_count_as_the_frame_that_uses_them() -> None:
    """They enter and leave from frames of their own."""

    class Block:
        def __enter__(self) -> None:
            open_block(POLICY, 1, sys._getframe(1))

        def __exit__(self, *_: object) -> None:
            tickets.append(close_block(POLICY, sys._getframe(1)))

    tickets: list[int] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(Block())
    assert [1] == tickets


def test_a_frame_without_another_below_is_its_own() -> None:
    """At the bottom of the stack the search ends."""
    from resilient.drivers.gates.gate import _users

    frame: Any = type("Bottom", (), {"f_globals": {"__name__": "contextlib"}, "f_back": None})()
    assert frame is _users(frame)


def test_threads_do_not_see_each_others_blocks() -> None:
    """Many at once, each with its own ticket."""

    def work(n: int) -> None:
        for m in range(200):
            opened((n, m))
            assert (n, m) == closed()

    assert [] == together(8, work)


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


class Entering:
    """A client with blocks of its own, which begin and end in different functions."""

    def __init__(self, policy: Any) -> None:
        self.policy = policy

    async def __aenter__(self) -> Any:
        return await self.policy.__aenter__()

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.policy.__aexit__(*exc_info)


def test_blocks_carried_through_functions_belong_to_their_tasks() -> None:
    """Each task's limit is its own, though all share one policy."""

    async def use(clock: FakeClock, seconds: float) -> str:
        try:
            async with Entering(limit):
                await clock.asleep(seconds)
        except TimeoutError:
            return "cut"
        assert current_deadline() is None
        await clock.asleep(9)
        return "fine"

    async def main() -> list[str]:
        return await asyncio.gather(*(use(clock, seconds) for seconds in (0.1, 3, 0.2, 4, 0.3)))

    limit = Timeout(1)
    with FakeClock() as clock:
        assert ["fine", "cut", "fine", "cut", "fine"] == asyncio.run(main())


def test_a_generator_may_be_closed_by_another_thread() -> None:
    """Its block ends there, and takes its own ticket."""
    bulkhead = Bulkhead(2)

    def block() -> Iterator[int]:
        with bulkhead:
            yield 1

    opened = block()
    next(opened)
    together(1, lambda _: opened.close())
    assert 0 == bulkhead.metrics().inflight


@pytest.mark.parametrize("loop", LOOPS)
def test_a_block_in_a_task_has_its_own_ticket(loop: str) -> None:
    """On every loop."""
    bulkhead = Bulkhead(1)

    async def main() -> int:
        async with bulkhead:
            return bulkhead.metrics().inflight

    assert (1, 0) == (run(loop, main), bulkhead.metrics().inflight)


def test_no_value_says_so() -> None:
    """What a gate hears of a block that names no result."""
    assert "no value" == str(NO_VALUE)
