"""Hedging: when to launch another copy of a call that is slow to answer.

The next copy goes out when the ones before have been silent for ``after``, a fixed time or a percentile of the
latest durations, and up to ``extra`` copies (gRPC proposal A6, "Hedging Policy"). A percentile bounds the extra load
by itself, but only while latencies stay as they were: when the other side slows down as a whole every call looks
late. So hedges are paid from a budget besides, which calls fill ("The Tail at Scale", Dean and Barroso, 2013;
Finagle's BackupRequestFilter).

::

    call begins      began: the budget earns a little
    nothing yet      delay: seconds of silence, then launch, if the budget allows it; again for each extra copy
                     None: too few durations known, the call runs alone
    call succeeded   took: its duration is known
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

from resilient.core.duration import seconds, whole
from resilient.core.setting_errors import SettingTypeError, SettingValueError

__all__ = ["HedgeBudget", "HedgeMetrics", "HedgePlan", "Hedging", "Latency", "Percentile", "hedge_plan", "parse_after"]

# The fewest durations in which p99.9 is not simply the longest. (Hystrix keeps 600: 6 buckets of 100.)
WINDOW = 1000
# Finagle's least delay: where a percentile is next to nothing, hedging at once would double the load for no gain.
SHORTEST_DELAY = 0.001
# The extra load that hedging after the 95th percentile amounts to: approximately 5 % ("The Tail at Scale").
LOAD = 0.05
# Hedges at hand before any call has paid for one: Finagle's budget opens with 10 a second for its 10 s of memory.
RESERVE = 100
# Budgets count in whole millionths of a hedge: ten times 0.1 must pay for one, which sums of floats do not.
PRICE = 1_000_000
# A percentile is a whole number of thousandths of a percent, for the same reason.
WHOLE = 100_000
PERCENTILE = re.compile(r"p(\d{1,2})(?:\.(\d{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile of durations, as an exact fraction.

    Args:
        thousandths: of a percent, 1 to 99_999; 99_900 is the 99.9th.
    """

    thousandths: int

    def rank(self, n: int) -> int:
        """The place of a percentile among ``n`` ordered values, 1 to n, by the nearest rank: n * P / 100 rounded up."""
        return -(-n * self.thousandths // WHOLE)

    @property
    def beyond(self) -> float:
        """The share of values above it, 0 to 1."""
        return (WHOLE - self.thousandths) / WHOLE

    @property
    def samples(self) -> int:
        """The fewest values in which it is not simply the largest, at most the window: 20 for p95, 100 for p99."""
        return min(WINDOW, -(-WHOLE // (WHOLE - self.thousandths)))

    def __str__(self) -> str:
        return f"p{self.thousandths / 1000:g}"


@dataclass(frozen=True, slots=True)
class HedgePlan:
    """The settings of hedging. Made by :func:`hedge_plan`, which checks them.

    Attributes:
        after: silence before the next copy, seconds or a percentile of the durations.
        extra: most copies besides the first call.
        min_samples: durations that must be known before a percentile means anything.
        load: hedges per call in the long run.
    """

    after: float | Percentile
    extra: int
    min_samples: int
    load: float


@dataclass(frozen=True, slots=True)
class HedgeMetrics:
    """What hedging has done.

    Attributes:
        calls: calls begun.
        hedges: extra copies launched.
        refused: extra copies that the budget did not allow.
        delay: silence before the next copy now, seconds; None while too few durations are known.
    """

    calls: int
    hedges: int
    refused: int
    delay: float | None


class Latency:
    """The latest durations, in order of arrival and of size.

    Adding searches in O(log n) and shifts a short list in place, which at this size is far cheaper than any tree.
    """

    __slots__ = ("_arrived", "_sorted", "_window")

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._arrived: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, duration: float) -> None:
        """Adds a duration, seconds; the oldest leaves a full window. What a clock that went back measured counts 0."""
        if not duration >= 0.0:
            duration = 0.0
        if len(self._arrived) >= self._window:
            del self._sorted[bisect_left(self._sorted, self._arrived.popleft())]
        self._arrived.append(duration)
        insort(self._sorted, duration)

    def at(self, percentile: Percentile) -> float:
        """A percentile of the durations, seconds: always one of them, so there must be one."""
        return self._sorted[percentile.rank(len(self._sorted)) - 1]


class HedgeBudget:
    """Hedges that may be launched: calls earn a fraction of one each, a hedge takes one whole.

    Args:
        load: what a call earns, hedges; 0: there are none at all, as in Finagle.
        reserve: hedges at the beginning, and the most that can be saved up.
    """

    __slots__ = ("_earned", "_most", "_tokens")

    def __init__(self, load: float, reserve: int = RESERVE) -> None:
        self._earned = round(load * PRICE)
        self._tokens = self._most = reserve * PRICE if load else 0

    def earn(self) -> None:
        """A call began, and earns its share of an extra copy."""
        tokens = self._tokens + self._earned
        self._tokens = tokens if tokens < self._most else self._most

    def take(self) -> bool:
        """Takes the price of a hedge, if it is there."""
        if self._tokens < PRICE:
            return False
        self._tokens -= PRICE
        return True

    @property
    def available(self) -> float:
        """Hedges that could be launched now, with the fraction saved for the next."""
        return self._tokens / PRICE


class Hedging:
    """The decisions of hedging, shared by all calls of one policy. Not thread-safe: the driver holds its lock."""

    __slots__ = ("budget", "calls", "hedges", "latency", "plan", "refused")

    def __init__(self, plan: HedgePlan) -> None:
        self.plan = plan
        self.latency = Latency()
        self.budget = HedgeBudget(plan.load)
        self.calls = 0
        self.hedges = 0
        self.refused = 0

    def began(self) -> None:
        """A call began: its first copy, not a hedge."""
        self.calls += 1
        self.budget.earn()

    def delay(self) -> float | None:
        """Silence before the next copy, seconds, counted from the latest copy; None: do not hedge yet.

        Finagle starts alike: it sends no backup before it knows latencies.
        """
        after = self.plan.after
        if not isinstance(after, Percentile):
            return after
        if len(self.latency) < self.plan.min_samples:
            return None
        return max(SHORTEST_DELAY, self.latency.at(after))

    def launch(self) -> bool:
        """Whether another copy may go out now; if so it is paid for."""
        if self.budget.take():
            self.hedges += 1
            return True
        self.refused += 1
        return False

    def took(self, duration: float) -> None:
        """A copy succeeded, or was cut off by its timeout, after so many seconds since its own launch.

        Other failures are not told: they are fast, and would draw the percentile down (Finagle).
        """
        if isinstance(self.plan.after, Percentile):
            self.latency.add(duration)

    def metrics(self) -> HedgeMetrics:
        """The numbers of all calls so far."""
        return HedgeMetrics(self.calls, self.hedges, self.refused, self.delay())


def parse_after(after: object) -> float | Percentile:
    """The silence before a hedge: a duration >= 0, or a percentile such as "p95" or "p99.9".

    Raises:
        TypeError: it is none of these.
        ValueError: it is out of range; a percentile lies between 0 and 100, with three decimals at most.
    """
    if not isinstance(after, str):
        return seconds("after", after)
    found = PERCENTILE.fullmatch(after)
    thousandths = int(found[1]) * 1000 + int((found[2] or "").ljust(3, "0")) if found else 0
    if not thousandths:
        raise SettingValueError(
            "after", f'must be a duration or a percentile between "p0" and "p100" as "p99.9", got {after!r}'
        )
    return Percentile(thousandths)


def hedge_plan(after: object, extra: object = 1, *, min_samples: object = None, load: object = None) -> HedgePlan:
    """Checks the settings of hedging.

    Args:
        after: silence before the next copy, a duration >= 0 or a percentile such as "p95".
        extra: most copies besides the first call, >= 1. One is Polly's default.
        min_samples: durations before a percentile counts, 1 to 1000; None: so many that it differs from the longest.
        load: hedges per call in the long run, 0 to ``extra``, which is no limit. None: the share of calls beyond the
            percentile, as in Finagle; 0.05 for a duration.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is outside its range.
    """
    parsed = parse_after(after)
    copies = whole("extra", extra, least=1)
    samples, share = (parsed.samples, parsed.beyond) if isinstance(parsed, Percentile) else (1, LOAD)
    if min_samples is not None:
        samples = whole("min_samples", min_samples, least=1)
    if samples > WINDOW:
        raise SettingValueError("min_samples", f"must be <= {WINDOW}, got {min_samples!r}")
    return HedgePlan(parsed, copies, samples, share if load is None else _load(load, copies))


def _load(load: object, extra: int) -> float:
    if isinstance(load, bool) or not isinstance(load, (int, float)):
        raise SettingTypeError("load", f"must be a number from 0 to extra ({extra}), got {load!r}")
    if not 0 <= load <= extra:
        raise SettingValueError("load", f"must be from 0 to extra ({extra}), got {load!r}")
    return float(load)
