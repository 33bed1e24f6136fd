"""The settings of a connection manager, how they are checked, and the numbers that it shows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, Required, TypedDict, TypeVar

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, optional_seconds
from resilient.core.link import State
from resilient.core.link_plan import LinkPlan
from resilient.core.setting_errors import SettingTypeError, SettingValueError
from resilient.observe.listeners import Listener
from resilient.policies.recovery import Recovery

__all__ = [
    "CLOSE_TIMEOUT", "CONNECT_TIMEOUT", "FAILBACK_AFTER", "MISSES", "ManagerPlan", "ManagerSettings", "ManagerStats",
    "checked_bool", "checked_endpoints", "checked_function", "checked_heartbeat", "checked_on_cancel",
    "checked_recovery",
]  # fmt: skip

C = TypeVar("C")

CONNECT_TIMEOUT = 10.0  # seconds: websockets' open_timeout; a lost SYN is sent again after 1, 3 and 7 s (RFC 6298)
CLOSE_TIMEOUT = 10.0  # seconds: websockets' close_timeout; what is slower is left behind
MISSES = 3  # heartbeats
FAILBACK_AFTER = 60.0  # seconds, after which an endpoint that failed is taken for as good as any
ON_CANCEL = ("retire", "keep")


class ManagerSettings(TypedDict, Generic[C], total=False):
    """What a manager takes beside connect, for type checkers: see ``Managed``, whose signature it repeats."""

    close: Callable[[C], object] | None
    probe: Callable[[C], object] | None
    on: Required[object]
    backoff: Backoff
    attempts: int | None
    stable_after: Duration
    throttle: Duration
    connect_timeout: Duration | None
    heartbeat: Duration | None
    misses: int
    recovery: Recovery | None
    endpoints: Iterable[Hashable]
    on_connect: Callable[[C], object] | None
    on_cancel: Literal["retire", "keep"]
    max_age: Duration | None
    max_wait: Duration
    failback_after: Duration
    probe_when_busy: bool
    name: str
    listeners: Iterable[Listener] | Listener


@dataclass(frozen=True, slots=True)
class ManagerPlan:
    """The settings of a connection manager, checked by whoever makes it.

    Attributes:
        dial: makes a connection, from an endpoint if there are any.
        close: ends a connection; None: it is just let go.
        probe: asks a connection whether it lives; None: nobody asks.
        link: when to dial, and what trouble calls for.
        connect_timeout: for a dial and its first probe, and for a recovery handler, seconds; None for no limit.
        heartbeat: interval of probes while nothing else is heard, seconds; None for none.
        misses: intervals of silence after which the connection is lost.
        recovery: handlers for ROTATE_PROXY and RELOGIN.
        endpoints: where to dial, in order of preference; empty if the dial knows.
        on_connect: called with each new connection before anybody gets it; None: nothing is.
        on_cancel: "retire" or "keep": what becomes of a connection whose call was cut off.
        max_age: how long a connection is used, seconds; None for ever.
        failback_after: how long a failure is held against an endpoint, seconds.
        probe_when_busy: whether a connection is probed while operations run on it.
        name: for events and errors.
        listeners: who hears events.
    """

    dial: Callable[..., object]
    close: Callable[..., object] | None
    probe: Callable[..., object] | None
    link: LinkPlan
    connect_timeout: float | None
    heartbeat: float | None
    misses: int
    recovery: Recovery | None
    endpoints: tuple[Hashable, ...]
    on_connect: Callable[..., object] | None
    on_cancel: str
    max_age: float | None
    failback_after: float
    probe_when_busy: bool
    name: str
    listeners: tuple[Listener, ...]


@dataclass(frozen=True, slots=True)
class ManagerStats:
    """What became of a manager's connections so far.

    Attributes:
        state: what the manager is doing.
        generation: number of the connection that is up or being made, or will be the next.
        endpoint: where it goes; None without endpoints, or before the first dial.
        connects: connections that came up.
        failures: dials that failed.
        losses: connections that ended by themselves.
        recoveries: times that ROTATE_PROXY or RELOGIN was begun, with a handler.
        operations: calls and blocks that are under way.
        waiting: those that wait for a connection.
        uptime: how long the present connection has been up, seconds; 0.0 without one.
        last_error: what the last dial failed with, or the last connection was lost by; None if there was nothing.
    """

    state: State
    generation: int
    endpoint: object
    connects: int
    failures: int
    losses: int
    recoveries: int
    operations: int
    waiting: int
    uptime: float
    last_error: Exception | None


def checked_function(name: str, function: object, what: str) -> Callable[..., object]:
    """A function that the user gave.

    Raises:
        TypeError: it cannot be called.
    """
    if not callable(function):
        raise TypeError(f"{name} must be a function {what}, got {function!r}")
    return function


def checked_recovery(recovery: object) -> Recovery | None:
    """Checks recovery handlers, or None.

    Raises:
        TypeError: it is something else.
    """
    if recovery is not None and not isinstance(recovery, Recovery):
        raise TypeError(f"recovery must be a Recovery, such as Recovery(relogin=client.sign_in), got {recovery!r}")
    return recovery


def checked_heartbeat(heartbeat: Duration | None, probe: object) -> float | None:
    """The interval of heartbeats, seconds, or None.

    Raises:
        TypeError, ValueError: it is no duration, or there is no probe.
    """
    interval = optional_seconds("heartbeat", heartbeat, above=True)
    if interval is not None and probe is None:
        raise ValueError(f"heartbeat needs a probe, a function of the connection, got {heartbeat!r} without one")
    return interval


def checked_endpoints(endpoints: Iterable[Hashable]) -> tuple[Hashable, ...]:
    """Checks where to dial.

    Raises:
        TypeError, ValueError: it is one text, or one is named twice.
    """
    if isinstance(endpoints, (str, bytes)):
        raise TypeError(f"endpoints must be a list of what connect understands, got the text {endpoints!r}")
    given = tuple(endpoints)
    if len(set(given)) < len(given):
        raise ValueError(f"endpoints must each be named once, got {list(given)!r}")
    return given


def checked_on_cancel(on_cancel: object) -> str:
    """Checks what becomes of a connection whose call was cut off.

    Raises:
        ValueError: it is something else.
    """
    if on_cancel not in ON_CANCEL:
        raise SettingValueError("on_cancel", f'must be "retire" or "keep", got {on_cancel!r}')
    return str(on_cancel)


def checked_bool(setting: str, value: object) -> bool:
    """Checks a setting that is on or off.

    Raises:
        TypeError: it is neither.
    """
    if not isinstance(value, bool):
        raise SettingTypeError(setting, f"must be True or False, got {value!r}")
    return value
