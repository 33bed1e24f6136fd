"""What became of a call, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from resilient.core.events import Event, GaveUp, Succeeded

__all__ = ["Outcome"]

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)  # no slots: Outcome[int](...) sets an attribute of its own
class Outcome(Generic[T_co]):
    """A call's result or its error, and how it came about.

    Attributes:
        value: what the call returned; None if it raised.
        error: what it raised last; None if it returned.
        elapsed: seconds, waits and recoveries included.
        timeline: everything that happened, in order; empty if the first attempt succeeded.
    """

    value: T_co | None
    error: Exception | None
    elapsed: float
    timeline: tuple[Event, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the call returned a value that no rule rejects."""
        return self.error is None and self.stopped_by is None

    @property
    def attempts(self) -> int:
        """How often the function was called."""
        end = self._end
        return 1 if end is None else end.attempts

    @property
    def stopped_by(self) -> str | None:
        """Why it was not tried again: "fail", "attempts", "timeout", "max_wait" or "budget"; None if it is ok."""
        end = self._end
        if isinstance(end, GaveUp):
            return end.stopped_by
        return None if self.error is None else "fail"  # a predicate raised: no verdict, so nothing was tried again

    @property
    def retry_at(self) -> float | None:
        """When the other side said to come back, a monotonic instant (``time.monotonic()``), seconds."""
        end = self._end
        return end.retry_at if isinstance(end, GaveUp) else None

    def unwrap(self) -> T_co:
        """The value, or the error raised."""
        if self.error is None:
            return cast("T_co", self.value)
        try:
            raise self.error
        finally:
            del self  # a frame that holds the error it raised is a cycle

    @property
    def _end(self) -> GaveUp | Succeeded | None:
        last = self.timeline[-1] if self.timeline else None
        return last if isinstance(last, (GaveUp, Succeeded)) else None
