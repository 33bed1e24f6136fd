"""The gate of an adaptive rate: calls are spaced out to what the other side was seen to take."""

from __future__ import annotations

from threading import RLock

from resilient.core.client_rate import ClientRate, ClientRateMetrics
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.gates.adaptive import AdaptiveGate
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import in_event_loop, reject
from resilient.drivers.loops.current import pause
from resilient.errors import RateLimited
from resilient.observe.listeners import Listener

__all__ = ["AdaptiveRateGate", "SharedClientRate"]


class SharedClientRate(ClientRate):
    """A client's rate, and the lock that every gate in front of it holds around each step."""

    __slots__ = ("lock",)

    def __init__(self, beta: float, scale: float) -> None:
        super().__init__(beta=beta, scale=scale)
        self.lock = RLock()

    def restart(self) -> None:
        """Begins with a fresh state."""
        ClientRate.__init__(self, beta=self.cubic.beta, scale=self.cubic.scale)


class AdaptiveRateGate(AdaptiveGate):
    """Spaces calls out to the rate that the other side was seen to take; each knows its wait when it asks.

    A ticket is whether the call took a token: before the first throttle none does.
    """

    __slots__ = ("_max_wait", "machine")

    def __init__(
        self,
        machine: SharedClientRate,
        judges: FailureJudges,
        max_wait: float | None,
        name: str,
        listeners: tuple[Listener, ...],
    ) -> None:
        super().__init__(machine.lock, judges, name, listeners)
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
                self.release(True)
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
                self.release(True)
                raise
        return True

    def on_success(self, ticket: bool, value: object) -> None:
        machine, now = self.machine, CLOCK.get().now()
        if self._of_result is not None and self._of_result(value):
            self._responded(now, throttled=True)
        elif machine.quiet_from <= now < machine.quiet_until:
            next(machine.ticks)
        else:
            self._responded(now, throttled=False)

    def on_failure(self, ticket: bool, error: BaseException) -> None:
        throttled = self._said(error)
        if throttled is not None:
            self._responded(CLOCK.get().now(), throttled=throttled)

    def release(self, ticket: bool) -> None:
        if ticket:
            with self._lock:
                self.machine.returned()

    def metrics(self) -> ClientRateMetrics:
        """The rates as of the last response."""
        with self._lock:
            return self.machine.metrics()

    def restart(self) -> None:
        """Begins with a fresh state."""
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
