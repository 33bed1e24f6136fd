"""The settings of a link, and what they make of an error."""

from datetime import timedelta
from typing import Any

import pytest

from resilient.core import backoff
from resilient.core.action import Action, Verdict
from resilient.core.classify import Classifier
from resilient.core.link_plan import BACKOFF, link_plan
from resilient.core.rule import Rule
from resilient.errors import CircuitOpen


def test_defaults_suit_production() -> None:
    """For ever, with a backoff that is jittered and capped."""
    plan = link_plan(OSError)
    assert (BACKOFF, None, 10.0, 0.0, 300.0) == (
        plan.backoff, plan.attempts, plan.stable_after, plan.throttle, plan.max_wait
    )  # fmt: skip


def test_durations_may_be_timedeltas() -> None:
    """They become seconds."""
    plan = link_plan(OSError, stable_after=timedelta(minutes=1), throttle=timedelta(seconds=5), max_wait=timedelta(0))
    assert (60.0, 5.0, 0.0) == (plan.stable_after, plan.throttle, plan.max_wait)


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"on": None}, TypeError, "on must"),
        ({"backoff": 1.0}, TypeError, "backoff must be a Backoff, .*got 1.0"),
        ({"attempts": 0}, ValueError, "attempts must be >= 1, got 0"),
        ({"stable_after": -1}, ValueError, "stable_after must be >= 0 s, got -1"),
        ({"throttle": "5"}, TypeError, "throttle must be seconds"),
        ({"max_wait": float("inf")}, ValueError, "max_wait must be finite"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], kind: type[Exception], text: str) -> None:
    """Where they are made, by name and value."""
    given: dict[str, Any] = {"on": OSError}
    with pytest.raises(kind, match=text):
        link_plan(**given | settings)


@pytest.mark.parametrize(
    ("on", "error", "cut_off", "verdict"),
    [
        pytest.param(OSError, OSError(), False, Verdict(Action.RETRY), id="a rule"),
        pytest.param(OSError, ValueError(), False, Verdict(Action.FAIL), id="no rule"),
        pytest.param(OSError, ValueError(), True, Verdict(Action.RETRY, "attempt timeout"), id="our own limit"),
        pytest.param(
            Classifier(Rule(TimeoutError, Action.FAIL)), TimeoutError(), True, Verdict(Action.FAIL), id="a rule on it"
        ),
        pytest.param(
            Classifier(otherwise=Verdict(Action.RELOGIN)), OSError(), True, Verdict(Action.RELOGIN), id="otherwise"
        ),
        pytest.param(OSError, CircuitOpen("db"), False, Verdict(Action.WAIT, "rejected"), id="a rejection"),
        pytest.param(
            OSError, CircuitOpen("db", 7.0), False, Verdict(Action.WAIT, "rejected", 7.0), id="one that says when"
        ),
        pytest.param(
            CircuitOpen, CircuitOpen("db", 7.0), False, Verdict(Action.WAIT, "", 7.0), id="a rule on rejections"
        ),
    ],
)
def test_errors_are_judged_as_in_a_call(on: object, error: Exception, cut_off: bool, verdict: Verdict) -> None:
    """The rule that matches; else its own limit of time and rejections are worth another dial."""
    assert verdict == link_plan(on, backoff=backoff.constant(1)).judge(error, cut_off=cut_off)


def clumsy(error: BaseException) -> bool:
    """A predicate that knows its own errors only."""
    return bool(error.code)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("on", "ends"), [(ConnectionError, True), (OSError, False), (ValueError, False), (clumsy, False)]
)
def test_a_network_out_of_reach_is_no_connection_error(on: Any, ends: bool) -> None:
    """Who dials a reset connection again means that one, too."""
    assert link_plan(on).ends_without_network() is ends
