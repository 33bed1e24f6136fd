"""A rate of calls: the schedule and its fair queue."""

from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.core.rate import LONGEST, OTHER_CLOCK, SHORTEST, SLACK, Rate, RateMetrics


def test_a_burst_then_one_an_interval() -> None:
    """After idleness the burst starts at once; then calls follow each other by the interval."""
    rate = Rate(2, 1, 3)
    assert [0.0, 0.0, 0.0, 0.5] == [rate.take(10.0) for _ in range(4)]
    assert [0.0, 0.5] == [rate.take(10.5) for _ in range(2)]


def test_a_refused_call_takes_nothing() -> None:
    """Asking too early, however often, does not put the slot off."""
    rate = Rate(1, 1, 1)
    rate.take(0.0)
    assert [0.75] * 5 == [rate.take(0.25) for _ in range(5)]
    assert 0.0 == rate.take(1.0)


def test_idleness_saves_up_no_more_than_the_burst() -> None:
    """A long idle time is worth the burst."""
    rate = Rate(1, 1, 2)
    rate.take(0.0)
    assert [0.0, 0.0, 1.0] == [rate.take(1000.0) for _ in range(3)]


@pytest.mark.parametrize("start", [0.0, 0.1, 12345.678, 1e9])
def test_ten_thousand_grants_do_not_drift(start: float) -> None:
    """Whoever sleeps as told ends exactly at the last slot, and needs no second sleep for a slot."""
    rate, now = Rate(3, 1, 1), start
    rate.take(now)
    for _ in range(10_000):
        now += rate.take(now)
        assert 0.0 == rate.take(now)
    assert pytest.approx(10_000 / 3, rel=1e-9) == now - start


def test_a_call_early_by_the_rounding_of_a_clock_is_on_time() -> None:
    """Else it would sleep again, for next to nothing."""
    rate = Rate(1, 1, 1)
    rate.take(0.0)
    assert 0.0 == rate.take(1.0 - SLACK / 2)
    assert rate.take(2.0 - SLACK * 2) > 0.0


@pytest.mark.parametrize(("calls", "per", "interval"), [(1e300, 1.0, SHORTEST), (1e-300, 1e300, LONGEST)])
def test_absurd_rates_stay_finite(calls: float, per: float, interval: float) -> None:
    """No interval is zero or infinite, nor is any wait."""
    rate = Rate(calls, per, 5)
    waits = [rate.take(0.0) for _ in range(7)]
    assert interval == rate.interval
    assert all(0.0 <= wait <= 2 * LONGEST for wait in waits)


def test_a_clock_slightly_back_only_waits_a_little_longer() -> None:
    """The wait grows by what the clock lost, and nothing else happens."""
    rate = Rate(1, 1, 1)
    rate.take(100.0)
    assert pytest.approx(1.25) == rate.take(99.75)
    assert 0.0 == rate.take(101.0)


def test_another_clock_begins_anew() -> None:
    """The instants of another clock, a fake one for instance, mean nothing: the limiter is as good as idle."""
    rate = Rate(2, 1, 3)
    rate.take(1e9)
    assert [0.0, 0.0, 0.0, 0.5] == [rate.take(3.0) for _ in range(4)]


def test_a_look_at_the_clock_long_ago_owes_an_interval() -> None:
    """A thread that comes late with its instant gets no burst of its own."""
    rate = Rate(100, 1, 1)
    assert 0.0 == rate.take(10.0)
    assert 0.51 == pytest.approx(rate.take(9.5))


def test_a_look_at_the_clock_long_ago_grants_no_slot_twice() -> None:
    """The schedule does not move for a thread that read the clock before its turn."""
    rate = Rate(1000, 1, 100)
    assert 100 == sum(rate.take(10.0) == 0.0 for _ in range(200))
    assert 50 == sum(rate.take(10.05) == 0.0 for _ in range(200))
    rate.take(10.0)
    assert 0 == sum(rate.take(10.05) == 0.0 for _ in range(200))


