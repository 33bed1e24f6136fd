"""Outcomes: what became of a call, as a value."""

import pytest

from resilient.core.action import Action, Verdict
from resilient.core.events import (
    AttemptFailed,
    CallRejected,
    Entered,
    Event,
    FellBack,
    GaveUp,
    Succeeded,
    TimedOut,
)
from resilient.core.outcome import Outcome
from resilient.errors import CircuitOpen, DeadlineExceeded

FAILED = AttemptFailed("call", 0.0, 1, Verdict(Action.RETRY), OSError())


def test_a_first_success_has_no_timeline() -> None:
    """One attempt, ok, nothing to tell."""
    outcome = Outcome(3, None, 0.1)
    assert (True, 3, None, 1, None, None) == (
        outcome.ok,
        outcome.value,
        outcome.error,
        outcome.attempts,
        outcome.stopped_by,
        outcome.retry_at,
    )
    assert 3 == outcome.unwrap()


def test_a_late_success_counts_its_attempts() -> None:
    """Attempts are those of the last event."""
    outcome = Outcome(3, None, 0.1, (FAILED, Succeeded("call", 0.1, 2)))
    assert (True, 2) == (outcome.ok, outcome.attempts)


def test_a_failure_says_what_stopped_it() -> None:
    """The error, what stopped it, and when to come back."""
    error = OSError("gone")
    outcome = Outcome[int](None, error, 0.1, (FAILED, GaveUp("call", 0.1, 4, "max_wait", "why", error, 900.0)))
    assert (False, 4, "max_wait", 900.0) == (outcome.ok, outcome.attempts, outcome.stopped_by, outcome.retry_at)
    with pytest.raises(OSError, match="gone"):
        outcome.unwrap()


def test_an_error_without_a_verdict_is_not_ok() -> None:
    """A predicate that raised ends the call before anybody gave it up."""
    outcome = Outcome(None, AttributeError("nothing"), 0.1)
    assert (False, "fail") == (outcome.ok, outcome.stopped_by)


def test_a_rejected_value_is_not_ok() -> None:
    """A value that a rule rejects to the end is there, but not ok."""
    outcome = Outcome("bad", None, 0.1, (FAILED, GaveUp("call", 0.1, 3, "attempts", "why", None)))
    assert (False, "bad", "bad") == (outcome.ok, outcome.value, outcome.unwrap())


def test_an_unfinished_timeline_says_nothing() -> None:
    """Without an end event there is no reason."""
    assert (True, 1) == (Outcome(1, None, 0.0, (FAILED,)).ok, Outcome(1, None, 0.0, (FAILED,)).attempts)


ERROR = OSError("gone")
REJECTED = CallRejected("db", 0.1, "CircuitBreaker", CircuitOpen("db", 4.0), 14.0)
TIMED_OUT = TimedOut("each", 0.1, DeadlineExceeded(5))
GAVE_UP = GaveUp("send", 0.1, 4, "attempts", "why", ERROR)


@pytest.mark.parametrize(
    ("timeline", "error", "stopped_by", "retry_at"),
    [
        ((REJECTED,), REJECTED.error, "rejected", 14.0),
        ((TIMED_OUT,), TIMED_OUT.error, "timeout", None),
        ((GAVE_UP,), ERROR, "attempts", None),
        ((REJECTED, GAVE_UP), ERROR, "attempts", None),
        ((GAVE_UP, TIMED_OUT), TIMED_OUT.error, "timeout", None),
        ((REJECTED, Succeeded("send", 0.1, 2)), KeyError("k"), "fail", None),
        ((GAVE_UP, FellBack("spare", 0.1, ERROR)), KeyError("k"), "fail", None),
        ((Entered("db", 0.0, "Timeout"),), KeyError("k"), "fail", None),
        ((GAVE_UP, FellBack("spare", 0.1, ERROR)), None, None, None),
        ((REJECTED, Succeeded("send", 0.1, 2)), None, None, None),
        ((GAVE_UP, Succeeded("again", 0.2, 2)), None, None, None),
        ((GAVE_UP,), None, None, None),
    ],
)
def test_the_last_that_ended_something_tells_why(
    timeline: tuple[Event, ...], error: Exception | None, stopped_by: str | None, retry_at: float | None
) -> None:
    """Whatever was tried before it."""
    outcome = Outcome(None, error, 0.1, timeline)
    assert (error is None, stopped_by, retry_at) == (outcome.ok, outcome.stopped_by, outcome.retry_at)


@pytest.mark.parametrize(("calls", "attempts"), [(0, 0), (7, 7), (None, 4)])
def test_calls_that_were_counted_are_the_attempts(calls: int | None, attempts: int) -> None:
    """Otherwise the timeline tells."""
    assert attempts == Outcome(None, ERROR, 0.1, (GAVE_UP,), calls).attempts
    assert (1 if calls is None else calls) == Outcome(None, ERROR, 0.1, (REJECTED,), calls).attempts
