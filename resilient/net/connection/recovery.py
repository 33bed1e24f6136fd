"""A manager's part in a recovery that it may share with others."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from resilient.core.flight import Part
from resilient.drivers.clock import Clock
from resilient.drivers.retry.single_flight import SharedFlight

__all__ = ["RecoveryPart"]


class RecoveryPart:
    """Whether a job leads the recovery or waits for whoever does, and how it is left behind.

    When its time is up the recovery has failed for all who share it, at once, even if the handler cannot be stopped.
    Left behind for another reason, a handler that cannot be stopped goes on to lead: no other runs at the same time.

    Args:
        flight: what it shares with others.
        clock: by which it is limited.
        ends_at: when its time is up, monotonic seconds.

    Attributes:
        left: whether nobody waits for it any more.
        stop: ends the job early, as far as it can be.
    """

    def __init__(self, flight: SharedFlight, clock: Clock, ends_at: float) -> None:
        self.left = False
        self.stop: Callable[[], object] = bool
        self._flight = flight
        self._clock = clock
        self._ends_at = ends_at
        self._lock = Lock()
        self._leads = False

    def ask(self, born: int, wake: Callable[[], object]) -> Part:
        """What it is to do.

        Args:
            born: the generation of the recovery on which the trouble began.
            wake: called when whoever leads is done.
        """
        part = self._flight.ask(born, wake)
        self._leads = part is Part.LEAD
        return part

    def finish(self, ended_at: float | None) -> None:
        """It leads no more; again does nothing.

        Args:
            ended_at: when its handler returned, raised or took too long; None if it did none of these.
        """
        with self._lock:
            led, self._leads = self._leads, False
        if led:
            self._flight.finish(ended_at)

    def cancel(self) -> None:
        """Leaves it behind."""
        self.left = True
        self.stop()
        now = self._clock.now()
        if now >= self._ends_at:
            self.finish(now)
