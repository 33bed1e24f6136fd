"""The demo's judgement: exact numbers are exact."""

from __future__ import annotations

import pytest

from demo.evidence import Evidence, error_line
from resilient import Action, Verdict, events

RECONNECTED = events.Recovered("ask", 0.1, Action.RECONNECT)
RETRIED = events.AttemptFailed("ask", 0.1, 1, Verdict(Action.RETRY), TimeoutError())
SERVED = {"connections": 1, "logins": 0}


@pytest.mark.parametrize(
    ("heard", "served"),
    [
        ([], SERVED),
        ([RECONNECTED, RECONNECTED], SERVED),
        ([RECONNECTED], {"connections": 50, "logins": 0}),
        ([RECONNECTED], {"connections": 1, "logins": 1}),
    ],
    ids=["not at all", "twice", "fifty connections", "signed in as well"],
)
def test_a_recovery_happens_exactly_as_often_as_it_should(heard, served):
    """Neither the policy's events nor the server's counters may say anything else."""
    assert len(Evidence(heard).missing({Action.RECONNECT: 1}, served)) == 1


def test_one_reconnect_is_one_reconnect():
    """Where both agree there is nothing to complain of."""
    assert [] == Evidence([RECONNECTED]).missing({Action.RECONNECT: 1}, SERVED)


@pytest.mark.parametrize(("retries", "complaints"), [(1, 1), (2, 0), (3, 0)])
def test_more_retries_than_needed_do_no_harm(retries, complaints):
    """A busy machine may cut off an attempt that nobody spoiled."""
    evidence = Evidence([RETRIED] * retries)
    assert complaints == len(evidence.missing({Action.RETRY: 2}, {"connections": 0, "logins": 0}))


def test_an_error_comes_with_its_notes():
    """Of a group, its first error speaks."""
    error = ConnectionError("gone")
    error.add_note("gave up")
    assert "ConnectionError: gone / gave up" == error_line(ExceptionGroup("all", [ExceptionGroup("some", [error])]))
