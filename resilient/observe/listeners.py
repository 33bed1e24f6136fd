"""Who hears events: a policy's own listeners, process-wide ones, and the log.

Nothing is built for nobody: :func:`hearers` is asked first, and is empty unless somebody listens. A listener
that raises hurts nothing but itself; what it raised is logged.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from threading import Lock
from types import TracebackType
from typing import TypeAlias

from resilient.core.events import Event
from resilient.core.setting_errors import SettingTypeError
from resilient.observe.log import INFO, LOG, report, write

__all__ = ["Listener", "Subscription", "checked_listener", "checked_listeners", "hearers", "listen", "tell"]

Listener: TypeAlias = Callable[[Event], object]

# Replaced as a whole, never changed in place: readers need no lock.
_everywhere: tuple[Listener, ...] = ()
_changing = Lock()


class Subscription:
    """A process-wide listener; closing it, or leaving it as a context manager, ends it."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        self._listener: Listener | None = listener

    def close(self) -> None:
        """Ends it; again does nothing."""
        global _everywhere
        with _changing:
            if self._listener is not None:
                kept = list(_everywhere)
                kept.remove(self._listener)
                _everywhere, self._listener = tuple(kept), None

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def listen(listener: Listener) -> Subscription:
    """Tells a function of every event of every policy in this process, in the thread where it happens.

    Args:
        listener: called with each event; what it raises is logged, nothing more.

    Raises:
        TypeError: it cannot be called.
    """
    global _everywhere
    if not callable(listener):
        raise SettingTypeError("listener", f"must be a function of an event, got {listener!r}")
    with _changing:
        _everywhere = (*_everywhere, listener)
    return Subscription(listener)


def hearers(own: tuple[Listener, ...], level: int = INFO) -> tuple[Listener, ...]:
    """Everybody who hears an event of this level: empty if nobody does.

    Args:
        own: the policy's listeners.
        level: the event's level in the log, as ``logging`` counts.
    """
    logger = LOG.logger or LOG.find()
    logged = logger is not None and logger.isEnabledFor(level)
    if not (logged or own or _everywhere):
        return ()
    return (*own, *_everywhere, write) if logged else own + _everywhere


def tell(event: Event, listeners: tuple[Listener, ...]) -> None:
    """Hands an event to each listener."""
    for listener in listeners:
        try:
            listener(event)
        except Exception as error:
            report(listener, error)


def checked_listeners(listeners: object, *, plain: bool = False) -> tuple[Listener, ...]:
    """Functions of an event: one, or several.

    Args:
        listeners: a function, or a list or tuple of them.
        plain: whether an async function is refused, which nobody would await.

    Raises:
        TypeError: they are something else.
    """
    heard = (listeners,) if callable(listeners) else listeners
    if not isinstance(heard, (tuple, list)) or not all(callable(listener) for listener in heard):
        raise SettingTypeError("listeners", f"must be functions of an event, got {listeners!r}")
    if plain:
        for listener in heard:
            checked_listener(listener)
    return tuple(heard)


def checked_listener(listener: object) -> Listener:
    """A function that hears events.

    Raises:
        TypeError: it cannot be called, or would have to be awaited.
    """
    if not callable(listener) or iscoroutinefunction(listener):
        problem = f"must be a plain function of an event, which nobody awaits, got {listener!r}"
        raise SettingTypeError("listeners", problem, subject="a listener")
    return listener
