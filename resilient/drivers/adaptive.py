"""The gates of policies that learn from results how much the other side can take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import repeat
from threading import RLock
from typing import Any

from resilient.core.client_rate import ClientRate, ClientRateMetrics
from resilient.core.concurrency import Algorithm, Concurrency, ConcurrencyMetrics
from resilient.core.throttle import Throttle, ThrottleMetrics
from resilient.drivers.backends import pause
from resilient.drivers.circuit import Verdicts
from resilient.drivers.clock import CLOCK, Clock
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates import AsyncGate, in_event_loop, reject
from resilient.errors import BulkheadFull, RateLimited, Throttled
from resilient.observe.listeners import Listener

__all__ = [
    "ConcurrencyGate",
    "PacedGate",
    "SharedClientRate",
    "SharedConcurrency",
    "SharedThrottle",
    "ThrottleGate",
]

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
        """As of :class:`Concurrency`; and passes."""
        self.settle()
        ticket = super().admit()
        given = (self.algorithm.limit - 1) // 2 - self.inflight
        if given > 0:
            given = min(given, UNTIMED)
            self.inflight += given
            self.passes.extend(repeat(UNTIMED_TICKET, given))
        return ticket

    def done(self, ticket: int, rtt: float, dropped: bool) -> None:
        """As of :class:`Concurrency`; a limit that falls holds for passes too."""
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


class SharedThrottle(Throttle):
    """A throttle, and the lock that every gate in front of it holds around each step."""

    __slots__ = ("lock",)

    def __init__(self, k: float, window: float, min_calls: int) -> None:
        super().__init__(k, window, min_calls)
        self.lock = RLock()


class SharedClientRate(ClientRate):
    """A client's rate, and the lock that every gate in front of it holds around each step."""

    __slots__ = ("lock",)

    def __init__(self, beta: float, scale: float) -> None:
        super().__init__(beta=beta, scale=scale)
        self.lock = RLock()

    def restart(self) -> None:
        """Begins again."""
        ClientRate.__init__(self, beta=self.cubic.beta, scale=self.cubic.scale)


class _Gate:
    """What the gates have in common: a lock, a name, and somebody to tell.

    A failure, in the verdicts, is that the other side could not take the call.
    """

    __slots__ = ("_listeners", "_lock", "_name", "_of_error", "_of_result")

    def __init__(self, lock: RLock, verdicts: Verdicts, name: str, listeners: tuple[Listener, ...]) -> None:
        self._of_error, self._of_result = verdicts.of_error, verdicts.of_result
        self._name = name
        self._listeners = listeners
        self._lock = lock

    def _said(self, error: BaseException) -> bool | None:
        return self._of_error(error) if isinstance(error, Exception) else None


class ConcurrencyGate(_Gate):
    """As many calls at once as an algorithm allows; nobody waits.

    A ticket is how many ran when the call began, and when that was, or None if the call is not timed.
    """

    __slots__ = ("_ended", "_passes", "machine")

    def __init__(
        self, machine: SharedConcurrency, verdicts: Verdicts, name: str, listeners: tuple[Listener, ...]
    ) -> None:
        super().__init__(machine.lock, verdicts, name, listeners)
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

    def passed(self, ticket: tuple[int, float | None], value: object) -> None:
        if self._of_result is not None:
            self._judged(ticket, self._of_result, value)
        elif ticket[1] is None:
            self._ended.append(UNTIMED_TICKET)
        else:
            self._done(ticket[0], CLOCK.get().now() - ticket[1], dropped=False)

    def failed(self, ticket: tuple[int, float | None], error: BaseException) -> None:
        self._judged(ticket, self._said, error)

    def forgotten(self, ticket: tuple[int, float | None]) -> None:
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


