"""The gates that learn: exact under threads, never above a limit, and as they decide without their short cuts."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from loops import LOOPS, run
from threads import together

from resilient.core.events import CallRejected, Event
from resilient.core.limits import AIMD, Gradient2
from resilient.drivers.adaptive import (
    UNTIMED,
    ConcurrencyGate,
    PacedGate,
    SharedClientRate,
    SharedConcurrency,
    SharedThrottle,
    ThrottleGate,
)
from resilient.drivers.circuit import Verdicts
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates import gated
from resilient.drivers.wrap import Kind
from resilient.errors import BulkheadFull, RateLimited, Throttled
from resilient.testing import FakeClock

EXITS = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]


class Boom(OSError):
    """One that can be watched as it goes."""


def says(error: Exception) -> bool | None:
    """TimeoutError: too much; ValueError: taken; a TypeError breaks the judge; anything else says nothing."""
    if isinstance(error, TypeError):
        raise RuntimeError("the judge is broken")
    return True if isinstance(error, TimeoutError) else False if isinstance(error, ValueError) else None


def bad(value: object) -> bool:
    """What a result says: below zero it was too much; a text breaks the judge."""
    if isinstance(value, str):
        raise RuntimeError("the judge is broken")
    return isinstance(value, int) and value < 0


SAYS, JUDGES = Verdicts(says, None), Verdicts(says, bad)


class Fixed:
    """A limit that stays, and what it was told."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.told: list[tuple[float, int, bool]] = []

    def sampled(self, rtt: float, inflight: int, dropped: bool) -> None:
        self.told.append((rtt, inflight, dropped))


def limiter(algorithm: Any, *listeners: Any, verdicts: Verdicts = SAYS) -> ConcurrencyGate:
    return ConcurrencyGate(SharedConcurrency(algorithm), verdicts, "db", listeners)


def throttle(k: float = 2, window: float = 120, min_calls: int = 0, *listeners: Any) -> ThrottleGate:
    return ThrottleGate(SharedThrottle(k, window, min_calls), SAYS, "db", listeners)


def paced(max_wait: float | None = None, *listeners: Any) -> PacedGate:
    return PacedGate(SharedClientRate(0.7, 0.4), SAYS, max_wait, "db", listeners)


def slow(max_wait: float | None = None, *listeners: Any) -> PacedGate:
    """One that was throttled, under the clock of the test: a call every two seconds."""
    gate = paced(max_wait, *listeners)
    gate.failed(gate.enter(), TimeoutError())
    assert 0.5 == gate.metrics().fill_rate
    return gate


def guard(gate: Any, call: Callable[..., Any], kind: Kind = Kind.SYNC) -> Callable[..., Any]:
    return gated(call, gate, gate, kind)


# The limiter


def test_as_many_run_as_may() -> None:
    """Who comes above the limit is told at once, and hears what it is."""
    heard: list[Event] = []
    gate = limiter(Fixed(3), heard.append)
    tickets = [gate.enter() for _ in range(3)]
    with pytest.raises(BulkheadFull, match=r"by 'db': 3 calls run, which is the limit now"):
        gate.enter()
    (event,) = heard
    assert isinstance(event, CallRejected)
    assert ("db", "AdaptiveLimiter", None) == (event.name, event.policy, event.retry_at)
    gate.passed(tickets[0], 1)
    gate.enter()
    assert (3, 3, 1, 1) == (
        gate.metrics().limit,
        gate.metrics().inflight,
        gate.metrics().succeeded,
        gate.metrics().rejected,
    )


def test_calls_near_the_limit_are_timed_each() -> None:
    """They are what moves it: with half of it in use, or more."""
    algorithm = Fixed(8)
    with FakeClock() as clock:
        gate = limiter(algorithm)
        tickets = [gate.enter() for _ in range(8)]
        clock.advance(2)
        for ticket in tickets:
            gate.passed(ticket, 1)
    assert [4, 5, 6, 7, 8] == [inflight for _, inflight, _ in algorithm.told if inflight >= 4]
    assert {(2.0, False)} == {(rtt, dropped) for rtt, _, dropped in algorithm.told}


