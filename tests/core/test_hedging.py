"""When to launch another copy of a call."""

from datetime import timedelta
from math import ceil, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient.core.hedging import (
    RESERVE,
    SHORTEST_DELAY,
    WINDOW,
    HedgeBudget,
    HedgeMetrics,
    HedgePlan,
    Hedging,
    Latency,
    Percentile,
    hedge_plan,
    parse_after,
)


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [("p95", 95_000), ("p50", 50_000), ("p99.9", 99_900), ("p99.999", 99_999), ("p5", 5_000), ("p0.001", 1)],
)
def test_percentiles_are_read_exactly(text: str, thousandths: int) -> None:
    """No float is involved; and they are written as they were read."""
    assert Percentile(thousandths) == parse_after(text)
    assert text == str(parse_after(text))


@pytest.mark.parametrize(("after", "seconds"), [(2, 2.0), (0.5, 0.5), (0, 0.0), (timedelta(milliseconds=20), 0.02)])
def test_durations_are_seconds(after: object, seconds: float) -> None:
    """Zero sends all copies at once."""
    assert seconds == parse_after(after)


@pytest.mark.parametrize(
    "text",
    ["", "p", "95", "P95", "p100", "p0", "p0.000", "p.5", "p95.", "p99.9999", "p-5", "p9_5", "p95 ", "p٩٥", "1s"],
)
def test_other_texts_are_no_percentile(text: str) -> None:
    """The error names the argument, the value and the limits."""
    with pytest.raises(ValueError, match='^after must be a duration or a percentile between "p0" and "p100"') as caught:
        parse_after(text)
    assert repr(text) in str(caught.value)


def test_bad_durations_name_the_argument() -> None:
    """As everywhere else."""
    with pytest.raises(ValueError, match="^after must be >= 0 s"):
        parse_after(-1)
    with pytest.raises(TypeError, match="^after must be seconds"):
        parse_after(None)


def test_a_plan_takes_its_defaults_from_the_percentile() -> None:
    """The load is the share of calls beyond it; it needs durations enough to differ from the longest."""
    assert HedgePlan(Percentile(95_000), 1, 20, 0.05) == hedge_plan("p95")
    assert HedgePlan(Percentile(99_900), 1, 1000, 0.001) == hedge_plan("p99.9")
    assert WINDOW == hedge_plan("p99.999").min_samples
    assert HedgePlan(0.5, 1, 1, 0.05) == hedge_plan(0.5)


def test_a_plan_as_asked() -> None:
    """Nothing that was given is replaced, zero included."""
    assert HedgePlan(Percentile(90_000), 3, 7, 0.0) == hedge_plan("p90", 3, min_samples=7, load=0)


@pytest.mark.parametrize(
    ("wrong", "kind", "text"),
    [
        ({"extra": 0}, ValueError, "extra must be >= 1, got 0"),
        ({"extra": 1.5}, TypeError, "extra must be a whole number"),
        ({"min_samples": 0}, ValueError, "min_samples must be >= 1, got 0"),
        ({"min_samples": 1001}, ValueError, "min_samples must be <= 1000, got 1001"),
        ({"load": -0.1}, ValueError, "load must be from 0 to extra"),
        ({"load": 1.5}, ValueError, "load must be from 0 to extra"),
        ({"load": nan}, ValueError, "load must be from 0 to extra"),
        ({"load": "5%"}, TypeError, "load must be a number"),
        ({"load": True}, TypeError, "load must be a number"),
    ],
)
def test_a_plan_refuses_what_makes_no_sense(wrong: dict[str, object], kind: type[Exception], text: str) -> None:
    """The error names the argument, the value and the limit."""
    with pytest.raises(kind, match=text):
        hedge_plan("p95", **wrong)


def test_a_fixed_delay_needs_no_durations() -> None:
    """It is known from the first call on, and durations do not change it."""
    hedging = Hedging(hedge_plan(0.25, 2))
    hedging.took(9.0)
    assert (0.25, 0) == (hedging.delay(), len(hedging.latency))


def test_no_hedge_before_the_percentile_is_known() -> None:
    """Too few durations say nothing."""
    hedging = Hedging(hedge_plan("p95"))
    delays = []
    for _ in range(20):
        delays.append(hedging.delay())
        hedging.took(0.3)
    assert [None] * 20 == delays
    assert 0.3 == hedging.delay()


def test_instant_answers_are_not_hedged_at_once() -> None:
    """The delay has a least value."""
    hedging = Hedging(hedge_plan("p50"))
    for _ in range(5):
        hedging.took(0.0)
    assert SHORTEST_DELAY == hedging.delay()