class ThrottleGate(_Gate):
    """Rejects the more calls here, the fewer the other side accepts there; nobody waits."""

    __slots__ = ("machine",)

    def __init__(self, machine: SharedThrottle, verdicts: Verdicts, name: str, listeners: tuple[Listener, ...]) -> None:
        super().__init__(machine.lock, verdicts, name, listeners)
        self.machine = machine

    def enter(self) -> bool:
        machine, clock = self.machine, CLOCK.get()
        now = clock.now()
        if machine.since <= now < machine.until:
            try:
                return machine.passes.pop()
            except IndexError:
                pass
        return self._decide(clock, now)

    enter_soon = ready = enter

    async def join(self) -> object:
        raise AssertionError("a throttle admits or rejects, and nobody waits")

    def passed(self, ticket: bool, value: object) -> None:
        if self._of_result is None:
            next(self.machine.accepts)
        else:
            self._judged(self._of_result, value)

    def failed(self, ticket: bool, error: BaseException) -> None:
        self._judged(self._said, error)

    def forgotten(self, ticket: bool) -> None:
        """Nothing is held, and what was tried was tried: ``adopted`` counts no call again."""

    @property
    def adopted(self) -> AsyncGate:
        """The gate of a coroutine whose call was let through when it was made."""
        return _Adopted(self)

    def metrics(self) -> ThrottleMetrics:
        """What was counted, as of now."""
        now = CLOCK.get().now()
        with self._lock:
            return self.machine.metrics(now)

    def restart(self) -> None:
        """Begins again."""
        with self._lock:
            self.machine.clear()

    def _judged(self, judge: Callable[[Any], bool | None], subject: object) -> None:
        # A call that says nothing (cancelled, or its judge broke) is accepted: it must not look like a rejection.
        rejected: bool | None = None
        try:
            rejected = judge(subject)
        finally:
            if not rejected:
                next(self.machine.accepts)

    def _decide(self, clock: Clock, now: float) -> bool:
        with self._lock:
            admitted = self.machine.admit(now, clock)
            share = 0.0 if admitted else self.machine.probability(now)
        if not admitted:
            why = f"rejecting {share:.0%} of calls, as the other side accepts so few"
            raise reject(Throttled(self._name, None, why), "AdaptiveThrottle", self._listeners)
        return True


class _Adopted:
    """A throttle's gate for calls that it has decided on already."""

    __slots__ = ("failed", "forgotten", "passed")

    def __init__(self, gate: ThrottleGate) -> None:
        self.passed, self.failed, self.forgotten = gate.passed, gate.failed, gate.forgotten

    def ready(self) -> bool:
        return True

    async def join(self) -> object:
        raise AssertionError("it was let through already")


class PacedGate(_Gate):
    """Spaces calls out to the rate that the other side was seen to take; each knows its wait when it asks.

    A ticket is whether the call took a token: before the first throttle none does.
    """

    __slots__ = ("_max_wait", "machine")

    def __init__(
        self,
        machine: SharedClientRate,
        verdicts: Verdicts,
        max_wait: float | None,
        name: str,
        listeners: tuple[Listener, ...],
    ) -> None:
        super().__init__(machine.lock, verdicts, name, listeners)
        self.machine = machine
        self._max_wait = max_wait

    def enter(self) -> bool:
        if not self.machine.enabled:
            return False
        wait = self._reserve()
        if wait:
            try:
                CLOCK.get().sleep(wait)
            except BaseException:
                self.forgotten(True)
                raise
        return True

    def enter_soon(self) -> bool:
        if self.machine.enabled and in_event_loop():
            self._reserve(longest=0.0)
            return True
        return self.enter()

    def ready(self) -> bool | None:
        return None if self.machine.enabled else False

    async def join(self) -> bool:
        wait = self._reserve()
        if wait:
            try:
                await pause(CLOCK.get(), wait)
            except BaseException:
                self.forgotten(True)
                raise
        return True

    def passed(self, ticket: bool, value: object) -> None:
        machine, now = self.machine, CLOCK.get().now()
        if self._of_result is not None and self._of_result(value):
            self._responded(now, throttled=True)
        elif machine.quiet_from <= now < machine.quiet_until:
            next(machine.ticks)
        else:
            self._responded(now, throttled=False)

    def failed(self, ticket: bool, error: BaseException) -> None:
        throttled = self._said(error)
        if throttled is not None:
            self._responded(CLOCK.get().now(), throttled=throttled)

    def forgotten(self, ticket: bool) -> None:
        if ticket:
            with self._lock:
                self.machine.returned()

    def metrics(self) -> ClientRateMetrics:
        """The rates as of the last response."""
        with self._lock:
            return self.machine.metrics()

    def restart(self) -> None:
        """Begins again."""
        with self._lock:
            self.machine.restart()

    def _reserve(self, longest: float | None = None) -> float:
        """Seconds to wait before the call may be made.

        Raises:
            RateLimited: that is longer than it may wait; nothing is reserved then.
        """
        now = CLOCK.get().now()
        longest = self._max_wait if longest is None else longest
        deadline = DEADLINE.get()
        if deadline is not None and (longest is None or deadline - now < longest):
            longest = max(0.0, deadline - now)
        with self._lock:
            wait = self.machine.acquire(now)
            refused = longest is not None and wait > longest
            if refused:
                self.machine.returned()
        if refused:
            why = f"its turn comes in {wait:.3g} s, and it may wait {longest:.3g} s"
            raise reject(RateLimited(self._name, wait, why), "AdaptiveRate", self._listeners)
        return wait

    def _responded(self, now: float, *, throttled: bool) -> None:
        with self._lock:
            self.machine.responded(now, throttled)
