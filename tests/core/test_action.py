"""Actions and verdicts."""

import pickle
from datetime import timedelta

import pytest

from resilient.core import backoff
from resilient.core.action import SEVERITY, Action, Verdict, checked_action
from resilient.core.setting_errors import SettingValueError


def test_actions_are_the_six() -> None:
    """The names are settled."""
    assert ["WAIT", "RECONNECT", "ROTATE_PROXY", "RELOGIN", "RETRY", "FAIL"] == [action.name for action in Action]


@pytest.mark.parametrize("text", ["rotate_proxy", "ROTATE_PROXY", "Rotate_Proxy"])
def test_actions_are_found_by_name(text: str) -> None:
    """Settings files may write an action in any case."""
    assert Action.ROTATE_PROXY is Action(text)


def test_severity_orders_all_actions() -> None:
    """FAIL is strictest, RETRY mildest."""
    assert sorted(Action, key=SEVERITY.__getitem__) == [
        Action.RETRY,
        Action.WAIT,
        Action.RECONNECT,
        Action.ROTATE_PROXY,
        Action.RELOGIN,
        Action.FAIL,
    ]


def test_verdict_takes_the_documented_order() -> None:
    """Action, category, delay, attempts, backoff."""
    waits = backoff.constant(1)
    verdict = Verdict(Action.WAIT, "flood", timedelta(seconds=3), 5, waits)
    assert (Action.WAIT, "flood", 3.0, 5, waits) == (
        verdict.action,
        verdict.category,
        verdict.delay,
        verdict.attempts,
        verdict.backoff,
    )
    assert 3.0 == verdict.seconds


def test_verdict_is_a_value() -> None:
    """Verdicts compare, hash and pickle; a zero delay is kept."""
    verdict = Verdict(Action.RETRY, delay=0)
    assert verdict == pickle.loads(pickle.dumps(verdict)) == Verdict("retry", delay=0.0)  # type: ignore[arg-type]
    assert 0.0 == verdict.delay
    assert 1 == len({verdict, Verdict(Action.RETRY, delay=0)})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("jump",), ValueError, "action must be one of WAIT, .*, FAIL, got 'jump'"),
        ((3,), ValueError, "action must be one of"),
        ((Action.WAIT, 1), TypeError, "category must be a str, got 1"),
        ((Action.WAIT, "", -1), ValueError, "delay must be >= 0 s, got -1"),
        ((Action.WAIT, "", None, 0), ValueError, "attempts must be >= 1, got 0"),
        ((Action.WAIT, "", None, None, 3), TypeError, "backoff must be a Backoff, .* got 3"),
    ],
)
def test_bad_verdicts_say_why(arguments: tuple[object, ...], error: type[Exception], message: str) -> None:
    """Each field is named."""
    with pytest.raises(error, match=message):
        Verdict(*arguments)  # type: ignore[arg-type]


def test_an_action_may_be_a_setting_of_another_name() -> None:
    """The error begins with that name, and carries it."""
    with pytest.raises(SettingValueError, match="^otherwise must be one of WAIT, .* got 'jump'$") as caught:
        checked_action("jump", "otherwise")
    assert "otherwise" == caught.value.setting
