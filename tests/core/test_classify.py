"""Rules and classifiers: an error in, a verdict out."""

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core import backoff
from resilient.core.action import SEVERITY, Action, Verdict
from resilient.core.classify import MOST_PLAIN, Classifier, check_rules, classifier_of
from resilient.core.rule import Rule
from resilient.core.setting_errors import SettingError

RETRY, FAIL = Verdict(Action.RETRY), Verdict(Action.FAIL)


class FloodWait(Exception):
    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds}")
        self.seconds = seconds


def is_even(error: Exception) -> bool:
    return len(error.args) % 2 == 0


def test_first_rule_that_matches_decides() -> None:
    """Rules are tried like except clauses."""
    classify = Classifier(Rule(ConnectionError, Action.RECONNECT), Rule(OSError, Action.RETRY))
    assert [Action.RECONNECT, Action.RETRY, Action.FAIL] == [
        classify(error).action for error in (ConnectionResetError(), FileNotFoundError(), ValueError())
    ]


def test_otherwise_is_fail_unless_said() -> None:
    """What no rule matches fails, or gets the given verdict."""
    assert FAIL == Classifier()(ValueError())
    assert RETRY == Classifier(otherwise=RETRY)(ValueError())


def test_when_is_not_asked_about_other_errors() -> None:
    """A predicate sees only errors of its rule's classes, so it may use their attributes."""
    classify = Classifier(Rule(FloodWait, when=lambda error: error.seconds > 1))
    assert (FAIL, RETRY) == (classify(ValueError()), classify(FloodWait(2)))


@pytest.mark.parametrize(
    ("delay", "expected"),
    [(7, 7.0), (lambda error: error.seconds, 3.0), (lambda error: None, None), (0, 0.0)],
)
def test_delay_is_fixed_or_read_from_the_error(delay: Any, expected: float | None) -> None:
    """A delay may be a duration or a function of the error."""
    verdict = Classifier(Rule(FloodWait, Action.WAIT, delay=delay))(FloodWait(3))
    assert (Action.WAIT, expected) == (verdict.action, verdict.seconds)


def test_verdict_carries_what_the_rule_grants() -> None:
    """Category, attempts and backoff come with the verdict."""
    waits = backoff.constant(1)
    rule = Rule(OSError, Action.RECONNECT, category="connection", attempts=3, backoff=waits)
    assert Verdict(Action.RECONNECT, "connection", None, 3, waits) == Classifier(rule)(OSError())


def test_result_rules_judge_values_only() -> None:
    """A result rule looks at returned values and never at errors."""
    classify = Classifier(Rule.result(lambda value: value is None, category="empty", delay=lambda value: 2))
    assert FAIL == classify(ValueError())
    assert Verdict(Action.RETRY, "empty", 2) == classify.match_result(None)
    assert classify.match_result(0) is None
    assert (True, False) == (classify.judges_results, Classifier(Rule(OSError)).judges_results)


@given(
    actions=st.lists(st.sampled_from(list(Action)), min_size=1, max_size=6),
    nested=st.booleans(),
)
def test_a_group_gets_its_strictest_verdict(actions: list[Action], nested: bool) -> None:
    """FAIL before RELOGIN before ROTATE_PROXY before RECONNECT before WAIT before RETRY."""
    kinds = {action: type(action.name, (Exception,), {}) for action in Action}
    classify = Classifier(*(Rule(kind, action) for action, kind in kinds.items()))
    leaves: list[Exception] = [kinds[action]() for action in actions]
    group = ExceptionGroup("all", [ExceptionGroup("inner", leaves), leaves[0]] if nested else leaves)
    assert max(actions, key=SEVERITY.__getitem__) is classify(group).action


def test_of_equal_verdicts_in_a_group_the_longest_delay_holds() -> None:
    """Two servers name a wait: the longer one counts."""
    classify = Classifier(Rule(FloodWait, Action.WAIT, delay=lambda error: error.seconds))
    assert 9.0 == classify(ExceptionGroup("both", [FloodWait(9), FloodWait(2)])).seconds


def test_an_unmatched_leaf_gets_otherwise() -> None:
    """One leaf that no rule knows makes the group fail; if no leaf is known, no rule matched."""
    classify = Classifier(Rule(OSError))
    assert FAIL == classify(ExceptionGroup("mixed", [OSError(), ValueError()]))
    assert classify.match(ExceptionGroup("unknown", [ValueError()])) is None


def test_a_rule_may_name_groups() -> None:
    """A rule on ExceptionGroup itself is asked before the leaves."""
    classify = Classifier(Rule(Exception), Rule(ExceptionGroup, Action.RELOGIN))
    assert Action.RELOGIN is classify(ExceptionGroup("any", [OSError()])).action
    picky = Classifier(Rule(ExceptionGroup, Action.RELOGIN, message="never"), Rule(OSError))
    assert Action.RETRY is picky(ExceptionGroup("any", [OSError()])).action


