"""Events of a managed connection, told in order to whoever listens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from resilient.core.action import Action
from resilient.core.events import Event, LinkChanged, Recovered, Recovering, RecoveryFailed, Waiting
from resilient.core.link import Move, State
from resilient.observe.listeners import Listener, checked_listener, hearers, tell
from resilient.observe.log import level_of

__all__ = ["EventQueue"]


class EventQueue:
    """The events of one manager that nobody was told yet, oldest first.

    Adding events is not thread-safe: the connection's state holds its lock around it. ``tell_all`` may run in any
    thread at the same time.

    Args:
        name: of the manager, in events.
        listeners: who hears them.

    Attributes:
        started: when the manager was entered, monotonic seconds.
        news: whether there are events of which the driver does not know yet.
    """

    __slots__ = ("_listeners", "_untold", "name", "news", "started")

    def __init__(self, name: str, listeners: tuple[Listener, ...]) -> None:
        self.name = name
        self.started = 0.0
        self.news = False
        self._listeners = listeners
        self._untold: deque[Event] = deque()

    @property
    def untold(self) -> bool:
        """Whether there are events that nobody was told yet."""
        return bool(self._untold)

    def hear(self, listener: Listener) -> None:
        """Adds a listener for every later event.

        Raises:
            TypeError: it cannot be called, or would have to be awaited.
        """
        checked_listener(listener)
        self._listeners = (*self._listeners, listener)

    def moved(self, moves: Iterable[Move], now: float, why: str) -> None:
        """The link changed its state; ``why`` is not said of a dial, which the state before explains."""
        for before, after in moves:
            told = "" if after is State.CONNECTING else why
            self._add(LinkChanged(self.name, now - self.started, before, after, told))

    def waiting(self, now: float, dial: int, seconds: float) -> None:
        """The link waits before this dial of the present outage."""
        self._add(Waiting(self.name, now - self.started, dial, seconds))

    def recovering(self, now: float, action: Action) -> None:
        """The handler of an action is run."""
        self._add(Recovering(self.name, now - self.started, action))

    def recovered(self, now: float, action: Action, failure: Exception | None) -> None:
        """The handler of an action returned, or raised this."""
        told = self.name, now - self.started, action
        self._add(Recovered(*told) if failure is None else RecoveryFailed(*told, failure))

    def unrecovered(self, now: float, action: Action) -> None:
        """There is no handler for an action."""
        self._add(RecoveryFailed(self.name, now - self.started, action, None))

    def tell_all(self) -> None:
        """Hands out the events that nobody was told yet, in order; no lock is held."""
        while True:
            try:
                event = self._untold.popleft()
            except IndexError:
                return
            tell(event, hearers(self._listeners, level_of(event)))

    def _add(self, event: Event) -> None:
        if hearers(self._listeners, level_of(event)):
            self._untold.append(event)
            self.news = True
