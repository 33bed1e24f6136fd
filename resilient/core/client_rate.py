"""A client's own speed limit, learnt from the server's throttling: AWS adaptive mode.

Nothing is limited until the first throttle. From then on requests take tokens from a bucket whose fill rate
follows CUBIC, the curve of TCP's congestion control: a throttle at rate ``w_max`` cuts the rate to ``beta`` of it,
successes bring it back along a cubic that is flat about ``w_max``, where trouble was, and steep beyond::

    rate(t) = scale * (t - k) ** 3 + w_max      t: seconds since the throttle
    k = cbrt(w_max * (1 - beta) / scale)        so that rate(0) = beta * w_max and rate(k) = w_max

The rate never exceeds twice what is really being sent: an idle client earns no right to a burst.

Source: botocore retries/adaptive.py, bucket.py, throttling.py; smithy-rs client_rate_limiter.rs; CUBIC is RFC 9438.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import cbrt, inf

__all__ = ["ClientRate", "ClientRateMetrics", "Cubic"]

# Seconds. Threads that read the clock before they get the lock are microseconds late; an instant this far behind the
# last one is read off another clock (a fake one, or the real one after it).
OTHER_CLOCK = 60.0


class Cubic:
    """The rate that CUBIC allows.

    Args:
        beta: what a throttle leaves of the rate, 0 to 1, both excluded.
        scale: how fast the rate grows, per second cubed, > 0.

    Attributes:
        w_max: rate at the last throttle, per second.
        k: seconds after a throttle until the rate is ``w_max`` again.
        since: instant of the last throttle.
    """

    __slots__ = ("beta", "k", "scale", "since", "w_max")

    def __init__(self, beta: float = 0.7, scale: float = 0.4) -> None:
        self.beta = beta
        self.scale = scale
        self.w_max = 0.0
        self.k = 0.0
        self.since = 0.0

    def throttled(self, now: float, rate: float) -> float:
        """Throttled at this rate: the lower one to go on with, per second."""
        self.w_max = rate
        self.k = cbrt(rate * (1.0 - self.beta) / self.scale)
        self.since = now
        return rate * self.beta

    def grown(self, now: float) -> float:
        """The rate after successes until now, per second; may be infinite, never negative after a throttle."""
        t = now - self.since - self.k
        return self.scale * t * t * t + self.w_max  # not t ** 3, which raises where it overflows


@dataclass(frozen=True, slots=True)
class ClientRateMetrics:
    """What a client rate has seen.

    Attributes:
        enabled: whether anything is limited: there was a throttle.
        fill_rate: requests a second that may be sent.
        measured_rate: requests a second that were answered.
        available: requests that may be sent at once; below 0 those that wait.
    """

    enabled: bool
    fill_rate: float
    measured_rate: float
    available: float


class ClientRate:
    """The requests a client may send, one token each, in the order in which they ask.

    Not thread-safe: the driver holds its lock around each step. Time starts with the first step: ask first, then
    send, then tell the response.

    Args:
        beta: what a throttle leaves of the rate, 0 to 1, both excluded.
        scale: how fast the rate grows again, per second cubed, > 0.
        smooth: weight of the newest interval in the measured rate, above 0 and up to 1.
        interval: seconds over which responses are counted, > 0.
        headroom: the fill rate is at most this many times the measured rate, > 0.
        min_fill_rate: tokens per second, > 0.
        min_capacity: tokens, > 0.

    Attributes:
        enabled: whether the limit is in force.
        fill_rate: tokens per second.
        capacity: most tokens that can be saved up.
        measured_rate: responses per second, smoothed.
        cubic: the curve that the fill rate follows.
        quiet_from: from this instant
        quiet_until: to this one a response that is no throttle only needs to be ticked off, ``next(rate.ticks)``,
            without a lock: nothing is limited, and it is counted at the next step. The fill rate does not grow with
            it, which nobody asks for before the first throttle.
        ticks: of such responses.

    Source: see the module; all defaults are the same in both.
    """

    __slots__ = (
        "_count", "_latest", "_ticked", "_tokens", "capacity", "cubic", "enabled", "fill_rate", "headroom", "interval",
        "measured_rate", "min_capacity", "min_fill_rate", "quiet_from", "quiet_until", "smooth", "ticks",
    )  # fmt: skip

    def __init__(
        self,
        *,
        beta: float = 0.7,
        scale: float = 0.4,
        smooth: float = 0.8,
        interval: float = 0.5,
        headroom: float = 2.0,
        min_fill_rate: float = 0.5,
        min_capacity: float = 1.0,
    ) -> None:
        self.smooth = smooth
        self.interval = interval
        self.headroom = headroom
        self.min_fill_rate = min_fill_rate
        self.min_capacity = min_capacity
        self.cubic = Cubic(beta, scale)
        self.enabled = False
        self.fill_rate = 0.0  # until the first response: nothing is saved up before
        self.capacity = min_capacity
        self.measured_rate = 0.0
        self._tokens = 0.0
        self._count = 0
        self.quiet_from = 0.0  # where the interval began in which responses are being counted
        self.quiet_until = -inf
        self.ticks = count()
        self._ticked = 0
        self._latest = inf  # of the steps: the first is far behind, as on another clock

    @property
    def available(self) -> float:
        """Tokens as of the last step; below 0 are those that waiting requests have taken in advance."""
        return self._tokens

    def acquire(self, now: float, amount: float = 1.0) -> float:
        """Takes tokens for a request, in advance if need be.

        Args:
            now: monotonic instant, seconds.
            amount: tokens, > 0: botocore takes 1 for any request, smithy-rs 5 for a retry, 10 after a throttle.

        Returns:
            Seconds to wait before the request is sent, 0 if it may go now. The tokens are taken either way (as
            smithy-rs does it), so that whoever asks later waits longer; no need to ask again after the wait.
        """
        if not self.enabled:
            if self._latest == inf:
                self._begin(now)
            return 0.0
        self._refill(now)
        self._tokens -= amount
        return -self._tokens / self.fill_rate if self._tokens < 0.0 else 0.0

    def returned(self, amount: float = 1.0) -> None:
        """A request that was told to wait is not sent after all (cancelled, or unwilling): its tokens come back."""
        tokens = self._tokens + amount
        self._tokens = tokens if tokens < self.capacity else self.capacity

    def responded(self, now: float, throttled: bool) -> None:
        """A response came, to a first attempt or to a retry, and it was a throttle or anything else."""
        now = self._refill(now)
        self._measure(now)
        if throttled:
            rate = self.measured_rate
            if self.enabled and self.fill_rate < rate:
                rate = self.fill_rate
            self.enabled = True
            self._set_rate(self.cubic.throttled(now, rate))
        else:
            self._set_rate(self.cubic.grown(now))
        self.quiet_until = -inf if self.enabled else self.quiet_from + self.interval

    def metrics(self) -> ClientRateMetrics:
        """The rates as of the last step."""
        return ClientRateMetrics(self.enabled, self.fill_rate, self.measured_rate, self._tokens)

    def _set_rate(self, rate: float) -> None:
        most = self.headroom * self.measured_rate
        if rate > most:
            rate = most
        self.fill_rate = rate if rate > self.min_fill_rate else self.min_fill_rate
        self.capacity = rate if rate > self.min_capacity else self.min_capacity  # what a second brings
        if self._tokens > self.capacity:
            self._tokens = self.capacity

    def _measure(self, now: float) -> None:
        """Counts a response; an interval that is over goes into the moving average."""
        ticks = next(self.ticks)
        self._count += 1 + ticks - self._ticked
        self._ticked = ticks + 1
        began = now // self.interval * self.interval
        if began > self.quiet_from:
            rate = self._count / (began - self.quiet_from)
            self.measured_rate = rate * self.smooth + self.measured_rate * (1.0 - self.smooth)
            self._count = 0
            self.quiet_from = began

    def _refill(self, now: float) -> float:
        """Adds the tokens since the last step; the instant of this one, which is never before that."""
        elapsed = now - self._latest
        if elapsed < -OTHER_CLOCK:
            return self._begin(now)
        if elapsed <= 0.0:
            return self._latest
        self._latest = now
        tokens = self._tokens + elapsed * self.fill_rate
        self._tokens = tokens if tokens < self.capacity else self.capacity
        return now

    def _begin(self, now: float) -> float:
        """Time starts here: rates and tokens stay, what is counted or grows in time begins anew."""
        self._latest = self.cubic.since = now
        self.quiet_from = now // 1.0  # at the whole second, as published
        self._ticked = next(self.ticks) + 1
        self._count = 0
        return now
