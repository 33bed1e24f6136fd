"""Permits and their fair queue."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.core.permits import Permits, PermitsMetrics


def test_no_more_calls_than_the_limit() -> None:
    """The limit is reached, and not passed."""
    permits = Permits(2)
    assert [True, True, False] == [permits.acquire() for _ in range(3)]
    assert (2, 0) == (permits.inflight, permits.available)


def test_a_permit_comes_back() -> None:
    """With nobody waiting it is free for the next."""
    permits = Permits(1)
    permits.acquire()
    assert permits.release() is None
    assert permits.acquire()


def test_a_permit_goes_straight_to_the_first_waiter() -> None:
    """It is held before anybody wakes, so no newcomer can snatch it."""
    permits = Permits(1)
    permits.acquire()
    permits.join("a")
    permits.join("b")
    assert ["a", False, "b", None] == [permits.release(), permits.acquire(), permits.release(), permits.release()]


def test_nobody_jumps_the_queue() -> None:
    """A permit that is free for an instant belongs to those who wait."""
    permits = Permits(0)
    permits.join("a")
    permits.limit = 1
    assert not permits.acquire()


@pytest.mark.parametrize(("queue", "joined"), [(0, 0), (2, 2), (None, 5)])
def test_the_queue_has_a_bound(queue: int | None, joined: int) -> None:
    """A full queue rejects, and says so beforehand; without a bound it never does."""
    permits = Permits(0, queue)
    assert joined == sum(permits.join(object()) for _ in range(5))
    assert (joined, 5 - joined, queue is not None) == (permits.queued, permits.rejected, permits.full)


def test_who_leaves_knows_whether_it_held_a_permit() -> None:
    """From the queue: no. Given one meanwhile: yes, and it must be released."""
    permits = Permits(1)
    permits.acquire()
    for name in "abc":
        permits.join(name)
    assert not permits.leave("b")
    assert "a" == permits.release()
    assert permits.leave("a")
    assert "c" == permits.release()
    assert 1 == permits.left


def test_a_higher_limit_wakes_waiters() -> None:
    """As many as there are new permits, in order."""
    permits = Permits(1)
    permits.acquire()
    for name in "abc":
        permits.join(name)
    assert ["a", "b"] == permits.resize(3)
    assert (3, 1) == (permits.inflight, permits.queued)


def test_a_lower_limit_interrupts_nobody() -> None:
    """Permits vanish as they come back, even though somebody waits."""
    permits = Permits(3)
    for _ in range(3):
        permits.acquire()
    permits.join("a")
    assert [] == permits.resize(1)
    assert (3, 0) == (permits.inflight, permits.available)
    assert [None, None, "a"] == [permits.release() for _ in range(3)]


def test_giving_back_twice_is_an_error() -> None:
    """A driver that does so would raise the limit."""
    with pytest.raises(RuntimeError, match="released a permit that nobody holds"):
        Permits(1).release()


def test_metrics_say_how_full_it_is() -> None:
    """Limit, in flight, available, queued, rejected, left."""
    permits = Permits(1, 2)
    permits.acquire()
    for name in "abc":
        permits.join(name)
    permits.leave("a")
    assert PermitsMetrics(limit=1, inflight=1, available=0, queued=1, rejected=1, left=1) == permits.metrics()


def test_a_reset_counts_from_zero() -> None:
    """Permits that are out stay out, and who waits keeps its place."""
    permits = Permits(1, 2)
    permits.acquire()
    for name in "abc":
        permits.join(name)
    permits.leave("a")
    permits.reset()
    assert PermitsMetrics(limit=1, inflight=1, available=0, queued=1, rejected=0, left=0) == permits.metrics()


@given(limit=st.integers(0, 5), count=st.integers(0, 30))
def test_everybody_is_served_in_the_order_of_arrival(limit: int, count: int) -> None:
    """Whoever waits gets a permit before whoever came later."""
    permits = Permits(limit)
    waiting = [number for number in range(count) if not permits.acquire() and permits.join(number)]
    served = [permits.release() for _ in range(count if limit else 0)]
    assert waiting[: len(served)] == [number for number in served if number is not None]


class Hall(RuleBasedStateMachine):
    """Any interleaving of callers that come, wait, leave and finish while the limit changes."""

    @initialize(limit=st.integers(0, 3), queue=st.none() | st.integers(0, 3))
    def opens(self, limit: int, queue: int | None) -> None:
        self.permits = Permits(limit, queue)
        self.queue = queue
        self.running = 0
        self.line: list[object] = []
        self.given: list[object] = []  # woken, not yet running
        self.rejected = 0

    @rule()
    def comes(self) -> None:
        free = not self.line and self.running + len(self.given) < self.permits.limit
        if self.permits.acquire():
            assert free
            self.running += 1
            return
        assert not free
        waiter = object()
        if self.permits.join(waiter):
            self.line.append(waiter)
        else:
            assert len(self.line) == self.queue
            self.rejected += 1

    @precondition(lambda self: self.given)
    @rule()
    def wakes(self) -> None:
        self.given.pop(0)
        self.running += 1

    @precondition(lambda self: self.running)
    @rule()
    def finishes(self) -> None:
        self.running -= 1
        self.comes_back()

    @precondition(lambda self: self.line or self.given)
    @rule(place=st.integers(0, 9))
    def gives_up(self, place: int) -> None:
        everybody = self.given + self.line
        waiter = everybody[place % len(everybody)]
        held = self.permits.leave(waiter)
        assert held == (waiter in self.given)
        (self.given if held else self.line).remove(waiter)
        if held:
            self.comes_back()

    @rule(limit=st.integers(0, 4))
    def resizes(self, limit: int) -> None:
        for waiter in self.permits.resize(limit):
            assert waiter is self.line.pop(0)
            self.given.append(waiter)

    def comes_back(self) -> None:
        woken = self.permits.release()
        if woken is not None:
            assert woken is self.line.pop(0)
            self.given.append(woken)

    @invariant()
    def permits_out_and_in_are_the_limit(self) -> None:
        seen = self.permits.metrics()
        out = self.running + len(self.given)
        assert out == seen.inflight
        assert max(seen.limit, out) == seen.available + out
        assert (len(self.line), self.rejected) == (seen.queued, seen.rejected)

    @invariant()
    def nobody_waits_while_a_permit_is_free(self) -> None:
        assert not (self.line and self.permits.available)


Hall.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestHall = Hall.TestCase
