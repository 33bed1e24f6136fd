"""Vegas: laws over any calls, and one test a rule."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.vegas import Vegas, decades, decades_down, decades_up

anything = st.floats()  # not a number, infinite and negative ones too
sizes = st.tuples(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 2000)).map(sorted)
calls = st.lists(st.tuples(anything, st.integers(1, 2000), st.booleans()), max_size=60)


class Chance:
    """The same number each time."""

    def __init__(self, number: float) -> None:
        self.number = number

    def random(self) -> float:
        return self.number


LATE = Chance(0.999999)  # the rarest probes


@given(sizes=sizes, calls=calls, smoothing=st.floats(0.01, 1.0), seed=st.integers())
def test_the_limit_stays_in_its_bounds(
    sizes: list[int], calls: list[tuple[float, int, bool]], smoothing: float, seed: int
) -> None:
    """Whatever is sampled, strange durations too, the limit is a whole number between its bounds."""
    least, initial, most = sizes
    vegas = Vegas(initial, most, min_limit=least, smoothing=smoothing, probe_multiplier=1, rng=Random(seed))
    for rtt, inflight, dropped in calls:
        vegas.sampled(rtt, inflight, dropped)
        assert isinstance(vegas.limit, int)
        assert least <= vegas.limit <= most


@given(calls=calls, rtt=anything, smoothing=st.floats(0.01, 1.0))
def test_a_drop_never_raises_and_an_unused_limit_never_grows(
    calls: list[tuple[float, int, bool]], rtt: float, smoothing: float
) -> None:
    """However short or long the call was."""
    vegas = Vegas(20, 2000, smoothing=smoothing, rng=LATE)
    for call in calls:
        vegas.sampled(*call)
    before = vegas.limit
    vegas.sampled(rtt, (before - 1) // 2, False)
    assert vegas.limit <= before
    before = vegas.limit
    vegas.sampled(rtt, before, True)
    assert vegas.limit < before or vegas.limit == 1 or smoothing < 1


def test_drops_lead_down_to_one() -> None:
    """A service that answers nothing is asked one call at a time, even if no call ever told its duration."""
    vegas = Vegas(100, rng=LATE)
    for _ in range(200):
        vegas.sampled(0.001, 1, True)
    assert 1 == vegas.limit


@given(drops=st.lists(anything, max_size=20))
def test_a_drops_duration_is_not_learned(drops: list[float]) -> None:
    """A refusal within no time is not taken for how fast the service is, nor does it bring a probe nearer."""
    one, other = Vegas(100, rng=LATE), Vegas(100, rng=LATE)
    for vegas, took in ((one, drops), (other, [1.0] * len(drops))):
        vegas.sampled(0.1, 100, False)
        for seconds in took:
            vegas.sampled(seconds, 100, True)
        vegas.sampled(0.1, 100, False)
    assert one.limit == other.limit


@pytest.mark.parametrize(
    ("rtt", "limit"),
    [(1.0, 112), (1.02, 112), (1.03, 102), (1.05, 102), (1.06, 100), (1.13, 100), (1.14, 98), (9.0, 98)],
)
def test_the_queue_decides(rtt: float, limit: int) -> None:
    """At 100 calls: up to 2 queued, 12 more; below 6, 2 more; up to 12 stay; beyond, 2 less."""
    vegas = Vegas(100, rng=LATE)
    vegas.sampled(1.0, 100, False)
    vegas.sampled(rtt, 100, False)
    assert limit == vegas.limit


@pytest.mark.parametrize("rtt", [0.0, -0.1, math.inf, math.nan])
def test_what_was_not_measured_is_not_the_shortest(rtt: float) -> None:
    """The limit still grows afterwards, which it would not if calls had once taken no time."""
    vegas = Vegas(100, rng=LATE)
    for took in (rtt, 1.0, rtt, 1.0):
        vegas.sampled(took, 100, False)
    assert 112 == vegas.limit


@pytest.mark.parametrize(("chance", "probe"), [(0.0, 15), (0.5, 23), (0.999999, 30)])
def test_the_shortest_duration_is_forgotten_now_and_then(chance: float, probe: int) -> None:
    """After 15 to 30 calls for each unit of the limit; until then a service slower for good looks queued."""
    vegas = Vegas(1, 1, rng=Chance(chance))
    vegas.sampled(1.0, 1, False)
    for _ in range(2, probe):
        vegas.sampled(3.0, 1, False)
    before = vegas.shortest
    vegas.sampled(3.0, 1, False)
    assert (1.0, 3.0) == (before, vegas.shortest)


def test_every_probe_draws_anew() -> None:
    """So that limiters that began together drift apart: the second one here is as late as can be."""
    rng = Chance(0.0)
    vegas = Vegas(1, 1, rng=rng)
    rng.number = 0.999999
    for _ in range(15):
        vegas.sampled(1.0, 1, False)
    for _ in range(29):
        vegas.sampled(3.0, 1, False)
    before = vegas.shortest
    vegas.sampled(3.0, 1, False)
    assert (1.0, 3.0) == (before, vegas.shortest)


def test_smoothing_takes_part_of_a_step() -> None:
    """A quarter of the way to the new estimate."""
    vegas = Vegas(100, smoothing=0.25, rng=LATE)
    for _ in range(2):
        vegas.sampled(1.0, 100, False)
    assert 103 == vegas.limit


@given(st.integers(1, 10**6))
def test_decades_are_the_digits_but_one(limit: int) -> None:
    """At least one, and a step is one decade."""
    expected = max(1, len(str(limit)) - 1)
    assert (expected, limit + expected, limit - expected) == (decades(limit), decades_up(limit), decades_down(limit))
