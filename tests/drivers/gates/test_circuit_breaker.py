"""A breaker's gate: exact under threads, no lock over user code, probes that come back."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient.core import backoff
from resilient.core.breaker import BreakerPlan, State
from resilient.core.events import CallRejected, Event, StateChanged
from resilient.drivers.gates.circuit_breaker import Chance, CircuitBreakerGate, SharedBreaker, TimedCircuitBreakerGate
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import gated
from resilient.drivers.wrapping.kind import Kind
from resilient.errors import CircuitOpen
from resilient.policies.circuit_breaker import CircuitBreaker
from resilient.testing import FakeClock, Script

PLAN = BreakerPlan(
    failure_rate=0.5,
    window=4,
    timed=False,
    min_calls=4,
    consecutive=2,
    slow_call=None,
    slow_rate=1.0,
    open_for=backoff.constant(30),
    probes=1,
)
SLOW = replace(PLAN, consecutive=None, slow_call=5.0)


class Boom(OSError):
    """One that can be watched as it goes."""


def judged(error: Exception) -> bool | None:
    """OSError is a failure, LookupError says nothing, a TypeError breaks the judge, all else is a success."""
    if isinstance(error, TypeError):
        raise RuntimeError("the judge is broken")
    return None if isinstance(error, LookupError) else isinstance(error, OSError)


def make(
    plan: BreakerPlan = PLAN, result: Callable[[object], bool] | None = None, *listeners: Any
) -> CircuitBreakerGate:
    kind = CircuitBreakerGate if plan.slow_call is None else TimedCircuitBreakerGate
    return kind(SharedBreaker(plan, Chance()), FailureJudges(judged, result), "db", listeners)


def guard(gate: CircuitBreakerGate, call: Callable[..., Any], kind: Kind = Kind.SYNC) -> Callable[..., Any]:
    return gated(call, gate, gate, kind)


def answer(value: object) -> object:
    """Raises what is an error, returns anything else."""
    if isinstance(value, BaseException):
        raise value
    return value


def play(gate: CircuitBreakerGate, *values: object) -> None:
    call = guard(gate, answer)
    for value in values:
        with suppress(Exception):
            call(value)


def opened(plan: BreakerPlan = PLAN, *listeners: Any) -> CircuitBreakerGate:
    gate = make(plan, None, *listeners)
    while gate.breaker.state is State.CLOSED:
        play(gate, OSError())
    return gate


def test_counts_what_its_calls_say() -> None:
    """Failures, other errors as successes, ignored errors not at all."""
    gate = make(replace(PLAN, consecutive=None))
    play(gate, 1, ValueError(), KeyError(), OSError(), KeyError(), 2)
    assert (4, 1, State.CLOSED) == (gate.metrics().calls, gate.metrics().failures, gate.state())


def test_results_may_be_failures() -> None:
    """Judged outside the lock; a judge that raises counts as nothing, and the caller hears of it."""
    gate = make(PLAN, lambda value: 1 / value < 0)  # type: ignore[operator]
    play(gate, 1, -1, 0)
    assert (2, 1) == (gate.metrics().calls, gate.metrics().failures)
    play(gate, -1)
    assert State.OPEN is gate.state()
    with FakeClock() as clock:
        clock.advance(gate.breaker.plan.open_for.delay(1))
        gate.order(gate.breaker.reset)
        play(gate, -1, -1)
        clock.advance(30)
        with pytest.raises(ZeroDivisionError):
            guard(gate, answer)(0)
        play(gate, 1)  # the probe was free again
    assert State.CLOSED is gate.state()


@pytest.mark.parametrize("plan", [PLAN, SLOW])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit(), KeyError(), TypeError()])
def test_what_says_nothing_frees_its_probe(plan: BreakerPlan, error: BaseException) -> None:
    """Exits, ignored errors, and errors that the judge cannot judge: the next call is the probe."""
    with FakeClock() as clock:
        gate = opened(plan)
        clock.advance(30)
        with pytest.raises(RuntimeError if isinstance(error, TypeError) else type(error)):
            guard(gate, answer)(error)
        assert (State.HALF_OPEN, 0) == (gate.state(), gate.metrics().calls)
        assert 7 == guard(gate, answer)(7)
        assert State.CLOSED is gate.state()


@pytest.mark.parametrize("plan", [PLAN, SLOW])
def test_a_call_that_never_happened_frees_its_probe(plan: BreakerPlan) -> None:
    """What an outer gate or an adopted coroutine gives back."""
    with FakeClock() as clock:
        gate = opened(plan)
        clock.advance(30)
        ticket: Any = gate.enter()
        with pytest.raises(CircuitOpen):
            gate.enter()
        gate.release(ticket)
        gate.enter()


def test_a_rejection_says_why_and_until_when() -> None:
    """Open, half open with its probes out, forced open."""
    said = []
    with FakeClock() as clock:
        gate = opened()
        for step in (10, 20, 0):
            clock.advance(step)
            try:
                gate.enter()
            except CircuitOpen as error:
                said.append((error.name, error.retry_after, error.why))
        gate.order(gate.breaker.force_open)
        with pytest.raises(CircuitOpen) as caught:
            gate.enter()
    assert [("db", 20.0, ""), ("db", None, "half open, and its probes are out")] == said
    assert (None, "forced open") == (caught.value.retry_after, caught.value.why)
    assert 3 == gate.metrics().rejected


def test_slow_calls_are_timed() -> None:
    """By the clock, whether they return or raise; fast ones stay on the quick path."""
    with FakeClock() as clock:
        gate = make(SLOW)

        def call(seconds: float) -> None:
            clock.advance(seconds)
            if seconds == 7:
                raise KeyError
            if seconds == 8:
                raise ValueError

        guarded = guard(gate, call)
        for seconds in (1, 5, 6, 7, 8):
            with suppress(LookupError, ValueError):
                guarded(seconds)
        assert (4, 2, 0) == (gate.metrics().calls, gate.metrics().slow, gate.metrics().failures)


def test_slow_calls_open_it() -> None:
    """All of the window, and again as a probe."""
    with FakeClock() as clock:
        gate = make(SLOW)
        guarded = guard(gate, clock.advance)
        for _ in range(4):
            guarded(6)
        assert State.OPEN is gate.state()
        clock.advance(30)
        guarded(6)
        assert State.OPEN is gate.state()
        clock.advance(30)
        guarded(1)
        assert State.CLOSED is gate.state()


@pytest.mark.parametrize("plan", [PLAN, SLOW])
def test_a_stale_result_never_moves_it(plan: BreakerPlan) -> None:
    """Calls that began before it opened end after it: no failure reopens, no success closes, none counts."""
    with FakeClock() as clock:
        gate = make(plan)
        tickets: list[Any] = [gate.enter() for _ in range(4)]
        play(gate, *[OSError()] * 4)
        gate.on_success(tickets[0], 1)
        gate.on_failure(tickets[1], OSError())
        assert (State.OPEN, 30.0) == (gate.state(), gate.breaker.retry_after(clock.now()))
        clock.advance(30)
        probe: Any = gate.enter()
        gate.on_success(tickets[2], 1)
        gate.on_failure(tickets[3], OSError())
        assert (State.HALF_OPEN, 0) == (gate.state(), gate.metrics().calls)
        gate.on_success(probe, 1)
        assert State.CLOSED is gate.state()


def test_listeners_hear_the_changes_in_order() -> None:
    """And the rejections; by name."""
    heard: list[Event] = []
    with FakeClock() as clock:
        gate = opened(PLAN, heard.append)
        play(gate, 1)
        clock.advance(30)
        play(gate, OSError())
        clock.advance(30)
        play(gate, 1)
        for order in (gate.breaker.force_open, gate.breaker.disable, gate.breaker.metrics_only, gate.breaker.reset):
            gate.order(order)
    moves = [(event.before, event.after) for event in heard if isinstance(event, StateChanged)]
    seen = "closed open half_open open half_open closed forced_open disabled metrics_only closed"
    assert list(itertools.pairwise(seen.split())) == moves
    (rejected,) = [event for event in heard if isinstance(event, CallRejected)]
    assert ("db", "CircuitBreaker", 30.0) == (rejected.name, rejected.policy, rejected.retry_at)


def test_listeners_may_raise_and_call_back() -> None:
    """No lock is held while they run: they may read it, use it and give it orders."""
    seen: list[tuple[str, int]] = []

    def listener(event: Event) -> None:
        if isinstance(event, StateChanged):
            seen.append((str(gate.state()), gate.metrics().calls))
            if event.after == "open":
                with suppress(CircuitOpen):
                    gate.enter()
                gate.order(gate.breaker.reset)
            raise ValueError("a broken listener")

    gate = make(PLAN, None, listener)
    play(gate, OSError(), OSError(), 5)
    assert [("open", 2), ("closed", 0)] == seen
    assert (State.CLOSED, 1, 0) == (gate.state(), gate.metrics().calls, gate.metrics().rejected)


def test_no_lock_is_held_while_calls_run() -> None:
    """Four threads are in calls at the same time: they meet inside."""
    barrier = threading.Barrier(4)
    gate = make()
    call = guard(gate, lambda: barrier.wait(30))
    assert [] == together(4, lambda n: call())
    assert 4 == gate.metrics().calls


@pytest.mark.parametrize("slow_call", [None, 1e9])
def test_threads_lose_no_call(slow_call: float | None) -> None:
    """80,000 calls of eight threads, every tenth a failure, all in the window."""
    gate = make(replace(PLAN, window=100_000, min_calls=100_000, consecutive=None, slow_call=slow_call))
    call = guard(gate, answer)

    def work(n: int) -> None:
        for turn in range(10_000):
            if turn % 10 == 9:
                with suppress(OSError):
                    call(OSError())
            else:
                call(turn)

    assert [] == together(8, work)
    assert (80_000, 8_000, 0) == (gate.metrics().calls, gate.metrics().failures, gate.metrics().rejected)


def test_gates_in_front_of_one_breaker_share_its_lock() -> None:
    """What is shared by name is exact as well."""
    breaker = SharedBreaker(replace(PLAN, window=50_000, min_calls=50_000, consecutive=None), Chance())
    calls = [guard(CircuitBreakerGate(breaker, FailureJudges(judged, None), "db", ()), answer) for _ in range(4)]

    def work(n: int) -> None:
        for _ in range(5_000):
            with suppress(OSError):
                calls[n](OSError())

    assert [] == together(4, work)
    assert 20_000 == breaker.metrics(0.0).failures


@pytest.mark.parametrize("probes", [1, 3])
def test_of_ten_threads_exactly_the_probes_go_through(probes: int) -> None:
    """At the end of the open time; they all ask before any of them ends."""
    plan = replace(PLAN, probes=probes, open_for=backoff.constant(0))
    gate, inside, asked = opened(plan), threading.Semaphore(0), threading.Barrier(10)

    def call() -> None:
        inside.release()
        asked.wait(30)

    def work(n: int) -> None:
        try:
            guard(gate, call)()
        except CircuitOpen:
            asked.wait(30)
            raise

    raised = together(10, work)
    assert (probes, 10 - probes) == (inside._value, len(raised))
    assert {CircuitOpen} == {type(error) for error in raised}
    assert State.CLOSED is gate.state()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("probes", [1, 3])
def test_of_ten_tasks_exactly_the_probes_go_through(loop: str, probes: int) -> None:
    """The same on an event loop."""
    gate, went = opened(replace(PLAN, probes=probes, open_for=backoff.constant(0))), [0, 0]

    async def call() -> None:
        went[0] += 1
        while sum(went) < 10:
            await sleep(0)

    async def task() -> None:
        try:
            await guard(gate, call, Kind.ASYNC)()
        except CircuitOpen:
            went[1] += 1

    async def sleep(seconds: float) -> None:
        await (pytest.importorskip("trio") if loop == "trio" else asyncio).sleep(seconds)

    async def main() -> None:
        if loop == "trio":
            async with pytest.importorskip("trio").open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(task)
        else:
            await asyncio.gather(*(task() for _ in range(10)))

    run(loop, main)
    assert ([probes, 10 - probes], State.CLOSED) == (went, gate.state())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_probe_frees_its_place(loop: str) -> None:
    """And counts as nothing."""
    gate = opened(replace(PLAN, open_for=backoff.constant(0)))

    async def on_asyncio() -> None:
        task = asyncio.ensure_future(guard(gate, asyncio.sleep, Kind.ASYNC)(60))
        await asyncio.sleep(0)
        with pytest.raises(CircuitOpen):
            gate.enter()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def on_trio() -> None:
        import trio

        async with trio.open_nursery() as nursery:
            nursery.start_soon(guard(gate, trio.sleep, Kind.ASYNC), 60)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(CircuitOpen):
                gate.enter()
            nursery.cancel_scope.cancel()

    if loop == "trio":
        pytest.importorskip("trio.testing")
    run(loop, on_trio if loop == "trio" else on_asyncio)
    assert (State.HALF_OPEN, 0) == (gate.state(), gate.metrics().calls)
    play(gate, 1)
    assert State.CLOSED is gate.state()


def test_nobody_waits_at_it() -> None:
    """It has no queue to join."""
    with pytest.raises(AssertionError):
        asyncio.run(make().join())


def test_chance_is_the_present_clocks() -> None:
    """A breaker outlives the clocks of tests."""

    class Third:
        def random(self) -> float:
            return 1 / 3

    chance = Chance()
    assert 0 <= chance.random() < 1
    with FakeClock(rng=Third()):
        assert 1 / 3 == chance.random()


@pytest.mark.parametrize("plan", [PLAN, SLOW])
def test_errors_leave_no_cycles(plan: BreakerPlan) -> None:
    """The caller's own and rejections go with their last name."""

    def caught(call: Callable[..., object]) -> weakref.ref[BaseException]:
        try:
            call()
        except Exception as error:
            return weakref.ref(error)
        raise AssertionError

    def fails() -> None:
        raise Boom

    gate = make(plan)
    call = guard(gate, fails)
    gc.collect()
    gc.disable()
    try:
        assert [None] * 6 == [caught(call)() for _ in range(6)]
    finally:
        gc.enable()
    assert State.OPEN is gate.state()