def test_or_tries_the_left_first() -> None:
    """``a | b`` chains, and drops what a leaves b no chance of."""
    both = Classifier(Rule(OSError, Action.RECONNECT)) | Classifier(Rule(ConnectionError), Rule(ValueError))
    assert [Action.RECONNECT, Action.RETRY, Action.FAIL] == [
        both(error).action for error in (ConnectionError(), ValueError(), KeyError())
    ]
    assert 2 == len(both.rules)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [(FAIL, RETRY, RETRY), (RETRY, FAIL, RETRY), (RETRY, Verdict(Action.WAIT), Verdict(Action.WAIT))],
)
def test_or_keeps_the_otherwise_that_was_given(left: Verdict, right: Verdict, expected: Verdict) -> None:
    """The right side's, unless only the left has one."""
    assert expected == (Classifier(otherwise=left) | Classifier(otherwise=right)).otherwise


def test_or_wants_a_classifier() -> None:
    """Chaining anything else is a TypeError."""
    with pytest.raises(TypeError):
        Classifier() | Rule(OSError)  # type: ignore[operator]


def test_a_classifier_is_a_value() -> None:
    """Classifiers compare, hash, pickle and show themselves by their rules."""
    one = Classifier(Rule(OSError, Action.RECONNECT), otherwise=RETRY)
    assert one == pickle.loads(pickle.dumps(one))
    assert hash(one) == hash(pickle.loads(pickle.dumps(one)))
    assert one != Classifier(Rule(OSError, Action.RECONNECT))
    assert repr(one).startswith("Classifier(Rule(OSError, Action.RECONNECT), otherwise=Verdict(")
    assert "Classifier(Rule(OSError, Action.RETRY))" == repr(Classifier(Rule(OSError)))


@pytest.mark.parametrize(
    ("on", "error", "retried"),
    [
        (OSError, ConnectionError(), True),
        ((OSError, KeyError), KeyError(), True),
        ([OSError, KeyError], ValueError(), False),
        ("builtins.OSError", ConnectionError(), True),
        (is_even, ValueError(), True),
        (is_even, ValueError(1), False),
        (Rule(OSError, message="x"), OSError("y"), False),
        (Classifier(Rule(OSError)), OSError(), True),
    ],
)
def test_on_takes_every_documented_form(on: object, error: Exception, retried: bool) -> None:
    """Class, tuple, name, predicate, rule or classifier."""
    assert retried is (classifier_of(on)(error).action is Action.RETRY)


@given(st.lists(st.sampled_from([OSError, ValueError, KeyError, ConnectionError, "builtins.LookupError"]), max_size=5))
def test_a_classifier_agrees_with_except_clauses(targets: list[Any]) -> None:
    """Whatever the order: either a rule is out of reach, or the first match decides."""
    rules = [Rule(target, category=str(position)) for position, target in enumerate(targets)]
    try:
        classify = Classifier(*rules)
    except ValueError:
        return
    for error in (OSError(), ValueError(), KeyError(), ConnectionError()):
        classes = [LookupError if isinstance(target, str) else target for target in targets]
        first = next((str(n) for n, kind in enumerate(classes) if isinstance(error, kind)), None)
        assert (first or "") == classify(error).category


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Classifier(OSError), TypeError, "rules must be Rule objects, got <class 'OSError'>"),
        (lambda: Classifier(otherwise=Action.RETRY), TypeError, "otherwise must be a Verdict"),
        (lambda: classifier_of(None), TypeError, "on must say which errors"),
        (lambda: classifier_of(()), ValueError, "on must name at least one error"),
    ],
)
def test_bad_settings_say_which(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    """Every argument is named, with its value."""
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("on", [None, 3, (), [3], "OSError", KeyboardInterrupt])
def test_wrong_errors_may_be_those_of_another_setting(on: object) -> None:
    """The error begins with that setting's name, and carries it."""
    with pytest.raises(SettingError, match="^ignore must ") as caught:
        classifier_of(on, "ignore")
    assert "ignore" == caught.value.setting


@pytest.mark.parametrize("rules", [[Rule(OSError), Rule(ConnectionError)], [3]])
def test_wrong_rules_carry_the_arguments_name(rules: list[Any]) -> None:
    """Also where the text says which rule it is."""
    with pytest.raises(SettingError) as caught:
        check_rules(rules, "value")
    assert "value" == caught.value.setting


@pytest.mark.parametrize(
    ("rules", "error", "plain"),
    [
        ([Rule(OSError)], ConnectionError(), True),
        ([Rule(OSError, Action.WAIT)], OSError(), True),
        ([Rule(ValueError, when=is_even), Rule(OSError)], OSError(), True),
        ([Rule(OSError, when=is_even), Rule(Exception)], OSError(), False),
        ([Rule(OSError, Action.RECONNECT)], OSError(), False),
        ([Rule(OSError, delay=1)], OSError(), False),
        ([Rule(OSError, attempts=2)], OSError(), False),
        ([Rule("lib.Error"), Rule(OSError)], OSError(), False),
        ([Rule(Exception)], ExceptionGroup("g", [OSError()]), False),
        ([Rule(ValueError)], OSError(), False),
    ],
)
def test_only_unconditional_retries_are_learned(rules: list[Rule], error: Exception, plain: bool) -> None:
    """The short cut knows just the classes whose verdict can be nothing but a plain retry."""
    classify = Classifier(*rules)
    classify.plain.learn(type(error))
    assert plain is (type(error) in classify.plain)


def test_the_short_cut_is_bounded() -> None:
    """A program that makes error classes on the fly fills no memory."""
    plain = Classifier(Rule(Exception)).plain
    for _ in range(MOST_PLAIN + 10):
        plain.learn(type("Error", (Exception,), {}))
    assert MOST_PLAIN == len(plain)
