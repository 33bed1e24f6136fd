"""A circuit breaker's gate: the breaker under a lock that is never held while user code runs."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock

from resilient.core.backoff import Rng
from resilient.core.breaker import Breaker, BreakerMetrics, BreakerPlan, State
from resilient.core.events import StateChanged
from resilient.drivers.clock import CLOCK
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import reject
from resilient.errors import CircuitOpen
from resilient.observe.listeners import Listener, hearers, tell
from resilient.observe.log import INFO

__all__ = ["Chance", "CircuitBreakerGate", "SharedBreaker", "TimedCircuitBreakerGate"]


class Chance:
    """The present clock's chance, for a breaker that outlives many of them."""

    def random(self) -> float:
        return CLOCK.get().random()


class SharedBreaker(Breaker):
    """A breaker, and the lock that every gate in front of it holds around each step."""

    __slots__ = ("lock",)

    def __init__(self, plan: BreakerPlan, rng: Rng) -> None:
        super().__init__(plan, rng)
        self.lock = RLock()


class CircuitBreakerGate:
    """The gate, in both forms: nobody ever waits at it.

    Args:
        breaker: the state.
        judges: what calls say about the resource.
        name: for errors and events.
        listeners: told of changes and rejections.
    """

    __slots__ = ("_judges_results", "_lock", "_name", "breaker", "judges", "listeners")

    def __init__(
        self, breaker: SharedBreaker, judges: FailureJudges, name: str, listeners: tuple[Listener, ...]
    ) -> None:
        self.breaker = breaker
        self.judges = judges
        self.listeners = listeners
        self._name = name
        self._lock = breaker.lock
        self._judges_results = judges.of_result is not None

    def enter(self) -> int:
        breaker = self.breaker
        ticket = breaker.generation  # before the question: if it changes in between, the call is history, no probe
        return ticket if breaker.admits_all else self._enter_slowly()

    enter_soon = ready = enter

    async def join(self) -> object:
        raise AssertionError("a breaker admits or rejects, and nobody waits")

    def on_success(self, ticket: int, value: object) -> None:
        breaker = self.breaker
        if breaker.quiet and ticket == breaker.generation and not self._judges_results:
            next(breaker.successes)
        else:
            self._returned(ticket, value, None)

    def on_failure(self, ticket: int, error: BaseException) -> None:
        self._raised(ticket, error, None)

    def release(self, ticket: int) -> None:
        with self._lock:
            self.breaker.forgotten(ticket)

    def order(self, order: Callable[[float], None]) -> None:
        """Carries out an operator's order, such as ``breaker.reset``."""
        now = CLOCK.get().now()
        with self._lock:
            order(now)
        self._tell_moves()

    def state(self) -> State:
        """What a call would meet now."""
        return self.breaker.state_at(CLOCK.get().now())

    def metrics(self) -> BreakerMetrics:
        """What was counted, as of now."""
        now = CLOCK.get().now()
        with self._lock:
            return self.breaker.metrics(now)

    def _enter_slowly(self) -> int:
        breaker, now = self.breaker, CLOCK.get().now()
        with self._lock:
            ticket = breaker.admit(now)
            retry_after = breaker.retry_after(now) if ticket is None else None
        if breaker.moved:
            try:
                self._tell_moves()
            except BaseException:  # an exit out of a listener
                if ticket is not None:
                    self.release(ticket)
                raise
        if ticket is None:
            raise reject(
                CircuitOpen(self._name, retry_after, _WHY.get(breaker.state, "")), "CircuitBreaker", self.listeners
            )
        return ticket

    def _returned(self, ticket: int, value: object, seconds: float | None) -> None:
        failed = False
        judge = self.judges.of_result
        if judge is not None:
            try:
                failed = judge(value)
            except BaseException:
                self.release(ticket)
                raise
        self._record(ticket, failed, seconds)

    def _raised(self, ticket: int, error: BaseException, seconds: float | None) -> None:
        failed = None
        try:
            if isinstance(error, Exception):
                failed = self.judges.of_error(error)
        finally:
            if failed is None:
                self.release(ticket)
        if failed is not None:
            self._record(ticket, failed, seconds)

    def _record(self, ticket: int, failed: bool, seconds: float | None) -> None:
        breaker, now = self.breaker, CLOCK.get().now()
        with self._lock:
            breaker.recorded(ticket, now, failed, seconds)
        if breaker.moved:
            self._tell_moves()

    def _tell_moves(self) -> None:
        with self._lock:
            moves = self.breaker.take_moves()
        heard = hearers(self.listeners, INFO)
        if heard:
            for before, after in moves:
                tell(StateChanged(self._name or "CircuitBreaker", 0.0, before, after), heard)


class TimedCircuitBreakerGate(CircuitBreakerGate):
    """The gate of a breaker that looks for slow calls: its tickets hold when the call began."""

    __slots__ = ()

    def enter(self) -> tuple[int, float]:  # type: ignore[override]  # tickets are opaque to all others
        breaker = self.breaker
        ticket = breaker.generation  # as above
        return ticket if breaker.admits_all else self._enter_slowly(), CLOCK.get().now()

    enter_soon = ready = enter  # type: ignore[assignment]

    def on_success(self, ticket: tuple[int, float], value: object) -> None:  # type: ignore[override]
        breaker, seconds = self.breaker, CLOCK.get().now() - ticket[1]
        if (
            breaker.quiet
            and ticket[0] == breaker.generation
            and not breaker.is_slow(seconds)
            and not self._judges_results
        ):
            next(breaker.successes)
        else:
            self._returned(ticket[0], value, seconds)

    def on_failure(self, ticket: tuple[int, float], error: BaseException) -> None:  # type: ignore[override]
        self._raised(ticket[0], error, CLOCK.get().now() - ticket[1])

    def release(self, ticket: tuple[int, float] | int) -> None:
        super().release(ticket if isinstance(ticket, int) else ticket[0])


_WHY = {
    State.HALF_OPEN: "half open, and its probes are out",
    State.FORCED_OPEN: "forced open",
}
