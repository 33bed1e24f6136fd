"""The gates of policies that learn from results how much the other side can take."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

from resilient.core.client_rate import ClientRate, ClientRateMetrics
from resilient.core.concurrency import Algorithm, Concurrency, ConcurrencyMetrics
from resilient.core.throttle import Throttle, ThrottleMetrics
from resilient.drivers.backends import pause
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates import in_event_loop, reject
from resilient.errors import BulkheadFull, RateLimited, Throttled
from resilient.observe.listeners import Listener

__all__ = ["ConcurrencyGate", "PacedGate", "Says", "ThrottleGate"]

Says = Callable[[Exception], bool | None]
"""What an error says: True: the other side could not take it; False: it could; None: nothing."""


class _Gate:
    """What the gates have in common: a lock, a name, and somebody to tell."""

    __slots__ = ("_acquire", "_listeners", "_name", "_release", "_says")

    def __init__(self, says: Says, name: str, listeners: tuple[Listener, ...]) -> None:
        self._says = says
        self._name = name
        self._listeners = listeners
        lock = Lock()
        # On the success path: with these a step costs half of what `with lock` costs.
        self._acquire, self._release = lock.acquire, lock.release

    def _said(self, error: BaseException) -> bool | None:
        return self._says(error) if isinstance(error, Exception) else None


class ConcurrencyGate(_Gate):
    """As many calls at once as an algorithm allows; nobody waits.

    A ticket is how many ran when the call began, and when that was.
    """

    __slots__ = ("machine",)

    def __init__(self, machine: Concurrency, says: Says, name: str, listeners: tuple[Listener, ...]) -> None:
        super().__init__(says, name, listeners)
        self.machine = machine

    def enter(self) -> tuple[int, float]:
        self._acquire()
        try:
            ticket = self.machine.admit()
        finally:
            self._release()
        if ticket is None:
            why = f"{self.machine.limit} calls run, which is the limit now"
            raise reject(BulkheadFull(self._name, None, why), "AdaptiveLimiter", self._listeners)
        return ticket, CLOCK.get().now()

    enter_soon = ready = enter

    async def join(self) -> object:
        raise AssertionError("a limiter admits or rejects, and nobody waits")

    def passed(self, ticket: tuple[int, float], value: object) -> None:
        rtt = CLOCK.get().now() - ticket[1]
        self._acquire()
        try:
            self.machine.done(ticket[0], rtt, False)
        finally:
            self._release()

    def failed(self, ticket: tuple[int, float], error: BaseException) -> None:
        rtt, dropped = CLOCK.get().now() - ticket[1], None
        try:
            dropped = self._said(error)
        finally:
            self._acquire()
            try:
                if dropped is None:
                    self.machine.forgotten(ticket[0])
                else:
                    self.machine.done(ticket[0], rtt, dropped)
            finally:
                self._release()

    def forgotten(self, ticket: tuple[int, float]) -> None:
        self._acquire()
        try:
            self.machine.forgotten(ticket[0])
        finally:
            self._release()

    def metrics(self) -> ConcurrencyMetrics:
        """All counts so far."""
        self._acquire()
        try:
            return self.machine.metrics()
        finally:
            self._release()

    def restart(self, algorithm: Algorithm) -> None:
        """Begins again with another algorithm; calls that run go on being counted."""
        self._acquire()
        try:
            running = self.machine.inflight
            self.machine = Concurrency(algorithm)
            self.machine.inflight = running
        finally:
            self._release()


class ThrottleGate(_Gate):
    """Rejects the more calls here, the fewer the other side accepts there; nobody waits."""

    __slots__ = ("machine",)

    def __init__(self, machine: Throttle, says: Says, name: str, listeners: tuple[Listener, ...]) -> None:
        super().__init__(says, name, listeners)
        self.machine = machine

    def enter(self) -> bool:
        clock = CLOCK.get()
        now = clock.now()
        self._acquire()
        try:
            admitted = self.machine.admit(now, clock)
            share = 0.0 if admitted else self.machine.probability(now)
        finally:
            self._release()
        if not admitted:
            why = f"rejecting {share:.0%} of calls, as the other side accepts so few"
            raise reject(Throttled(self._name, None, why), "AdaptiveThrottle", self._listeners)
        return True

    enter_soon = ready = enter

    async def join(self) -> object:
        raise AssertionError("a throttle admits or rejects, and nobody waits")

    def passed(self, ticket: bool, value: object) -> None:
        now = CLOCK.get().now()
        self._acquire()
        try:
            self.machine.accepted(now)
        finally:
            self._release()

    def failed(self, ticket: bool, error: BaseException) -> None:
        # A call that says nothing (cancelled) counts as accepted: it must not look like a rejection.
        if not self._said(error):
            self.passed(ticket, None)

    def forgotten(self, ticket: bool) -> None:
        self.passed(ticket, None)

    def metrics(self) -> ThrottleMetrics:
        """What was counted, as of now."""
        self._acquire()
        try:
            return self.machine.metrics(CLOCK.get().now())
        finally:
            self._release()

    def restart(self, machine: Throttle) -> None:
        """Begins again."""
        self._acquire()
        try:
            self.machine = machine
        finally:
            self._release()


class PacedGate(_Gate):
    """Spaces calls out to the rate that the other side was seen to take; each knows its wait when it asks.

    A ticket is whether the call took a token: before the first throttle none does.
    """

    __slots__ = ("_max_wait", "machine")

    def __init__(
        self, machine: ClientRate, says: Says, max_wait: float | None, name: str, listeners: tuple[Listener, ...]
    ) -> None:
        super().__init__(says, name, listeners)
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
        self._responded(throttled=False)

    def failed(self, ticket: bool, error: BaseException) -> None:
        throttled = self._said(error)
        if throttled is not None:
            self._responded(throttled=throttled)

    def forgotten(self, ticket: bool) -> None:
        if ticket:
            self._acquire()
            try:
                self.machine.returned()
            finally:
                self._release()

    def metrics(self) -> ClientRateMetrics:
        """The rates as of the last response."""
        self._acquire()
        try:
            return self.machine.metrics()
        finally:
            self._release()

    def restart(self, machine: ClientRate) -> None:
        """Begins again."""
        self._acquire()
        try:
            self.machine = machine
        finally:
            self._release()

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
        self._acquire()
        try:
            wait = self.machine.acquire(now)
            refused = longest is not None and wait > longest
            if refused:
                self.machine.returned()
        finally:
            self._release()
        if refused:
            why = f"its turn comes in {wait:.3g} s, and it may wait {longest:.3g} s"
            raise reject(RateLimited(self._name, wait, why), "AdaptiveRate", self._listeners)
        return wait

    def _responded(self, *, throttled: bool) -> None:
        now = CLOCK.get().now()
        self._acquire()
        try:
            self.machine.responded(now, throttled)
        finally:
            self._release()
