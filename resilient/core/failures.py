"""Failures in a row, and how long to wait because of them.

What ``Reconnector``, ``Supervisor`` and ``Poller`` count by. The default numbers are those of the plugin host whose
reconnect manager this replaces: 100 ms at first, doubling, at most 300 s, ten attempts.
"""

from __future__ import annotations

from resilient.core.backoff import LAST_DISTINCT_RETRY, Backoff, Rng, exponential
from resilient.core.duration import whole
from resilient.core.setting_errors import SettingTypeError

__all__ = ["ATTEMPTS", "BACKOFF", "Failures", "checked_attempts", "checked_backoff"]

BACKOFF = exponential(0.1, factor=2, cap=300)
ATTEMPTS = 10


class Failures:
    """Counts failures, and draws the wait that comes next.

    Args:
        backoff: the waits.
        attempts: after how many failures in a row it is over; None: never.

    Attributes:
        count: failures since the last success.
    """

    __slots__ = ("_drawn", "_previous", "attempts", "backoff", "count")

    def __init__(self, backoff: Backoff, attempts: int | None = None) -> None:
        self.backoff = backoff
        self.attempts = attempts
        self.succeeded()

    def succeeded(self) -> None:
        """Begins anew, with no failures."""
        self.count = 0
        self._drawn: float | None = None
        self._previous: float | None = None

    def failed(self) -> None:
        """Counts one more failure."""
        self.count += 1
        if self._drawn is not None:
            self._previous, self._drawn = self._drawn, None

    def delay(self, rng: Rng) -> float:
        """The wait after so many failures, seconds; drawn once, however often it is asked for.

        None yet: the first of the backoff.
        """
        if self._drawn is None:
            self._drawn = self.backoff.wait(self.count + 1, self._previous, rng)
        return self._drawn

    def longest(self, rng: Rng) -> float:
        """The wait at the backoff's cap, jittered as ever, seconds; without a cap, the next one."""
        if self.backoff.cap is None:
            return self.delay(rng)
        return self.backoff.wait(LAST_DISTINCT_RETRY, self.backoff.cap, rng)

    @property
    def exhausted(self) -> bool:
        """Whether that was the last attempt."""
        return self.attempts is not None and self.count >= self.attempts


def checked_backoff(backoff: object) -> Backoff:
    """The waits of a policy.

    Raises:
        TypeError: they are something else.
    """
    if not isinstance(backoff, Backoff):
        raise SettingTypeError(
            "backoff", f"must be a Backoff, such as backoff.exponential(0.1, cap=300), got {backoff!r}"
        )
    return backoff


def checked_attempts(attempts: object) -> int | None:
    """A number of attempts >= 1, or None for no limit."""
    return None if attempts is None else whole("attempts", attempts, least=1)
