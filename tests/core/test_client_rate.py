"""The client's own speed limit: nothing before the first throttle, then a bucket that follows CUBIC."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient.core.client_rate import ClientRate, ClientRateMetrics, Cubic

instants = st.floats(0, 1e6)
steps = st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=60)


def throttled(at: float = 2.0) -> ClientRate:
    """In force since the first response: fill rate and capacity at their minima, the bucket empty."""
    rate = ClientRate()
    rate.acquire(0.0)
    rate.responded(at, True)
    return rate


@given(steps=steps)
def test_nothing_is_limited_before_the_first_throttle(steps: list[tuple[float, bool]]) -> None:
    """However much is sent."""
    rate, now = ClientRate(), 0.0
    for pause, _ in steps:
        now += pause
        assert 0.0 == rate.acquire(now, 1000)
        rate.responded(now, False)
    assert not rate.enabled


def test_a_throttle_brings_it_into_force() -> None:
    """At beta of the measured rate, or the least there is."""
    rate = throttled()
    assert (True, 0.5, 1.0) == (rate.enabled, rate.fill_rate, rate.capacity)
    assert pytest.approx(0.4) == rate.measured_rate


@pytest.mark.parametrize(("measured", "allowed", "left"), [(100.0, 5.0, 3.5), (4.0, 5.0, 2.8)])
def test_a_later_throttle_cuts_the_lower_rate(measured: float, allowed: float, left: float) -> None:
    """Of what is measured and what is allowed: what was sent before the limit is no measure for it."""
    rate = throttled()
    rate.measured_rate, rate.fill_rate = measured, allowed
    rate.responded(2.0, True)
    assert pytest.approx(left) == rate.fill_rate


def test_callers_wait_in_the_order_in_which_they_ask() -> None:
    """Each a token later than the one before, whether it asked earlier or just now."""
    rate = throttled()
    assert [2.0, 4.0, 6.0] == [rate.acquire(2.0) for _ in range(3)]
    assert 7.0 == rate.acquire(3.0)
    assert 0.0 == rate.acquire(12.0)


def test_dearer_requests_take_more() -> None:
    """More than the capacity is only a longer wait."""
    assert 10.0 == throttled().acquire(2.0, 5.0)


def test_returned_tokens_shorten_the_next_wait() -> None:
    """A waiter that leaves gives back its place; never more than the capacity is saved up."""
    rate = throttled()
    assert (2.0, 4.0) == (rate.acquire(2.0), rate.acquire(2.0))
    rate.returned()
    assert 4.0 == rate.acquire(2.0)
    rate.returned(100.0)
    assert 1.0 == rate.available


def test_what_is_saved_up_has_a_limit() -> None:
    """A long pause fills the bucket, and a lower rate takes the rest away."""
    rate = throttled()
    rate.fill_rate = rate.capacity = 8.0
    rate.acquire(100.0, 1.0)
    assert 7.0 == rate.available
    rate.responded(100.0, True)
    assert (rate.capacity, True) == (rate.available, rate.capacity < 7.0)


def test_successes_bring_the_rate_back() -> None:
    """Beta of the maximum at once, the maximum after k, more beyond."""
    cubic = Cubic()
    assert 7.0 == cubic.throttled(3.0, 10.0)
    rates = [cubic.grown(3.0 + cubic.k * share) for share in (0.0, 0.5, 1.0, 2.0)]
    assert [pytest.approx(rate) for rate in (7.0, 9.625, 10.0, 13.0)] == rates


@given(rate=st.floats(0, 1e9), beta=st.floats(0.01, 0.99), scale=st.floats(0.01, 100), ages=st.lists(instants))
def test_the_curve_never_falls(rate: float, beta: float, scale: float, ages: list[float]) -> None:
    """From beta of the maximum upwards."""
    cubic = Cubic(beta, scale)
    floor = cubic.throttled(0.0, rate)
    assert pytest.approx(floor, abs=1e-6) == cubic.grown(0.0)
    rates = [cubic.grown(age) for age in sorted(ages)]
    assert rates == sorted(rates)


def test_the_curve_ends_in_infinity() -> None:
    """A very long time overflows nothing, and still counts at most twice the measured rate."""
    rate = throttled()
    rate.responded(1e200, False)
    assert inf == rate.cubic.grown(1e200)
    assert 0.5 == rate.fill_rate


def test_a_late_thread_does_no_harm() -> None:
    """An instant a little before the last one brings no tokens, and is not counted twice."""
    rate = throttled()
    rate.acquire(10.0)
    left = rate.available
    assert 2.0 == rate.acquire(9.0)
    rate.responded(9.5, False)
    assert left - 1.0 == rate.available
    assert 3.0 == rate.acquire(11.0)


def test_another_clock_starts_anew() -> None:
    """Rates stay in force; time goes on from there."""
    rate = throttled(1e6)
    assert 2.0 == rate.acquire(3.0)
    assert 0.0 == rate.acquire(7.0)
    rate.responded(8.0, False)
    assert (True, True) == (rate.enabled, rate.measured_rate > 0)


def test_time_starts_with_a_response_too() -> None:
    """Whoever did not ask before is measured from there on."""
    rate = ClientRate()
    rate.responded(100.2, False)
    rate.responded(101.0, False)
    assert pytest.approx(1.6) == rate.measured_rate


def test_its_metrics_are_its_rates() -> None:
    """As of the last step: before the first throttle, and after it."""
    assert ClientRateMetrics(False, 0.0, 0.0, 0.0) == ClientRate().metrics()
    rate = throttled()
    rate.acquire(2.0)
    assert ClientRateMetrics(True, 0.5, pytest.approx(0.4), -1.0) == rate.metrics()


def test_constants_are_parameters() -> None:
    """Each of them is heeded."""
    rate = ClientRate(beta=0.5, scale=1, smooth=1, interval=1, headroom=3, min_fill_rate=0.25, min_capacity=2)
    rate.acquire(0.0)
    rate.responded(0.9, False)
    assert (0.25, 2) == (rate.fill_rate, rate.capacity)
    rate.responded(2.0, False)
    assert (1.0, 3.0) == (rate.measured_rate, rate.fill_rate)
    rate.responded(3.0, True)
    assert (1.0, 0.5, 0.5, 1.0) == (rate.measured_rate, rate.fill_rate, rate.cubic.beta, rate.cubic.scale)


class Server(RuleBasedStateMachine):
    """Any order of requests, answers, cancelled waiters and late threads."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = ClientRate()
        self.now = 1000.0
        self.waiting: list[float] = []

    @rule(pause=st.one_of(st.floats(-0.01, 2), st.floats(0, 1000), st.just(-900.0)))
    def time_passes(self, pause: float) -> None:
        self.now += pause

    @rule(amount=st.sampled_from([1.0, 5.0, 10.0]))
    def asks(self, amount: float) -> None:
        wait = self.rate.acquire(self.now, amount)
        assert 0.0 <= wait < inf
        assert (wait > 0) is (self.rate.available < 0) or not self.rate.enabled
        assert self.rate.enabled or wait == 0
        if wait:
            assert wait == pytest.approx(-self.rate.available / self.rate.fill_rate)
            self.waiting.append(amount)

    @precondition(lambda self: self.waiting)
    @rule()
    def leaves(self) -> None:
        before = self.rate.available
        self.rate.returned(self.waiting.pop())
        assert before <= self.rate.available

    @rule(throttle=st.booleans())
    def answers(self, throttle: bool) -> None:
        enabled = self.rate.enabled
        self.rate.responded(self.now, throttle)
        assert (enabled or throttle) is self.rate.enabled
        assert 0.5 <= self.rate.fill_rate <= max(0.5, 2 * self.rate.measured_rate)
        assert self.rate.capacity == max(1.0, self.rate.fill_rate)

    @invariant()
    def the_bucket_never_overflows(self) -> None:
        assert self.rate.available <= self.rate.capacity


