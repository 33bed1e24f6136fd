"""Tables, and where their problems stand."""

from __future__ import annotations

import pytest

from resilient.core.setting_errors import SettingTypeError, SettingValueError
from resilient.settings.table import Table


def table() -> Table:
    return Table("settings", "policies.db", {"limit": 0}, [])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SettingValueError("limit", "must be >= 1, got 0"), "limit must be >= 1, got 0"),
        (SettingTypeError("layers", "must be a policy", subject="layers[0]"), "layers[0] must be a policy"),
        (SettingValueError("limit", "fits through", subject="nobody"), "limit: nobody fits through"),
        (ValueError("no"), "no"),
    ],
)
def test_an_error_is_noted_in_the_place_of_its_setting(error: Exception, expected: str) -> None:
    """Whatever its text begins with."""
    noting = table()
    noting.note_error(error)
    assert [f"settings: policies.db.{expected}"] == noting.problems


def test_what_raises_is_none_and_a_problem() -> None:
    """So that the problems of a whole document are told together."""

    def convert(value: object) -> int:
        raise SettingValueError("limit", f"must be >= 1, got {value}")

    reading = table()
    assert (None, ["settings: policies.db.limit must be >= 1, got 0"]) == (
        reading.read("limit", convert),
        reading.problems,
    )


def test_an_error_that_no_setting_explains_escapes() -> None:
    """A bug is no problem of the document."""
    with pytest.raises(ZeroDivisionError):
        table().attempt(lambda: 1 // 0)
