"""How many calls at once: three ways to learn it from how calls end.

After Netflix's concurrency-limits, whose numbers these are. A limit is to a service what the congestion window is
to a TCP connection, so the algorithms are TCP's::

    AIMD        loss:              one more after each good call, a tenth less after each drop
    Vegas       delay and loss:    a queue is estimated against the shortest duration seen, and kept short
    Gradient2   delay and loss:    the latest duration against its own long average

All of them are told each finished call, as the original does unless it is wrapped in a WindowedLimit: no clock is
needed, a drop shows at once, and averages smooth what a window would. The price: calls that are dropped together
count one by one, so a burst may take the limit down to ``min_limit``, from where it grows back.

Where they differ from the original: a drop (a call that timed out or that the server turned away) lowers every
limit, and its duration, which is the timeout's or the refusal's and not the service's, enters no average and no
minimum. A call too short for the clock (a duration of zero, or below it after a step back) measures nothing: it
counts for AIMD, which looks at loss alone, and for nobody else. (The original's WindowedLimit discards what took
less than 100 us; its VegasLimit refuses 0.)

Not thread-safe: the driver holds its lock around each step. Arguments are checked by the policy.
"""

from __future__ import annotations

import math

__all__ = ["AIMD", "ExponentialAverage", "Gradient2", "within"]


class AIMD:
    """Additive increase, multiplicative decrease: grows by one, shrinks by a share.

    Args:
        initial: the limit to begin with, ``min_limit`` to ``max_limit``.
        min_limit: never below, >= 1.
        max_limit: never above, >= ``min_limit``.
        backoff_ratio: what a drop leaves of the limit, [0.5, 1).
        timeout: a call that took longer counts as dropped, seconds, > 0.

    Attributes:
        limit: how many calls may run now.

    Source: AIMDLimit; all defaults are its own.
    """

    __slots__ = ("_backoff_ratio", "_timeout", "limit", "max_limit", "min_limit")

    def __init__(
        self,
        initial: int = 20,
        min_limit: int = 20,
        max_limit: int = 200,
        *,
        backoff_ratio: float = 0.9,
        timeout: float = 5.0,
    ) -> None:
        self.limit = initial
        self.min_limit = min_limit
        self.max_limit = max_limit
        self._backoff_ratio = backoff_ratio
        self._timeout = timeout

    def sampled(self, rtt: float, inflight: int, dropped: bool) -> None:
        """A call ended, and is a sample.

        Args:
            rtt: how long it took, seconds.
            inflight: how many ran when it started, itself included.
            dropped: it timed out or was turned away.
        """
        limit = self.limit
        if dropped or rtt > self._timeout:
            limit = int(limit * self._backoff_ratio)
        elif inflight * 2 >= limit:  # a limit that is not made use of says nothing about a higher one
            limit += 1
        self.limit = int(within(self.min_limit, limit, self.max_limit))


class ExponentialAverage:
    """An average that is plain over its first samples and forgets exponentially afterwards.

    Args:
        window: samples over which it forgets; the latest weighs 2 / (window + 1). >= 1.
        warmup: samples of the plain average at the beginning, >= 0.

    Attributes:
        value: the average, in the unit of the samples; 0 before the first.

    Source: ExpAvgMeasurement.
    """

    __slots__ = ("_count", "_mean", "_warmup", "_weight", "value")

    def __init__(self, window: int, warmup: int) -> None:
        self.value = 0.0
        self._weight = 2.0 / (window + 1)
        self._warmup = warmup
        self._count = 0
        self._mean = 0.0  # apart from the value, which its holder may move, and without a sum, which could overflow

    def add(self, sample: float) -> float:
        """The average with one sample more."""
        if self._count < self._warmup:
            self._count += 1
            self._mean += (sample - self._mean) / self._count
            self.value = self._mean
        else:
            self.value += self._weight * (sample - self.value)
        return self.value


# The numbers that Gradient2Limit has no setting for.
WARMUP = 10  # samples
STEEPEST = 0.5  # one sample cuts the limit by half at most: it may be an outlier
RECOVERED = 2.0  # the average is this many times the latest duration: the load is over ...
DRIFT = 0.95  # ... and the average is led back faster than it would forget


class Gradient2:
    """Multiplies the limit by how much longer than usual calls take, and leaves room for a small queue.

    A drop multiplies it by ``backoff_ratio``, at once and unsmoothed, as AIMD's does. (The original ignores drops,
    so its limit may climb while every call times out.)

    Args:
        initial: the limit to begin with, ``min_limit`` to ``max_limit``.
        min_limit: never below, >= 1.
        max_limit: never above, >= ``min_limit``.
        rtt_tolerance: durations up to this many times the average are not yet longer than usual, >= 1.
        smoothing: weight of a new estimate, (0, 1].
        long_window: samples of the average, >= 1.
        queue_size: how many calls the limit aims above what runs unqueued, >= 0.
        backoff_ratio: what a drop leaves of the limit, [0.5, 1).

    Attributes:
        limit: how many calls may run now.

    Source: Gradient2Limit; all defaults are its own, but ``backoff_ratio``, which is that of AIMDLimit and of the
    older GradientLimit.
    """

    __slots__ = (
        "_average",
        "_backoff_ratio",
        "_estimate",
        "_queue_size",
        "_rtt_tolerance",
        "_smoothing",
        "limit",
        "max_limit",
        "min_limit",
    )

    def __init__(
        self,
        initial: int = 20,
        min_limit: int = 20,
        max_limit: int = 200,
        *,
        rtt_tolerance: float = 1.5,
        smoothing: float = 0.2,
        long_window: int = 600,
        queue_size: int = 4,
        backoff_ratio: float = 0.9,
    ) -> None:
        self.limit = initial
        self.min_limit = min_limit
        self.max_limit = max_limit
        self._estimate = float(initial)
        self._rtt_tolerance = rtt_tolerance
        self._smoothing = smoothing
        self._queue_size = queue_size
        self._backoff_ratio = backoff_ratio
        self._average = ExponentialAverage(long_window, WARMUP)

    def sampled(self, rtt: float, inflight: int, dropped: bool) -> None:
        """A call ended, and is a sample.

        Args:
            rtt: how long it took, seconds.
            inflight: how many ran when it started, itself included.
            dropped: it timed out or was turned away.
        """
        estimate = self._estimate
        if dropped:
            self._settle(estimate * self._backoff_ratio)
        elif 0.0 < rtt < math.inf:
            gradient = self._gradient(rtt)
            if inflight * 2 >= estimate:
                target = estimate * gradient + self._queue_size
                self._settle(estimate + self._smoothing * (target - estimate))

    def _gradient(self, rtt: float) -> float:
        usual = self._average.add(rtt)
        if usual > RECOVERED * rtt:
            self._average.value = usual * DRIFT
        return within(STEEPEST, self._rtt_tolerance * usual / rtt, 1.0)

    def _settle(self, estimate: float) -> None:
        self._estimate = within(self.min_limit, estimate, self.max_limit)
        self.limit = int(self._estimate)


def within(low: float, value: float, high: float) -> float:
    """The value, or the limit that it lies beyond."""
    return low if value < low else high if value > high else value
