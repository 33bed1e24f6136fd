"""What to do about an error: the six actions, and the verdict that names one."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum, auto

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, optional_seconds, whole
from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["Action", "Verdict"]


class Action(StrEnum):
    """What an error calls for. Every action but FAIL ends in another attempt."""

    WAIT = auto()  # the other side named a time, or asks for one
    RECONNECT = auto()  # the connection is gone: make a new one
    ROTATE_PROXY = auto()  # the way there is bad: take another
    RELOGIN = auto()  # the credentials ran out: sign in again
    RETRY = auto()  # it may just work the next time
    FAIL = auto()  # it never will: give the error to the caller

    @classmethod
    def _missing_(cls, value: object) -> Action | None:
        """Takes the names too, in any case, so that settings files may write ``RECONNECT``."""
        return cls.__members__.get(value.upper()) if isinstance(value, str) else None


# From mildest to strictest: of an exception group's leaves, the strictest verdict speaks for all.
SEVERITY = {
    action: rank
    for rank, action in enumerate(
        (Action.RETRY, Action.WAIT, Action.RECONNECT, Action.ROTATE_PROXY, Action.RELOGIN, Action.FAIL)
    )
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about one error.

    Args:
        action: what it calls for.
        category: the kind of trouble, under which attempts and waits of its own are counted.
        delay: wait before the next attempt, seconds, >= 0; replaces the backoff's.
        attempts: calls in all while this category keeps failing, >= 1; None leaves it to the policy.
        backoff: the waits of this category; None takes the policy's.

    Attributes:
        seconds: the delay as a number.
    """

    action: Action
    category: str = ""
    delay: Duration | None = None
    attempts: int | None = None
    backoff: Backoff | None = None
    seconds: float | None = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        fix(self, "action", checked_action(self.action))
        seconds = optional_seconds("delay", self.delay)
        fix(self, "delay", seconds)
        fix(self, "seconds", seconds)
        check_limits(self.category, self.attempts, self.backoff)


def checked_action(value: object, name: str = "action") -> Action:
    """The action of this name.

    Args:
        value: what the user gave.
        name: the argument's name, for the error.

    Raises:
        ValueError: there is none.
    """
    try:
        return Action(value)  # type: ignore[arg-type]  # whatever the user gave: that is the question
    except ValueError:
        choice = ", ".join(action.name for action in Action)
        raise SettingValueError(name, f"must be one of {choice}, got {value!r}") from None


def check_limits(category: object, attempts: object, backoff: object) -> None:
    """Checks what rules and verdicts have in common."""
    if not isinstance(category, str):
        raise SettingTypeError("category", f"must be a str, got {category!r}")
    if attempts is not None:
        whole("attempts", attempts, least=1)
    if backoff is not None and not isinstance(backoff, Backoff):
        raise SettingTypeError("backoff", f"must be a Backoff, such as backoff.exponential(1), got {backoff!r}")