def test_far_below_the_limit_few_calls_are_timed() -> None:
    """One, then at most so many untimed; all are counted."""
    algorithm = Fixed(1000)
    gate = limiter(algorithm)
    for _ in range(10 * (UNTIMED + 1)):
        gate.passed(gate.enter(), 1)
    assert (10, 160, 0) == (len(algorithm.told), gate.metrics().succeeded, gate.metrics().inflight)


@pytest.mark.parametrize("limit", [2, 100])
def test_drops_always_count(limit: int) -> None:
    """Timed or not."""
    algorithm = Fixed(limit)
    gate = limiter(algorithm)
    for _ in range(10):
        gate.failed(gate.enter(), TimeoutError())
    assert (10, True) == (gate.metrics().dropped, all(dropped for _, _, dropped in algorithm.told))


@pytest.mark.parametrize("limit", [2, 100])
@pytest.mark.parametrize("error", [*EXITS, KeyError, TypeError])
def test_what_says_nothing_gives_its_permit_back(limit: int, error: type[BaseException]) -> None:
    """Exits, cancellation, other errors, and those on which the judge breaks: no sample, no leak."""
    gate = limiter(Fixed(limit))

    def fails() -> None:
        raise error

    for _ in range(5):
        with pytest.raises(RuntimeError if error is TypeError else error):
            guard(gate, fails)()
    assert (0, 5, 0, 0) == (
        gate.metrics().inflight,
        gate.metrics().forgotten,
        gate.metrics().succeeded,
        gate.metrics().dropped,
    )


@pytest.mark.parametrize("limit", [2, 100])
def test_an_error_may_say_that_the_call_was_taken(limit: int) -> None:
    """It counts as a success."""
    gate = limiter(Fixed(limit))
    for _ in range(5):
        gate.failed(gate.enter(), ValueError())
    gate.forgotten(gate.enter())
    assert (0, 5, 0) == (gate.metrics().inflight, gate.metrics().succeeded, gate.metrics().forgotten)


@pytest.mark.parametrize("limit", [2, 100])
def test_a_returned_value_may_be_a_drop(limit: int) -> None:
    """It counts as an error would; one on which the judge breaks gives its permit back."""
    algorithm = Fixed(limit)
    gate = limiter(algorithm, verdicts=JUDGES)
    guarded = guard(gate, lambda value: value)
    assert [-1, 5, -2, 6] == [guarded(value) for value in (-1, 5, -2, 6)]
    for _ in range(3):
        with pytest.raises(RuntimeError, match="the judge is broken"):
            guarded("text")
    seen = gate.metrics()
    assert (0, 2, 2, 3) == (seen.inflight, seen.succeeded, seen.dropped, seen.forgotten)
    assert 2 == sum(dropped for _, _, dropped in algorithm.told)


@pytest.mark.parametrize("loop", LOOPS)
def test_calls_of_which_only_the_result_tells_are_counted_once(loop: str) -> None:
    """And timed, now and then, however far below the limit."""
    algorithm = Fixed(100)
    gate = limiter(algorithm)

    async def call() -> None: ...

    async def main() -> None:
        for _ in range(100):
            await guard(gate, lambda: call(), Kind.EITHER)()

    run(loop, main)
    seen = gate.metrics()
    assert (0, 100, 0) == (seen.inflight, seen.succeeded, seen.forgotten)
    assert len(algorithm.told) >= 100 // (UNTIMED + 1)


def test_a_limit_that_falls_holds_at_once() -> None:
    """Permits that were handed on in advance are taken back."""
    gate = limiter(AIMD(100, 1, 100, backoff_ratio=0.5))
    first = gate.enter()
    tickets = [first, *(gate.enter() for _ in range(4))]
    for _ in range(5):
        gate.failed(gate.enter(), TimeoutError())
    assert (3, 5) == (gate.metrics().limit, gate.metrics().inflight)
    with pytest.raises(BulkheadFull):
        gate.enter()
    for ticket in tickets:
        gate.passed(ticket, 1)
    assert 0 == gate.metrics().inflight
    gate.enter()


