"""Adaptive throttling: the formula, what counts, and laws over any traffic."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient.core.throttle import MOST_PASSES, Throttle, ThrottleMetrics


@dataclass
class Fixed:
    """Chance that always says the same."""

    number: float

    def random(self) -> float:
        return self.number


ADMIT, REJECT = Fixed(1 - 2**-53), Fixed(0.0)


def after(calls: int, accepts: int, k: float = 2, min_calls: int = 0) -> Throttle:
    """A throttle that has seen this, all at instant 0."""
    throttle = Throttle(k, 120, min_calls)
    for _ in range(calls):
        throttle.admit(0.0, ADMIT)
    for _ in range(accepts):
        throttle.accepted(0.0)
    return throttle


@pytest.mark.parametrize(
    ("calls", "accepts", "k", "probability"),
    [(0, 0, 2, 0.0), (9, 0, 2, 0.9), (10, 5, 2, 0.0), (11, 5, 2, 1 / 12), (10, 10, 1, 0.0), (19, 10, 1, 9 / 20)],
)
def test_probability_is_the_books(calls: int, accepts: int, k: float, probability: float) -> None:
    """max(0, (calls - k * accepts) / (calls + 1))."""
    assert probability == after(calls, accepts, k).probability(0.0)


def test_few_calls_are_never_rejected() -> None:
    """Below min_calls the other side is not known well enough."""
    throttle = after(9, 0, min_calls=10)
    assert 0.0 == throttle.probability(0.0)
    assert throttle.admit(0.0, REJECT)
    assert 10 / 11 == throttle.probability(0.0)


def test_rejects_with_that_probability() -> None:
    """A draw below it rejects; one at it does not."""
    throttle = after(1, 0)
    assert throttle.admit(0.0, Fixed(0.5))
    assert not throttle.admit(0.0, Fixed(0.66))


def test_without_cause_no_chance_is_drawn() -> None:
    """A healthy service costs no random number, and a draw of 0 rejects nothing."""
    rng, same = Random(7), Random(7)
    throttle = after(4, 2)
    assert throttle.admit(0.0, rng)
    assert same.random() == rng.random()


def test_rejected_calls_count_as_calls() -> None:
    """So the probability rises with the crowd."""
    throttle = after(1, 0)
    assert not throttle.admit(0.0, REJECT)
    assert ThrottleMetrics(2, 0, 1, 2 / 3) == throttle.metrics(0.0)


def test_the_window_forgets() -> None:
    """After two minutes of silence nothing is rejected."""
    throttle = after(50, 3)
    assert not throttle.admit(60.0, REJECT)
    assert ThrottleMetrics(1, 0, 1, 1 / 2) == throttle.metrics(121.0)
    assert ThrottleMetrics(0, 0, 0, 0.0) == throttle.metrics(180.0)


def test_metrics_forget_below_min_calls_too() -> None:
    """Accepts that are too old are not shown, even where no probability is asked for."""
    assert ThrottleMetrics(0, 0, 0, 0.0) == after(5, 5, min_calls=10).metrics(500.0)


@pytest.mark.parametrize(
    ("calls", "accepts", "min_calls", "passes"),
    [(0, 0, 10, 9), (0, 0, 0, 0), (9, 4, 0, 0), (9, 5, 0, 1), (9, 6, 0, 3), (9, 500, 0, MOST_PASSES)],
)
def test_passes_are_for_calls_that_would_be_admitted_anyway(
    calls: int, accepts: int, min_calls: int, passes: int
) -> None:
    """As many as are missing to k times the accepts, or to min_calls; and no more than so many."""
    throttle = after(calls, accepts, min_calls=min_calls)
    assert throttle.admit(0.0, ADMIT)
    assert passes == len(throttle.passes)


def test_spent_passes_and_ticked_accepts_are_counted() -> None:
    """At the next step, as of the latest decision."""
    throttle = Throttle(2, 120, 10)
    throttle.admit(5.0, ADMIT)
    for _ in range(4):
        throttle.passes.pop()
        next(throttle.accepts)
    assert ThrottleMetrics(5, 4, 0, 0.0) == throttle.metrics(6.0)
    assert ThrottleMetrics(5, 4, 0, 0.0) == throttle.metrics(124.0)
    assert ThrottleMetrics(0, 0, 0, 0.0) == throttle.metrics(125.0)


def test_passes_are_good_until_something_expires() -> None:
    """Of the calls or of the accepts; then it is decided anew."""
    throttle = Throttle(2, 120, 10)
    throttle.admit(0.0, ADMIT)
    assert (0.0, 12.0) == (throttle.since, throttle.until)
    throttle.accepted(3.0)
    throttle.admit(4.0, ADMIT)
    assert (4.0, 12.0) == (throttle.since, throttle.until)
    throttle.admit(13.0, ADMIT)
    assert (13.0, 15.0) == (throttle.since, throttle.until)


def test_a_cleared_one_has_seen_nothing() -> None:
    """Passes are taken back."""
    throttle = after(9, 5, min_calls=20)
    next(throttle.accepts)
    throttle.clear()
    assert (ThrottleMetrics(0, 0, 0, 0.0), 0) == (throttle.metrics(0.0), len(throttle.passes))


@given(
    steps=st.lists(st.tuples(st.floats(0, 20), st.floats(0, 0.999), st.booleans(), st.booleans()), max_size=200),
    k=st.floats(1, 4),
    min_calls=st.integers(0, 5),
)
def test_short_cuts_decide_the_same(steps: list[tuple[float, float, bool, bool]], k: float, min_calls: int) -> None:
    """Calls that spend passes and only tick off what is accepted, beside calls that are decided one by one.

    Accepts come before the next call, at the instant of their own.
    """
    short, plain, now = Throttle(k, 120, min_calls), Throttle(k, 120, min_calls), 0.0
    for pause, draw, accepted, moves in steps:
        now += pause * moves
        if short.since <= now < short.until and short.passes:
            admitted = short.passes.pop()
            at = short._decided
        else:
            admitted, at = short.admit(now, Fixed(draw)), now
        assert plain.admit(at, Fixed(draw)) is admitted
        if admitted and accepted:
            next(short.accepts)
            plain.accepted(at)
    assert plain.metrics(now) == short.metrics(now)


@given(calls=st.integers(0, 300), accepts=st.integers(0, 300), k=st.floats(1, 1e308))
def test_probability_is_one(calls: int, accepts: int, k: float) -> None:
    """From 0 to below 1, whatever was counted: some call always gets through."""
    assert 0.0 <= after(calls, accepts, k).probability(0.0) < 1.0


@given(calls=st.integers(1, 100), accepts=st.integers(0, 100))
def test_k_times_the_accepts_are_sent(calls: int, accepts: int) -> None:
    """It rejects if and only if there are more calls than that."""
    assert (calls > 2 * accepts) is (after(calls, accepts).probability(0.0) > 0.0)


class Traffic(RuleBasedStateMachine):
    """Calls, accepts and an unsteady clock in any order."""

    @initialize(k=st.floats(1, 4), min_calls=st.integers(0, 5))
    def begin(self, k: float, min_calls: int) -> None:
        self.throttle = Throttle(k, 120, min_calls)
        self.now = 0.0

    @rule(step=st.floats(-1, 70))
    def passes(self, step: float) -> None:
        self.now += step

    @rule(draw=st.floats(0, 0.999), accepted=st.booleans())
    def calls(self, draw: float, accepted: bool) -> None:
        probability = self.throttle.probability(self.now)
        admitted = self.throttle.admit(self.now, Fixed(draw))
        assert admitted is (draw >= probability)
        if admitted and accepted:
            self.throttle.accepted(self.now)

    @invariant()
    def the_metrics_agree(self) -> None:
        metrics = self.throttle.metrics(self.now)
        assert 0 <= metrics.rejected <= metrics.calls
        assert 0 <= metrics.accepts
        if metrics.calls >= self.throttle.min_calls:
            excess = metrics.calls - self.throttle.k * metrics.accepts
            assert max(0.0, excess / (metrics.calls + 1)) == metrics.probability
        else:
            assert 0.0 == metrics.probability


TestTraffic = Traffic.TestCase