TestServer = Server.TestCase


@given(rate=st.floats(0.5, 1000), pauses=st.lists(st.floats(0, 3), min_size=1, max_size=50))
def test_no_more_is_sent_than_the_rate_allows(rate: float, pauses: list[float]) -> None:
    """Over any stretch: what was saved up, and what flowed in until the last was sent."""
    limit = throttled()
    limit.fill_rate = limit.capacity = rate
    now = sent = 2.0
    for pause in pauses:
        now += pause
        sent = max(sent, now + limit.acquire(now))
    assert len(pauses) <= rate + rate * (sent - 2.0) + 1e-6 * len(pauses) + 1


def test_quiet_responses_are_counted_at_the_next_step() -> None:
    """Ticked off or told: the measured rate is the same."""
    told, ticked = ClientRate(), ClientRate()
    for rate in (told, ticked):
        rate.responded(10.0, False)
    for n in range(1, 200):
        now = 10.0 + n / 100
        told.responded(now, False)
        if ticked.quiet_from <= now < ticked.quiet_until:
            next(ticked.ticks)
        else:
            ticked.responded(now, False)
    assert told.measured_rate == ticked.measured_rate > 50
    for rate in (told, ticked):
        rate.responded(12.1, True)
    assert (told.fill_rate, told.measured_rate) == (ticked.fill_rate, ticked.measured_rate)


def test_nothing_is_quiet_once_a_limit_is_in_force() -> None:
    """Then every response moves the rate."""
    rate = ClientRate()
    rate.responded(10.0, False)
    assert rate.quiet_until > 10.0
    rate.responded(10.1, True)
    assert rate.quiet_until < 10.0


def test_ticks_of_another_clock_are_history() -> None:
    """They were counted in an interval that means nothing now."""
    rate, fresh = ClientRate(), ClientRate()
    rate.responded(1000.0, False)
    next(rate.ticks)
    for each in (rate, fresh):
        each.responded(3.0, False)
        each.responded(3.6, False)
    assert fresh.measured_rate == rate.measured_rate