def test_slow_calls_one_after_the_other_are_all_noticed() -> None:
    """After a fall of the limit the next call is timed."""
    with FakeClock() as clock:
        gate = limiter(AIMD(100, 1, 100))
        for _ in range(3):
            guard(gate, clock.advance)(6)
    assert 72 == gate.metrics().limit


def test_a_restart_keeps_what_runs() -> None:
    """With another algorithm, counted from zero."""
    gate = limiter(Fixed(100))
    tickets = [gate.enter() for _ in range(3)]
    gate.passed(tickets[2], 1)
    gate.restart(Fixed(2))
    assert (2, 2, 0) == (gate.metrics().limit, gate.metrics().inflight, gate.metrics().succeeded)
    with pytest.raises(BulkheadFull):
        gate.enter()
    for ticket in tickets[:2]:
        gate.passed(ticket, 1)
    assert 0 == gate.metrics().inflight


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_a_crowd_of_threads_stays_below_the_limit(limit: int) -> None:
    """8 threads x 10,000 calls: exact totals, never more at once than may."""
    gate = limiter(Fixed(limit))
    running: list[int] = []
    most = [0] * 8
    rejected = [0] * 8

    def call(n: int, turn: int) -> None:
        running.append(n)
        most[n] = max(most[n], len(running))
        running.pop()
        if turn % 10 == 9:
            raise TimeoutError
        if turn % 10 == 8:
            raise KeyError

    call_guarded = guard(gate, call)

    def work(n: int) -> None:
        for turn in range(10_000):
            try:
                call_guarded(n, turn)
            except BulkheadFull:
                rejected[n] += 1
            except (TimeoutError, KeyError):
                pass

    assert [] == together(8, work)
    seen = gate.metrics()
    assert max(most) <= limit
    assert (0, sum(rejected)) == (seen.inflight, seen.rejected)
    assert 80_000 == seen.succeeded + seen.dropped + seen.forgotten + seen.rejected
    if limit == 100:
        assert (64_000, 8_000, 8_000, 0) == (seen.succeeded, seen.dropped, seen.forgotten, seen.rejected)


def test_gates_in_front_of_one_limiter_share_its_lock() -> None:
    """What is shared by name is exact as well; the algorithm is a real one, which moves."""
    machine = SharedConcurrency(Gradient2(20, 1, 200))
    gates = [ConcurrencyGate(machine, SAYS, "db", ()) for _ in range(4)]

    def work(n: int) -> None:
        for turn in range(5_000):
            with suppress(BulkheadFull):
                ticket = gates[n].enter()
                gates[n].passed(ticket, 1) if turn % 3 else gates[n].failed(ticket, TimeoutError())

    assert [] == together(4, work)
    seen = machine.metrics()
    assert (20_000, 0) == (
        seen.succeeded + seen.dropped + seen.rejected + len(machine.ended),
        gates[0].metrics().inflight,
    )


def test_four_threads_meet_inside() -> None:
    """No lock is held while user code runs."""
    barrier = threading.Barrier(4)
    for gate in (limiter(Fixed(4)), throttle(min_calls=10), paced()):
        assert [] == together(4, lambda n, gate=gate: guard(gate, lambda: barrier.wait(30))())  # type: ignore[misc]


