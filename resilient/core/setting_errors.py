"""Errors of settings, which carry the setting's name: nobody needs to look for it in a text.

::

    SettingError            never raised itself
    ├── SettingTypeError    (also TypeError)
    └── SettingValueError   (also ValueError)

They are raised where a setting comes in. Callers catch ``TypeError`` and ``ValueError``, which is all that is promised.
"""

from __future__ import annotations

from typing import Any

__all__ = ["SettingError", "SettingTypeError", "SettingValueError", "checked_name", "setting_of"]


class SettingError(Exception):
    """A setting, or another argument, that cannot be taken. Its text is the subject and the problem.

    Args:
        setting: the argument's name.
        problem: what is wrong, as it is said after the name: "must be >= 1, got 0".
        subject: what the problem is said of, where that is not the name alone: "layers[0]".

    Attributes:
        setting: the argument's name.
        subject: what the text begins with.
    """

    def __init__(self, setting: str, problem: str, *, subject: str = "") -> None:
        self.setting = setting
        self.subject = subject or setting
        super().__init__(f"{self.subject} {problem}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args), self.__dict__


class SettingTypeError(SettingError, TypeError):
    """A setting of the wrong type."""


class SettingValueError(SettingError, ValueError):
    """A setting of the right type that is out of range."""


def setting_of(error: BaseException) -> str:
    """The name of the setting that an error is about; empty if it is about none."""
    return error.setting if isinstance(error, SettingError) else ""


def _rebuilt(kind: type[SettingError], args: tuple[Any, ...]) -> SettingError:
    # By __new__, as the text that copies and pickles bring is whole already.
    return kind.__new__(kind, *args)


def checked_name(name: object) -> str:
    """Checks the name of a policy, or of something that is managed.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(name, str):
        raise SettingTypeError("name", f"must be a str, got {name!r}")
    return name
