"""A manager's part in a recovery that it may share with others."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from resilient.core.flight import Part
from resilient.drivers.clock import Clock
from resilient.drivers.loops.base import Task
from resilient.drivers.retry.single_flight import SingleFlight
from resilient.net.connection.job import Job

__all__ = ["RecoveryPart"]


class RecoveryPart:
    """A job's side of a recovery: whether it leads or waits for whoever does, and how it is left behind.

    When its time is up the recovery has failed for all who share it, at once, even if the handler cannot be stopped.
    Left behind for another reason, a handler that cannot be stopped goes on to lead: no other runs at the same time.

    Args:
        job: the recovery.
        flight: what it shares with others.
        handler: recovers the resource.
        clock: by which it is limited.

    Attributes:
        task: what runs the job.
        failure: what the handler raised; None if it returned, or never ran.
    """

    stoppable = True

    def __init__(self, job: Job, flight: SingleFlight, handler: Callable[[], object], clock: Clock) -> None:
        self.flight = flight
        self.task: Task | None = None
        self.failure: Exception | None = None
        self._job = job
        self._handler = handler
        self._clock = clock
        self._lock = Lock()
        self._left = False
        self._leads = False
        self._wake: Callable[[], object] = bool

    def cancel(self) -> None:
        """Leaves the job behind: a task is cancelled, a thread that waits goes on."""
        self._left = True
        if self.task is not None:
            self.task.cancel()
        self._wake()
        now = self._clock.now()
        if now >= self._job.ends_at:
            self.finish(now)

    def ask(self, wake: Callable[[], object]) -> Part:
        self._wake = wake  # first: whoever leaves the job behind meanwhile wakes it, or is seen
        if self._left:
            return Part.SKIP
        part = self.flight.ask(self._job.born, wake)
        self._leads = part is Part.LEAD
        return part

    def patience(self) -> float | None:
        return None

    def goes_on(self) -> bool:
        return not self._left

    def hold(self) -> float | None:
        return self.flight.hold(self._clock.now())

    def begins(self) -> bool:
        return not self._left

    def run_handler(self) -> object:
        return self._handler()

    def ended(self, error: Exception | None) -> float:
        self.failure = error
        return self._clock.now()

    def finish(self, ended_at: float | None) -> None:
        """The job leads no more; again does nothing."""
        with self._lock:
            led, self._leads = self._leads, False
        if led:
            self.flight.finish(ended_at)
