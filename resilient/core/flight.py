"""Single flight: many callers fail together, one recovers for all.

Every finished recovery makes a new generation of the resource. A caller remembers the generation on which
its attempt began; if that is older than today's, somebody has recovered since, and trying again is enough.

::

    caller asks            nobody recovers            somebody does
    on today's generation  Lead: recover              Join: wait for the end, try again
    on an older one        Skip: try again            Skip: try again
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["Flight", "Part"]


class Part(Enum):
    """A caller's part in the recovery of what it shares with others."""

    LEAD = auto()
    JOIN = auto()
    SKIP = auto()


class Flight:
    """Who recovers one resource. Not thread-safe: the driver holds its lock around each step."""

    __slots__ = ("_ended_at", "_running", "generation", "throttle")

    def __init__(self, throttle: float) -> None:
        self.throttle = throttle
        self.generation = 0
        self._running = False
        self._ended_at: float | None = None

    def ask(self, born: int) -> Part:
        """The part of a caller whose attempt began on generation ``born``."""
        if born < self.generation:
            return Part.SKIP
        if self._running:
            return Part.JOIN
        self._running = True
        return Part.LEAD

    def hold(self, now: float) -> float:
        """How long the leader must wait so that recoveries stay ``throttle`` apart, seconds."""
        if self._ended_at is None or now < self._ended_at:  # the latter on another clock: a fake one, or after one
            return 0.0
        return max(0.0, self._ended_at + self.throttle - now)

    def ended(self, now: float) -> None:
        """The leader's handler returned or raised: either way, what failed before it is history."""
        self._running = False
        self.generation += 1
        self._ended_at = now

    def abandoned(self) -> None:
        """The leader was cancelled or ran out of time: whoever asks next leads."""
        self._running = False
