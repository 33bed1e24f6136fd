"""Adaptive throttling: a client that is being refused refuses some of its own calls before they are sent.

It compares the calls that its application asked for with those that the other side accepted. Until there are ``k``
times as many of the former, everything is sent; beyond that each new call is rejected with probability
(calls - k * accepts) / (calls + 1). Calls rejected here count as calls, so that a growing crowd is rejected more.

Source: "Site Reliability Engineering" (Google, 2016), chapter 21, Handling Overload, Client-Side Throttling.
"""

from __future__ import annotations

from dataclasses import dataclass

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


class Throttle:
    """The state that all calls to one service share. Not thread-safe: the driver holds its lock around each step.

    Args:
        k: calls sent per accepted call before any is rejected, >= 1; less is stricter. The book prefers 2.
        window: how long a call is remembered, seconds, > 0. The book's is two minutes.
        min_calls: calls in the window before any is rejected, >= 0.
    """

    __slots__ = ("_accepts", "_calls", "k", "min_calls")

    def __init__(self, k: float, window: float, min_calls: int) -> None:
        self.k = k
        self.min_calls = min_calls
        self._calls = TimeWindow(window)  # failed: rejected here
        self._accepts = TimeWindow(window)

    def probability(self, now: float) -> float:
        """The probability that a call which begins now is rejected, 0 to below 1."""
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
        return not rejected

    def accepted(self, now: float) -> None:
        """The other side accepted a call, whatever came of it."""
        self._accepts.add(now, False, False)

    def metrics(self, now: float) -> ThrottleMetrics:
        """What it has counted, as of now."""
        probability = self.probability(now)
        self._accepts.expire(now)  # below min_calls the probability did not ask
        return ThrottleMetrics(self._calls.calls, self._accepts.calls, self._calls.failures, probability)
