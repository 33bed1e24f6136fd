"""When the attempts of a policy come, as numbers: without jitter, and at the edges of its jitter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

from resilient.core.backoff import Backoff
from resilient.policies.retry import Retry

__all__ = ["Retried", "Schedule", "schedule"]

FARTHEST = 100_000  # retries that are worked out; beyond it nobody looks


class Edge:
    """A source of jitter that always says the same: 0 and 1 are the edges of every jitter."""

    def __init__(self, number: float) -> None:
        self._number = number

    def random(self) -> float:
        """The one number that this chance always gives."""
        return self._number


@dataclass(frozen=True, slots=True)
class Retried:
    """One retry: the wait before it, and when it begins. Seconds; the command itself takes no time here.

    Attributes:
        wait: without jitter.
        low, high: the edges of the jittered wait.
        at: when it begins, without jitter.
        earliest, latest: the same at the edges.
        in_time: whether it comes before the timeout: "yes", "maybe" (it depends on the jitter) or "no".
    """

    number: int
    wait: float
    low: float
    high: float
    at: float
    earliest: float
    latest: float
    in_time: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """The retries of a policy while its command keeps failing.

    Attributes:
        retries: the first of them; if the timeout ends them, the one that comes too late is the last.
        more: how many others are within the timeout; None if there is no end.
        usual, least, most: seconds until it gives up: without jitter, and with it; None if there is no end.
    """

    retries: tuple[Retried, ...]
    more: int | None
    usual: float | None
    least: float | None
    most: float | None


def schedule(policy: Retry, rows: int) -> Schedule:
    """Works out when a policy tries again.

    Args:
        rows: how many retries to list.
    """
    planned = None if policy.attempts is None else policy.attempts - 1
    timeout = math.inf if policy.plan.timeout is None else policy.plan.timeout
    tried: list[Retried] = []
    for retry in islice(_endless(policy.backoff, timeout), FARTHEST if planned is None else min(planned, FARTHEST)):
        tried.append(retry)
        if retry.in_time == "no":
            break
    listed = tuple(tried[:rows])
    in_time = [retry for retry in tried if retry.in_time != "no"]
    goes_on = len(in_time) == len(tried) != planned  # beyond what anybody looks at
    if goes_on:
        more = None if planned is None else planned - len(listed)
        if timeout == math.inf:
            return Schedule(listed, more, None, None, None)
    else:
        more = max(0, len(in_time) - len(listed))
    usual = max((retry.at for retry in tried if retry.at < timeout), default=0.0)
    most = min(in_time[-1].latest, timeout) if in_time else 0.0
    return Schedule(listed, more, usual, _least(tried, timeout, endless=goes_on), most)


def _least(tried: list[Retried], timeout: float, *, endless: bool) -> float:
    """The earliest moment to give up: no retry is left, or the next wait may be too long."""
    ends = [tried[-1].earliest] if tried and tried[-1].in_time != "no" and not endless else []
    reached = [(0.0, 0.0), *((retry.earliest, retry.latest) for retry in tried)]
    for (earliest, latest), following in zip(reached, tried, strict=False):
        soonest = max(earliest, timeout - following.high)
        if soonest <= latest:
            ends.append(soonest)
    return min(ends, default=0.0)


def _endless(backoff: Backoff, timeout: float) -> Iterator[Retried]:
    at = earliest = latest = 0.0
    edges: tuple[float | None, float | None] = (None, None)
    for n in count(1):
        edges = backoff.wait(n, edges[0], Edge(0.0)), backoff.wait(n, edges[1], Edge(1.0))
        low, high = min(edges), max(edges)  # of a fraction's jitter, the longest wait is the one drawn with 0
        wait = backoff.delay(n)
        at, earliest, latest = at + wait, earliest + low, latest + high
        in_time = "yes" if latest < timeout else "maybe" if earliest < timeout else "no"
        yield Retried(n, wait, low, high, at, earliest, latest, in_time)
