"""When something is fetched again: at an interval while it works, by a backoff while it does not.

After so many failures in a row it says so, once, and either goes on at the backoff's cap or stops. ::

    answered ──> wait for the interval          (failures forgotten)
    failed ────> wait by the backoff            (attempts left)
           ├───> give up, and wait at its cap   (the last attempt, and all that follow)
           └───> give up, and stop              (unless it keeps trying)
"""

from __future__ import annotations

from dataclasses import dataclass

from resilient.core.backoff import Backoff, Rng
from resilient.core.duration import Duration, seconds
from resilient.core.failures import ATTEMPTS, BACKOFF, Failures, checked_attempts, checked_backoff
from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["Next", "PollPlan", "Polling"]


@dataclass(frozen=True, slots=True)
class PollPlan:
    """How something is fetched again.

    Attributes:
        interval: between one answer and the next fetch, seconds, > 0.
        backoff: the waits after failures.
        attempts: failures in a row after which it gives up, >= 1; None: never.
        keep_trying: whether it then goes on, at the backoff's cap; else it stops.
        jitter: how much earlier or later than after its interval a fetch may come, as a fraction of it, >= 0 and <= 1.

    Raises:
        TypeError: an argument is of another type.
        ValueError: it is outside its range.
    """

    interval: Duration
    backoff: Backoff = BACKOFF
    attempts: int | None = ATTEMPTS
    keep_trying: bool = True
    jitter: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "interval", seconds("interval", self.interval, above=True))
        checked_backoff(self.backoff)
        checked_attempts(self.attempts)
        if not isinstance(self.keep_trying, bool):
            raise SettingTypeError("keep_trying", f"must be True or False, got {self.keep_trying!r}")
        if isinstance(self.jitter, bool) or not isinstance(self.jitter, (int, float)):
            raise SettingTypeError("jitter", f"must be a number, got {self.jitter!r}")
        if not 0 <= self.jitter <= 1:
            raise SettingValueError("jitter", f"must be >= 0 and <= 1, got {self.jitter!r}")


@dataclass(frozen=True, slots=True)
class Next:
    """What follows a failure.

    Attributes:
        wait: seconds until the next fetch; None: there is none.
        gave_up: whether this failure was the last of its attempts.
    """

    wait: float | None
    gave_up: bool = False


class Polling:
    """The schedule of one poller, told of every answer and failure."""

    __slots__ = ("_failures", "_interval", "_jitter", "_keep_trying")

    def __init__(self, plan: PollPlan) -> None:
        self._interval = seconds("interval", plan.interval)
        self._jitter = plan.jitter
        self._keep_trying = plan.keep_trying
        self._failures = Failures(plan.backoff, plan.attempts)

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures.count

    def answered(self, rng: Rng) -> float:
        """There was an answer: the wait until the next fetch, seconds."""
        self._failures.succeeded()
        if not self._jitter:
            return self._interval
        return self._interval * (1 + self._jitter * (2 * rng.random() - 1))

    def failed(self, rng: Rng) -> Next:
        """There was no answer to a fetch."""
        failures = self._failures
        over = failures.exhausted
        delay = failures.delay(rng)
        failures.failed()
        if not failures.exhausted:
            return Next(delay)
        return Next(failures.longest(rng) if self._keep_trying else None, gave_up=not over)
