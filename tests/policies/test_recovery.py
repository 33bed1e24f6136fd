"""Recovery as users hold it."""

import pickle
from datetime import timedelta
from typing import Any

import pytest

from resilient import Action, Recovery


def reconnect() -> None: ...


def relogin() -> None: ...


def rotate() -> None: ...


def test_each_action_has_its_handler() -> None:
    """The three recoveries, and nothing for the other actions."""
    recovery = Recovery(reconnect=reconnect, rotate_proxy=rotate, relogin=relogin)
    expected = {Action.RECONNECT: reconnect, Action.ROTATE_PROXY: rotate, Action.RELOGIN: relogin}
    assert {action: expected.get(action) for action in Action} == {
        action: recovery.handler(action) for action in Action
    }


def test_a_recovery_is_a_value_with_state_of_its_own() -> None:
    """Compared, hashed and pickled by its settings; the single flight is made anew."""
    one = Recovery(reconnect=reconnect, throttle=timedelta(seconds=5))
    again = pickle.loads(pickle.dumps(one))
    assert (one, hash(one), 5.0) == (again, hash(again), again.throttle)
    assert one.flight is not again.flight
    assert one != Recovery(reconnect=reconnect)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"reconnect": 3}, TypeError, "reconnect must be a function without arguments, got 3"),
        ({"rotate_proxy": 3}, TypeError, "rotate_proxy must be a function"),
        ({"relogin": 3}, TypeError, "relogin must be a function"),
        ({"throttle": -1}, ValueError, "throttle must be >= 0 s, got -1"),
        ({"throttle": "1"}, TypeError, "throttle must be seconds"),
        ({"reconect": reconnect}, TypeError, "reconect"),
    ],
)
def test_bad_settings_say_which(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    """Each is named."""
    with pytest.raises(error, match=message):
        Recovery(**settings)


def test_settings_go_by_name() -> None:
    """By position they are refused with an example."""
    with pytest.raises(TypeError, match="Recovery takes its settings by name"):
        Recovery(reconnect)  # type: ignore[misc]