def test_nobody_jumps_the_queue() -> None:
    """While somebody waits, a newcomer gets nothing even at the instant of the slot; only the head does."""
    rate = Rate(1, 1, 1)
    rate.take(0.0)
    assert [True, False] == [rate.join("a"), rate.join("b")]
    assert rate.take(1.0) > 0.0
    assert [inf, 0.0] == [rate.turn("b", 1.0), rate.turn("a", 1.0)]
    assert rate.take(500.0) > 0.0


def test_slots_are_given_in_the_order_of_arrival() -> None:
    """Each head sleeps until its slot, and leaving wakes the next."""
    rate, now, served = Rate(1, 1, 1), 0.0, []
    rate.take(now)
    for name in "abc":
        rate.join(name)
    head: object | None = "a"
    while head:
        now += rate.turn(head, now)
        assert 0.0 == rate.turn(head, now)
        served.append((head, now))
        head = rate.leave(head)
    assert [("a", 1.0), ("b", 2.0), ("c", 3.0)] == served


def test_the_expected_wait_counts_those_ahead() -> None:
    """One interval for each of them, from the next slot on."""
    rate = Rate(1, 1, 2)
    assert 0.0 == rate.expected_wait(0.0)
    rate.take(0.0)
    assert 0.0 == rate.expected_wait(0.0)
    rate.take(0.0)
    assert 1.0 == rate.expected_wait(0.0)
    rate.join("a")
    rate.join("b")
    assert [3.0, 2.5] == [rate.expected_wait(0.0), rate.expected_wait(0.5)]
    assert 3.0 == rate.take(0.0)


def test_who_leaves_the_head_names_the_next_to_wake() -> None:
    """Only a change of the head wakes anybody, and a cancelled waiter costs no slot."""
    rate = Rate(1, 1, 1)
    rate.take(0.0)
    for name in "abc":
        rate.join(name)
    assert [None, "c", None] == [rate.leave("b"), rate.leave("a"), rate.leave("a")]
    assert 1.0 == rate.turn("c", 0.0)
    assert rate.leave("c") is None
    assert rate.head is None


def test_a_call_that_never_started_gives_its_slot_back() -> None:
    """The next call comes as if it had never been granted, and so may the one before."""
    rate = Rate(1, 1, 2)
    rate.take(0.0)
    rate.take(0.0)
    assert rate.cancelled(2) is None
    assert (1, 1.0) == (rate.granted, rate.available(0.0))
    rate.cancelled(1)
    assert [0.0, 0.0, 1.0] == [rate.take(0.0) for _ in range(3)]


def test_a_slot_with_later_ones_on_top_stays_used() -> None:
    """Else those would come too close to the next."""
    rate = Rate(1, 1, 2)
    rate.take(0.0)
    rate.take(0.0)
    rate.cancelled(1)
    assert (2, 1.0) == (rate.granted, rate.take(0.0))


def test_a_slot_of_an_idle_time_ago_is_back_already() -> None:
    """A schedule that started afresh has nothing more to give back."""
    rate = Rate(1, 1, 1)
    rate.take(0.0)
    rate.take(100.0)
    rate.cancelled(2)
    rate.cancelled(1)
    assert [0.0, 1.0] == [rate.take(100.0), rate.take(100.0)]


def test_a_slot_given_back_wakes_the_head() -> None:
    """Its own slot is earlier now."""
    rate = Rate(1, 1, 1)
    rate.take(0.0)
    rate.join("a")
    assert "a" == rate.cancelled(1)
    assert 0.0 == rate.turn("a", 0.0)


def test_a_reset_begins_anew() -> None:
    """The schedule is fresh, the counts are zero, the queue stays; a slot of before cannot come back."""
    rate = Rate(1, 1, 2)
    rate.take(0.0)
    before = rate.granted
    rate.take(0.0)
    rate.rejected += 1
    rate.join("a")
    assert "a" == rate.reset()
    assert RateMetrics(granted=0, rejected=0, queued=1, available=2.0) == rate.metrics(0.0)
    rate.cancelled(before)
    assert 0.0 == rate.turn("a", 0.0)
    assert 1 == rate.metrics(0.0).granted


def test_metrics_say_what_happened() -> None:
    """Granted, rejected, queued, available."""
    rate = Rate(1, 1, 4)
    rate.take(0.0)
    rate.take(0.0)
    rate.join("a")
    rate.rejected += 1
    assert RateMetrics(granted=2, rejected=1, queued=1, available=2.5) == rate.metrics(0.5)
    assert 4.0 == rate.metrics(99.0).available


