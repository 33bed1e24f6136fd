"""Recovery: what to do about the resource itself, once for all who lost it together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from resilient.core.action import Action
from resilient.core.duration import Duration, seconds
from resilient.core.setting_errors import SettingTypeError
from resilient.drivers.retry.single_flight import SingleFlight
from resilient.policies.frozen import Frozen, by_name

__all__ = ["Handler", "Recovery"]

Handler: TypeAlias = Callable[[], object]
"""A function without arguments, blocking or async; what it returns is ignored, what it raises is a failure."""


@by_name("Recovery(reconnect=client.reconnect)")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Recovery(Frozen):
    """How to recover a resource: one handler for each action.

    Share one between all calls that use one resource: it is single-flight. Callers that fail while a recovery
    runs wait for it and try again; callers that failed on a connection older than the last recovery just try
    again. A handler that is missing or raises falls back to a plain retry, and is an event.

    Args:
        reconnect: for RECONNECT: makes a new connection.
        rotate_proxy: for ROTATE_PROXY: takes another way.
        relogin: for RELOGIN: signs in again.
        throttle: least time from the end of one recovery to the beginning of the next, seconds, >= 0.

    Raises:
        TypeError, ValueError: a handler cannot be called, or the throttle is out of range.
    """

    reconnect: Handler | None = None
    rotate_proxy: Handler | None = None
    relogin: Handler | None = None
    throttle: Duration = 0.0
    flight: SingleFlight = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("reconnect", "rotate_proxy", "relogin"):
            handler = getattr(self, name)
            if handler is not None and not callable(handler):
                raise SettingTypeError(name, f"must be a function without arguments, got {handler!r}")
        throttle = seconds("throttle", self.throttle)
        object.__setattr__(self, "throttle", throttle)
        object.__setattr__(self, "flight", SingleFlight(throttle))

    def handler(self, action: Action) -> Handler | None:
        """The handler of an action, if it has one."""
        match action:
            case Action.RECONNECT:
                return self.reconnect
            case Action.ROTATE_PROXY:
                return self.rotate_proxy
            case Action.RELOGIN:
                return self.relogin
            case _:
                return None