class Permits(RuleBasedStateMachine):
    """A limiter with its passes, beside a plain set of what runs."""

    @initialize(limit=st.integers(1, 60))
    def begin(self, limit: int) -> None:
        self.algorithm = Fixed(limit)
        self.gate = limiter(self.algorithm)
        self.out: list[Any] = []
        self.ends = {"succeeded": 0, "dropped": 0, "forgotten": 0, "rejected": 0}

    @rule(count=st.integers(1, 20))
    def come(self, count: int) -> None:
        for _ in range(count):
            may = len(self.out) < self.algorithm.limit
            try:
                self.out.append(self.gate.enter())
            except BulkheadFull:
                self.ends["rejected"] += 1
                assert not may
            else:
                assert may

    @precondition(lambda self: self.out)
    @rule(data=st.data(), how=st.sampled_from(["succeeded", "dropped", "forgotten"]), fall=st.integers(0, 9))
    def ends_somehow(self, data: st.DataObject, how: str, fall: int) -> None:
        ticket = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.ends[how] += 1
        if how == "succeeded":
            self.gate.passed(ticket, 1)
        elif how == "forgotten":
            self.gate.failed(ticket, KeyboardInterrupt())
        else:
            limit = max(1, self.algorithm.limit - fall)
            self.algorithm.sampled = lambda *_: setattr(self.algorithm, "limit", limit)  # type: ignore[method-assign]
            self.gate.failed(ticket, TimeoutError())
            self.algorithm.sampled = lambda *_: None  # type: ignore[method-assign]

    @invariant()
    def numbers_agree(self) -> None:
        if hasattr(self, "gate"):
            handed_on = len(self.gate.machine.passes)
            assert len(self.out) + handed_on <= max(self.algorithm.limit, len(self.out))

    @rule()
    def is_looked_at(self) -> None:
        seen = self.gate.metrics()
        assert len(self.out) == seen.inflight
        assert self.ends == {name: getattr(seen, name) for name in self.ends}


TestPermits = Permits.TestCase


# The throttle


def test_rejects_what_would_be_rejected_there() -> None:
    """The more, the fewer are accepted; said in words, and told."""
    heard: list[Event] = []
    with FakeClock(rng=type("Low", (), {"random": lambda self: 0.4})()):
        gate = throttle(2, 120, 1, heard.append)
        gate.failed(gate.enter(), TimeoutError())
        with pytest.raises(Throttled, match=r"rejecting 67% of calls, as the other side accepts so few"):
            gate.enter()
        assert (2, 0, 1) == (gate.metrics().calls, gate.metrics().accepts, gate.metrics().rejected)
    (event,) = heard
    assert isinstance(event, CallRejected)
    assert ("db", "AdaptiveThrottle") == (event.name, event.policy)


@pytest.mark.parametrize("error", [*EXITS, KeyError, ValueError, TypeError])
def test_only_what_says_so_was_not_accepted(error: type[BaseException]) -> None:
    """A cancelled call must not look like a rejection, nor one on which the judge breaks."""

    def fails() -> None:
        raise error

    gate = throttle()
    with pytest.raises(RuntimeError if error is TypeError else error):
        guard(gate, fails)()
    assert (1, 1) == (gate.metrics().calls, gate.metrics().accepts)


def test_a_returned_value_may_be_a_rejection() -> None:
    """It is not accepted; one on which the judge breaks is."""
    gate = ThrottleGate(SharedThrottle(2, 120, 10), JUDGES, "db", ())
    guarded = guard(gate, lambda value: value)
    assert [-1, 5, None] == [guarded(value) for value in (-1, 5, None)]
    with pytest.raises(RuntimeError, match="the judge is broken"):
        guarded("text")
    assert (4, 3) == (gate.metrics().calls, gate.metrics().accepts)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("error", "accepts"), [(None, 1), (TimeoutError, 0), (KeyError, 1), (KeyboardInterrupt, 1)])
def test_a_coroutine_is_decided_on_once(loop: str, error: type[BaseException] | None, accepts: int) -> None:
    """When its call is made, not again when it is awaited."""
    gate = throttle()

    async def call() -> None:
        if error is not None:
            raise error

    async def main() -> None:
        with suppress(TimeoutError, KeyError, KeyboardInterrupt):
            await guard(gate, lambda: call(), Kind.EITHER)()

    run(loop, main)
    assert (1, accepts) == (gate.metrics().calls, gate.metrics().accepts)
    with pytest.raises(AssertionError):
        asyncio.run(gate.adopted.join())  # type: ignore[arg-type]  # it is a coroutine
    assert gate.adopted.ready()


