"""AdaptiveRate as users hold it: settings, waits, forms."""

from __future__ import annotations

import pickle
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import AdaptiveRate, Classifier, RateLimited, Rule, Timeout
from resilient.core.client_rate import ClientRateMetrics
from resilient.policies.shared import ProcessHome
from resilient.testing import FakeClock


class TooMany(Exception):
    """429."""


def throttled(**settings: Any) -> AdaptiveRate:
    """One that was throttled, under the clock of the test: a call every two seconds."""
    rate = AdaptiveRate(on=TooMany, **settings)
    with suppress(TooMany), rate:
        raise TooMany
    return rate


def test_defaults_are_those_of_the_sdks() -> None:
    """Beta and scale of CUBIC; no limit to a wait."""
    made = AdaptiveRate(on=TooMany)
    assert (None, 0.7, 0.4, "") == (made.max_wait, made.beta, made.scale, made.name)
    assert (0.7, 0.4) == (made.gate.machine.cubic.beta, made.gate.machine.cubic.scale)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"on": None}, TypeError, "on must say which errors"),
    ({"max_wait": -1}, ValueError, "max_wait must be >= 0 s, got -1"),
    ({"beta": 0}, ValueError, "beta must be > 0 .*got 0"),
    ({"beta": 1}, ValueError, "beta must be < 1, got 1"),
    ({"beta": 1.5}, ValueError, "beta must be .*got 1.5"),
    ({"scale": 0}, ValueError, "scale must be > 0, got 0"),
    ({"name": 5}, TypeError, "name must be a str, got 5"),
    ({"listeners": 5}, TypeError, "listeners must be functions of an event, got 5"),
]


@pytest.mark.parametrize(("settings", "error", "text"), BAD)
def test_bad_settings_are_told_at_once(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """The argument, the value, the limit."""
    with pytest.raises(error, match=text):
        AdaptiveRate(**{"on": TooMany, **settings})


def test_which_errors_throttle_must_be_said() -> None:
    """There is no default."""
    with pytest.raises(TypeError, match="on"):
        AdaptiveRate()  # type: ignore[call-arg]


def test_it_compares_copies_and_pickles_by_its_settings() -> None:
    """The state is its own each time."""
    with FakeClock():
        made = throttled(beta=0.5)
        copy, again = made.with_(scale=1), pickle.loads(pickle.dumps(made))
        assert (made, hash(made)) == (again, hash(again))
        assert made != copy
        assert [True, False, False] == [rate.metrics().enabled for rate in (made, copy, again)]


def test_nothing_is_limited_before_the_first_throttle() -> None:
    """Other errors are answers too."""
    with FakeClock() as clock:
        rate = AdaptiveRate(on=TooMany)
        for _ in range(100):
            assert 0 == rate.call(int)
        with pytest.raises(OSError), rate:
            raise OSError
        assert ([], False) == (clock.sleeps, rate.metrics().enabled)


def test_after_it_calls_are_spaced_out() -> None:
    """At the least rate there is; and faster as the other side answers."""
    with FakeClock() as clock:
        rate = throttled()
        assert ClientRateMetrics(True, 0.5, 0.0, 0.0) == rate.metrics()
        for _ in range(20):
            rate.call(int)
        assert 2.0 == clock.sleeps[0]
        assert clock.sleeps[-1] < 2.0
        assert clock.sleeps == sorted(clock.sleeps, key=lambda wait: -round(wait, 6))


def test_who_would_wait_too_long_is_rejected() -> None:
    """By its own limit, or the deadline around the call."""
    with FakeClock():
        with pytest.raises(RateLimited, match=r"by 'api': its turn comes in 2 s, and it may wait 1 s"):
            throttled(max_wait=1, name="api").call(int)
        with pytest.raises(RateLimited, match=r"may wait 1 s"):
            Timeout(1).call(throttled().call, int)


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks_wait_in_order(loop: str) -> None:
    """Decorator and block, on every loop."""
    went: list[float] = []

    async def main() -> None:
        @rate
        async def call() -> None:
            went.append(clock.now())

        await call()
        async with rate:
            went.append(clock.now())

    with FakeClock() as clock:
        rate = throttled()
        run(loop, main)
    assert (2.0, True) == (went[0], went[0] < went[1] <= 4.0)


def test_it_is_reset() -> None:
    """Nothing is limited until the next throttle."""
    with FakeClock() as clock:
        rate = throttled()
        rate.reset()
        rate.call(int)
        assert ([], False) == (clock.sleeps, rate.metrics().enabled)


def test_threads_share_it() -> None:
    """No token is lost."""
    with FakeClock() as clock:
        rate = throttled()
        rate.gate.machine.acquire(clock.now(), 8_000)

        def work(n: int) -> None:
            for _ in range(1_000):
                rate.gate.release(True)

        assert [] == together(8, work)
        assert 0.0 == rate.metrics().available


def test_settings_agree_however_they_are_written() -> None:
    """By name they are one."""
    home = ProcessHome()
    made = AdaptiveRate.named("x", home=home, on=[TooMany], max_wait=timedelta(seconds=5))
    assert made is AdaptiveRate.named("x", home=home, on=TooMany, max_wait=5)
    assert isinstance(made.on, Classifier)
    assert hash(made) == hash(AdaptiveRate(on=TooMany, max_wait=5, name="x"))


def test_returned_values_may_be_throttles() -> None:
    """By a rule for results."""
    with FakeClock():
        rate = AdaptiveRate(on=Classifier(Rule.result(lambda status: status == 429)))
        assert (200, False) == (rate.call(int, 200), rate.metrics().enabled)
        assert (429, True) == (rate.call(int, 429), rate.metrics().enabled)
