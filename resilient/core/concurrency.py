"""Concurrency: who may run, while an algorithm learns how many.

A :class:`Concurrency` counts the calls that run and admits no more than its algorithm's limit. There is no queue:
who is not admitted is told at once. Every admitted call gives its permit back in one of three ways, ``done`` (the
algorithm learns from it), ``forgotten`` (it does not) or ``undone`` (as if nobody had asked)::

    admit ──> ticket ──> done       the call ended: a sample, dropped or not
      │           ├────> forgotten  it was cancelled, or failed before it meant anything: no sample
      │           └────> undone     it was never made: no sample, and not counted
      └─────> None                  as many run as may: rejected

A limit that falls below what runs takes nothing away; nobody is admitted until enough of them have ended.
Not thread-safe: the driver holds its lock around each step.

Source: Netflix concurrency-limits, AbstractLimiter and SimpleLimiter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Algorithm", "Concurrency", "ConcurrencyMetrics"]


class Algorithm(Protocol):
    """What learns the limit; those of :mod:`resilient.core.limits` and :mod:`resilient.core.vegas`, or any other.

    Attributes:
        limit: how many calls may run now, >= 1.
    """

    @property
    def limit(self) -> int: ...

    def sampled(self, rtt: float, inflight: int, dropped: bool) -> None:
        """A call ended, and is a sample.

        Args:
            rtt: how long it took, seconds.
            inflight: how many ran when it started, itself included.
            dropped: it timed out or was turned away.
        """
        ...


@dataclass(frozen=True, slots=True)
class ConcurrencyMetrics:
    """What a limiter has seen.

    Attributes:
        limit: how many calls may run now.
        inflight: how many do.
        succeeded: calls that ended undropped.
        dropped: calls that timed out or were turned away by the server.
        forgotten: calls that were cancelled or ignored.
        rejected: calls that were not admitted.
    """

    limit: int
    inflight: int
    succeeded: int
    dropped: int
    forgotten: int
    rejected: int


class Concurrency:
    """The permits of one limiter.

    Attributes:
        algorithm: what learns the limit.
        inflight: calls that run now.
        rejected: calls that were not admitted.
    """

    __slots__ = ("_dropped", "_forgotten", "_succeeded", "algorithm", "inflight", "rejected")

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = algorithm
        self.inflight = 0
        self.rejected = 0
        self._succeeded = 0
        self._dropped = 0
        self._forgotten = 0

    @property
    def limit(self) -> int:
        """How many calls may run now."""
        return self.algorithm.limit

    def admit(self) -> int | None:
        """A ticket to be given back, which is how many calls run with this one; None if as many run as may."""
        inflight = self.inflight
        if inflight >= self.algorithm.limit:
            self.rejected += 1
            return None
        self.inflight = inflight = inflight + 1
        return inflight

    def done(self, ticket: int, rtt: float, dropped: bool) -> None:
        """An admitted call ended: its permit comes back and the algorithm learns from it.

        Args:
            ticket: what ``admit`` gave.
            rtt: how long the call took, seconds.
            dropped: it timed out or the server turned it away.

        Raises:
            RuntimeError: no admitted call is left.
        """
        if not self.inflight:
            raise RuntimeError("done: no call is in flight")
        self.inflight -= 1
        if dropped:
            self._dropped += 1
        else:
            self._succeeded += 1
        self.algorithm.sampled(rtt, ticket, dropped)

    def forgotten(self, ticket: int) -> None:
        """An admitted call counts as nothing (cancelled, ignored): only its permit comes back.

        Raises:
            RuntimeError: no admitted call is left.
        """
        if not self.inflight:
            raise RuntimeError("forgotten: no call is in flight")
        self.inflight -= 1
        self._forgotten += 1

    def undone(self, ticket: int) -> None:
        """An admitted call was never made: its permit comes back, and nothing is counted.

        Raises:
            RuntimeError: no admitted call is left.
        """
        if not self.inflight:
            raise RuntimeError("undone: no call is in flight")
        self.inflight -= 1

    def metrics(self) -> ConcurrencyMetrics:
        """All counts so far."""
        return ConcurrencyMetrics(
            self.algorithm.limit, self.inflight, self._succeeded, self._dropped, self._forgotten, self.rejected
        )
