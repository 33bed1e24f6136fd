"""Durations and whole numbers are checked where they come in."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.duration import number, optional_seconds, seconds, share, whole
from resilient.core.setting_errors import SettingError


@pytest.mark.parametrize(
    "check",
    [
        lambda: seconds("wait", "1"),
        lambda: seconds("wait", 10**400),
        lambda: seconds("wait", float("nan")),
        lambda: seconds("wait", -1),
        lambda: whole("wait", 1.5, least=1),
        lambda: whole("wait", 0, least=1),
        lambda: number("wait", "1", least=0),
        lambda: number("wait", -1, least=0),
    ],
)
def test_a_wrong_number_carries_the_arguments_name(check: Callable[[], Any]) -> None:
    """As an attribute of the error."""
    with pytest.raises(SettingError) as caught:
        check()
    assert "wait" == caught.value.setting


@pytest.mark.parametrize(
    "check",
    [
        lambda: seconds("waits", "1", subject="the last wait"),
        lambda: seconds("waits", 10**400, subject="the last wait"),
        lambda: seconds("waits", float("nan"), subject="the last wait"),
        lambda: seconds("waits", -1, subject="the last wait"),
        lambda: whole("waits", 1.5, least=1, subject="the last wait"),
        lambda: whole("waits", 0, least=1, subject="the last wait"),
    ],
)
def test_a_part_of_an_argument_is_named_in_the_text(check: Callable[[], Any]) -> None:
    """The attribute still has the argument's own name."""
    with pytest.raises(SettingError, match="^the last wait must be ") as caught:
        check()
    assert "waits" == caught.value.setting


@given(st.floats(min_value=0, max_value=1e9))
def test_seconds_are_taken_as_they_are(value: float) -> None:
    """A finite number >= 0 is itself."""
    assert value == seconds("wait", value)


def test_timedelta_is_seconds() -> None:
    """A timedelta gives its total seconds."""
    assert 90.5 == seconds("wait", timedelta(minutes=1, seconds=30.5))


@pytest.mark.parametrize("value", ["1", None, True, [1], 1j])
def test_wrong_type_names_the_argument(value: object) -> None:
    """What is no number of seconds is a TypeError that names argument and value."""
    with pytest.raises(TypeError, match="wait must be seconds") as caught:
        seconds("wait", value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [-1, -0.001, float("nan"), float("inf"), 10**400, timedelta(days=-1)])
def test_out_of_range_names_the_limit(value: object) -> None:
    """What is out of range is a ValueError that names argument and limit."""
    with pytest.raises(ValueError, match="wait must be (finite and )?>= 0 s"):
        seconds("wait", value)


def test_limit_can_be_excluded() -> None:
    """``above`` excludes the limit itself."""
    with pytest.raises(ValueError, match="wait must be > 0 s, got 0"):
        seconds("wait", 0, above=True)


def test_none_is_no_limit() -> None:
    """Optional durations keep None, and 0 is not None."""
    assert (None, 0.0) == (optional_seconds("wait", None), optional_seconds("wait", 0))


@pytest.mark.parametrize(("value", "error"), [(True, TypeError), (1.0, TypeError), ("3", TypeError), (0, ValueError)])
def test_whole_numbers_are_checked(value: object, error: type[Exception]) -> None:
    """Attempts are whole numbers at or above their limit."""
    with pytest.raises(error, match="attempts must be .*>= 1"):
        whole("attempts", value, least=1)


def test_whole_number_passes() -> None:
    """A good one is itself."""
    assert 3 == whole("attempts", 3, least=1)


@pytest.mark.parametrize("value", [0.5, 1, 3, 2.0])
def test_a_number_within_its_limits_is_itself(value: float) -> None:
    """Whole or not, the limits included."""
    assert value == number("factor", value, least=0.5, most=3)
    assert value == number("factor", value, least=0.5)


@pytest.mark.parametrize(
    ("value", "settings", "limits"),
    [
        (0.4, {}, ">= 0.5"),
        (0.5, {"above": True}, "> 0.5"),
        (3.1, {"most": 3}, ">= 0.5 and <= 3"),
        (float("inf"), {}, ">= 0.5"),
        (float("-inf"), {}, ">= 0.5"),
        (float("nan"), {}, ">= 0.5"),
    ],
)
def test_a_number_outside_its_limits_names_them(value: float, settings: dict[str, Any], limits: str) -> None:
    """With the argument and the value."""
    with pytest.raises(ValueError) as caught:
        number("factor", value, least=0.5, **settings)
    assert f"factor must be {limits}, got {value!r}" == str(caught.value)


@pytest.mark.parametrize("value", ["1", None, True, 1j, timedelta(seconds=1)])
def test_what_is_no_number_is_a_type_error(value: object) -> None:
    """Durations too."""
    with pytest.raises(TypeError, match="factor must be a number >= 0, got "):
        number("factor", value, least=0)


@pytest.mark.parametrize(("value", "good"), [(0.001, True), (1, True), (0, False), (1.001, False), (-1, False)])
def test_a_share_is_above_nothing_and_at_most_all(value: float, good: bool) -> None:
    """Of calls, say."""
    if good:
        assert value == share("failure_rate", value)
    else:
        with pytest.raises(ValueError, match="failure_rate must be > 0 and <= 1, got "):
            share("failure_rate", value)
