"""Durations and whole numbers are checked where they come in."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.core.duration import optional_seconds, seconds, whole


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
