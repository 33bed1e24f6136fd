"""Sliding windows of calls: the last so many, or those of the last so many seconds.

Both count calls, failures and slow calls; a step costs O(1), amortised for the timed one, and memory is bounded
by the size of the window, not by traffic.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TypeAlias

__all__ = ["BUCKETS", "CountWindow", "TimeWindow", "Window"]

# A timed window slides in tenths: it forgets a call between 0.9 and 1.0 of its length later. Ten is what Polly
# (HealthMetrics.NumberOfWindows), Failsafe (TimedCircuitStats) and Hystrix (10 s in buckets of 1 s) settled on.
BUCKETS = 10

# The byte that a count keeps of each call.
FAILED, SLOW = 1, 2


class CountWindow:
    """The last ``size`` calls, size >= 1. Not thread-safe: the driver holds its lock around each step."""

    __slots__ = ("_next", "_ring", "calls", "failures", "size", "slow")

    def __init__(self, size: int) -> None:
        self.size = size
        self._ring = bytearray()  # grows up to size, one byte a call
        self.clear()

    def clear(self) -> None:
        """Forgets every call so far."""
        self.calls = self.failures = self.slow = self._next = 0
        self._ring.clear()

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Counts a call in place of the oldest, if the window is full; ``now`` means nothing here."""
        mark = 0
        if failed:
            mark = FAILED
            self.failures += 1
        if slow:
            mark |= SLOW
            self.slow += 1
        if self.calls < self.size:
            self._ring.append(mark)  # first: an interrupt in between must leave no call without its mark
            self.calls += 1
            return
        at = self._next
        if self._ring[at]:
            self._uncount(self._ring[at])
        self._ring[at] = mark
        self._next = at + 1 if at + 1 < self.size else 0

    def add_successes(self, count: int) -> None:
        """Counts so many calls that neither failed nor were slow, in one step if nothing else is in the window."""
        if self.failures or self.slow:
            for _ in range(min(count, self.size)):
                self.add(0.0, False, False)
            return
        more = min(count, self.size - self.calls)
        self._ring.extend(bytes(more))
        self.calls += more

    def expire(self, now: float) -> None:
        """Nothing: a count does not age."""

    def _uncount(self, mark: int) -> None:
        self.failures -= mark & FAILED
        self.slow -= (mark & SLOW) >> 1


class Bucket:
    """What was counted in one tenth of a timed window."""

    __slots__ = ("calls", "failures", "slow", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self.calls = self.failures = self.slow = 0


class TimeWindow:
    """The calls of the last ``seconds``, > 0; its counts are true after :meth:`expire` or :meth:`add`.

    A bucket begins with the first call in it, so idle time has no buckets. Not thread-safe.
    """

    __slots__ = ("_buckets", "_newest", "_since", "_until", "_width", "calls", "failures", "seconds", "slow")

    _newest: Bucket

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._width = seconds / BUCKETS
        self._buckets: deque[Bucket] = deque()
        self.clear()

    def clear(self) -> None:
        """Forgets every call so far."""
        self.calls = self.failures = self.slow = 0
        self._buckets.clear()
        self._turn_next()

    def add(self, now: float, failed: bool, slow: bool) -> None:
        """Counts a call that ended at ``now``, monotonic seconds."""
        if not self._since <= now < self._until:
            self._turn(now)
        bucket = self._newest
        bucket.calls += 1
        self.calls += 1
        if failed:
            bucket.failures += 1
            self.failures += 1
        if slow:
            bucket.slow += 1
            self.slow += 1

    def add_successes(self, now: float, count: int) -> None:
        """Counts so many calls, > 0, that ended at ``now`` and neither failed nor were slow."""
        self.add(now, False, False)
        self._newest.calls += count - 1
        self.calls += count - 1

    @property
    def settled_until(self) -> float:
        """Until when its counts stay as they are unless something is added; infinite if there are none."""
        return self._until if self._buckets else math.inf

    def expire(self, now: float) -> None:
        """Forgets what is older than the window."""
        buckets = self._buckets
        if not buckets or self._since <= now < self._until:
            return
        if now + self.seconds <= buckets[-1].started:  # on another clock: a fake one, or after one
            self.clear()
        # Added, not subtracted, here and below: exact for a clock that adds up the same seconds, as a fake one does.
        while buckets and now >= buckets[0].started + self.seconds:
            self._drop(buckets.popleft())

    def _turn(self, now: float) -> None:
        """Makes the newest bucket one that ``now`` belongs to."""
        self.expire(now)
        buckets = self._buckets
        if not buckets or now >= buckets[-1].started + self._width:
            self._newest = Bucket(now)
            buckets.append(self._newest)
        # Between these instants there is nothing to do but count. A clock a little behind counts for the newest bucket.
        self._since = self._newest.started
        self._until = min(self._since + self._width, buckets[0].started + self.seconds)

    def _drop(self, bucket: Bucket) -> None:
        self.calls -= bucket.calls
        self.failures -= bucket.failures
        self.slow -= bucket.slow
        self._turn_next()

    def _turn_next(self) -> None:
        self._since, self._until = math.inf, -math.inf


Window: TypeAlias = CountWindow | TimeWindow
