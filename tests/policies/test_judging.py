"""What an error says about the other side."""

from __future__ import annotations

import pytest

from resilient import Action, AttemptTimeout, BulkheadFull, CircuitOpen, Classifier, DeadlineExceeded, Rule, Verdict
from resilient.core.classify import classifier_of
from resilient.policies.judging import says, says_of

EVERYTHING = classifier_of(Exception)
NETWORK = classifier_of(OSError)


@pytest.mark.parametrize(
    ("on", "ignore", "error", "said"),
    [
        pytest.param(NETWORK, None, OSError(), True, id="a failure"),
        pytest.param(NETWORK, None, ValueError(), False, id="the other side answered"),
        pytest.param(NETWORK, NETWORK, OSError(), None, id="ignored"),
        pytest.param(EVERYTHING, NETWORK, ValueError(), True, id="not ignored"),
        pytest.param(NETWORK, None, AttemptTimeout(1), True, id="a limit of time, which is a kind of OSError"),
        pytest.param(classifier_of(ValueError), None, AttemptTimeout(1), True, id="a limit of time"),
        pytest.param(classifier_of(ValueError), None, DeadlineExceeded(1), True, id="the limit of the whole call"),
        pytest.param(classifier_of(ValueError), None, TimeoutError(), False, id="the call's own timeout is an error"),
        pytest.param(EVERYTHING, None, CircuitOpen(), None, id="it was never asked"),
        pytest.param(EVERYTHING, None, BulkheadFull(), None, id="nor here"),
    ],
)
def test_what_an_error_says(on: Classifier, ignore: Classifier | None, error: Exception, said: bool | None) -> None:
    """True: a failure; False: none; None: nothing."""
    assert said is says(on, ignore)(error)


def test_a_rule_may_speak_of_limits_of_time() -> None:
    """Then it decides."""
    judge = says(Classifier(Rule(AttemptTimeout, Action.FAIL), Rule(OSError)))
    assert (False, True) == (judge(AttemptTimeout(1)), judge(DeadlineExceeded(1)))


def test_what_no_rule_knows_is_judged_by_otherwise() -> None:
    """As Retry would."""
    judge = says(Classifier(Rule(KeyError, Action.FAIL), otherwise=Verdict(Action.WAIT)))
    assert (True, False) == (judge(ValueError()), judge(KeyError()))


def test_what_a_returned_value_says() -> None:
    """A failure if it were tried again; nobody judges where no rule is for results."""
    judge = says_of(Classifier(Rule.result(lambda n: n < 0, Action.FAIL), Rule.result(lambda n: n < 9), Rule(OSError)))
    assert judge is not None
    assert [False, True, False] == [judge(value) for value in (-1, 5, 9)]
    assert says_of(NETWORK) is None


def test_a_group_of_rejections_says_nothing_either() -> None:
    """Task groups and nurseries wrap what is raised in them; what else is in a group is judged."""
    judge = says(classifier_of(OSError))
    rejected = ExceptionGroup("one", [CircuitOpen("db", 9.0)])
    mixed = ExceptionGroup("two", [CircuitOpen("db", 9.0), OSError()])
    assert (None, True) == (judge(rejected), judge(mixed))
