"""Sliding windows of calls, against a list that forgets nothing."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient.core.window import BUCKETS, CountWindow, TimeWindow, Window

YEAR = 365 * 86_400.0

marks = st.tuples(st.booleans(), st.booleans())


def counts(window: Window) -> tuple[int, int, int]:
    return window.calls, window.failures, window.slow


def tally(calls: list[tuple[bool, bool]]) -> tuple[int, int, int]:
    return len(calls), sum(failed for failed, _ in calls), sum(slow for _, slow in calls)


@pytest.mark.parametrize("window", [CountWindow(3), TimeWindow(10)])
def test_begins_and_is_cleared_empty(window: Window) -> None:
    """Nothing counted, before the first call and after clear."""
    assert (0, 0, 0) == counts(window)
    window.add(0, True, True)
    window.clear()
    window.expire(0)
    assert (0, 0, 0) == counts(window)
    window.add(0, False, True)
    assert (1, 0, 1) == counts(window)


@given(calls=st.lists(marks, max_size=60), size=st.integers(1, 9))
def test_a_count_keeps_the_last_calls(calls: list[tuple[bool, bool]], size: int) -> None:
    """After each call the counts are those of the last ``size``."""
    window = CountWindow(size)
    for seen, (failed, slow) in enumerate(calls, 1):
        window.add(0.0, failed, slow)
        assert tally(calls[max(0, seen - size) : seen]) == counts(window)


@given(steps=st.lists(marks | st.integers(1, 12), max_size=40), size=st.integers(1, 9))
def test_successes_may_be_added_many_at_once(steps: list[tuple[bool, bool] | int], size: int) -> None:
    """As if they came one by one."""
    many, single = CountWindow(size), CountWindow(size)
    for step in steps:
        if isinstance(step, int):
            many.add_successes(step)
        else:
            many.add(0.0, *step)
        for mark in [(False, False)] * step if isinstance(step, int) else [step]:
            single.add(0.0, *mark)
        assert counts(single) == counts(many)


@given(steps=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=30))
def test_successes_of_one_instant_may_be_added_at_once(steps: list[tuple[float, int]]) -> None:
    """The same of a timed window."""
    many, single, now = TimeWindow(10), TimeWindow(10), 0.0
    for pause, count in steps:
        now += pause
        many.add_successes(now, count)
        for _ in range(count):
            single.add(now, False, False)
        assert counts(single) == counts(many)


@given(adds=st.lists(st.floats(0, 5), min_size=1, max_size=20), share=st.floats(0, 0.99))
def test_nothing_expires_while_it_is_settled(adds: list[float], share: float) -> None:
    """Until the instant it names; an empty one has nothing that could."""
    window, now = TimeWindow(10), 0.0
    assert math.inf == window.settled_until
    for pause in adds:
        now += pause
        window.add(now, True, False)
    before, until = counts(window), window.settled_until
    assert now < until
    window.expire(now + (until - now) * share)
    assert before == counts(window)


def test_a_count_does_not_age() -> None:
    """Only calls push calls out."""
    window = CountWindow(3)
    window.add(0, True, False)
    window.expire(YEAR)
    assert (1, 1, 0) == counts(window)


def test_a_large_count_costs_no_memory_before_its_calls() -> None:
    """The ring grows with the calls."""
    window = CountWindow(10**15)
    window.add(0, True, False)
    assert (1, 1, 0) == counts(window)


def test_a_call_is_forgotten_when_its_bucket_is_as_old_as_the_window() -> None:
    """At 0.9 of the window at the earliest, at the whole window at the latest."""
    window = TimeWindow(10)
    window.add(0.0, True, False)
    window.add(0.75, False, True)
    window.expire(9.75)
    assert (2, 1, 1) == counts(window)
    window.expire(10.0)
    assert (0, 0, 0) == counts(window)


def test_a_bucket_begins_with_its_first_call() -> None:
    """A call long after the last bucket's time opens a bucket of its own."""
    window = TimeWindow(10)
    for now in (0.5, 1.5, 9.0):
        window.add(now, False, False)
    window.expire(10.5)
    assert 2 == window.calls
    window.expire(18.75)
    assert 1 == window.calls


@given(now=st.floats(0, 1e7), seconds=st.floats(0.001, 1e5))
def test_its_length_is_exact_for_a_clock_that_adds_it(now: float, seconds: float) -> None:
    """No rounding keeps a call that is as old as the window."""
    window = TimeWindow(seconds)
    window.add(now, True, False)
    window.expire(now + seconds)
    assert 0 == window.calls


def test_a_year_of_idleness_is_forgotten_at_once() -> None:
    """The next call finds nothing before it."""
    window = TimeWindow(10)
    window.add(0, True, True)
    window.add(YEAR, False, False)
    assert (1, 0, 0) == counts(window)


def test_a_clock_a_little_behind_counts_for_the_newest_bucket() -> None:
    """Nothing is lost, and nothing is forgotten early or late."""
    window = TimeWindow(10)
    window.add(5.0, True, False)
    window.add(4.5, True, False)
    window.expire(4.0)
    assert (2, 2, 0) == counts(window)
    window.expire(15.0)
    assert (0, 0, 0) == counts(window)


def test_a_clock_behind_an_expiry_counts_again() -> None:
    """After everything has expired an instant before that is as good as any."""
    window = TimeWindow(10)
    window.add(0.0, True, False)
    window.expire(10.0)
    window.add(9.99, True, False)
    assert (1, 1, 0) == counts(window)


def test_another_clock_begins_anew() -> None:
    """What was counted on a clock far ahead, such as a fake one, would never expire: it is forgotten."""
    window = TimeWindow(10)
    window.add(1e9, True, True)
    window.add(3.0, False, False)
    assert (1, 0, 0) == counts(window)


@given(
    seconds=st.floats(5e-324, 1e300),
    steps=st.lists(st.floats(-1e300, 1e300), max_size=30),
)
def test_no_instant_and_no_length_breaks_it(seconds: float, steps: list[float]) -> None:
    """No overflow, no negative count, and never more buckets than its length has room for."""
    window = TimeWindow(seconds)
    for now in steps:
        window.add(now, True, True)
        assert window.calls >= 1
        assert window.calls == window.failures == window.slow
        assert len(window._buckets) <= BUCKETS + 1


class Sliding(RuleBasedStateMachine):
    """A timed window and the list of all its calls; instants are binary fractions, so that they are exact."""

    @initialize()
    def begin(self) -> None:
        self.window = TimeWindow(10)
        self.now = 0.0
        self.seen: list[tuple[float, bool, bool]] = []

    @rule(quarters=st.integers(0, 60))
    def passes(self, quarters: int) -> None:
        self.now += quarters / 4

    @rule(mark=marks)
    def called(self, mark: tuple[bool, bool]) -> None:
        self.window.add(self.now, *mark)
        self.seen.append((self.now, *mark))

    @rule()
    def cleared(self) -> None:
        self.window.clear()
        self.seen.clear()

    @invariant()
    def counts_lie_between_nine_tenths_and_the_whole(self) -> None:
        self.window.expire(self.now)
        surely = tally([(failed, slow) for at, failed, slow in self.seen if self.now - at <= 9])
        at_most = tally([(failed, slow) for at, failed, slow in self.seen if self.now - at < 10])
        for low, count, high in zip(surely, counts(self.window), at_most, strict=True):
            assert low <= count <= high


TestSliding = Sliding.TestCase
