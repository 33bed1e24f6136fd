"""What is hung on errors of others, as far as they take it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from resilient.core.notes import MOST_NOTES, cause, note


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    host: str = "db"


class Payload(Exception):
    """Looks its attributes up: what is not there is None, or a KeyError."""

    def __init__(self, missing: Any) -> None:
        super().__init__("api error")
        self.missing = missing

    def __getattr__(self, name: str) -> Any:
        if isinstance(self.__dict__["missing"], Exception):
            raise self.__dict__["missing"]
        return self.__dict__["missing"]


def test_a_note_is_added() -> None:
    """Once, if that is wanted; and no more of them than somebody might read."""
    error = OSError()
    for _ in range(3):
        note(error, "gave up", once=True)
    assert ["gave up"] == error.__notes__
    note(error, "gave up")
    assert ["gave up"] * 2 == error.__notes__
    for number in range(100):
        note(error, f"{number}")
    assert MOST_NOTES == len(error.__notes__)


def test_a_cause_is_said() -> None:
    """As by ``raise from``."""
    error, of = OSError(), ValueError()
    cause(error, of)
    assert of is error.__cause__


@pytest.mark.parametrize("error", [Frozen(), Payload(None), Payload(KeyError("x"))], ids=["frozen", "none", "raises"])
def test_an_error_that_takes_nothing_is_left_alone(error: Exception) -> None:
    """Nothing is raised, and nothing is hung on it."""
    note(error, "gave up")
    cause(error, OSError())
    assert "__notes__" not in vars(error)
