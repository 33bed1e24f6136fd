"""The gate of an adaptive limiter: as many calls at once as the other side was seen to take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import repeat
from threading import RLock
from typing import Any

from resilient.core.concurrency import Algorithm, Concurrency, ConcurrencyMetrics
from resilient.drivers.clock import CLOCK
from resilient.drivers.gates.adaptive import AdaptiveGate
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import reject
from resilient.errors import BulkheadFull
from resilient.observe.listeners import Listener

__all__ = ["AdaptiveLimiterGate", "SharedConcurrency"]

# Of the calls that begin while less than half of the limit is made use of, so many go untimed after each that is timed.
# No algorithm moves its limit for one of these (inflight * 2 < limit) unless it is dropped, which always counts; they
# only keep its idea of the usual duration fresh. The original times fewer: its WindowedLimit makes one sample of all
# calls of a second.
UNTIMED = 15
UNTIMED_TICKET = (0, None)  # how many run means nothing to a drop


class SharedConcurrency(Concurrency):
    """Permits, and the lock that every gate in front of them holds around each step.

    A call that is admitted leaves passes for some that come after it: permits, counted as taken, which a driver hands
    on without the lock. They are taken back before anybody is rejected, and as soon as the limit falls.

    Attributes:
        passes: tickets of calls that may begin, each by a ``passes.pop()``.
        ended: those of them that returned, left there without the lock and counted at the next step.
    """

    __slots__ = ("ended", "lock", "passes")

    def __init__(self, algorithm: Algorithm) -> None:
        super().__init__(algorithm)
        self.lock = RLock()
        self.passes: deque[tuple[int, None]] = deque()
        self.ended: deque[tuple[int, None]] = deque()

    def admit(self) -> int | None:
        """Takes a permit as :class:`Concurrency` does, and leaves passes."""
        self.settle()
        ticket = super().admit()
        given = (self.algorithm.limit - 1) // 2 - self.inflight
        if given > 0:
            given = min(given, UNTIMED)
            self.inflight += given
            self.passes.extend(repeat(UNTIMED_TICKET, given))
        return ticket

    def done(self, ticket: int, rtt: float, dropped: bool) -> None:
        """Counts a call as :class:`Concurrency` does; a limit that falls holds for passes too."""
        limit = self.algorithm.limit
        super().done(ticket, rtt, dropped)
        if self.algorithm.limit < limit:
            self.settle()

    def settle(self) -> None:
        """Takes the passes back, and counts the calls that returned."""
        passes = self.passes
        try:  # not suppress: that costs more than all the rest
            while True:
                passes.pop()
                self.inflight -= 1
        except IndexError:
            pass  # whoever is quicker has the pass
        while self.ended:
            self.ended.pop()
            self.inflight -= 1
            self._succeeded += 1

    def restart(self, algorithm: Algorithm) -> None:
        """Begins again with another algorithm; calls that run go on being counted."""
        self.settle()
        running = self.inflight
        super().__init__(algorithm)
        self.inflight = running


class AdaptiveLimiterGate(AdaptiveGate):
    """Lets as many calls through at once as an algorithm allows; nobody waits.

    A ticket is how many ran when the call began, and when that was, or None if the call is not timed.
    """

    __slots__ = ("_ended", "_passes", "machine")

    def __init__(
        self, machine: SharedConcurrency, judges: FailureJudges, name: str, listeners: tuple[Listener, ...]
    ) -> None:
        super().__init__(machine.lock, judges, name, listeners)
        self.machine = machine
        self._passes, self._ended = machine.passes, machine.ended

    def enter(self) -> tuple[int, float | None]:
        try:
            return self._passes.pop()
        except IndexError:
            return self._enter_timed()

    enter_soon = ready = enter

    async def join(self) -> object:
        raise AssertionError("a limiter admits or rejects, and nobody waits")

    def on_success(self, ticket: tuple[int, float | None], value: object) -> None:
        if self._of_result is not None:
            self._judged(ticket, self._of_result, value)
        elif ticket[1] is None:
            self._ended.append(UNTIMED_TICKET)
        else:
            self._done(ticket[0], CLOCK.get().now() - ticket[1], dropped=False)

    def on_failure(self, ticket: tuple[int, float | None], error: BaseException) -> None:
        self._judged(ticket, self._said, error)

    def release(self, ticket: tuple[int, float | None]) -> None:
        with self._lock:
            self.machine.undone(ticket[0])
            if ticket[1] is not None:
                self.machine.settle()  # so that the next call is timed in its place

    def metrics(self) -> ConcurrencyMetrics:
        """All counts so far."""
        with self._lock:
            self.machine.settle()
            return self.machine.metrics()

    def restart(self, algorithm: Algorithm) -> None:
        """Begins again with another algorithm; calls that run go on being counted."""
        with self._lock:
            self.machine.restart(algorithm)

    def _judged(self, ticket: tuple[int, float | None], judge: Callable[[Any], bool | None], subject: object) -> None:
        inflight, began = ticket
        # Before the judge takes its time. The duration of a drop means nothing; see core/limits.py.
        rtt, dropped = 0.0 if began is None else CLOCK.get().now() - began, None
        try:
            dropped = judge(subject)
        finally:
            if dropped is None:
                with self._lock:
                    self.machine.forgotten(inflight)
        if dropped or (dropped is not None and began is not None):
            self._done(inflight, rtt, dropped=dropped)
        elif dropped is not None:
            self._ended.append(UNTIMED_TICKET)

    def _enter_timed(self) -> tuple[int, float]:
        with self._lock:
            ticket = self.machine.admit()
        if ticket is None:
            why = f"{self.machine.limit} calls run, which is the limit now"
            raise reject(BulkheadFull(self._name, None, why), "AdaptiveLimiter", self._listeners)
        return ticket, CLOCK.get().now()

    def _done(self, inflight: int, rtt: float, *, dropped: bool) -> None:
        with self._lock:
            self.machine.done(inflight, rtt, dropped)
