"""Rules: which errors, and what they call for."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from resilient.core.action import Action, Verdict
from resilient.core.rule import Rule, checked_targets
from resilient.core.setting_errors import SettingError


def is_even(error: Exception) -> bool:
    return len(error.args) % 2 == 0


@pytest.mark.parametrize(
    ("rule", "error", "matches"),
    [
        (Rule(OSError), OSError(), True),
        (Rule((KeyError, OSError)), ConnectionError(), True),
        (Rule("builtins.OSError"), ConnectionError(), True),
        (Rule((KeyError, "builtins.ValueError")), UnicodeError(), True),
        (Rule(OSError), ValueError(), False),
        (Rule(Exception, message="Proxy"), OSError("no proxy there"), True),
        (Rule(Exception, message="proxy"), OSError("no PROXY there"), True),
        (Rule(Exception, message="proxy"), OSError("refused"), False),
        (Rule(Exception, when=is_even), OSError(1, "x"), True),
        (Rule(Exception, when=is_even), ValueError(1), False),
        (Rule(OSError, when=is_even, message="x"), OSError(1, "x"), True),
        (Rule(OSError, when=is_even, message="y"), OSError(1, "x"), False),
    ],
)
def test_all_conditions_must_hold(rule: Rule, error: Exception, matches: bool) -> None:
    """Class or name, message and predicate together."""
    assert matches is rule.matches(error)


@pytest.mark.parametrize(
    ("rule", "plain"),
    [
        (Rule(OSError), True),
        (Rule(OSError, Action.WAIT), True),
        (Rule(OSError, Action.RECONNECT), False),
        (Rule(OSError, message="x"), False),
        (Rule(OSError, delay=1), False),
    ],
)
def test_a_plain_rule_says_nothing_but_retry(rule: Rule, plain: bool) -> None:
    """Whatever the error of its classes."""
    assert plain is rule.is_plain


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule(OSError), "Rule(OSError, Action.RETRY)"),
        (Rule("httpx.ReadError", Action.WAIT), "Rule('httpx.ReadError', Action.WAIT)"),
        (
            Rule((OSError, "a.B"), category="x", delay=0),
            "Rule((OSError, 'a.B'), Action.RETRY, category='x', delay=0.0)",
        ),
        (Rule.result(bool, attempts=2), "Rule.result(<class 'bool'>, Action.RETRY, attempts=2)"),
    ],
)
def test_a_rule_shows_what_it_says(rule: Rule, text: str) -> None:
    """And not what it does not."""
    assert text == repr(rule)


def test_a_rule_may_name_groups() -> None:
    """By the class of a group, or its name."""
    assert (True, False) == (Rule(ExceptionGroup).names_groups, Rule(Exception).names_groups)
    assert (True, False) == (Rule("builtins.ExceptionGroup").names_groups, Rule("builtins.Exception").names_groups)


def test_a_delay_that_is_no_duration_is_an_error() -> None:
    """A function of the wrong kind is a mistake of the program, not of the server."""
    with pytest.raises(TypeError, match="delay must be seconds"):
        Rule(OSError, delay=lambda error: "5").verdict_on(OSError())


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_error_without_words_has_no_message_to_look_for() -> None:
    """It does not match, and is not lost for that."""
    assert not Rule(Exception, message="x").matches(Speechless())


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (7, 7.0),
        (lambda error: len(error.args), 2.0),
        (lambda error: None, None),
        (0, 0.0),
        (lambda error: -1, None),
        (lambda error: math.inf, None),
        (lambda error: math.nan, None),
    ],
)
def test_the_verdict_has_the_delay(delay: Any, expected: float | None) -> None:
    """Fixed, or read from the error."""
    assert expected == Rule(OSError, Action.WAIT, delay=delay).verdict_on(OSError(1, "x")).seconds


def test_a_result_rule_judges_and_never_matches() -> None:
    """It has a predicate of values instead of classes."""
    rule = Rule.result(is_even, Action.WAIT, delay=3)
    assert (False, ()) == (rule.matches(OSError()), rule.on)
    assert Verdict(Action.WAIT, delay=3) == rule.verdict_on("bad")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Rule(3), TypeError, "on must be error classes or their dotted names, got 3"),
        (lambda: Rule(int), TypeError, "on must be error classes"),
        (lambda: Rule(KeyboardInterrupt), ValueError, "cancellation and exits are never classified"),
        (lambda: Rule(BaseException), ValueError, "on must be a kind of Exception, got BaseException"),
        (lambda: Rule(()), ValueError, "on must name at least one error"),
        (lambda: Rule("OSError"), ValueError, "on must name a module and a class"),
        (lambda: Rule(OSError, "jump"), ValueError, "action must be one of"),
        (lambda: Rule(OSError, category=1), TypeError, "category must be a str"),
        (lambda: Rule(OSError, when=3), TypeError, "when must be a function of the error, got 3"),
        (lambda: Rule(OSError, message=""), ValueError, "message must be a text to look for, got ''"),
        (lambda: Rule(OSError, message=3), ValueError, "message must be a text to look for, got 3"),
        (lambda: Rule(OSError, delay=-1), ValueError, "delay must be >= 0 s"),
        (lambda: Rule(OSError, delay="1"), TypeError, "delay must be seconds"),
        (lambda: Rule(OSError, attempts=0), ValueError, "attempts must be >= 1"),
        (lambda: Rule(OSError, backoff=1), TypeError, "backoff must be a Backoff"),
        (lambda: Rule.result(3), TypeError, "predicate must be a function of the result, got 3"),
        (lambda: Rule.result(is_even, attempts=0), ValueError, "attempts must be >= 1"),
    ],
)
def test_bad_settings_say_which(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    """Every argument is named, with its value."""
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("on", [(), 3, (OSError, int), KeyboardInterrupt, "OSError", "a b.c"])
def test_wrong_errors_may_be_those_of_another_setting(on: object) -> None:
    """The error begins with that setting's name, and carries it."""
    with pytest.raises(SettingError, match="^ignore must ") as caught:
        checked_targets(on, "ignore")
    assert "ignore" == caught.value.setting