@given(
    calls=st.floats(0.01, 1000),
    burst=st.integers(1, 9),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=60),
    start=st.floats(0, 1e6),
)
def test_no_window_holds_more_than_its_share(calls: float, burst: int, gaps: list[float], start: float) -> None:
    """Between any two grants there are at most burst + elapsed / interval, whatever the arrivals."""
    rate, now, grants = Rate(calls, 1, burst), start, []
    for gap in gaps:
        now += gap * rate.interval
        if rate.take(now) == 0.0:
            grants.append(now)
    for first, begin in enumerate(grants):
        for last, end in enumerate(grants[first:], 1):
            assert last <= burst + (end - begin) / rate.interval + 0.01, (first, last)


@given(
    calls=st.floats(1e-6, 1e6),
    burst=st.integers(1, 100),
    instants=st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60),
)
def test_waits_are_bounded_whatever_the_clock_does(calls: float, burst: int, instants: list[float]) -> None:
    """Even a clock that jumps back and forth never makes a wait negative or longer than two intervals and a second."""
    rate = Rate(calls, 1, burst)
    for now in instants:
        assert 0.0 <= rate.take(now) <= 2 * rate.interval + OTHER_CLOCK + 1e-6
        assert 0.0 <= rate.available(now) <= burst
        assert 0.0 <= rate.expected_wait(now) <= 2 * rate.interval + OTHER_CLOCK + 1e-6


class Queue(RuleBasedStateMachine):
    """Callers that come, wait, wake, give up and give back, against a plain list."""

    @initialize(calls=st.sampled_from([1.0, 3.0, 7.0]), burst=st.integers(1, 4))
    def begins(self, calls: float, burst: int) -> None:
        self.rate = Rate(calls, 1, burst)
        self.now = 1000.0
        self.line: list[object] = []
        self.grants: list[float] = []

    @rule(intervals=st.sampled_from([0.0, 0.25, 1.0, 5.0]))
    def time_passes(self, intervals: float) -> None:
        self.now += intervals * self.rate.interval

    @rule()
    def comes(self) -> None:
        expected = self.rate.expected_wait(self.now)
        if self.rate.take(self.now) == 0.0:
            assert not self.line, "jumped the queue"
            assert 0.0 == expected
            self.grants.append(self.now)
        else:
            waiter = object()
            assert self.rate.join(waiter) == (not self.line)
            self.line.append(waiter)

    @precondition(lambda self: self.line)
    @rule(place=st.integers(0, 9))
    def asks(self, place: int) -> None:
        waiter = self.line[place % len(self.line)]
        wait = self.rate.turn(waiter, self.now)
        if waiter is not self.line[0]:
            assert inf == wait
        elif wait == 0.0:
            self.grants.append(self.now)
            self.leaves(waiter)
        else:
            assert 0.0 < wait <= self.rate.interval * 1.001

    @precondition(lambda self: self.line)
    @rule(place=st.integers(0, 9))
    def gives_up(self, place: int) -> None:
        self.leaves(self.line[place % len(self.line)])

    @precondition(lambda self: self.grants)
    @rule()
    def never_starts(self) -> None:
        woken = self.rate.cancelled(self.rate.granted)
        if woken is None and self.rate.granted == len(self.grants):
            return
        self.grants.pop()
        assert woken is (self.line[0] if self.line else None)

    def leaves(self, waiter: object) -> None:
        led = waiter is self.line[0]
        self.line.remove(waiter)
        assert self.rate.leave(waiter) is (self.line[0] if led and self.line else None)

    @invariant()
    def the_numbers_agree(self) -> None:
        seen = self.rate.metrics(self.now)
        assert (len(self.grants), len(self.line)) == (seen.granted, seen.queued)
        assert 0.0 <= seen.available <= self.rate.burst

    @invariant()
    def the_rate_is_kept(self) -> None:
        for first, begin in enumerate(self.grants):
            assert len(self.grants) - first <= self.rate.burst + (self.now - begin) / self.rate.interval + 1 + 0.01


Queue.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestQueue = Queue.TestCase
