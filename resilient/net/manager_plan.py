"""The settings of a connection manager, checked, and the numbers that it shows."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from inspect import iscoroutinefunction

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, optional_seconds, seconds, whole
from resilient.core.link import State
from resilient.core.link_plan import LinkPlan, link_plan
from resilient.observe.listeners import Listener
from resilient.policies.gate import checked_listeners, checked_name
from resilient.policies.recovery import Recovery

__all__ = ["CLOSE_TIMEOUT", "CONNECT_TIMEOUT", "MISSES", "ManagerPlan", "ManagerStats", "checked_hook", "manager_plan"]

CONNECT_TIMEOUT = 10.0  # seconds: websockets' open_timeout; a lost SYN is sent again after 1, 3 and 7 s (RFC 6298)
CLOSE_TIMEOUT = 10.0  # seconds: websockets' close_timeout; what is slower is left behind
MISSES = 3  # heartbeats


@dataclass(frozen=True, slots=True)
class ManagerPlan:
    """The settings of a connection manager. Made by :func:`manager_plan`, which checks them.

    Attributes:
        dial: makes a connection, from an endpoint if there are any.
        close: ends a connection; None: it is just let go.
        probe: asks a connection whether it lives; None: nobody asks.
        link: when to dial, and what trouble calls for.
        connect_timeout: for a dial and its first probe, seconds; None for no limit.
        heartbeat: interval of probes while nothing else is heard, seconds; None for none.
        misses: intervals of silence after which the connection is lost.
        recovery: handlers for ROTATE_PROXY and RELOGIN.
        endpoints: where to dial, in order of preference; empty if the dial knows.
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


def manager_plan(
    connect: object,
    *,
    close: object,
    probe: object,
    on: object,
    backoff: Backoff,
    attempts: int | None,
    stable_after: Duration,
    throttle: Duration,
    connect_timeout: Duration | None,
    heartbeat: Duration | None,
    misses: int,
    recovery: object,
    endpoints: Iterable[Hashable],
    name: str,
    listeners: object,
) -> ManagerPlan:
    """Settings, checked.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """
    if not callable(connect):
        raise TypeError(f"connect must be a function that makes a connection, got {connect!r}")
    if recovery is not None and not isinstance(recovery, Recovery):
        raise TypeError(f"recovery must be a Recovery, such as Recovery(relogin=client.sign_in), got {recovery!r}")
    interval = optional_seconds("heartbeat", heartbeat, above=True)
    if interval is not None and probe is None:
        raise ValueError(f"heartbeat needs a probe, a function of the connection, got {heartbeat!r} without one")
    hears = checked_listeners(listeners)
    for listener in hears:
        checked_hook(listener)
    return ManagerPlan(
        connect,
        _hook("close", close),
        _hook("probe", probe),
        link_plan(on, backoff=backoff, attempts=attempts, stable_after=stable_after, throttle=throttle),
        None if connect_timeout is None else seconds("connect_timeout", connect_timeout, above=True),
        interval,
        whole("misses", misses, least=2),
        recovery,
        _endpoints(endpoints),
        checked_name(name),
        hears,
    )


def checked_hook(listener: object) -> None:
    """Refuses what cannot hear events.

    Raises:
        TypeError: it cannot be called, or would have to be awaited.
    """
    if not callable(listener) or iscoroutinefunction(listener):
        raise TypeError(f"a listener must be a plain function of an event, which nobody awaits, got {listener!r}")


def _hook(name: str, hook: object) -> Callable[..., object] | None:
    if hook is not None and not callable(hook):
        raise TypeError(f"{name} must be a function of the connection, got {hook!r}")
    return hook


def _endpoints(endpoints: Iterable[Hashable]) -> tuple[Hashable, ...]:
    if isinstance(endpoints, (str, bytes)):
        raise TypeError(f"endpoints must be a list of what connect understands, got the text {endpoints!r}")
    given = tuple(endpoints)
    if len(set(given)) < len(given):
        raise ValueError(f"endpoints must each be named once, got {list(given)!r}")
    return given
