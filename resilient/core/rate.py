"""A rate of calls, and the fair queue of those who wait for their slot.

The generic cell rate algorithm: calls follow each other by one interval, ``per / rate`` seconds; after idleness a
burst of them may come early, which is a tolerance of ``burst - 1`` intervals. All it has to remember is when the
next call is due in theory (ITU-T I.371, annex A; "Rate Limiting, Cells, and GCRA", Leach, 2015).

Nobody polls, and no slot is promised in advance: only the head of the queue sleeps until its slot, everybody else
until woken. Whoever gives up just leaves, and those behind move up.

::

    caller               nobody waits                  somebody waits
    take                 0: granted, or seconds        seconds: no one jumps the queue
    turn, at the head                                  0: granted, or seconds to sleep before the next turn
    turn, behind                                       infinity: sleep until woken
    leave, from the head                               the new head, to be woken
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf

__all__ = ["Rate", "RateMetrics"]

# A call that comes so little early is on time, and a schedule so little behind has not been idle: else the rounding
# of clocks and of sums would cost a second, absurdly short sleep. Thirty years of seconds are exact to 0.12 us.
SLACK = 1e-6
# Rust's governor: no interval is shorter than a nanosecond, which is also as fine as clocks get.
SHORTEST = 1e-9
# Thirty years; it keeps every product finite.
LONGEST = 1e9


# A monotonic clock does not go back, but threads look at it a little before their turn. So far back, it is another
# clock: a fake one, or the real one after it, seconds.
OTHER_CLOCK = 1.0


@dataclass(frozen=True, slots=True)
class RateMetrics:
    """What a rate has seen, and what it would allow now.

    Attributes:
        granted: calls that got a slot, and kept it.
        rejected: calls turned away.
        queued: calls that wait.
        available: calls that could start at once if nobody waited; a fraction of one is its slot coming nearer.
    """

    granted: int
    rejected: int
    queued: int
    available: float


class Rate:
    """When calls may start. Not thread-safe: the driver holds its lock around each step.

    Args:
        rate: calls per ``per`` seconds, > 0.
        per: seconds, > 0.
        burst: calls at once after idleness, >= 1.

    Attributes:
        interval: seconds from slot to slot.
        tolerance: how early a call may come, seconds.
        granted: number of the latest grant.
        rejected: calls turned away; kept here for the metrics, counted by the driver, which decides that.
    """

    __slots__ = (
        "_forgiven",
        "_latest",
        "_queue",
        "_since",
        "_slack",
        "_used",
        "burst",
        "granted",
        "interval",
        "rejected",
        "tolerance",
    )

    def __init__(self, rate: float, per: float, burst: int) -> None:
        self.interval = min(max(per / rate, SHORTEST), LONGEST)
        self.tolerance = (burst - 1) * self.interval
        self.burst = burst
        self.granted = 0
        self.rejected = 0
        self._forgiven = 0  # grants before the last reset; their numbers go on, so that none comes back twice
        self._slack = min(SLACK, self.interval / 1000)  # never worth more than a thousandth of a call
        self._latest = self.tolerance + self._slack
        # Ordered, and not a plain dict: that one finds its first key only by passing those deleted before it.
        self._queue: OrderedDict[object, None] = OrderedDict()
        # The next call is due at since + used * interval. A sum of intervals would drift, a product does not.
        self._since = -inf
        self._used = 0

    def take(self, now: float) -> float:
        """Asks for a slot without queueing.

        Returns:
            0.0: granted, the call may start. Above: seconds until a slot would come, nothing was taken.
        """
        if self._queue:
            return self.expected_wait(now) or self._slack
        # What _ask does, without the cost of calling it: every call passes here.
        ahead = self._since + self._used * self.interval - now
        if ahead > self._latest:
            return self._ask(now)
        if ahead < -self._slack:
            self._since = now
            self._used = 0
        self._used += 1
        self.granted += 1
        return 0.0

    def expected_wait(self, now: float) -> float:
        """How long a call would wait that joined the queue now, seconds; 0.0 if its slot is due."""
        wait = self._ahead(now) + len(self._queue) * self.interval - self.tolerance
        return wait if wait > self._slack else 0.0

    def join(self, waiter: object) -> bool:
        """Appends a caller (any hashable object, its own) to the queue; whether it is the head."""
        self._queue[waiter] = None
        return len(self._queue) == 1

    def turn(self, waiter: object, now: float) -> float:
        """A caller in the queue asks for its slot: at first, when its sleep is over, and when woken.

        Returns:
            0.0: granted; it must leave now. Above: seconds to sleep unless woken before; infinite behind the head.
        """
        return self._ask(now) if self.head == waiter else inf

    def leave(self, waiter: object) -> object | None:
        """A caller leaves the queue, granted or giving up; the new head, which must be woken, if that changed."""
        led = self.head == waiter
        self._queue.pop(waiter, None)
        return self.head if led else None

    def cancelled(self, grant: int) -> object | None:
        """A granted call never started: its slot comes back, unless later ones were granted on top of it.

        Args:
            grant: the value of ``granted`` right after that grant.

        Returns:
            The head of the queue, which must be woken as its slot is earlier now; None: nobody to wake.
        """
        if grant != self.granted or not self._used:
            return None
        self._used -= 1
        self.granted -= 1
        return self.head

    def reset(self) -> object | None:
        """The schedule and the counts begin anew; who waits keeps its place. The head, which must be woken."""
        self._since = -inf
        self._used = 0
        self._forgiven = self.granted
        self.rejected = 0
        return self.head

    @property
    def head(self) -> object | None:
        """The caller whose turn is next."""
        return next(iter(self._queue), None)

    def available(self, now: float) -> float:
        """Calls that could start at once if nobody waited, 0 to ``burst``."""
        return max(0.0, self.burst - self._ahead(now) / self.interval)

    def metrics(self, now: float) -> RateMetrics:
        """The numbers of slots and calls, as of now."""
        return RateMetrics(self.granted - self._forgiven, self.rejected, len(self._queue), self.available(now))

    def _ask(self, now: float) -> float:
        if self._ahead(now) > self._latest:
            return self._ahead(now) - self.tolerance
        if self._since + self._used * self.interval - now < -self._slack:  # idle since then: the schedule starts afresh
            self._since = now
            self._used = 0
        self._used += 1
        self.granted += 1
        return 0.0

    def _ahead(self, now: float) -> float:
        """How far the schedule is ahead of now, seconds, >= 0."""
        ahead = self._since + self._used * self.interval - now
        # A grant leaves it ``burst`` intervals ahead at most; above, the clock went back. A little is a thread that
        # read it before its turn, and waits longer: the schedule must not move for it, or slots were granted twice.
        if ahead - self.tolerance - 2 * self.interval > OTHER_CLOCK:  # instants of that one mean nothing here
            self._since, self._used = -inf, 0
            return 0.0
        return ahead if ahead > 0.0 else 0.0
