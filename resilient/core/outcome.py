"""What became of a call, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from resilient.core.events import CallRejected, Event, FellBack, GaveUp, Succeeded, TimedOut

__all__ = ["Outcome"]

# What ends a call, or a part of it; the last of them in a timeline tells how it ended.
ENDS = (GaveUp, Succeeded, CallRejected, TimedOut, FellBack)

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)  # no slots: Outcome[int](...) sets an attribute of its own
class Outcome(Generic[T_co]):
    """A call's result or its error, and how it came about.

    Attributes:
        value: what the call returned; None if it raised.
        error: what it raised last; None if it returned.
        elapsed: seconds, waits and recoveries included.
        timeline: everything that happened, in order, each event with the name of its policy.
        calls: how often the function was called; None where the timeline alone tells.
    """

    value: T_co | None
    error: Exception | None
    elapsed: float
    timeline: tuple[Event, ...] = ()
    calls: int | None = None

    @property
    def ok(self) -> bool:
        """Whether the call returned a value that no rule rejects."""
        return self.error is None and self.stopped_by is None

    @property
    def attempts(self) -> int:
        """How often the function was called."""
        if self.calls is not None:
            return self.calls
        end = self._end
        return end.attempts if isinstance(end, (GaveUp, Succeeded)) else 1

    @property
    def stopped_by(self) -> str | None:
        """Why it was not tried again; None if it is ok.

        "fail", "attempts", "timeout", "max_wait" or "budget"; "rejected" if a policy did not let it through.
        """
        end = self._end
        if self.error is None:
            return end.stopped_by if isinstance(end, GaveUp) and end.error is None else None
        if isinstance(end, GaveUp):
            return end.stopped_by
        if isinstance(end, CallRejected):
            return "rejected"
        return "timeout" if isinstance(end, TimedOut) else "fail"  # a predicate raised, or nothing tries again

    @property
    def retry_at(self) -> float | None:
        """When the other side said to come back, a monotonic instant (``time.monotonic()``), seconds."""
        end = self._end
        return end.retry_at if isinstance(end, (GaveUp, CallRejected)) else None

    def unwrap(self) -> T_co:
        """The value, or the error raised."""
        if self.error is None:
            return cast("T_co", self.value)
        try:
            raise self.error
        finally:
            del self  # a frame that holds the error it raised is a cycle

    @property
    def _end(self) -> GaveUp | Succeeded | CallRejected | TimedOut | FellBack | None:
        ends = (event for event in reversed(self.timeline) if isinstance(event, ENDS))
        return next(ends, None)
