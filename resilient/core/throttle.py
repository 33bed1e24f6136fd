"""Adaptive throttling: a client that is being refused refuses some of its own calls before they are sent.

It compares the calls that its application asked for with those that the other side accepted. Until there are ``k``
times as many of the former, everything is sent; beyond that each new call is rejected with probability
(calls - k * accepts) / (calls + 1). Calls rejected here count as calls, so that a growing crowd is rejected more.

Source: "Site Reliability Engineering" (Google, 2016), chapter 21, Handling Overload, Client-Side Throttling.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import count, repeat
from math import inf

from resilient.core.backoff import Rng
from resilient.core.window import TimeWindow

__all__ = ["Throttle", "ThrottleMetrics"]


@dataclass(frozen=True, slots=True)
class ThrottleMetrics:
    """What a throttle has counted in its window.

    Attributes:
        calls: asked for, rejected ones included.
        accepts: accepted by the other side.
        rejected: turned away here.
        probability: that the next call is rejected, 0 to below 1.
    """

    calls: int
    accepts: int
    rejected: int
    probability: float


# Calls that are let through between two decisions, at most: enough to make a decision's share of a call small, few
# enough to be counted one by one.
MOST_PASSES = 64


class Throttle:
    """The state that all calls to one service share. Not thread-safe: the driver holds its lock around each step.

    While calls are accepted nothing can be rejected for some time, whatever comes of those under way: as many calls
    may begin as are missing to ``k`` times the accepts, until something expires. For these a decision hands out
    passes. A driver may spend them, and tick off what is accepted, without its lock; both are counted at the next
    step, as of the latest decision. What is decided is the same.

    Args:
        k: calls sent per accepted call before any is rejected, >= 1; less is stricter. The book prefers 2.
        window: how long a call is remembered, seconds, > 0. The book's is two minutes.
        min_calls: calls in the window before any is rejected, >= 0.

    Attributes:
        passes: calls that may be sent undecided, each by a ``passes.pop()``,
        since: at an instant from this one
        until: to before this one.
        accepts: ticks, ``next(throttle.accepts)``, of calls that the other side accepted just now.
    """

    __slots__ = (
        "_accepts", "_calls", "_decided", "_given", "_ticked", "accepts", "k", "min_calls", "passes", "since", "until",
    )  # fmt: skip

    def __init__(self, k: float, window: float, min_calls: int) -> None:
        self.k = k
        self.min_calls = min_calls
        self._calls = TimeWindow(window)  # failed: rejected here
        self._accepts = TimeWindow(window)
        self.passes: deque[bool] = deque()
        self.accepts = count()
        self.since, self.until = inf, -inf
        self._given = self._ticked = 0
        self._decided = 0.0  # when the latest decision was made

    def probability(self, now: float) -> float:
        """The probability that a call which begins now is rejected, 0 to below 1."""
        self._count()
        self._calls.expire(now)
        calls = self._calls.calls
        if calls < self.min_calls:
            return 0.0
        self._accepts.expire(now)
        excess = calls - self.k * self._accepts.calls
        return excess / (calls + 1) if excess > 0.0 else 0.0

    def admit(self, now: float, rng: Rng) -> bool:
        """Whether a call may be sent. It is counted either way, after the draw."""
        probability = self.probability(now)
        rejected = probability > 0.0 and rng.random() < probability
        self._calls.add(now, rejected, False)
        self._decided = now
        self._hand_out(now)
        return not rejected

    def accepted(self, now: float) -> None:
        """The other side accepted a call, whatever came of it."""
        self._accepts.add(now, False, False)

    def clear(self) -> None:
        """Forgets all calls so far."""
        self._count()
        self._calls.clear()
        self._accepts.clear()

    def metrics(self, now: float) -> ThrottleMetrics:
        """The numbers that the throttle has counted, as of now."""
        probability = self.probability(now)
        self._accepts.expire(now)  # below min_calls the probability did not ask
        return ThrottleMetrics(self._calls.calls, self._accepts.calls, self._calls.failures, probability)

    def _count(self) -> None:
        """Takes the passes back, and counts those that were spent, and the accepts that were ticked off."""
        left = 0
        passes = self.passes
        try:  # not suppress: that costs more than all the rest
            while True:
                passes.pop()
                left += 1
        except IndexError:
            pass  # whoever is quicker has the pass
        if self._given > left:
            self._calls.add_successes(self._decided, self._given - left)
        self._given = 0
        ticks = next(self.accepts)  # a tick of its own tells how many there were
        if ticks > self._ticked:
            self._accepts.add_successes(self._decided, ticks - self._ticked)
        self._ticked = ticks + 1

    def _hand_out(self, now: float) -> None:
        calls, accepts = self._calls, self._accepts
        self.since, self.until = now, min(calls.settled_until, accepts.settled_until)
        # A call is rejected if those before it are more than k times the accepts, and not less than min_calls.
        room = max(self.k * accepts.calls - calls.calls + 1, self.min_calls - calls.calls)
        self._given = given = int(min(room, MOST_PASSES))
        self.passes.extend(repeat(True, given))