@pytest.mark.parametrize("backwards", [-5.0, nan])
def test_what_a_clock_that_went_back_measured_counts_as_nothing(backwards: float) -> None:
    """No negative delay comes of it."""
    latency = Latency()
    latency.add(backwards)
    assert 0.0 == latency.at(Percentile(50_000))


def test_the_oldest_duration_leaves_the_window() -> None:
    """Slowness of long ago is forgotten."""
    latency = Latency(window=3)
    for duration in (9.0, 1.0, 2.0, 3.0):
        latency.add(duration)
    assert (3, 3.0) == (len(latency), latency.at(Percentile(99_000)))


def test_ten_tenths_pay_for_a_hedge() -> None:
    """Sums of floats would not: the budget counts whole numbers."""
    budget = HedgeBudget(0.1, reserve=1)
    assert [True, False] == [budget.take(), budget.take()]
    for _ in range(10):
        budget.earn()
    assert [True, False] == [budget.take(), budget.take()]


def test_a_budget_saves_no_more_than_its_reserve() -> None:
    """A long quiet time does not pay for a storm."""
    budget = HedgeBudget(0.5, reserve=2)
    for _ in range(100):
        budget.earn()
    assert [True, True, False] == [budget.take() for _ in range(3)]
    assert 0.0 == budget.available


def test_a_load_of_extra_limits_nothing() -> None:
    """Every call may launch all its copies."""
    hedging = Hedging(hedge_plan(0.1, 2, load=2))
    launched = []
    for _ in range(3 * RESERVE):
        hedging.began()
        launched += [hedging.launch(), hedging.launch()]
    assert all(launched)


def test_metrics_say_what_hedging_did() -> None:
    """Calls, hedges, refused, the present delay."""
    hedging = Hedging(hedge_plan(0.1, load=0))
    hedging.began()
    assert not hedging.launch()
    assert HedgeMetrics(calls=1, hedges=0, refused=1, delay=0.1) == hedging.metrics()
    assert Hedging(hedge_plan("p95")).metrics().delay is None


@given(values=st.lists(st.floats(0, 1e6), min_size=1, max_size=50), thousandths=st.integers(1, 99_999))
def test_the_nearest_rank_is_the_smallest_value_with_enough_at_or_below(values: list[float], thousandths: int) -> None:
    """At least P percent of the values are at or below it, and fewer are below it."""
    latency = Latency()
    for value in values:
        latency.add(value)
    found = latency.at(Percentile(thousandths))
    share = len(values) * thousandths
    assert sum(value <= found for value in values) * 100_000 >= share
    assert sum(value < found for value in values) * 100_000 < share


@given(thousandths=st.integers(1, 99_900))
def test_samples_are_the_fewest_that_differ_from_the_longest(thousandths: int) -> None:
    """One fewer, and the percentile is the largest of them."""
    percentile = Percentile(thousandths)
    fewest = percentile.samples
    assert ceil(100_000 / (100_000 - thousandths)) == fewest
    assert percentile.rank(fewest) < fewest
    assert fewest - 1 == percentile.rank(fewest - 1)


class Hedged(RuleBasedStateMachine):
    """Any interleaving of calls, hedges and durations, against sorted copies and plain counts."""

    @initialize(percent=st.sampled_from([50, 90, 95]), load=st.sampled_from([0.01, 0.05, 0.5]))
    def begins(self, percent: int, load: float) -> None:
        self.percent = percent
        self.load = load
        self.hedging = Hedging(hedge_plan(f"p{percent}", 2, load=load))
        self.took: list[float] = []

    @rule(times=st.integers(1, 50))
    def calls_begin(self, times: int) -> None:
        for _ in range(times):
            self.hedging.began()

    @rule(times=st.integers(1, 50))
    def copies_launch(self, times: int) -> None:
        for _ in range(times):
            self.hedging.launch()

    @rule(durations=st.lists(st.floats(0.001, 100), max_size=40))
    def calls_succeed(self, durations: list[float]) -> None:
        for duration in durations:
            self.hedging.took(duration)
        self.took = (self.took + durations)[-WINDOW:]

    @invariant()
    def hedges_are_a_share_of_the_calls(self) -> None:
        assert self.hedging.hedges <= RESERVE + self.load * self.hedging.calls + 1e-6

    @invariant()
    def the_delay_is_the_percentile(self) -> None:
        known = len(self.took)
        if known < self.hedging.plan.min_samples:
            assert self.hedging.delay() is None
        else:
            assert sorted(self.took)[ceil(known * self.percent / 100) - 1] == self.hedging.delay()


Hedged.TestCase.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)
TestHedged = Hedged.TestCase