def test_threads_lose_no_call_and_no_accept() -> None:
    """8 threads x 10,000, a tenth of them not accepted."""
    gate = throttle(min_calls=100)

    def work(n: int) -> None:
        for turn in range(10_000):
            ticket = gate.enter()
            if turn % 10:
                gate.passed(ticket, 1)
            else:
                gate.failed(ticket, TimeoutError())

    assert [] == together(8, work)
    assert (80_000, 72_000, 0) == (gate.metrics().calls, gate.metrics().accepts, gate.metrics().rejected)


def test_a_throttle_begins_again() -> None:
    """With nothing counted, passes included."""
    gate = throttle()
    for _ in range(9):
        gate.passed(gate.enter(), 1)
    gate.restart()
    assert (0, 0, 0) == (gate.metrics().calls, gate.metrics().accepts, gate.metrics().rejected)
    gate.passed(gate.enter(), 1)
    assert (1, 1) == (gate.metrics().calls, gate.metrics().accepts)


# The rate


def test_nothing_is_paced_before_the_first_throttle() -> None:
    """However much is sent."""
    with FakeClock() as clock:
        gate = paced()
        for _ in range(100):
            gate.passed(gate.enter(), 1)
        assert ([], False) == (clock.sleeps, gate.metrics().enabled)


def test_callers_wait_for_their_turn() -> None:
    """In the thread, by the clock."""
    with FakeClock() as clock:
        gate = slow()
        gate.enter()
        gate.enter()
        clock.advance(10)
        gate.enter()
        assert [2.0, 2.0] == clock.sleeps


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks_wait_for_their_turn(loop: str) -> None:
    """Without blocking their loop."""

    async def call() -> float:
        return clock.now()

    async def main() -> list[float]:
        guarded = guard(gate, call, Kind.ASYNC)
        return [await guarded() for _ in range(2)]

    with FakeClock() as clock:
        gate = paced()
        assert [0.0, 0.0] == run(loop, main)
        gate = slow()
        clock.advance(100)
        gate.enter()
        assert [102.0, 104.0] == run(loop, main)


def test_who_would_wait_too_long_is_rejected() -> None:
    """By ``max_wait`` or by the deadline around it; the token stays for others."""
    with FakeClock() as clock:
        gate = slow(3)
        gate.enter()
        token = DEADLINE.set(clock.now() + 1)
        with pytest.raises(RateLimited, match=r"its turn comes in 2 s, and it may wait 1 s") as caught:
            gate.enter()
        DEADLINE.reset(token)
        token = DEADLINE.set(clock.now() - 1)
        with pytest.raises(RateLimited, match=r"may wait 0 s"):
            gate.enter()
        DEADLINE.reset(token)
        assert (2.0, 0.0) == (caught.value.retry_after, gate.metrics().available)
        gate.machine.acquire(clock.now())
        with pytest.raises(RateLimited, match=r"its turn comes in 4 s, and it may wait 3 s"):
            gate.enter()


def test_a_deadline_limits_who_has_no_limit() -> None:
    """A later one does not."""
    with FakeClock() as clock:
        gate = slow()
        token = DEADLINE.set(clock.now() + 3)
        gate.enter()
        with pytest.raises(RateLimited):
            gate.machine.acquire(clock.now())
            gate.enter()
        DEADLINE.reset(token)
        gate = slow(1)
        token = DEADLINE.set(clock.now() + 60)
        with pytest.raises(RateLimited, match=r"may wait 1 s"):
            gate.enter()
        DEADLINE.reset(token)


