"""Permits of a bulkhead: how many calls run at once, and the fair queue of those who wait.

A permit that comes back goes straight to the first in the queue, which holds it before it wakes: nobody can snatch
it on the way, and no wake-up finds nothing. A waiter is in the queue, or has been given a permit, so whoever stops
waiting knows from :meth:`Permits.leave` which of the two it was.

::

    event            nobody waits                  somebody waits
    acquire          a permit, if one is free      none: no one jumps the queue
    release          the permit is free            the first waiter holds it, and must be woken
    resize, larger   more permits are free         the first waiters hold the new ones
    resize, smaller  permits vanish as they are given back; nobody is interrupted
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["Permits", "PermitsMetrics"]


@dataclass(frozen=True, slots=True)
class PermitsMetrics:
    """How full a bulkhead is, and how often it was too full.

    Attributes:
        limit: permits in all.
        inflight: permits held; above the limit for a while after that was lowered.
        available: permits free.
        queued: calls that wait.
        rejected: calls that found the queue full.
        left: calls that gave up waiting.
    """

    limit: int
    inflight: int
    available: int
    queued: int
    rejected: int
    left: int


class Permits:
    """A number of permits. Not thread-safe: the driver holds its lock around each step.

    Args:
        limit: permits in all, >= 0.
        queue: most calls that may wait; None: no limit; 0: nobody waits.

    Attributes:
        limit: permits in all.
        inflight: permits held.
        rejected: calls that found the queue full.
        left: calls that gave up waiting.
    """

    __slots__ = ("_queue", "_room", "inflight", "left", "limit", "rejected")

    def __init__(self, limit: int, queue: int | None = None) -> None:
        self.limit = limit
        self.inflight = 0
        self.rejected = 0
        self.left = 0
        self._room = queue
        # Ordered, and not a plain dict: that one finds its first key only by passing those deleted before it.
        self._queue: OrderedDict[object, None] = OrderedDict()

    def acquire(self) -> bool:
        """Takes a free permit, unless somebody waits for it already."""
        if self._queue or self.inflight >= self.limit:
            return False
        self.inflight += 1
        return True

    def join(self, waiter: object) -> bool:
        """Appends a caller (any hashable object, its own) that got no permit, in the same step.

        Returns:
            False: the queue is full, the caller is rejected.
        """
        if self.full:
            self.rejected += 1
            return False
        self._queue[waiter] = None
        return True

    def release(self) -> object | None:
        """A permit comes back.

        Returns:
            The waiter that holds it now and must be woken; None if nobody does.

        Raises:
            RuntimeError: nobody holds a permit; the driver gave one back twice.
        """
        if not self.inflight:
            raise RuntimeError("released a permit that nobody holds")
        if self._queue and self.inflight <= self.limit:
            return self._queue.popitem(last=False)[0]
        self.inflight -= 1
        return None

    def leave(self, waiter: object) -> bool:
        """A caller stops waiting: cancelled, or out of time.

        Returns:
            Whether it had been given the permit meanwhile: then it must run after all, or release it.
        """
        if waiter not in self._queue:
            return True
        del self._queue[waiter]
        self.left += 1
        return False

    def resize(self, limit: int) -> list[object]:
        """Sets another limit, >= 0; the waiters that hold a permit now and must be woken."""
        self.limit = limit
        granted: list[object] = []
        while self._queue and self.inflight < limit:
            self.inflight += 1
            granted.append(self._queue.popitem(last=False)[0])
        return granted

    def reset(self) -> None:
        """Counts from zero again; permits that are held stay held, and who waits keeps its place."""
        self.rejected = 0
        self.left = 0

    @property
    def full(self) -> bool:
        """Whether nobody more may wait."""
        return self._room is not None and len(self._queue) >= self._room

    @property
    def queued(self) -> int:
        """How many calls wait for a permit."""
        return len(self._queue)

    @property
    def available(self) -> int:
        """How many permits are free."""
        return max(0, self.limit - self.inflight)

    def metrics(self) -> PermitsMetrics:
        """The numbers of permits and calls, as of now."""
        return PermitsMetrics(self.limit, self.inflight, self.available, self.queued, self.rejected, self.left)
