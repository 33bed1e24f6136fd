"""RateLimiter: how many calls start in a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TypedDict, Unpack

from resilient.core.duration import Duration, number, seconds, whole
from resilient.core.rate import RateMetrics
from resilient.core.setting_errors import SettingTypeError, SettingValueError, checked_name
from resilient.drivers.clock import CLOCK
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.drivers.gates.rate_limiter import AsyncRateLimiterGate, RateLimiterGate, SharedRate
from resilient.observe.listeners import Listener, checked_listeners
from resilient.policies.gate import GatePolicy
from resilient.policies.shared import Home, Stateful

__all__ = ["RateLimiter"]

MOST_BURST = 1e9  # beyond it, counting slots in a float would no longer be exact to the microsecond


class RateLimiterSettings(TypedDict, total=False):
    """The settings of a RateLimiter, as ``with_`` takes them."""

    rate: float
    per: Duration
    burst: int
    max_wait: Duration
    name: str
    listeners: tuple[Listener, ...]
    home: Home | None


@dataclass(frozen=True, slots=True, repr=False)
class RateLimiter(GatePolicy, Stateful):
    """At most ``rate`` calls in ``per`` seconds, evenly spaced, with a burst after idleness.

    The generic cell rate algorithm: calls follow each other by ``per / rate`` seconds, and up to ``burst`` of them
    may come at once after idleness; there is no window at whose edge twice the rate would pass. Calls that come early
    wait in one fair queue, threads and tasks of all event loops together, for at most ``max_wait`` and never beyond
    the deadline around them: whose slot comes later is rejected at once with :class:`~resilient.RateLimited`, which
    says after how many seconds it would come. With ``burst=1`` two calls are never closer than the interval, so a
    late wake-up of the system is lost time; from 2 on it is made up for.

    Args:
        rate: calls per ``per``, > 0; a fraction if they are rare.
        per: the time in which so many calls may start, > 0.
        burst: calls at once after idleness, 1 to a billion.
        max_wait: longest wait for a slot; 0: none.
        name: for errors and events; with a ``home``, the name of the schedule.
        listeners: functions that are told every event of this policy.
        home: where the schedule is shared by name; None: it is this object's own.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.

    Source: ITU-T I.371, annex A.
    """

    rate: float
    per: Duration = field(default=1, kw_only=True)
    burst: int = field(default=1, kw_only=True)
    max_wait: Duration = field(default=0, kw_only=True)
    name: str = field(default="", kw_only=True)
    listeners: tuple[Listener, ...] = field(default=(), kw_only=True)
    home: Home | None = field(default=None, kw_only=True, compare=False, repr=False)
    schedule: SharedRate = field(init=False, compare=False, repr=False)
    gate: RateLimiterGate = field(init=False, compare=False, repr=False)
    async_gate: AsyncRateLimiterGate = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        rate = _checked_rate(self.rate)
        fix(self, "per", per := seconds("per", self.per, above=True))
        burst = whole("burst", self.burst, least=1)
        number("burst", burst, least=1, most=MOST_BURST)
        fix(self, "max_wait", max_wait := seconds("max_wait", self.max_wait))
        fix(self, "listeners", checked_listeners(self.listeners))
        checked_name(self.name)
        schedule = self.found_state(self.kind, self.name, lambda: SharedRate(rate, per, burst))
        fix(self, "schedule", schedule)
        fix(self, "gate", RateLimiterGate(schedule, max_wait, self.name, self.listeners))
        fix(self, "async_gate", AsyncRateLimiterGate(self.gate, schedule))

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        """The blocking and the async form."""
        return self.gate, self.async_gate

    @property
    def hears(self) -> bool:
        """A call has used its slot, whatever becomes of it."""
        return False

    def metrics(self) -> RateMetrics:
        """What the limiter has seen, and what it would allow now."""
        return self.schedule.metrics(CLOCK.get().now())

    def reset(self) -> None:
        """The schedule and the counts begin anew; calls that wait keep their places."""
        self.schedule.reset()

    def with_(self, **changes: Unpack[RateLimiterSettings]) -> RateLimiter:
        """A copy with some settings changed, and a schedule of its own unless it has a ``home``."""
        changes.setdefault("home", None)
        return replace(self, **changes)


def _checked_rate(rate: object) -> float:
    """A number of calls.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite, or not above 0.
    """
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise SettingTypeError("rate", f"must be a number of calls > 0, got {rate!r}")
    try:
        number = float(rate)
    except OverflowError:
        raise SettingValueError("rate", "must be finite and > 0, got an integer beyond any float") from None
    if not (isfinite(number) and number > 0):
        raise SettingValueError("rate", f"must be finite and > 0, got {rate!r}")
    return number
