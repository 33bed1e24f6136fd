"""When a background loop that ended is started again, and when that is hopeless.

After Erlang/OTP ("Supervisor Behaviour", OTP Design Principles). A loop is *permanent* (always started again),
*transient* (only after an error) or *temporary* (never). Its *restart intensity* is n restarts in t seconds: one more
than that, and the supervisor escalates: it stops everything and fails itself. OTP restarts at once, and counts the
restarts of all children together; here each loop waits by its own backoff first, and so is counted for itself.

::

    started ──> failed ────> Restart after a wait, or Escalate, or (temporary) Ended
            └─> returned ──> Ended, or (permanent) as if it had failed
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from resilient.core.backoff import Backoff, Rng
from resilient.core.duration import Duration, seconds, whole
from resilient.core.failures import BACKOFF, Failures, checked_backoff
from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = [
    "INTENSITY",
    "STABLE_AFTER",
    "STOP_TIMEOUT",
    "Ended",
    "Escalate",
    "Intensity",
    "Restart",
    "RestartPlan",
    "Restarts",
    "Step",
]

Intensity: TypeAlias = tuple[int, Duration]
"""At most so many restarts within so many seconds."""

# System 2's ten attempts, within its longest wait: a loop that dies at once, always, is given up after 102 s of waits;
# one that holds out for half a minute each time never is. (OTP's own default is 1 in 5 s, without any backoff.)
INTENSITY: Intensity = (10, 300)
STABLE_AFTER = 10.0  # seconds of uptime that prove a start: those of the connection managers
STOP_TIMEOUT = 5.0  # seconds; OTP's default shutdown time of a worker


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """How one loop is started again.

    Attributes:
        backoff: the waits before restarts.
        intensity: most restarts within so many seconds; None: no limit.
        stable_after: uptime that resets the backoff, seconds, > 0.
        permanent: whether it is started again when it returned, too.
        temporary: whether it is never started again.
        stop_timeout: how long the others wait for its end before they are stopped as well, seconds, > 0.

    Raises:
        TypeError: an argument is of another type.
        ValueError: it is outside its range, or the loop would be both permanent and temporary.
    """

    backoff: Backoff = BACKOFF
    intensity: Intensity | None = INTENSITY
    stable_after: Duration = STABLE_AFTER
    permanent: bool = False
    temporary: bool = False
    stop_timeout: Duration = STOP_TIMEOUT

    def __post_init__(self) -> None:
        checked_backoff(self.backoff)
        object.__setattr__(self, "intensity", _checked_intensity(self.intensity))
        for name in ("stable_after", "stop_timeout"):
            object.__setattr__(self, name, seconds(name, getattr(self, name), above=True))
        for name in ("permanent", "temporary"):
            if not isinstance(getattr(self, name), bool):
                raise SettingTypeError(name, f"must be True or False, got {getattr(self, name)!r}")
        if self.permanent and self.temporary:
            problem = "cannot both be True: a loop is started again, or it is not"
            raise SettingValueError("permanent", problem, subject="permanent and temporary")


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """The loop is done, and is not started again."""


@dataclass(frozen=True, slots=True)
class Escalate:
    """The loop dies too often: everything is to be stopped.

    Attributes:
        restarts: more than so many ...
        period: ... within so many seconds.
    """

    restarts: int
    period: float


Step: TypeAlias = Restart | Ended | Escalate


class Restarts:
    """One loop's life, told of its starts and ends.

    Attributes:
        starts: how often it was started.
    """

    __slots__ = ("_ends", "_failures", "_period", "_plan", "_started", "starts")

    def __init__(self, plan: RestartPlan) -> None:
        most, period = (0, 0.0) if plan.intensity is None else plan.intensity
        self._plan = plan
        self._failures = Failures(plan.backoff)
        self._ends: deque[float] = deque(maxlen=most + 1)
        self._period = seconds("intensity", period)
        self._started = 0.0
        self.starts = 0

    def started(self, now: float) -> None:
        """The loop begins, at this monotonic instant."""
        self.starts += 1
        self._started = now

    def failed(self, now: float, rng: Rng) -> Step:
        """The loop raised, and is started again or not."""
        return Ended() if self._plan.temporary else self._again(now, rng)

    def returned(self, now: float, rng: Rng) -> Step:
        """The loop returned, and is started again or not."""
        return self._again(now, rng) if self._plan.permanent else Ended()

    def _again(self, now: float, rng: Rng) -> Step:
        self._ends.append(now)
        if self._plan.intensity is not None and self._too_often(now):
            return Escalate(len(self._ends) - 1, self._period)
        if now - self._started >= seconds("stable_after", self._plan.stable_after):
            self._failures.succeeded()
        delay = self._failures.delay(rng)
        self._failures.failed()
        return Restart(delay)

    def _too_often(self, now: float) -> bool:
        # As OTP's supervisor.erl counts (in_period): an end exactly one period ago is still within it.
        return len(self._ends) == self._ends.maxlen and now - self._ends[0] <= self._period


def _checked_intensity(intensity: object) -> tuple[int, float] | None:
    if intensity is None:
        return None
    if isinstance(intensity, str) or not isinstance(intensity, Iterable):
        raise SettingTypeError(
            "intensity", f"must be (restarts, seconds), such as (10, 300), or None, got {intensity!r}"
        )
    given = tuple(intensity)
    if len(given) != 2:
        raise SettingValueError(
            "intensity", f"must be (restarts, seconds), such as (10, 300), or None, got {intensity!r}"
        )
    restarts = whole("intensity", given[0], least=0, subject="intensity's restarts")
    return restarts, seconds("intensity", given[1], above=True, subject="intensity's seconds")
