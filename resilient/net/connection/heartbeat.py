"""The heartbeat of a managed connection: when to probe it, and when its silence is its end."""

from __future__ import annotations

from resilient.core.pulse import Missed, Pulse

__all__ = ["Heartbeat"]


class Heartbeat:
    """When to probe. Not thread-safe, but for ``heard``: the connection's state holds its lock around the rest.

    Args:
        interval: of probes while nothing else is heard, seconds.
        misses: intervals of silence after which the connection is lost.
    """

    __slots__ = ("_heard_at", "_misses", "_pulse")

    def __init__(self, interval: float, misses: int) -> None:
        self._pulse = Pulse(Missed(interval, misses))
        self._misses = misses
        self._heard_at = 0.0

    @property
    def longest_silence(self) -> float:
        """How long a connection may be silent before it counts as lost, seconds."""
        return self._pulse.detector.interval * self._misses

    def opened(self, now: float) -> None:
        """A connection is up."""
        self._heard_at = now
        self._pulse.opened(now)

    def heard(self, now: float) -> None:
        """The other side gave a sign of life; from any thread."""
        self._heard_at = now
        self._pulse.heard(now)

    def answered(self, now: float) -> None:
        """The other side answered a probe."""
        self._heard_at = now
        self._pulse.detector.answered(now)

    def silent(self, now: float) -> bool:
        """Whether the connection has been silent for too long; the driver looks at the clock."""
        self._pulse.looked(now)
        return self._pulse.suspected(now)

    def beats(self, now: float) -> bool:
        """Whether a probe begins now: while something else is heard, it is put off."""
        pulse = self._pulse
        if not pulse.due(now):
            return False
        idle = not self._heard_at + pulse.detector.interval > now >= self._heard_at
        pulse.beaten(now if idle else self._heard_at)
        return idle

    def next_look(self, now: float) -> float:
        """How long the driver may sleep, seconds."""
        return max(0.0, self._pulse.look_at - now)
