"""AdaptiveRate: as many calls a second as the other side was seen to take."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypedDict, Unpack

from resilient.core.classify import classifier_of
from resilient.core.client_rate import ClientRateMetrics
from resilient.core.duration import Duration, number, optional_seconds
from resilient.core.setting_errors import SettingValueError, checked_name
from resilient.drivers.gates.adaptive_rate import AdaptiveRateGate, SharedClientRate
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.observe.listeners import Listener, checked_listeners
from resilient.policies.frozen import by_name
from resilient.policies.gate import GatePolicy
from resilient.policies.judging import says, says_of
from resilient.policies.retry import OnErrors
from resilient.policies.shared import Home, Stateful

__all__ = ["AdaptiveRate"]


class AdaptiveRateSettings(TypedDict, total=False):
    """The settings of an AdaptiveRate, as ``with_`` takes them."""

    on: OnErrors
    max_wait: Duration | None
    beta: float
    scale: float
    name: str
    listeners: tuple[Listener, ...]
    home: Home | None


@by_name("AdaptiveRate(on=TooManyRequests)")
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class AdaptiveRate(GatePolicy, Stateful):
    """Spaces calls out to the rate that the other side was seen to take.

    Nothing is limited until a call is throttled for the first time. Then the rate falls to ``beta`` of what was
    measured, and grows again along a cubic curve: fast at first, slowly near the rate that was too much, faster beyond
    it; never above twice the measured rate. Callers wait in order.

    Args:
        on: which errors mean that the other side throttles, as for ``Retry``; there is no default. Rules for
            results say it of returned values.
        max_wait: longest wait for one's turn, seconds; who would wait longer is rejected at once
            (:class:`~resilient.RateLimited`). None: no limit but the deadline around the call.
        beta: what is left of the rate after a throttle, above 0 and below 1.
        scale: how fast the rate grows, the C of CUBIC, > 0.
        name: for errors and events.
        listeners: functions that are told every event of this policy.
        home: where the state lives; see ``named``.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.

    Source: the adaptive retry mode of the AWS SDKs (botocore retries/adaptive.py; beta 0.7, C 0.4); CUBIC is RFC 9438.
    """

    on: OnErrors
    max_wait: Duration | None = None
    beta: float = 0.7
    scale: float = 0.4
    name: str = ""
    listeners: tuple[Listener, ...] = ()
    home: Home | None = field(default=None, compare=False, repr=False)
    gate: AdaptiveRateGate = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        fix = object.__setattr__
        max_wait = optional_seconds("max_wait", self.max_wait)
        if number("beta", self.beta, least=0, above=True, most=1) == 1:
            raise SettingValueError("beta", f"must be < 1, got {self.beta!r}")
        number("scale", self.scale, least=0, above=True)
        fix(self, "listeners", checked_listeners(self.listeners))
        fix(self, "max_wait", max_wait)
        name, on = checked_name(self.name), classifier_of(self.on)
        fix(self, "on", on)
        machine = self.found_state("AdaptiveRate", name, self._machine)
        fix(
            self,
            "gate",
            AdaptiveRateGate(machine, FailureJudges(says(on), says_of(on)), max_wait, name, self.listeners),
        )

    def _machine(self) -> SharedClientRate:
        return SharedClientRate(self.beta, self.scale)

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        """The blocking and the async form."""
        return self.gate, self.gate

    def metrics(self) -> ClientRateMetrics:
        """The rates as of the last response."""
        return self.gate.metrics()

    def reset(self) -> None:
        """Forgets what was measured: nothing is limited until the next throttle."""
        self.gate.restart()

    def with_(self, **changes: Unpack[AdaptiveRateSettings]) -> AdaptiveRate:
        """A copy with some settings changed, and a state of its own."""
        changes.setdefault("home", None)  # which keeps its state by name: this one's
        return replace(self, **changes)
