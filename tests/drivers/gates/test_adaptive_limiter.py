"""The limiter's gate: exact under threads, never above a limit, and every drop counts."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from adaptive_gates import EXITS, JUDGES, SAYS, Fixed, guard, limiter
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from loops import LOOPS, run
from threads import together

from resilient.core.events import CallRejected, Event
from resilient.core.limits import AIMD, Gradient2
from resilient.drivers.gates.adaptive_limiter import UNTIMED, AdaptiveLimiterGate, SharedConcurrency
from resilient.drivers.wrapping.kind import Kind
from resilient.errors import BulkheadFull
from resilient.testing import FakeClock


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
    gate.on_success(tickets[0], 1)
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
            gate.on_success(ticket, 1)
    assert [4, 5, 6, 7, 8] == [inflight for _, inflight, _ in algorithm.told if inflight >= 4]
    assert {(2.0, False)} == {(rtt, dropped) for rtt, _, dropped in algorithm.told}


def test_far_below_the_limit_few_calls_are_timed() -> None:
    """One, then at most so many untimed; all are counted."""
    algorithm = Fixed(1000)
    gate = limiter(algorithm)
    for _ in range(10 * (UNTIMED + 1)):
        gate.on_success(gate.enter(), 1)
    assert (10, 160, 0) == (len(algorithm.told), gate.metrics().succeeded, gate.metrics().inflight)


@pytest.mark.parametrize("limit", [2, 100])
def test_drops_always_count(limit: int) -> None:
    """Timed or not."""
    algorithm = Fixed(limit)
    gate = limiter(algorithm)
    for _ in range(10):
        gate.on_failure(gate.enter(), TimeoutError())
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
        gate.on_failure(gate.enter(), ValueError())
    gate.release(gate.enter())
    assert (0, 5, 0) == (gate.metrics().inflight, gate.metrics().succeeded, gate.metrics().forgotten)


@pytest.mark.parametrize("limit", [2, 100])
def test_a_returned_value_may_be_a_drop(limit: int) -> None:
    """It counts as an error would; one on which the judge breaks gives its permit back."""
    algorithm = Fixed(limit)
    gate = limiter(algorithm, judges=JUDGES)
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
        gate.on_failure(gate.enter(), TimeoutError())
    assert (3, 5) == (gate.metrics().limit, gate.metrics().inflight)
    with pytest.raises(BulkheadFull):
        gate.enter()
    for ticket in tickets:
        gate.on_success(ticket, 1)
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
    gate.on_success(tickets[2], 1)
    gate.restart(Fixed(2))
    assert (2, 2, 0) == (gate.metrics().limit, gate.metrics().inflight, gate.metrics().succeeded)
    with pytest.raises(BulkheadFull):
        gate.enter()
    for ticket in tickets[:2]:
        gate.on_success(ticket, 1)
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
    gates = [AdaptiveLimiterGate(machine, SAYS, "db", ()) for _ in range(4)]

    def work(n: int) -> None:
        for turn in range(5_000):
            with suppress(BulkheadFull):
                ticket = gates[n].enter()
                gates[n].on_success(ticket, 1) if turn % 3 else gates[n].on_failure(ticket, TimeoutError())

    assert [] == together(4, work)
    seen = machine.metrics()
    assert (20_000, 0) == (
        seen.succeeded + seen.dropped + seen.rejected + len(machine.ended),
        gates[0].metrics().inflight,
    )


def test_nobody_waits_for_a_permit() -> None:
    """A limiter admits or rejects."""
    with pytest.raises(AssertionError, match="nobody waits"):
        asyncio.run(limiter(Fixed(1)).join())  # type: ignore[arg-type]  # it is a coroutine


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
            self.gate.on_success(ticket, 1)
        elif how == "forgotten":
            self.gate.on_failure(ticket, KeyboardInterrupt())
        else:
            limit = max(1, self.algorithm.limit - fall)
            self.algorithm.sampled = lambda *_: setattr(self.algorithm, "limit", limit)  # type: ignore[method-assign]
            self.gate.on_failure(ticket, TimeoutError())
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
