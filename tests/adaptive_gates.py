"""The gates that learn, as their tests make them, and what errors and results say to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from resilient.core.concurrency import Algorithm
from resilient.drivers.gates.adaptive_limiter import AdaptiveLimiterGate, SharedConcurrency
from resilient.drivers.gates.adaptive_rate import AdaptiveRateGate, SharedClientRate
from resilient.drivers.gates.adaptive_throttle import AdaptiveThrottleGate, SharedThrottle
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.drivers.gates.gate import gated
from resilient.drivers.wrapping.kind import Kind
from resilient.observe.listeners import Listener

__all__ = ["EXITS", "JUDGES", "SAYS", "Fixed", "guard", "limiter", "paced", "slow", "throttle"]

EXITS = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError]


def says(error: Exception) -> bool | None:
    """TimeoutError: too much; ValueError: taken; a TypeError breaks the judge; anything else says nothing."""
    if isinstance(error, TypeError):
        raise RuntimeError("the judge is broken")
    return True if isinstance(error, TimeoutError) else False if isinstance(error, ValueError) else None


def bad(value: object) -> bool:
    """What a result says: below zero it was too much; a text breaks the judge."""
    if isinstance(value, str):
        raise RuntimeError("the judge is broken")
    return isinstance(value, int) and value < 0


SAYS, JUDGES = FailureJudges(says, None), FailureJudges(says, bad)


class Fixed:
    """A limit that stays, and what it was told."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.told: list[tuple[float, int, bool]] = []

    def sampled(self, rtt: float, inflight: int, dropped: bool) -> None:
        self.told.append((rtt, inflight, dropped))


def limiter(algorithm: Algorithm, *listeners: Listener, judges: FailureJudges = SAYS) -> AdaptiveLimiterGate:
    return AdaptiveLimiterGate(SharedConcurrency(algorithm), judges, "db", listeners)


def throttle(k: float = 2, window: float = 120, min_calls: int = 0, *listeners: Listener) -> AdaptiveThrottleGate:
    return AdaptiveThrottleGate(SharedThrottle(k, window, min_calls), SAYS, "db", listeners)


def paced(max_wait: float | None = None, *listeners: Listener) -> AdaptiveRateGate:
    return AdaptiveRateGate(SharedClientRate(0.7, 0.4), SAYS, max_wait, "db", listeners)


def slow(max_wait: float | None = None, *listeners: Listener) -> AdaptiveRateGate:
    """One that was throttled, under the clock of the test: a call every two seconds."""
    gate = paced(max_wait, *listeners)
    gate.on_failure(gate.enter(), TimeoutError())
    assert 0.5 == gate.metrics().fill_rate
    return gate


def guard(gate: Any, call: Callable[..., Any], kind: Kind = Kind.SYNC) -> Callable[..., Any]:
    """A callable behind one of them."""
    return gated(call, gate, gate, kind)
