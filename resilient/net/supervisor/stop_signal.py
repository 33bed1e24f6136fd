"""StopSignal: how a loop in a thread is asked to end."""

from __future__ import annotations

from resilient.core.duration import Duration, optional_seconds
from resilient.drivers.clock import CLOCK
from resilient.drivers.loops.waiters import ThreadWaiter

__all__ = ["StopSignal"]


class StopSignal:
    """Given to every loop that runs in a thread: no thread can be stopped from outside, so it has to look.

    ::

        def loop(stop):
            while not stop.wait(30):
                beat()
    """

    __slots__ = ("_given", "_interrupted", "_waiter")

    def __init__(self) -> None:
        self._given = self._interrupted = False
        self._waiter = ThreadWaiter()

    @property
    def given(self) -> bool:
        """Whether the loop should end."""
        return self._given

    def give(self) -> None:
        """Asks the loop to end; from any thread, again does nothing."""
        self._given = True
        self._waiter.wake()

    def wait(self, duration: Duration | None = None) -> bool:
        """Sleeps, but no longer than until the signal is given.

        Args:
            duration: seconds, >= 0; None: until the signal.

        Returns:
            Whether the signal was given.
        """
        limit = optional_seconds("duration", duration)
        if not self._given:
            self._waiter.wait(CLOCK.get(), limit)
        if self._interrupted:
            self._interrupted = False
            self._waiter = ThreadWaiter()
            if self._given:
                self._waiter.wake()
        return self._given

    def interrupt(self) -> None:
        """Ends the waits that are under way, or else the next, without asking the loop to end; from any thread."""
        waiter = self._waiter
        self._interrupted = True
        waiter.wake()

    def __repr__(self) -> str:
        return f"<StopSignal: {'given' if self._given else 'not given'}>"
