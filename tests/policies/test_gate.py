"""Policies that are gates: functions, plain blocks, exit stacks, and the timeline of one call."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import (
    AdaptiveLimiter,
    AdaptiveThrottle,
    CircuitBreaker,
    CircuitOpen,
    DeadlineExceeded,
    Timeout,
    current_deadline,
    events,
)
from resilient.core.setting_errors import checked_name
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.observe.listeners import checked_listeners
from resilient.policies.gate import GatePolicy
from resilient.testing import FakeClock, Script


class Book:
    """A gate, either form, that notes what it is told."""

    def __init__(self, *, joins: bool = False, refusal: Exception | None = None) -> None:
        self.joins = joins
        self.refusal = refusal
        self.given = 0
        self.open: list[int] = []
        self.story: list[str] = []

    def enter(self) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.given += 1
        self.open.append(self.given)
        return self.given

    enter_soon = enter

    def ready(self) -> int | None:
        return None if self.joins else self.enter()

    async def join(self) -> int:
        await asyncio.sleep(0)
        return self.enter()

    def on_success(self, ticket: int, value: object) -> None:
        self._back(ticket, f"passed {value}")

    def on_failure(self, ticket: int, error: BaseException) -> None:
        self._back(ticket, f"failed {type(error).__name__}")

    def release(self, ticket: int) -> None:
        self._back(ticket, "forgotten")

    def _back(self, ticket: int, what: str) -> None:
        self.open.remove(ticket)
        self.story.append(what)


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Booked(GatePolicy):
    """A policy of such a gate."""

    book: Book = field(default_factory=Book)
    name: str = ""

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        return self.book, self.book


def test_a_block_is_told_how_it_ended() -> None:
    """Without an error there is no value; the policy itself is what ``as`` gives."""
    policy = Booked()
    with policy as entered:
        assert policy is entered
    with pytest.raises(KeyError), policy:
        raise KeyError
    with pytest.raises(KeyboardInterrupt), policy:
        raise KeyboardInterrupt
    assert (["passed no value", "failed KeyError", "failed KeyboardInterrupt"], []) == (
        policy.book.story,
        policy.book.open,
    )


@pytest.mark.parametrize("joins", [False, True])
def test_an_async_block_likewise(joins: bool) -> None:
    """Whether its ticket has to be waited for or not."""
    policy = Booked(Book(joins=joins))

    async def main() -> None:
        async with policy as entered:
            assert policy is entered
        with pytest.raises(KeyError):
            async with policy:
                raise KeyError
        task = asyncio.create_task(hang())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def hang() -> None:
        async with policy:
            await asyncio.Event().wait()

    asyncio.run(main())
    assert (["passed no value", "failed KeyError", "failed CancelledError"], []) == (
        policy.book.story,
        policy.book.open,
    )


@pytest.mark.parametrize("is_async", [False, True])
def test_a_block_that_is_rejected_does_not_begin(is_async: bool) -> None:
    """And gives nothing back."""
    policy = Booked(Book(refusal=CircuitOpen()))

    async def main() -> None:
        async with policy:
            raise AssertionError

    with pytest.raises(CircuitOpen):
        if is_async:
            asyncio.run(main())
        with policy:
            raise AssertionError
    assert [] == policy.book.story


def test_blocks_of_one_policy_nest() -> None:
    """Each with its own ticket."""
    policy = Booked()
    with policy, policy:
        assert [1, 2] == policy.book.open
        with contextlib.suppress(KeyError), policy:
            raise KeyError
    assert (["failed KeyError", "passed no value", "passed no value"], []) == (policy.book.story, policy.book.open)


def test_exit_stacks() -> None:
    """Entered one by one, closed together, in the function that made the stack or in another."""
    policy, other = Booked(), Booked()
    with contextlib.ExitStack() as stack:
        stack.enter_context(policy)
        stack.enter_context(other)
        stack.enter_context(policy)
        assert ([1, 2], [1]) == (policy.book.open, other.book.open)
        carried = stack.pop_all()

    def close() -> None:
        carried.close()

    close()
    with pytest.raises(KeyError), contextlib.ExitStack() as stack:
        stack.enter_context(policy)
        raise KeyError
    assert (["passed no value"] * 2 + ["failed KeyError"], ["passed no value"]) == (policy.book.story, other.book.story)


def test_async_exit_stacks() -> None:
    """The same for async blocks, several tasks at once."""
    policy = Booked(Book(joins=True))

    async def one(n: int) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(policy)
            stack.enter_context(policy)
            await asyncio.sleep(0)
            if n % 2:
                raise KeyError

    async def main() -> list[Any]:
        return await asyncio.gather(*(one(n) for n in range(10)), return_exceptions=True)

    assert [type(None), KeyError] * 5 == [type(end) for end in asyncio.run(main())]
    assert (["failed KeyError"] * 10, []) == (
        [told for told in policy.book.story if "failed" in told],
        policy.book.open,
    )


@pytest.mark.parametrize("crowd", ["threads", *LOOPS])
def test_a_crowd_shares_one_policy(crowd: str) -> None:
    """Nobody gets another's ticket, in blocks and in functions."""
    limiter = AdaptiveLimiter("aimd", initial=100)
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, limiter.metrics().inflight)

    guarded = limiter(count)

    def work(n: int) -> None:
        for _ in range(50):
            with limiter:
                with contextlib.suppress(KeyError), limiter:
                    raise KeyError
                guarded()

    async def work_async(n: int) -> None:
        for _ in range(10):
            async with limiter:
                if crowd == "trio":
                    import trio

                    await trio.sleep(0)
                else:
                    await asyncio.sleep(0)
                guarded()

    async def main() -> None:
        if crowd == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for n in range(20):
                    nursery.start_soon(work_async, n)
        else:
            await asyncio.gather(*(work_async(n) for n in range(20)))

    assert [] == (together(8, work) if crowd == "threads" else run(crowd, main) or [])
    assert 0 == limiter.metrics().inflight
    assert most >= 2


