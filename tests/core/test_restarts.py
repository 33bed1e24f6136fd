"""When a loop is started again, and when that is hopeless."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from resilient import backoff
from resilient.core.restarts import Ended, Escalate, Restart, RestartPlan, Restarts
from resilient.core.setting_errors import setting_of

RNG = Random(7)
EVERY_SECOND = backoff.constant(1)


def test_an_error_restarts_and_a_return_ends() -> None:
    """A transient loop."""
    restarts = Restarts(RestartPlan())
    restarts.started(0)
    assert (Restart(0.1), Ended()) == (restarts.failed(0, RNG), restarts.returned(0, RNG))


def test_a_permanent_loop_is_restarted_when_it_returns() -> None:
    """By the same backoff."""
    restarts = Restarts(RestartPlan(permanent=True))
    assert [Restart(0.1), Restart(0.2), Restart(0.4)] == [
        restarts.returned(0, RNG),
        restarts.failed(0, RNG),
        restarts.returned(0, RNG),
    ]


def test_a_temporary_loop_never_is() -> None:
    """Whatever ends it."""
    restarts = Restarts(RestartPlan(temporary=True))
    assert (Ended(), Ended()) == (restarts.failed(0, RNG), restarts.returned(0, RNG))


def test_stable_uptime_resets_the_backoff() -> None:
    """A mere start does not."""
    restarts = Restarts(RestartPlan(stable_after=10, intensity=None))
    steps, now = [], 0.0
    for uptime in (0, 9.5, 10, 0):
        restarts.started(now)
        now += uptime
        steps.append(restarts.failed(now, RNG))
    assert ([Restart(0.1), Restart(0.2), Restart(0.1), Restart(0.2)], 4) == (steps, restarts.starts)


def test_one_restart_too_many_escalates() -> None:
    """More than n in t seconds."""
    restarts = Restarts(RestartPlan(EVERY_SECOND, intensity=(2, 5)))
    assert [Restart(1), Restart(1), Escalate(2, 5)] == [restarts.failed(now, RNG) for now in (0, 3, 5)]


def test_restarts_that_are_past_do_not_count() -> None:
    """Beyond the period, however many there were."""
    restarts = Restarts(RestartPlan(EVERY_SECOND, intensity=(2, 5)))
    assert {Restart(1)} == {restarts.failed(now, RNG) for now in (0, 3, 5.1, 8.2, 10.3, 13.4)}


def test_no_restart_may_be_allowed() -> None:
    """OTP's intensity 0."""
    assert Escalate(0, 1) == Restarts(RestartPlan(intensity=(0, 1))).failed(7, RNG)


def test_no_limit_is_none() -> None:
    """For ever."""
    restarts = Restarts(RestartPlan(EVERY_SECOND, intensity=None))
    assert {Restart(1)} == {restarts.failed(0, RNG) for _ in range(1000)}


def test_by_default_a_loop_that_dies_at_once_is_given_up_after_system_2s_ten_attempts() -> None:
    """And one that holds out for half a minute never is."""
    restarts, now, waits = Restarts(RestartPlan()), 0.0, []
    while isinstance(step := restarts.failed(now, RNG), Restart):
        waits.append(step.seconds)
        now += step.seconds
        restarts.started(now)
    assert ([min(0.1 * 2**n, 300) for n in range(10)], Escalate(10, 300)) == (pytest.approx(waits), step)
    steady = Restarts(RestartPlan())
    for n in range(100):
        steady.started(n * 30.1)
        assert Restart(0.1) == steady.failed(n * 30.1 + 30, RNG)


@given(gaps=lists(floats(0, 10), max_size=60), most=integers(0, 5), period=floats(0.5, 20))
def test_within_any_period_there_are_never_more_restarts_than_allowed(
    gaps: list[float], most: int, period: float
) -> None:
    """The law behind the intensity."""
    restarts, now, done = Restarts(RestartPlan(EVERY_SECOND, intensity=(most, period))), 0.0, []
    for gap in gaps:
        now += gap
        if isinstance(restarts.failed(now, RNG), Escalate):
            assert most == sum(1 for past in done if now - past <= period)
            break
        done.append(now)
        assert sum(1 for past in done if now - past <= period) <= most


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"backoff": 3}, TypeError, "backoff must be a Backoff"),
        ({"intensity": 3}, TypeError, r"intensity must be \(restarts, seconds\), such as \(10, 300\), or None, got 3"),
        ({"intensity": "ab"}, TypeError, "intensity must be"),
        ({"intensity": (1, 2, 3)}, ValueError, "intensity must be"),
        ({"intensity": (-1, 2)}, ValueError, "intensity's restarts must be >= 0, got -1"),
        ({"intensity": (1, 0)}, ValueError, "intensity's seconds must be > 0 s, got 0"),
        ({"stable_after": 0}, ValueError, "stable_after must be > 0 s, got 0"),
        ({"stop_timeout": -1}, ValueError, "stop_timeout must be > 0 s, got -1"),
        ({"permanent": 1}, TypeError, "permanent must be True or False, got 1"),
        ({"permanent": True, "temporary": True}, ValueError, "permanent and temporary cannot both be True"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], kind: type[Exception], said: str) -> None:
    """By name, value and limit."""
    with pytest.raises(kind, match=said) as caught:
        RestartPlan(**settings)
    assert next(iter(settings)) == setting_of(caught.value)
