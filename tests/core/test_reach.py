"""Whether a rule can be reached."""

import pytest

from resilient.core.action import Action
from resilient.core.classify import Classifier
from resilient.core.reach import is_covered
from resilient.core.rule import Rule


def is_even(error: Exception) -> bool:
    return len(error.args) % 2 == 0


@pytest.mark.parametrize(
    "rules",
    [
        (Rule(OSError), Rule(ConnectionError)),
        (Rule(Exception), Rule("httpx.ConnectError")),
        (Rule("httpx.ConnectError"), Rule("httpx.ConnectError", Action.WAIT)),
        (Rule((OSError, ValueError)), Rule((ConnectionError, UnicodeError))),
        (Rule(OSError), Rule(ValueError), Rule((ConnectionError, UnicodeError))),
        (Rule("builtins.OSError"), Rule(ConnectionError)),
        (Rule(OSError), Rule(ConnectionError, message="reset")),
        (Rule(OSError, message="re"), Rule(OSError, message="RESET")),
        (Rule(OSError, when=is_even), Rule(OSError, when=is_even, message="x")),
        (Rule(ExceptionGroup), Rule(ExceptionGroup)),
        (Rule.result(is_even), Rule.result(is_even)),
    ],
)
def test_a_rule_out_of_reach_is_refused(rules: tuple[Rule, ...]) -> None:
    """A rule that earlier rules leave nothing to match is an error, and is named."""
    with pytest.raises(ValueError, match=f"rule {len(rules)} can never be reached"):
        Classifier(*rules)


@pytest.mark.parametrize(
    "rules",
    [
        (Rule(ConnectionError), Rule(OSError)),
        (Rule(OSError, message="reset"), Rule(OSError)),
        (Rule(OSError, when=is_even), Rule(OSError)),
        (Rule(OSError, message="a"), Rule(OSError, message="b")),
        (Rule(OSError), Rule((ConnectionError, ValueError))),
        (Rule(Exception), Rule(ExceptionGroup)),
        (Rule(OSError), Rule("httpx.ConnectError")),
        (Rule.result(is_even), Rule(Exception), Rule.result(lambda value: True)),
    ],
)
def test_a_rule_within_reach_is_kept(rules: tuple[Rule, ...]) -> None:
    """A rule that may still match something is fine."""
    assert rules == Classifier(*rules).rules


def test_several_rules_may_cover_one_together() -> None:
    """Each of its classes by another of them; a class that none of them takes is enough to reach it."""
    rule = Rule((ConnectionError, KeyError))
    assert is_covered(rule, [Rule(OSError), Rule(LookupError)])
    assert not is_covered(rule, [Rule(OSError)])
    assert not is_covered(rule, [])
