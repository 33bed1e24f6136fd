"""CircuitBreaker: stop calling what keeps failing, and find out carefully when it works again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypedDict, Unpack

from resilient.core.backoff import Backoff, constant
from resilient.core.breaker import BreakerMetrics, BreakerPlan, State
from resilient.core.classify import classifier_of
from resilient.core.duration import Duration, optional_seconds, seconds, share, whole
from resilient.core.setting_errors import SettingTypeError, SettingValueError, checked_name
from resilient.drivers.gates.circuit_breaker import Chance, CircuitBreakerGate, SharedBreaker, TimedCircuitBreakerGate
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.observe.listeners import Listener, checked_listeners
from resilient.policies.frozen import by_name
from resilient.policies.gate import GatePolicy
from resilient.policies.judging import says, says_of
from resilient.policies.retry import OnErrors
from resilient.policies.shared import Home, Stateful

__all__ = ["CircuitBreaker"]

# Where the window is a time: resilience4j asks for 100 calls and Polly for as many; 10 lets a client of its own
# trip too, as pybreaker's and Hystrix' volumes (5 and 20) do.
MIN_CALLS = 10


class CircuitBreakerSettings(TypedDict, total=False):
    """The settings of a CircuitBreaker, as ``with_`` takes them."""

    failure_rate: float | None
    window: int | timedelta
    min_calls: int | None
    consecutive: int | None
    slow_call: Duration | None
    slow_rate: float
    open_for: Duration | Backoff
    probes: int
    on: OnErrors
    ignore: OnErrors | tuple[()]
    result: Callable[[Any], bool] | None
    name: str
    listeners: tuple[Listener, ...]
    home: Home | None


@by_name("CircuitBreaker(failure_rate=0.5)")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CircuitBreaker(GatePolicy, Stateful):
    """Rejects calls to what keeps failing, and lets a few probes find out when it works again.

    Closed, it counts results in a window and opens when a rate is at or above its threshold. Open, it raises
    :class:`~resilient.CircuitOpen` at once. After ``open_for`` it is half open: exactly ``probes`` calls go through,
    and their results close it, or open it again. A result of a call that began in an earlier state changes nothing. A
    cancelled call counts as nothing and frees its probe. No lock is held while a call runs.

    Args:
        failure_rate: share of failures that opens it, above 0 to 1; None: they are not rated.
        window: what is counted: a number of calls, or a ``timedelta``.
        min_calls: calls in the window before a rate is looked at; None: the whole window, or 10 if it is a time.
        consecutive: failures in a row that open it, whatever the rates; None: they are not counted.
        slow_call: a call that takes longer than this is slow, seconds; None: none is.
        slow_rate: share of slow calls that opens it, above 0 to 1.
        open_for: how long it rejects, seconds; a Backoff grows while it keeps opening again.
        probes: calls that go through half open, >= 1.
        on: which errors are failures, as for ``Retry``; others are successes. Limits of time that inner policies set
            are failures, unless a rule speaks of them; what inner policies reject says nothing.
        ignore: which errors count as nothing.
        result: says of a returned value whether it is a failure; a value that a result rule of ``on`` names is one too.
        name: for errors and events.
        listeners: functions that are told every event of this policy.
        home: where the state lives; see ``named``.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.

    Source: the states are those of M. Nygard, "Release It!"; window, rates and their comparison are resilience4j's.
    """

    failure_rate: float | None = 0.5
    window: int | timedelta = 100
    min_calls: int | None = None
    consecutive: int | None = None
    slow_call: Duration | None = None
    slow_rate: float = 1.0
    open_for: Duration | Backoff = 30.0
    probes: int = 1
    on: OnErrors = Exception
    ignore: OnErrors | tuple[()] = ()
    result: Callable[[Any], bool] | None = None
    name: str = ""
    listeners: tuple[Listener, ...] = ()
    home: Home | None = field(default=None, compare=False, repr=False)
    gate: CircuitBreakerGate = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        on, result = classifier_of(self.on), self.result
        ignore = None if self.ignore in ((), []) else classifier_of(self.ignore, "ignore")
        if result is not None and not callable(result):
            raise SettingTypeError("result", f"must be a function of a returned value, got {result!r}")
        fix(self, "on", on)
        fix(self, "ignore", () if ignore is None else ignore)
        fix(self, "listeners", checked_listeners(self.listeners))
        plan = self._plan()
        fix(self, "slow_call", plan.slow_call)
        if not isinstance(self.open_for, Backoff):
            fix(self, "open_for", plan.open_for.delay(1))
        if self.failure_rate is None and self.consecutive is None and self.slow_call is None:
            problem = "are all None: nothing would ever open it"
            raise SettingValueError("failure_rate", problem, subject="failure_rate, consecutive and slow_call")
        breaker = self.found_state("CircuitBreaker", checked_name(self.name), lambda: SharedBreaker(plan, Chance()))
        kind = CircuitBreakerGate if plan.slow_call is None else TimedCircuitBreakerGate
        judges = FailureJudges(says(on, ignore), _either(result, says_of(on)))
        fix(self, "gate", kind(breaker, judges, self.name, self.listeners))

    def _plan(self) -> BreakerPlan:
        timed = isinstance(self.window, timedelta)
        window = seconds("window", self.window, above=True) if timed else whole("window", self.window, least=1)
        min_calls = self.min_calls
        if min_calls is None:
            min_calls = MIN_CALLS if timed else int(window)
        if whole("min_calls", min_calls, least=1) > window and not timed:
            raise SettingValueError("min_calls", f"must be <= window ({window}), got {min_calls!r}")
        open_for = self.open_for
        if not isinstance(open_for, Backoff):
            open_for = constant(seconds("open_for", open_for, above=True))
        return BreakerPlan(
            failure_rate=None if self.failure_rate is None else share("failure_rate", self.failure_rate),
            window=window,
            timed=timed,
            min_calls=min_calls,
            consecutive=None if self.consecutive is None else whole("consecutive", self.consecutive, least=1),
            slow_call=optional_seconds("slow_call", self.slow_call, above=True),
            slow_rate=share("slow_rate", self.slow_rate),
            open_for=open_for,
            probes=whole("probes", self.probes, least=1),
        )

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        """The blocking and the async form."""
        return self.gate, self.gate

    @property
    def state(self) -> State:
        """What a call would meet now: "closed", "open", "half_open", "forced_open", "disabled" or "metrics_only"."""
        return self.gate.state()

    def metrics(self) -> BreakerMetrics:
        """What was counted, as of now."""
        return self.gate.metrics()

    def force_open(self) -> None:
        """Rejects every call until another order."""
        self.gate.order(self.gate.breaker.force_open)

    def disable(self) -> None:
        """Lets every call through and counts none, until another order."""
        self.gate.order(self.gate.breaker.disable)

    def metrics_only(self) -> None:
        """Lets every call through and counts it, but never opens, until another order."""
        self.gate.order(self.gate.breaker.metrics_only)

    def reset(self) -> None:
        """Closes it, with nothing counted."""
        self.gate.order(self.gate.breaker.reset)

    def with_(self, **changes: Unpack[CircuitBreakerSettings]) -> CircuitBreaker:
        """A copy with some settings changed, and a state of its own."""
        changes.setdefault("home", None)  # which keeps its state by name: this one's
        return replace(self, **changes)


def _either(one: Callable[[Any], bool] | None, other: Callable[[Any], bool] | None) -> Callable[[Any], bool] | None:
    """A judge for whom a value is a failure if either says so."""
    if one is None or other is None:
        return one or other
    return lambda value: bool(one(value) or other(value))
