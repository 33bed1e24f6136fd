"""AdaptiveLimiter: as many calls at once as the other side was seen to take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal, TypedDict, Unpack, get_args

from resilient.core.classify import classifier_of
from resilient.core.concurrency import Algorithm, ConcurrencyMetrics
from resilient.core.duration import whole
from resilient.core.limits import AIMD, Gradient2
from resilient.core.setting_errors import SettingValueError, checked_name
from resilient.core.vegas import Vegas
from resilient.drivers.gates.adaptive_limiter import AdaptiveLimiterGate, SharedConcurrency
from resilient.drivers.gates.circuit_breaker import Chance
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import AsyncGate, Gate
from resilient.observe.listeners import Listener, checked_listeners
from resilient.policies.gate import GatePolicy
from resilient.policies.judging import says, says_of
from resilient.policies.retry import OnErrors
from resilient.policies.shared import Home, Stateful

__all__ = ["AdaptiveLimiter"]

AlgorithmName = Literal["gradient", "vegas", "aimd"]


class AdaptiveLimiterSettings(TypedDict, total=False):
    """The settings of an AdaptiveLimiter, as ``with_`` takes them."""

    algorithm: AlgorithmName
    initial: int
    min_limit: int
    max_limit: int
    on: OnErrors
    name: str
    listeners: tuple[Listener, ...]
    home: Home | None


@dataclass(frozen=True, slots=True, repr=False)
class AdaptiveLimiter(GatePolicy, Stateful):
    """Limits how many calls run at once to what the other side was seen to take, and rejects the rest at once.

    The limit grows while calls are as fast as ever, and shrinks when they get slower (``"gradient"``, ``"vegas"``) or
    are dropped (all three). Unlike the original, every algorithm heeds drops: Netflix's Gradient2 lets the limit climb
    while calls time out. A call that raised something else, or was cancelled, says nothing: put a ``Timeout`` inside.
    Every call is timed that begins while half of the limit or more is made use of; of the others, which move no limit
    unless they are dropped, one in sixteen.

    Args:
        algorithm: "gradient" (Gradient2), "vegas" or "aimd" (additive increase, multiplicative decrease).
        initial: the limit to begin with.
        min_limit: never below, >= 1.
        max_limit: never above.
        on: which errors mean that the other side could not take the call (a drop), as for ``Retry``; timeouts. A
            returned value that a result rule names is a drop too.
        name: for errors and events.
        listeners: functions that are told every event of this policy.
        home: where the state lives; see ``named``.

    Raises:
        TypeError, ValueError: a setting is of the wrong type or out of range.

    Source: Netflix concurrency-limits (AIMDLimit, VegasLimit, Gradient2Limit), whose defaults these are, but for
    ``min_limit``: theirs of 20 would keep a limiter from ever going below it.
    """

    algorithm: AlgorithmName = "gradient"
    initial: int = field(default=20, kw_only=True)
    min_limit: int = field(default=1, kw_only=True)
    max_limit: int = field(default=200, kw_only=True)
    on: OnErrors = field(default=TimeoutError, kw_only=True)
    name: str = field(default="", kw_only=True)
    listeners: tuple[Listener, ...] = field(default=(), kw_only=True)
    home: Home | None = field(default=None, kw_only=True, compare=False, repr=False)
    gate: AdaptiveLimiterGate = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        names = get_args(AlgorithmName)
        if self.algorithm not in names:
            raise SettingValueError(
                "algorithm", f"must be one of {', '.join(map(repr, names))}, got {self.algorithm!r}"
            )
        least = whole("min_limit", self.min_limit, least=1)
        most = whole("max_limit", self.max_limit, least=least)
        if whole("initial", self.initial, least=least) > most:
            raise SettingValueError("initial", f"must be <= max_limit ({most}), got {self.initial!r}")
        fix = object.__setattr__
        fix(self, "listeners", checked_listeners(self.listeners))
        on = classifier_of(self.on)
        fix(self, "on", on)
        judge = says(on)

        def dropped(error: Exception) -> bool | None:
            return judge(error) or None

        name = checked_name(self.name)
        machine = self.found_state("AdaptiveLimiter", name, self._machine)
        fix(self, "gate", AdaptiveLimiterGate(machine, FailureJudges(dropped, says_of(on)), name, self.listeners))

    def _machine(self) -> SharedConcurrency:
        return SharedConcurrency(self._algorithm())

    def _algorithm(self) -> Algorithm:
        makers: dict[str, Callable[[], Algorithm]] = {
            "gradient": lambda: Gradient2(self.initial, self.min_limit, self.max_limit),
            "vegas": lambda: Vegas(self.initial, self.max_limit, min_limit=self.min_limit, rng=Chance()),
            "aimd": lambda: AIMD(self.initial, self.min_limit, self.max_limit),
        }
        return makers[self.algorithm]()

    @property
    def gates(self) -> tuple[Gate, AsyncGate]:
        """The blocking and the async form."""
        return self.gate, self.gate

    @property
    def limit(self) -> int:
        """How many calls may run now."""
        return self.gate.machine.limit

    def metrics(self) -> ConcurrencyMetrics:
        """All counts so far."""
        return self.gate.metrics()

    def reset(self) -> None:
        """Begins again with ``initial``; calls that run are still counted as running."""
        self.gate.restart(self._algorithm())

    def with_(self, **changes: Unpack[AdaptiveLimiterSettings]) -> AdaptiveLimiter:
        """A copy with some settings changed, and a state of its own."""
        changes.setdefault("home", None)  # which keeps its state by name: this one's
        return replace(self, **changes)
