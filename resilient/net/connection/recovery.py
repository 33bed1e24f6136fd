"""A manager's part in a recovery that it may share with others."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from resilient.core.flight import Part
from resilient.drivers.clock import Clock
from resilient.drivers.loops.waiters import Wakeable
from resilient.drivers.retry.single_flight import SingleFlight
from resilient.net.connection.job import Task

__all__ = ["RecoveryPart"]


class RecoveryPart:
    """Whether a job leads a recovery or waits for whoever does, and how it is left behind.

    When its time is up the recovery has failed for all who share it, at once, even if the handler cannot be stopped.
    Left behind for another reason, a handler that cannot be stopped goes on to lead: no other runs at the same time.

    Args:
        flight: what it shares with others.
        clock: by which it is limited.
        ends_at: when its time is up, monotonic seconds.

    Attributes:
        left: whether nobody waits for it any more.
        task: what runs the job.
    """

    def __init__(self, flight: SingleFlight, clock: Clock, ends_at: float) -> None:
        self.left = False
        self.task: Task | None = None
        self._flight = flight
        self._clock = clock
        self._ends_at = ends_at
        self._lock = Lock()
        self._leads = False
        self._waiter: Wakeable | None = None

    def ask(self, born: int, waiter: Wakeable) -> Part:
        """The part of the job: to lead, to wait until its waiter is woken, or neither.

        Args:
            born: the generation of the recovery on which the trouble began.
            waiter: woken when whoever leads is done, and when the job is cancelled.
        """
        self._waiter = waiter
        part = self._flight.ask(born, waiter.wake)
        self._leads = part is Part.LEAD
        return part

    def leave(self, wake: Callable[[], object]) -> None:
        """The job waits no more for whoever leads."""
        self._flight.leave(wake)

    def finish(self, ended_at: float | None) -> None:
        """The job leads no more; again does nothing.

        Args:
            ended_at: when its handler returned, raised or took too long; None if it did none of these.
        """
        with self._lock:
            led, self._leads = self._leads, False
        if led:
            self._flight.finish(ended_at)

    def cancel(self) -> None:
        """Leaves the job behind: a task is cancelled, a thread that waits goes on."""
        self.left = True
        if self.task is not None:
            self.task.cancel()
        if self._waiter is not None:
            self._waiter.wake()
        now = self._clock.now()
        if now >= self._ends_at:
            self.finish(now)
