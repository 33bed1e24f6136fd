"""The gate of an adaptive throttle: rejects here what would be rejected there."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any

from resilient.core.throttle import Throttle, ThrottleMetrics
from resilient.drivers.clock import CLOCK, Clock
from resilient.drivers.gates.adaptive import AdaptiveGate
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import AsyncGate, reject
from resilient.errors import Throttled
from resilient.observe.listeners import Listener

__all__ = ["AdaptiveThrottleGate", "SharedThrottle"]


class SharedThrottle(Throttle):
    """A throttle, and the lock that every gate in front of it holds around each step."""

    __slots__ = ("lock",)

    def __init__(self, k: float, window: float, min_calls: int) -> None:
        super().__init__(k, window, min_calls)
        self.lock = RLock()


class AdaptiveThrottleGate(AdaptiveGate):
    """Rejects the more calls here, the fewer the other side accepts there; nobody waits."""

    __slots__ = ("machine",)

    def __init__(
        self, machine: SharedThrottle, judges: FailureJudges, name: str, listeners: tuple[Listener, ...]
    ) -> None:
        super().__init__(machine.lock, judges, name, listeners)
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

    def on_success(self, ticket: bool, value: object) -> None:
        if self._of_result is None:
            next(self.machine.accepts)
        else:
            self._judged(self._of_result, value)

    def on_failure(self, ticket: bool, error: BaseException) -> None:
        self._judged(self._said, error)

    def release(self, ticket: bool) -> None:
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
        """Begins with a fresh state."""
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

    __slots__ = ("on_failure", "on_success", "release")

    def __init__(self, gate: AdaptiveThrottleGate) -> None:
        self.on_success, self.on_failure, self.release = gate.on_success, gate.on_failure, gate.release

    def ready(self) -> bool:
        return True

    async def join(self) -> object:
        raise AssertionError("it was let through already")
