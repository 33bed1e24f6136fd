"""AIMD and Gradient2: laws over any calls, and one test a rule."""

import math
from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.limits import AIMD, ExponentialAverage, Gradient2, within

Limits: TypeAlias = AIMD | Gradient2
Make: TypeAlias = Callable[..., Limits]

anything = st.floats()  # not a number, infinite and negative ones too
durations = st.floats(1e-6, 1e3)
sizes = st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300)).map(sorted)
calls = st.lists(st.tuples(anything, st.integers(1, 300), st.booleans()), max_size=60)
both = pytest.mark.parametrize("make", [AIMD, Gradient2])


@both
@given(sizes=sizes, calls=calls)
def test_a_limit_stays_in_its_bounds(make: Make, sizes: list[int], calls: list[tuple[float, int, bool]]) -> None:
    """Whatever is sampled, strange durations too, the limit is a whole number between its bounds."""
    least, initial, most = sizes
    limits = make(initial, least, most)
    for rtt, inflight, dropped in calls:
        limits.sampled(rtt, inflight, dropped)
        assert isinstance(limits.limit, int)
        assert least <= limits.limit <= most


@both
@given(sizes=sizes, calls=calls, rtt=anything)
def test_a_drop_never_raises_a_limit(
    make: Make, sizes: list[int], calls: list[tuple[float, int, bool]], rtt: float
) -> None:
    """However short or long the dropped call was."""
    least, initial, most = sizes
    limits = make(initial, least, most)
    for call in calls:
        limits.sampled(*call)
    before = limits.limit
    limits.sampled(rtt, most, True)
    assert limits.limit <= before


@both
@given(calls=calls, rtt=anything)
def test_an_unused_limit_does_not_grow(make: Make, calls: list[tuple[float, int, bool]], rtt: float) -> None:
    """A call that started when less than half the limit ran raises nothing."""
    limits = make(20, 2, 300)
    for call in calls:
        limits.sampled(*call)
    before = limits.limit
    limits.sampled(rtt, (before - 1) // 2, False)
    assert limits.limit <= before


@both
def test_drops_lead_down_to_the_least(make: Make) -> None:
    """A service that answers nothing is asked little, however few calls it has."""
    limits = make(200, 2, 200)
    for _ in range(100):
        limits.sampled(1.0, 1, True)
    assert 2 == limits.limit


@both
def test_good_calls_lead_up_to_the_most(make: Make) -> None:
    """A service that keeps its pace is asked more."""
    limits = make(2, 2, 50)
    for _ in range(100):
        limits.sampled(0.01, limits.limit, False)
    assert 50 == limits.limit


@both
def test_a_drop_costs_a_share(make: Make) -> None:
    """Multiplicative decrease, by the ratio that is set."""
    limits = make(100, 2, 200, backoff_ratio=0.5)
    limits.sampled(1.0, 1, True)
    assert 50 == limits.limit


@both
@given(drops=st.lists(anything, max_size=20), rtt=durations)
def test_a_drops_duration_is_not_learned(make: Make, drops: list[float], rtt: float) -> None:
    """Two limiters that differ in nothing but how long their drops took go on alike."""
    one, other = make(100, 2, 200), make(100, 2, 200)
    for limits, took in ((one, drops), (other, [1.0] * len(drops))):
        for seconds in took:
            limits.sampled(seconds, 100, True)
            limits.sampled(rtt, 100, False)
    assert one.limit == other.limit


@pytest.mark.parametrize(
    ("rtt", "inflight", "limit"), [(5.0, 10, 21), (5.1, 10, 18), (5.1, 1, 18), (0.0, 10, 21), (1.0, 9, 20)]
)
def test_aimd_takes_slow_calls_for_drops(rtt: float, inflight: int, limit: int) -> None:
    """Beyond its timeout; a call in time raises the limit if half of it ran."""
    limits = AIMD(20, 1, 30)
    limits.sampled(rtt, inflight, False)
    assert limit == limits.limit


def test_gradient_shrinks_when_calls_take_longer_than_usual() -> None:
    """Beyond the tolerance, and for one call by no more than the smoothed half."""
    limits = Gradient2(100, 1, 200)
    for _ in range(10):
        limits.sampled(0.1, 1, False)
    limits.sampled(0.15, 100, False)
    assert 100 == limits.limit  # as long as tolerated, by the average that now contains it: room for the queue
    limits.sampled(100.0, 100, False)
    assert 91 == limits.limit  # 0.8 * 100.8 + 0.2 * (0.5 * 100.8 + 4)


def test_gradient_returns_to_short_calls_faster_than_it_forgets() -> None:
    """After a long time of load the average drifts back by a twentieth for each call, beside what it forgets."""
    limits = Gradient2(100, 1, 200, long_window=10**9)
    for _ in range(10):
        limits.sampled(10.0, 1, False)
    for _ in range(100):
        limits.sampled(1.0, 1, False)
    limits.sampled(4.0, 100, False)
    assert limits.limit < 100


@pytest.mark.parametrize("rtt", [0.0, -0.1, math.inf, math.nan])
def test_gradient_takes_no_notice_of_what_was_not_measured(rtt: float) -> None:
    """Neither the limit nor the average moves."""
    odd, plain = Gradient2(100, 1, 200), Gradient2(100, 1, 200)
    odd.sampled(rtt, 100, False)
    assert 100 == odd.limit
    for limits in (odd, plain):
        for took in (0.1, 0.2, 0.4, 0.8):
            limits.sampled(took, 100, False)
    assert plain.limit == odd.limit


@given(samples=st.lists(durations, min_size=1, max_size=50), window=st.integers(1, 100), warmup=st.integers(0, 20))
def test_an_average_lies_among_its_samples(samples: list[float], window: int, warmup: int) -> None:
    """Plain over the warm-up and, if there is one, between the smallest and the largest ever after."""
    average = ExponentialAverage(window, warmup)
    for n, sample in enumerate(samples, 1):
        value = average.add(sample)
        assert average.value == value
        if n <= warmup:
            assert math.fsum(samples[:n]) / n == pytest.approx(value)
        assert (min(samples) if warmup else 0.0) * 0.999999 <= value <= max(samples) * 1.000001


def test_an_average_cannot_overflow() -> None:
    """Not by the largest numbers there are."""
    average = ExponentialAverage(3, 2)
    assert [1.7e308] * 4 == [average.add(1.7e308) for _ in range(4)]


@pytest.mark.parametrize(("value", "kept"), [(0.5, 1), (1.0, 1), (1.5, 1.5), (2.0, 2), (2.5, 2)])
def test_within_keeps_to_the_nearer_limit(value: float, kept: float) -> None:
    """Values between the limits are left alone."""
    assert kept == within(1, value, 2)