def test_an_exit_while_waiting_gives_the_token_back() -> None:
    """Ctrl-C during the sleep."""

    class Interrupting(FakeClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    with Interrupting():
        gate = slow()
        before = gate.metrics().available
        with pytest.raises(KeyboardInterrupt):
            gate.enter()
    assert before == gate.metrics().available


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_while_waiting_gives_the_token_back(loop: str) -> None:
    """Also of a task."""

    async def on_asyncio() -> None:
        task = asyncio.ensure_future(gate.join())
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def on_trio() -> None:
        import trio

        with trio.CancelScope() as scope:
            scope.cancel()
            await gate.join()

    with FakeClock():
        gate = slow()
        before = gate.metrics().available
        run(loop, on_trio if loop == "trio" else on_asyncio)
        assert before == gate.metrics().available


def test_a_call_that_may_be_async_never_blocks_its_loop() -> None:
    """It is rejected where it would have to wait, and waits anywhere else."""

    async def main() -> None:
        gate = paced()
        assert gate.enter_soon() is False
        gate.failed(gate.enter_soon(), TimeoutError())
        with pytest.raises(RateLimited, match=r"may wait 0 s"):
            gate.enter_soon()
        gate.machine.returned(99)
        assert gate.enter_soon() is True

    asyncio.run(main())
    with FakeClock() as clock:
        gate = slow()
        assert gate.enter_soon() is True
        assert [2.0] == clock.sleeps


def test_a_turn_that_has_come_costs_no_wait() -> None:
    """Blocking or not."""
    with FakeClock() as clock:
        gate = slow()
        clock.advance(100)
        gate.enter()
        clock.advance(100)
        assert gate.ready() is None
        assert asyncio.run(gate.join())
        assert [] == clock.sleeps


@pytest.mark.parametrize("error", [*EXITS, KeyError])
def test_what_says_nothing_is_no_response(error: type[BaseException]) -> None:
    """Nothing is measured, and the token is not given back: the request was sent."""
    with FakeClock() as clock:
        gate = slow()
        clock.advance(100)
        ticket = gate.enter()
        before = gate.metrics()
        gate.failed(ticket, error())
        assert before == gate.metrics()
        gate.forgotten(True)
        gate.forgotten(False)
        assert before.available + 1 == gate.metrics().available


def test_responses_move_the_rate() -> None:
    """A throttle cuts it, an answer lets it grow, a restart lifts it."""
    with FakeClock() as clock:
        gate = slow()
        for _ in range(50):
            clock.advance(0.1)
            gate.passed(True, 1)
        grown = gate.metrics().fill_rate
        gate.failed(True, TimeoutError())
        assert gate.metrics().fill_rate < grown
        gate.failed(True, ValueError())
        gate.restart()
        assert (False, 0.0, 0.0) == (
            gate.metrics().enabled,
            gate.metrics().measured_rate,
            gate.metrics().fill_rate,
        )
        assert (0.7, 0.4) == (gate.machine.cubic.beta, gate.machine.cubic.scale)


def test_a_returned_value_may_be_a_throttle() -> None:
    """The rate falls; one on which the judge breaks teaches nothing."""
    with FakeClock():
        gate = PacedGate(SharedClientRate(0.7, 0.4), JUDGES, None, "db", ())
        guarded = guard(gate, lambda value: value)
        assert (5, False) == (guarded(5), gate.metrics().enabled)
        before = gate.metrics()
        with pytest.raises(RuntimeError, match="the judge is broken"):
            guarded("text")
        assert before == gate.metrics()
        assert (-1, True) == (guarded(-1), gate.metrics().enabled)


# All of them


def test_those_without_a_queue_have_nothing_to_join() -> None:
    """They admit or reject."""
    for gate in (limiter(Fixed(1)), throttle()):
        with pytest.raises(AssertionError):
            asyncio.run(gate.join())


def test_errors_leave_no_cycles() -> None:
    """Rejections, and what calls raise, go with their last name."""

    def fails() -> None:
        raise Boom

    def caught(call: Callable[..., object]) -> weakref.ref[BaseException]:
        try:
            call()
        except Exception as error:
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        with FakeClock(rng=type("Low", (), {"random": lambda self: 0.0})()):
            full, rejecting, pacing = limiter(Fixed(1)), throttle(), slow(1)
            calls = [guard(gate, fails) for gate in (full, rejecting, paced())]
            assert [None] * 3 == [caught(call)() for call in calls]
            full.enter()
            for _ in range(3):
                with suppress(Throttled):
                    rejecting.failed(rejecting.enter(), TimeoutError())
            assert [None] * 3 == [caught(gate.enter)() for gate in (full, rejecting, pacing)]  # type: ignore[attr-defined]
    finally:
        gc.enable()