def test_an_exit_out_of_a_listener_gives_the_probe_back() -> None:
    """The probe was admitted, but its call never began."""
    armed = [1]

    class Exit(BaseException):
        pass

    def leave(event: Event) -> None:
        if isinstance(event, StateChanged) and event.after == "half_open" and armed:
            armed.clear()
            raise Exit

    breaker = CircuitBreaker(consecutive=1, open_for=1, listeners=(leave,))
    with FakeClock() as clock:
        breaker.execute(Script("fail"))
        clock.advance(1)
        with pytest.raises(Exit):
            breaker.call(int)
        assert 0 == breaker.call(int)


def test_an_exit_out_of_a_listener_of_a_rejection_needs_nothing_back() -> None:
    """Nobody was admitted."""

    class Exit(BaseException):
        pass

    def leave(event: Event) -> None:
        if isinstance(event, StateChanged) and event.after == "half_open":
            breaker.force_open()
            raise Exit

    breaker = CircuitBreaker(consecutive=1, open_for=1, probes=1, listeners=(leave,))
    with FakeClock() as clock:
        breaker.execute(Script("fail"))
        clock.advance(1)
        with pytest.raises(Exit):
            breaker.call(int)
        assert "forced_open" == breaker.state


def test_a_rejection_tells_what_others_have_left_to_tell() -> None:
    """A move that another thread made, and has not told yet."""

    class Exit(BaseException):
        pass

    def leave(event: Event) -> None:
        if isinstance(event, StateChanged) and armed:
            raise Exit

    armed: list[int] = []
    breaker = CircuitBreaker(listeners=(leave,))
    breaker.force_open()
    armed.append(1)
    breaker.gate.breaker.moved.append((State.CLOSED, State.OPEN))
    with pytest.raises(Exit):
        breaker.call(int)
