"""Outcomes: what became of a call, as a value."""

import pytest

from resilient.core.action import Action, Verdict
from resilient.core.events import AttemptFailed, GaveUp, Succeeded
from resilient.core.outcome import Outcome

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
