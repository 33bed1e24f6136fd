"""Errors that carry the setting's name."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from resilient.core.setting_errors import SettingError, SettingTypeError, SettingValueError, checked_name, setting_of


def test_a_wrong_type_is_a_type_error() -> None:
    """Whoever catches ``TypeError`` catches it, and no ``ValueError`` does."""
    error = SettingTypeError("attempts", "must be a whole number")
    assert (True, False) == (isinstance(error, TypeError), isinstance(error, ValueError))


def test_a_wrong_value_is_a_value_error() -> None:
    """Whoever catches ``ValueError`` catches it, and no ``TypeError`` does."""
    error = SettingValueError("attempts", "must be >= 1")
    assert (True, False) == (isinstance(error, ValueError), isinstance(error, TypeError))


@pytest.mark.parametrize("kind", [SettingTypeError, SettingValueError])
def test_the_text_is_all_that_the_error_is_made_of(kind: type[SettingError]) -> None:
    """As with the built-in error that it is."""
    error = kind("attempts", "must be >= 1, got 0")
    assert ("attempts must be >= 1, got 0", ("attempts must be >= 1, got 0",)) == (str(error), error.args)


def test_the_text_may_speak_of_more_than_the_setting() -> None:
    """The attribute has the setting's own name all the same."""
    error = SettingValueError("low", "are in the wrong order", subject="high and low")
    assert ("high and low are in the wrong order", "low") == (str(error), error.setting)


@pytest.mark.parametrize("kind", [SettingTypeError, SettingValueError])
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("subject", ["", "layers[0]"])
def test_it_pickles_and_copies_with_all_it_carries(
    kind: type[SettingError], again: Callable[[Any], Any], subject: str
) -> None:
    """Class, text, setting and notes."""
    error = kind("layers", "must be a policy, got 3", subject=subject)
    error.add_note("in settings.toml")
    found = again(error)
    assert (type(error), str(error), vars(error)) == (type(found), str(found), vars(found))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SettingValueError("attempts", "must be >= 1"), "attempts"),
        (SettingTypeError("low", "are no numbers", subject="high and low"), "low"),
        (ValueError("attempts must be >= 1"), ""),
        (KeyboardInterrupt(), ""),
    ],
)
def test_only_an_error_of_a_setting_is_about_one(error: BaseException, expected: str) -> None:
    """What others say in a text is not looked at."""
    assert expected == setting_of(error)


def test_an_attribute_of_somebody_elses_error_is_not_taken_for_a_setting() -> None:
    """It may be called so for any reason."""
    error = ValueError("no")
    error.setting = "attempts"  # type: ignore[attr-defined]
    assert "" == setting_of(error)


@pytest.mark.parametrize("name", [3, None, b"db"])
def test_a_name_that_is_no_text_is_refused(name: object) -> None:
    """Any text will do."""
    assert ["", "db"] == [checked_name(""), checked_name("db")]
    with pytest.raises(SettingTypeError, match=f"name must be a str, got {name!r}"):
        checked_name(name)
