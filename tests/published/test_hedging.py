"""Expectations that other projects and texts published of hedging, played against ours."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from resilient.core.hedging import HedgeBudget, Hedging, Latency, Percentile, hedge_plan

WIKIPEDIA = "Wikipedia, Percentile, The nearest-rank method, worked example "
HISTOGRAM = "twitter/finagle, WindowedPercentileHistogramTest.scala, "
BACKUP = "twitter/finagle, BackupRequestFilterTest.scala, "
FIVE = (15, 20, 35, 40, 50)
TEN = (3, 6, 7, 8, 8, 10, 13, 15, 16, 20)
ELEVEN = (3, 6, 7, 8, 8, 9, 10, 13, 15, 16, 20)


@dataclass(frozen=True)
class Vector:
    """A percentile, in percent, of the latest ``window`` values."""

    id: str
    source: str
    values: tuple[float, ...]
    percent: float
    expected: float
    window: int = 10_000


def fraction(i: int) -> Vector:
    # All but i + 1 of 10,000 values are 10, the others 5: the i / 100th percentile is 5.
    values = (10.0,) * (10_000 - i - 1) + (5.0,) * (i + 1)
    source = f"{HISTOGRAM}Gets fractional percentiles to two decimal places accurately, i = {i}"
    return Vector(f"finagle-p{i / 100:g}", source, values, i / 100, 5)


VECTORS = [
    Vector("five-p5", f"{WIKIPEDIA}1", FIVE, 5, 15),
    Vector("five-p30", f"{WIKIPEDIA}1", FIVE, 30, 20),
    Vector("five-p40", f"{WIKIPEDIA}1", FIVE, 40, 20),
    Vector("five-p50", f"{WIKIPEDIA}1", FIVE, 50, 35),
    Vector("five-p100", f"{WIKIPEDIA}1", FIVE, 100, 50),
    Vector("ten-p25", f"{WIKIPEDIA}2", TEN, 25, 7),
    Vector("ten-p50", f"{WIKIPEDIA}2", TEN, 50, 8),
    Vector("ten-p75", f"{WIKIPEDIA}2", TEN, 75, 15),
    Vector("ten-p100", f"{WIKIPEDIA}2", TEN, 100, 20),
    Vector("eleven-p25", f"{WIKIPEDIA}3", ELEVEN, 25, 7),
    Vector("eleven-p50", f"{WIKIPEDIA}3", ELEVEN, 50, 9),
    Vector("eleven-p75", f"{WIKIPEDIA}3", ELEVEN, 75, 15),
    Vector("eleven-p100", f"{WIKIPEDIA}3", ELEVEN, 100, 20),
    Vector("finagle-median-of-3", f"{HISTOGRAM}Sliding window", (1, 2, 3), 50, 2),
    Vector("finagle-median-of-7", f"{HISTOGRAM}Sliding window", (1, 2, 3, 4, 5, 6, 7), 50, 4),
    Vector("finagle-slid-median", f"{HISTOGRAM}Sliding window", tuple(range(1, 11)), 50, 7, window=7),
    Vector("finagle-slid-max", f"{HISTOGRAM}Sliding window", tuple(range(1, 11)), 100, 10, window=7),
    *(fraction(i) for i in (1, 50, 2500, 4999, 9500, 9989, 9998)),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_published_percentiles(vector: Vector) -> None:
    """The percentile is the value that was published."""
    latency = Latency(vector.window)
    for value in vector.values:
        latency.add(value)
    assert vector.expected == latency.at(Percentile(round(vector.percent * 1000)))


CHANGED = f"{BACKUP}sendBackupAfter percentile and RetryBudget changed when maxExtraLoad Tunable is changed"
MIXED = (0.05,) * 90 + (0.1,) * 10

DELAYS = [
    ("finagle-1-percent", CHANGED, "p99", MIXED, 0.1),
    ("finagle-10-percent", CHANGED, "p90", MIXED, 0.05),
    ("finagle-warm", f"{BACKUP}warmFilterForBackup: 100 requests of 2 s", "p99", (2.0,) * 100, 2.0),
    ("finagle-first", "twitter/finagle, BackupRequestFilter.scala: no backup on the first request", "p99", (), None),
    ("finagle-least", "twitter/finagle, BackupRequestFilter.scala, MinSendBackupAfterMs", "p99", (0.0,) * 100, 0.001),
]


@pytest.mark.parametrize(("name", "source", "after", "took", "delay"), DELAYS, ids=[row[0] for row in DELAYS])
def test_published_delays(name: str, source: str, after: str, took: tuple[float, ...], delay: float | None) -> None:
    """Hedges go out after the delay that was published."""
    hedging = Hedging(hedge_plan(after))
    for duration in took:
        hedging.took(duration)
    assert delay == hedging.delay()


SENT = [(0.001, 1), (0.501, 2), (1.001, 3), (1.501, 4)]


@pytest.mark.parametrize(("elapsed", "outstanding"), SENT, ids=[f"grpc-a6-{row[1]}" for row in SENT])
def test_grpc_sends_one_copy_a_delay(elapsed: float, outstanding: int) -> None:
    """Source: gRPC proposal A6, Hedging Policy, with hedgingDelay 0.5 s and 4 attempts in all."""
    hedging = Hedging(hedge_plan(0.5, 3))
    launched, copies = 0.0, 1
    for _ in range(hedging.plan.extra):
        launched += hedging.delay() or 0.0
        copies += launched <= elapsed and hedging.launch()
    assert outstanding == copies


BUDGETS = [
    ("finagle-opens", f"{CHANGED}: balance 100", 0.01, 100, 0, 0, 100.0),
    ("finagle-refused", f"{BACKUP}Don't send backup if cannot withdraw: 300 withdrawn", 0.01, 300, 300, 0, 0.0),
    ("finagle-deposits", f"{BACKUP}Deposits into local RetryBudget only: 100 calls at 1 %", 0.01, 300, 300, 100, 1.0),
    ("finagle-ratio", f"{CHANGED}: deposit 1000, withdraw 10000", 0.1, 100, 100, 10, 1.0),
    ("finagle-zero", f"{BACKUP}RetryBudget is empty if maxExtraLoad is changed to 0.0", 0.0, 100, 0, 1000, 0.0),
]


@pytest.mark.parametrize(
    ("name", "source", "load", "reserve", "taken", "calls", "balance"), BUDGETS, ids=[row[0] for row in BUDGETS]
)
def test_published_budgets(
    name: str, source: str, load: float, reserve: int, taken: int, calls: int, balance: float
) -> None:
    """The budget's balance is the one that was published."""
    budget = HedgeBudget(load, reserve)
    assert all(budget.take() for _ in range(taken))
    for _ in range(calls):
        budget.earn()
    assert balance == budget.available
    assert (balance >= 1.0) == budget.take()


def test_the_tail_at_scale_bounds_the_load() -> None:
    """Source: "The Tail at Scale", Hedged requests: after the 95th percentile the load grows by about 5 %."""
    assert 0.05 == hedge_plan("p95").load


def test_polly_sends_one_extra_copy() -> None:
    """Source: App-vNext/Polly, HedgingStrategyOptionsTests.cs, Ctor_EnsureDefaults: MaxHedgedAttempts is 1."""
    assert 1 == hedge_plan(2).extra
