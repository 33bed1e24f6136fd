"""Expectations that other projects published of their rate limiters, played against ours."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from resilient.core.rate import Rate

Limit = tuple[float, float, int]  # calls, per so many seconds, burst

THROTTLED = "throttled/throttled, rate_test.go, TestRateLimit, and brandur/redis-cell, src/cell/mod.rs, it_rate_limits"
DIRECT = "boinkor-net/governor, governor/tests/direct.rs, "
ANY_N = "boinkor-net/governor, governor/tests/check_any_n.rs, "
MIDDLEWARE = "boinkor-net/governor, governor/tests/middleware.rs, "
ATOMIC = "resilience4j, AtomicRateLimiterTest.java, "
SMOOTH = "failsafe-lib/failsafe, SmoothRateLimiterStatsTest.java, "


@dataclass(frozen=True)
class Vector:
    """Calls made at the instants ``before``, then ``calls`` of them at ``at``; seconds throughout."""

    id: str
    source: str
    limit: Limit
    before: tuple[float, ...]
    at: float
    calls: int = 1
    admitted: int | None = None
    remaining: int | None = None  # whole calls
    reset: float | None = None  # until all the burst is back
    retry: float | None = None  # the wait of the last call


def story(name: str, source: str, limit: Limit, *steps: tuple[float, int, int]) -> list[Vector]:
    """One vector a step: at this instant so many calls are tried, and so many admitted."""
    told: list[float] = []
    vectors = []
    for number, (at, calls, admitted) in enumerate(steps, 1):
        vectors.append(Vector(f"{name}-{number}", source, limit, tuple(told), at, calls, admitted))
        told += [at] * calls
    return vectors


ONE = (1.0, 1.0, 5)
# The calls of the table's cases 1 to 11, in order; case 6 is refused.
CASES = (0, 0, 0, 0, 0, 0, 3, 3.1, 4, 8, 9.5)

VECTORS = [
    Vector("throttled-1", f"{THROTTLED}, case 1", ONE, CASES[:0], 0, 1, 1, 4, 1),
    Vector("throttled-2", f"{THROTTLED}, case 2", ONE, CASES[:1], 0, 1, 1, 3, 2),
    Vector("throttled-3", f"{THROTTLED}, case 3", ONE, CASES[:2], 0, 1, 1, 2, 3),
    Vector("throttled-4", f"{THROTTLED}, case 4", ONE, CASES[:3], 0, 1, 1, 1, 4),
    Vector("throttled-5", f"{THROTTLED}, case 5", ONE, CASES[:4], 0, 1, 1, 0, 5),
    Vector("throttled-6", f"{THROTTLED}, case 6", ONE, CASES[:5], 0, 1, 0, 0, 5, retry=1),
    Vector("throttled-7", f"{THROTTLED}, case 7", ONE, CASES[:6], 3, 1, 1, 2, 3),
    Vector("throttled-8", f"{THROTTLED}, case 8", ONE, CASES[:7], 3.1, 1, 1, 1, 3.9),
    Vector("throttled-9", f"{THROTTLED}, case 9", ONE, CASES[:8], 4, 1, 1, 1, 4),
    Vector("throttled-10", f"{THROTTLED}, case 10", ONE, CASES[:9], 8, 1, 1, 4, 1),
    Vector("throttled-11", f"{THROTTLED}, case 11", ONE, CASES[:10], 9.5, 1, 1, 4, 1),
    Vector("throttled-12-peek", f"{THROTTLED}, case 12 (volume 0)", ONE, CASES, 9.5, 0, 0, 4, 1),
    Vector("throttled-13-two", f"{THROTTLED}, case 13 (volume 2)", ONE, CASES, 9.5, 2, 2, 2, 3),
    Vector("redis-cell-readme", "redis-cell, README, CL.THROTTLE user123 15 30 60 1", (30, 60, 16), (), 0, 1, 1, 15, 2),
    Vector(
        "governor-until",
        "boinkor-net/governor, governor/src/gcra.rs, notuntil_impls: limited until 1 s",
        (1, 1, 1),
        (0,),
        0,
        admitted=0,
        retry=1,
    ),
    *story(
        "governor-too-many",
        f"{DIRECT}rejects_too_many",
        (2, 1, 2),
        *((0, 1, 1), (0.001, 1, 1), (0.002, 1, 0), (1.002, 1, 1), (1.003, 1, 1), (1.004, 1, 0)),
    ),
    *story(
        "governor-no-extra-cell",
        f"{DIRECT}does_not_allow_one_extra_cell_after_longer_interval",
        (5, 1, 5),
        *((0, 5, 5), (0, 1, 0), (2, 5, 5), (2, 1, 0)),
    ),
    *story("governor-threads", f"{DIRECT}actual_threadsafety", (20, 1, 20), *((0, 20, 20), (0.002, 1, 0), (1.0, 1, 1))),
    *story("governor-any-n", f"{ANY_N}check_any_n_admits_available", (10, 1, 10), (0, 10, 10), (0, 5, 0), (0.5, 10, 5)),
    *story("governor-partial", f"{ANY_N}check_any_n_partial_vending", (10, 1, 10), (0, 7, 7), (0, 10, 3), (0, 10, 0)),
    *story("governor-burst", f"{ANY_N}check_any_n_never_exceeds_burst", (5, 1, 5), (0, 100, 5), (0, 1, 0)),
    *story(
        "governor-refill",
        f"{ANY_N}check_any_n_gradual_refill",
        (10, 1, 10),
        *((0, 10, 10), (0.1, 10, 1), (0.2, 10, 1), (0.3, 10, 1), (0.4, 10, 1), (0.5, 10, 1)),
    ),
    *(
        Vector(
            f"governor-state-{4 - left}", f"{MIDDLEWARE}state_information", (4, 1, 4), (0,) * (3 - left), 0, 1, 1, left
        )
        for left in (3, 2, 1, 0)
    ),
    *story(
        "resilience4j-cycles",
        f"{ATOMIC}acquireAndRefreshWithEventPublishing",
        (1, 0.25, 1),
        *((0.25, 1, 1), (0.25, 1, 0), (0.5, 1, 1), (0.5, 1, 0)),
    ),
    *story(
        "six-an-hour",
        "entropy.cat, Rate Limiting with the Generic Cell Rate Algorithm: 6 an hour in bursts of 6, the 7th waits for "
        "ten minutes, two idle hours are no more than a burst",
        (6, 3600, 6),
        *((0, 6, 6), (0, 1, 0), (600, 1, 1), (600 + 7200, 20, 6)),
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_published_decisions(vector: Vector) -> None:
    """Admitted, remaining, reset and retry are as published."""
    rate = Rate(*vector.limit)
    for instant in vector.before:
        rate.take(instant)
    waits = [rate.take(vector.at) for _ in range(vector.calls)]
    available = rate.available(vector.at)
    if vector.admitted is not None:
        assert vector.admitted == waits.count(0.0)
    if vector.remaining is not None:
        assert vector.remaining == int(available + 1e-9)
    if vector.reset is not None:
        assert pytest.approx(vector.reset, abs=1e-9) == (rate.burst - available) * rate.interval
    if vector.retry is not None:
        assert pytest.approx(vector.retry, abs=1e-9) == waits[-1]


INTERVALS = [
    ("per-day", 24, 86_400, 3600),
    ("per-hour", 6, 3600, 600),
    ("per-minute", 6, 60, 10),
    ("per-period", 6, 120, 20),
    ("per-second", 5, 1, 0.2),
]


@pytest.mark.parametrize(("name", "calls", "per", "interval"), INTERVALS, ids=[row[0] for row in INTERVALS])
def test_published_intervals(name: str, calls: float, per: float, interval: float) -> None:
    """Source: brandur/redis-cell, src/cell/mod.rs, it_creates_rates_from_days to _from_seconds."""
    assert interval == Rate(calls, per, 1).interval


def test_governor_waits_are_right() -> None:
    """Source: governor, tests/direct.rs, correct_wait_time: whoever waits as told is admitted, 20 times of 20."""
    rate, now, admitted = Rate(5, 1, 5), 0.0, 0
    for _ in range(20):
        now += 0.001
        wait = rate.take(now)
        if wait:
            now += wait
            wait = rate.take(now)
        admitted += not wait
    assert 20 == admitted


@dataclass(frozen=True)
class Line:
    """So many calls come at each instant and stay in the queue; then somebody asks how long it would wait."""

    id: str
    source: str
    interval: float
    comes: tuple[tuple[float, int], ...]
    at: float
    wait: float


LINES = [
    Line("resilience4j-used", f"{ATOMIC}acquireAndRefreshWithEventPublishing", 0.25, ((0.25, 1),), 0.25, 0.25),
    Line("resilience4j-one-waits", f"{ATOMIC}reserveAndRefresh", 0.25, ((0.25, 2),), 0.25, 0.5),
    Line("resilience4j-served", f"{ATOMIC}reserveAndRefresh", 0.25, ((0.25, 2),), 0.5, 0.25),
    Line("resilience4j-skipped", f"{ATOMIC}reserveFewThenSkipCyclesBeforeRefresh", 0.25, ((0.25, 2),), 1.5, 0.0),
    Line("failsafe-7-at-once", f"{SMOOTH}testAcquirePermits", 0.5, ((0, 6),), 0, 3.0),
    Line("failsafe-3-later", f"{SMOOTH}testAcquirePermits", 0.5, ((0, 7), (0.8, 2)), 0.8, 3.7),
    Line("failsafe-1-later", f"{SMOOTH}testAcquirePermits", 0.5, ((0, 7), (0.8, 3)), 2.3, 2.7),
    Line("failsafe-3-more", f"{SMOOTH}testAcquirePermits", 0.5, ((0, 7), (0.8, 3), (2.3, 1), (3.5, 2)), 3.5, 3.0),
    Line("failsafe-200ms", f"{SMOOTH}testAcquirePermits, 200 ms", 0.2, ((0, 2),), 0, 0.4),
    Line("failsafe-200ms-later", f"{SMOOTH}testAcquirePermits, 200 ms", 0.2, ((0, 3), (0.55, 1)), 0.55, 0.25),
    Line("failsafe-initial-1", f"{SMOOTH}testAcquireInitialStats", 0.1, (), 0, 0.0),
    Line("failsafe-initial-2", f"{SMOOTH}testAcquireInitialStats", 0.1, ((0, 1),), 0, 0.1),
    Line("failsafe-initial-3", f"{SMOOTH}testAcquireInitialStats", 0.1, ((0, 2),), 0.1, 0.1),
    Line("failsafe-initial-4", f"{SMOOTH}testAcquireInitialStats", 0.1, ((0, 2), (0.1, 1)), 0.1, 0.2),
]


def serve(rate: Rate, now: float, until: float) -> None:
    """Everybody whose slot comes until then gets it, in time."""
    while (head := rate.head) is not None:
        if wait := rate.turn(head, now):
            now += wait
            if now > until + 1e-9:
                return
        else:
            rate.leave(head)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.id)
def test_published_waits(line: Line) -> None:
    """The wait at the end of a queue is as published."""
    rate, now = Rate(1, line.interval, 1), 0.0
    for instant, count in (*line.comes, (line.at, 0)):
        serve(rate, now, instant)
        now = instant
        for _ in range(count):
            if rate.take(now):
                rate.join(object())
    assert pytest.approx(line.wait, abs=1e-9) == rate.expected_wait(line.at)