@pytest.mark.parametrize("form", ["sync", "either", "async", "joined", "disguised"])
def test_the_timeline_of_a_call_notes_the_gate(form: str) -> None:
    """That it let the call through, under its name."""
    policy = Booked(Book(joins=form == "joined"), name="db")
    script = Script(7)

    def plain() -> Any:
        return script()

    calls: dict[str, Callable[[], Any]] = {"sync": plain, "either": script, "disguised": lambda: script.call_async()}
    outcome: Any = policy.execute(calls.get(form, script.call_async))
    if form in ("async", "joined", "disguised"):
        outcome = asyncio.run(outcome)
    assert (True, 7, 1) == (outcome.ok, outcome.value, outcome.attempts)
    assert [("db", "Booked")] * (2 if form == "disguised" else 1) == [
        (event.name, event.policy) for event in outcome.timeline
    ]


@pytest.mark.parametrize(("after", "at"), [(None, None), (4.0, 14.0)])
@pytest.mark.parametrize("form", ["sync", "async", "joined"])
def test_the_timeline_of_a_call_notes_its_rejection(form: str, after: float | None, at: float | None) -> None:
    """With the instant from which another makes sense."""
    error = CircuitOpen("db", after)
    policy = Booked(Book(joins=form == "joined", refusal=error))
    script = Script(7)
    with FakeClock(start=10):
        outcome: Any = policy.execute(script if form == "sync" else script.call_async)
        if form != "sync":
            outcome = asyncio.run(outcome)
    (rejected,) = outcome.timeline
    assert isinstance(rejected, events.CallRejected)
    assert ("Booked", "Booked", error, at) == (rejected.name, rejected.policy, rejected.error, rejected.retry_at)
    assert (error, "rejected", at, 0) == (outcome.error, outcome.stopped_by, outcome.retry_at, script.calls)


