"""A single flight shared by threads and tasks of any event loop.

The lock is held for a few assignments, never while a handler runs.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from threading import Lock, get_ident

from resilient.core.flight import Flight, Part

__all__ = ["SingleFlight"]

# The flights that this context leads: a handler that itself makes guarded calls must not wait for itself.
_LEADING: ContextVar[tuple[SingleFlight, ...]] = ContextVar("resilient.leading", default=())


class SingleFlight:
    """One recovery at a time for one resource.

    Args:
        throttle: least time from the end of one recovery to the next, seconds.
    """

    __slots__ = ("_flight", "_leader", "_lock", "_waiting", "generation")

    def __init__(self, throttle: float) -> None:
        self._flight = Flight(throttle)
        self._lock = Lock()
        self._waiting: list[Callable[[], object]] = []
        self._leader = 0
        self.generation = 0

    def ask(self, born: int, wake: Callable[[], object], *, blocking: bool = False) -> Part:
        """A caller's part; one that joins is woken when the flight is over, however it ended.

        Args:
            born: the generation on which the caller's attempt began.
            wake: called, in the leader's thread, when the flight is over.
            blocking: a caller that joins will block its thread. If a task of that very thread leads, it would
                wait for ever, so it just tries again.
        """
        if self in _LEADING.get():
            return Part.SKIP
        with self._lock:
            part = self._flight.ask(born)
            if part is Part.LEAD:
                self._leader = get_ident()
            elif part is Part.JOIN:
                if blocking and self._leader == get_ident():
                    return Part.SKIP
                self._waiting.append(wake)
        return part

    def hold(self, now: float) -> float:
        """How long the leader must wait first, seconds."""
        return self._flight.hold(now)

    def lead(self) -> Callable[[], None]:
        """Marks this context as the leader's; returns what takes the mark off again."""
        token = _LEADING.set((*_LEADING.get(), self))
        return lambda: _LEADING.reset(token)

    def finish(self, ended_at: float | None) -> None:
        """Ends the lead, and wakes those who joined.

        Args:
            ended_at: when its handler returned or raised; None if it was cancelled, so that another leads.
        """
        with self._lock:
            if ended_at is None:
                self._flight.abandoned()
            else:
                self._flight.ended(ended_at)
            self.generation = self._flight.generation
            woken, self._waiting = self._waiting, []
        for wake in woken:
            wake()

    def leave(self, wake: Callable[[], object]) -> None:
        """A caller stops waiting, because it was cancelled or ran out of time."""
        with self._lock:
            if wake in self._waiting:
                self._waiting.remove(wake)
