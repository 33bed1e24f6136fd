"""AdaptiveThrottle: do not send what the other side will reject anyway."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from resilient.core.classify import classifier_of
from resilient.core.duration import Duration, number, seconds, whole
from resilient.core.setting_errors import checked_name
from resilient.core.throttle import ThrottleMetrics
from resilient.drivers.gates.adaptive_throttle import AdaptiveThrottleGate, SharedThrottle
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.observe.listeners import Listener, checked_listeners
from resilient.policies.frozen import by_name
from resilient.policies.gate import GatePolicy
from resilient.policies.judging import says, says_of
from resilient.policies.retry import OnErrors
from resilient.policies.shared import Home, Stateful

__all__ = ["AdaptiveThrottle"]


class AdaptiveThrottleSettings(TypedDict, total=False):
    """The settings of an AdaptiveThrottle, as ``with_`` takes them."""

    k: float
    window: Duration
    min_calls: int
    on: OnErrors
    name: str
    listeners: tuple[Listener, ...]
    home: Home | None


@by_name("AdaptiveThrottle(k=2)")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AdaptiveThrottle(GatePolicy, Stateful):
    """Rejects calls here with the probability that the other side would reject them there.

    ``p = max(0, (calls - k * accepts) / (calls + 1))`` over the window, of which ``calls`` are all that were tried,
    those rejected here included. A call that is cancelled counts as accepted.

    Args:
        k: how many calls are sent for one that is accepted, >= 1; 2 lets as many through again as are accepted, so that
            a recovery is noticed soon.
        window: what is counted, seconds, > 0.
        min_calls: below so many calls nothing is rejected, >= 0.
        on: which errors mean that the other side did not accept the call, as for ``Retry``; and which returned
            values, if it has rules for results.
        name: for errors and events.
        listeners: functions that are told every event of this policy.
        home: where the state lives; see ``named``.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.

    Source: "Handling Overload", Site Reliability Engineering (Google, 2016): k of 2, two minutes.
    """

    k: float = 2.0
    window: Duration = 120.0
    min_calls: int = 10
    on: OnErrors = Exception
    name: str = ""
    listeners: tuple[Listener, ...] = ()
    home: Home | None = field(default=None, compare=False, repr=False)
    gate: AdaptiveThrottleGate = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        number("k", self.k, least=1)
        window = seconds("window", self.window, above=True)
        whole("min_calls", self.min_calls, least=0)
        fix(self, "window", window)
        fix(self, "listeners", checked_listeners(self.listeners))
        name, on = checked_name(self.name), classifier_of(self.on)
        fix(self, "on", on)
        machine = self.found_state("AdaptiveThrottle", name, self._machine)
        fix(self, "gate", AdaptiveThrottleGate(machine, FailureJudges(says(on), says_of(on)), name, self.listeners))

    def _machine(self) -> SharedThrottle:
        return SharedThrottle(self.k, seconds("window", self.window), self.min_calls)

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        """The blocking and the async form."""
        return self.gate, self.gate

    def metrics(self) -> ThrottleMetrics:
        """What was counted, as of now."""
        return self.gate.metrics()

    def reset(self) -> None:
        """Forgets all calls so far."""
        self.gate.restart()

    def with_(self, **changes: Unpack[AdaptiveThrottleSettings]) -> AdaptiveThrottle:
        """A copy with some settings changed, and a state of its own."""
        changes.setdefault("home", None)  # which keeps its state by name: this one's
        return replace(self, **changes)