@pytest.mark.parametrize("is_async", [False, True])
def test_the_timeline_of_a_call_notes_a_limit(is_async: bool) -> None:
    """That cut it off, or left it no time at all."""
    with FakeClock() as clock:
        limit = Timeout(5, name="each")
        if is_async:
            outcome = asyncio.run(limit.execute(clock.asleep, 9))
            expected = ["each: let through by Timeout", "each: deadline exceeded after 5 s"]
        else:
            with Timeout(3):
                clock.advance(3)
                outcome = limit.execute(Script(7))
            expected = ["each: deadline exceeded after 0 s"]
    assert (expected, "timeout") == ([str(event) for event in outcome.timeline], outcome.stopped_by)
    assert isinstance(outcome.error, DeadlineExceeded)


def test_a_gate_that_raises_of_itself_leaves_no_garbage() -> None:
    """From an async block, and from a function."""
    refs: list[weakref.ref[BaseException]] = []
    limit = Timeout(5)

    async def main() -> None:
        try:
            async with limit:
                await clock.asleep(9)
        except DeadlineExceeded as error:
            refs.append(weakref.ref(error))
        refs.append(weakref.ref((await limit.execute(lambda: clock.asleep(9))).error))  # type: ignore[arg-type]

    with FakeClock() as clock:
        gc.collect()
        gc.disable()
        try:
            asyncio.run(main())
            assert [None, None] == [error() for error in refs]
            assert current_deadline() is None
        finally:
            gc.enable()


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Deaf(Booked):
    """One whose gate need not hear."""

    @property
    def hears(self) -> bool:
        return False


def test_a_policy_says_what_its_gate_needs() -> None:
    """To hear of every call, of none, or only that it is over."""
    deaf = Deaf()
    assert 7 == deaf(len)("1234567")
    assert ["passed 7"] == deaf.book.story  # what may turn out to be async is told all the same

    @deaf
    def plain() -> int:
        return 7

    assert 7 == plain()
    assert (["passed 7"], [2]) == (deaf.book.story, deaf.book.open)
    assert (True, None) == (Booked().hears, Booked().leave)


def test_it_has_a_block_form() -> None:
    """Each attempt passes the gate."""
    policy = Booked()
    for attempt in policy:
        with attempt:
            assert [1] == policy.book.open
    assert ["passed no value"] == policy.book.story


def test_a_subclass_has_to_have_gates() -> None:
    """There is nothing to pass otherwise."""

    class Nothing(GatePolicy):
        __slots__ = ()

    with pytest.raises(NotImplementedError):
        Nothing().guard(len, None)  # type: ignore[arg-type]


def test_a_rejection_is_cheap_and_fresh() -> None:
    """Every one is an error of its own, with a traceback that does not grow."""
    breaker = CircuitBreaker()
    breaker.force_open()
    guarded = breaker(len)
    seen, depths = set(), set()
    kept = []
    for _ in range(1000):
        try:
            guarded("")
        except CircuitOpen as error:
            kept.append(error)
            seen.add(id(error))
            depth, traceback = 0, error.__traceback__
            while traceback is not None:
                depth, traceback = depth + 1, traceback.tb_next
            depths.add(depth)
    assert (1000, 1) == (len(seen), len(depths))


@pytest.mark.parametrize("name", [3, None, b"db"])
def test_names_are_text(name: object) -> None:
    """Or a TypeError."""
    with pytest.raises(TypeError, match="name must be a str, got "):
        checked_name(name)
    assert "db" == checked_name("db")


def test_listeners_are_functions_of_an_event() -> None:
    """One, or several."""
    assert [(print,), (print, len), (), (len,)] == [
        checked_listeners(print),
        checked_listeners([print, len]),
        checked_listeners(()),
        checked_listeners((len,)),
    ]
    for wrong in (3, None, [3], "x"):
        with pytest.raises(TypeError, match="listeners must be functions of an event, got "):
            checked_listeners(wrong)


def test_a_call_that_turns_out_to_be_async_is_counted_once_in_a_timeline() -> None:
    """The throttle decided when it was made."""

    async def fetch() -> int:
        return 7

    async def main() -> list[object]:
        return [(await throttle.execute(lambda: fetch())).value for _ in range(5)]

    throttle = AdaptiveThrottle()
    assert [7] * 5 == asyncio.run(main())
    assert (5, 5) == (throttle.metrics().calls, throttle.metrics().accepts)
