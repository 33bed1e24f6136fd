"""Reconnector: counts failures and says how long to wait, without any socket."""

from __future__ import annotations

from threading import Lock

from resilient.core.backoff import Backoff
from resilient.core.failures import ATTEMPTS, BACKOFF, Failures, checked_attempts, checked_backoff
from resilient.drivers.clock import CLOCK

__all__ = ["Reconnector"]


class Reconnector:
    """What to hold beside something that is connected by hand; any thread may.

    By default the delay is min(100 ms * 2 ** failures so far, 300 s), and there are 10 attempts. Ask for the delay
    before recording the failure, and the first wait is 100 ms; ask afterwards, and it is 200 ms.

    Args:
        backoff: the waits; a jittered one is drawn anew after every failure.
        attempts: failures in a row after which ``can_attempt()`` is False, >= 1; None: it never is.

    Raises:
        TypeError: an argument is of another type.
        ValueError: the attempts are below 1.
    """

    __slots__ = ("_failures", "_lock")

    def __init__(self, backoff: Backoff = BACKOFF, attempts: int | None = ATTEMPTS) -> None:
        self._lock = Lock()
        self._failures = Failures(checked_backoff(backoff), checked_attempts(attempts))

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures.count

    def record_failure(self) -> None:
        """Counts an attempt that failed."""
        with self._lock:
            self._failures.failed()

    def record_success(self) -> None:
        """An attempt succeeded: everything begins anew."""
        with self._lock:
            self._failures.succeeded()

    def next_delay(self) -> float:
        """How long to wait, after the failures so far, seconds; the same however often it is asked for."""
        rng = CLOCK.get()
        with self._lock:
            return self._failures.delay(rng)

    def can_attempt(self) -> bool:
        """Whether any attempt is left."""
        return not self._failures.exhausted

    def __repr__(self) -> str:
        failures = self._failures
        return f"<Reconnector {failures.backoff!r}: {failures.count} failures, attempts={failures.attempts}>"
