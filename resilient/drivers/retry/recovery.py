"""A recovery that callers share: one of them leads and runs the handler, the others wait for its end.

The steps are written once, for threads and for tasks (see :mod:`resilient.drivers.loops.steps`); what a caller decides
on its way, and does about the end, it says as a :class:`Participant`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from resilient.core.flight import Part
from resilient.drivers.loops.steps import Call, Join, Sleep, Steps
from resilient.drivers.loops.waiters import Wakeable
from resilient.drivers.retry.guard import Recoverer
from resilient.drivers.retry.rescue import Rescue
from resilient.drivers.retry.single_flight import SingleFlight

__all__ = ["Participant", "RescueParticipant", "recover"]

W = TypeVar("W", bound=Wakeable)


class Participant(Protocol):
    """One caller's side of a recovery that it may share with others."""

    @property
    def flight(self) -> SingleFlight:
        """The single flight that all callers share."""
        ...

    @property
    def stoppable(self) -> bool:
        """Whether a thread that waits to lead may be woken, to give it up."""
        ...

    def ask(self, wake: Callable[[], object]) -> Part:
        """The caller's part; if it joins, ``wake`` is called when whoever leads is done."""
        ...

    def patience(self) -> float | None:
        """How long the caller waits for whoever leads, seconds; None for no limit."""
        ...

    def goes_on(self) -> bool:
        """Whether the caller, which waited for whoever led, asks again."""
        ...

    def hold(self) -> float | None:
        """Seconds that the leader must wait first, >= 0; None if it rather gives the lead up."""
        ...

    def begins(self) -> bool:
        """Takes note that the handler is about to run; False if it is to run no more."""
        ...

    def run_handler(self) -> object:
        """Recovers the resource; gives what the handler returns, which a task awaits if it can be awaited."""
        ...

    def ended(self, error: Exception | None) -> float:
        """Takes note that the handler returned, or what it raised; gives the instant, monotonic seconds."""
        ...

    def finish(self, ended_at: float | None) -> None:
        """Ends the lead: ``ended_at`` is None if the handler was cancelled, or never ran."""
        ...


def recover(participant: Participant, waiter: Callable[[], W]) -> Steps[W, bool]:
    """Recovers, or waits for whoever does already.

    Args:
        participant: the caller's side.
        waiter: makes what the caller waits for, each time that it asks; a participant that can be stopped keeps it.

    Returns:
        Whether the caller tries again what failed; False if the recovery was given up before its end.
    """
    while True:
        over = waiter()
        part = participant.ask(over.wake)
        if part is Part.SKIP:
            return True
        if part is Part.LEAD:
            return (yield from _lead(participant, over if participant.stoppable else None))
        try:
            yield Join(over, participant.patience())
        finally:
            participant.flight.leave(over.wake)
        if not participant.goes_on():
            return False


def _lead(participant: Participant, waiter: Wakeable | None) -> Steps[W, bool]:
    ended_at, failure = None, None
    unmark = participant.flight.lead()
    try:
        hold = participant.hold()
        if hold is None:
            return False
        if hold:
            yield Sleep(hold, waiter)
        if not participant.begins():
            return False
        try:
            yield Call(participant.run_handler)
        except Exception as error:
            failure = error
        ended_at = participant.ended(failure)
    finally:
        unmark()
        participant.finish(ended_at)
        del failure  # a frame that holds an error which refers to it is a cycle
    return True


class RescueParticipant:
    """A guarded call's side: what the handler raises is an event, and the call is tried again all the same.

    Args:
        rescue: of the call.
        recovery: what the verdict asks for.
        error: what the last attempt raised.
        born: the generation of the resource on which that attempt began.
        blocking: whether a thread waits, which nobody cuts off: it looks at the clock itself.
    """

    __slots__ = ("_blocking", "_born", "_error", "_rescue", "flight", "handler")

    stoppable = False

    def __init__(
        self, rescue: Rescue, recovery: Recoverer, error: Exception | None, born: int, *, blocking: bool
    ) -> None:
        handler = recovery.handler(rescue.verdict.action)
        assert handler is not None  # recovers() has looked
        self.flight = recovery.flight
        self.handler = handler
        self._rescue = rescue
        self._error = error
        self._born = born
        self._blocking = blocking

    def ask(self, wake: Callable[[], object]) -> Part:
        return self.flight.ask(self._born, wake, blocking=self._blocking)

    def patience(self) -> float | None:
        return self._rescue.time_left() if self._blocking else None

    def goes_on(self) -> bool:
        return not (self._blocking and self._rescue.too_late(self._error))

    def hold(self) -> float | None:
        seconds = self._rescue.hold(self.flight)
        return None if seconds and self._rescue.too_late(self._error, ahead=seconds) else seconds

    def begins(self) -> bool:
        self._rescue.recovering()
        return True

    def run_handler(self) -> object:
        return self.handler()

    def ended(self, error: Exception | None) -> float:
        if error is None:
            self._rescue.recovered()
        else:
            self._rescue.recovery_failed(error)
        return self._rescue.clock.now()

    def finish(self, ended_at: float | None) -> None:
        self.flight.finish(ended_at)
