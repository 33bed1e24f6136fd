"""When something is fetched again."""

from random import Random
from typing import Any

import pytest

from resilient import backoff
from resilient.core.polling import Next, Polling, PollPlan

RNG = Random(7)


def test_answers_come_at_the_interval() -> None:
    """Always the same."""
    polling = Polling(PollPlan(30))
    assert [30, 30, 0] == [polling.answered(RNG), polling.answered(RNG), polling.failures]


def test_failures_back_off_from_the_first_wait() -> None:
    """100 ms, doubling; an answer begins anew."""
    polling = Polling(PollPlan(30))
    assert [Next(0.1), Next(0.2), Next(0.4)] == [polling.failed(RNG) for _ in range(3)]
    assert (3, 30, 0, Next(0.1)) == (polling.failures, polling.answered(RNG), polling.failures, polling.failed(RNG))


def test_the_last_attempt_gives_up_once_and_goes_on_at_the_cap() -> None:
    """Ten attempts, then 300 s each time; an answer makes it ten again."""
    polling = Polling(PollPlan(30))
    steps = [polling.failed(RNG) for _ in range(12)]
    assert [False] * 9 + [True, False, False] == [step.gave_up for step in steps]
    assert [300, 300, 300] == [step.wait for step in steps[9:]]
    polling.answered(RNG)
    assert 9 == [polling.failed(RNG) for _ in range(10)].index(Next(300, gave_up=True))


def test_it_may_stop_instead() -> None:
    """With the last attempt."""
    polling = Polling(PollPlan(30, attempts=2, keep_trying=False))
    assert [Next(0.1), Next(None, gave_up=True)] == [polling.failed(RNG) for _ in range(2)]


def test_it_may_never_give_up() -> None:
    """The waits grow to the cap by themselves."""
    polling = Polling(PollPlan(30, backoff.exponential(100), attempts=None))
    assert [Next(100), Next(200), Next(300), Next(300)] == [polling.failed(RNG) for _ in range(4)]


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"interval": 0}, ValueError, "interval must be > 0 s, got 0"),
        ({"interval": "1"}, TypeError, "interval must be seconds"),
        ({"backoff": 1}, TypeError, "backoff must be a Backoff"),
        ({"attempts": 0}, ValueError, "attempts must be >= 1, got 0"),
        ({"keep_trying": None}, TypeError, "keep_trying must be True or False, got None"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], kind: type[Exception], said: str) -> None:
    """By name, value and limit."""
    with pytest.raises(kind, match=said):
        PollPlan(**{"interval": 30, **settings})


def test_a_jitter_spreads_the_interval() -> None:
    """By that much of it, either way."""
    polling = Polling(PollPlan(30, jitter=0.1))
    waits = [polling.answered(RNG) for _ in range(1000)]
    assert 27 <= min(waits) < 27.5 < 32.5 < max(waits) <= 33


@pytest.mark.parametrize(
    ("jitter", "error"), [(-0.1, ValueError), (1.1, ValueError), (True, TypeError), ("0.1", TypeError)]
)
def test_jitters_are_checked(jitter: Any, error: type[Exception]) -> None:
    """A fraction of the interval."""
    with pytest.raises(error, match="jitter must be"):
        PollPlan(30, jitter=jitter)
