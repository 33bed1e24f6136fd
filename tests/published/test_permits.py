"""Expectations that other projects published of their bulkheads, played against ours."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from resilient.core.permits import Permits

SEMAPHORE = "resilience4j, SemaphoreBulkheadTest.java, "
FAILSAFE = "failsafe-lib/failsafe, functional/BulkheadTest.java, "
POLLY = "App-vNext/Polly, Polly.Specs/Bulkhead/BulkheadScenarios.cs and BulkheadSpecsBase.cs, "


@dataclass(frozen=True)
class Vector:
    """What is true of a bulkhead after these events.

    A call that comes takes a permit, else it queues, else it is rejected; "done" and "cancel" end the first that
    runs, "quit" ends the first that waits, and a number is a new limit.
    """

    id: str
    source: str
    limit: int
    queue: int | None
    events: tuple[str | int, ...]
    expected: dict[str, int]


def come(count: int) -> tuple[str, ...]:
    return ("come",) * count


VECTORS = [
    Vector("resilience4j-used-up", f"{SEMAPHORE}testBulkhead", 2, 0, come(2), {"available": 0}),
    Vector("resilience4j-rejected", f"{SEMAPHORE}testBulkhead", 2, 0, come(3), {"rejected": 1}),
    Vector("resilience4j-one-back", f"{SEMAPHORE}testBulkhead", 2, 0, (*come(3), "done"), {"available": 1}),
    Vector("resilience4j-two-back", f"{SEMAPHORE}testBulkhead", 2, 0, (*come(3), "done", "done"), {"available": 2}),
    Vector("resilience4j-zero", f"{SEMAPHORE}testZeroMaxConcurrentCalls", 0, 0, come(1), {"rejected": 1}),
    Vector(
        "resilience4j-timeout", f"{SEMAPHORE}testEntryTimeout", 1, None, (*come(2), "quit"), {"inflight": 1, "left": 1}
    ),
    Vector(
        "resilience4j-wider",
        f"{SEMAPHORE}changePermissionsCountWhileOneThreadIsRunningWithThisPermission",
        1,
        0,
        ("come", 2),
        {"available": 1},
    ),
    Vector(
        "resilience4j-wider-used",
        f"{SEMAPHORE}changePermissionsCountWhileOneThreadIsRunningWithThisPermission",
        1,
        0,
        ("come", 2, "come", "come"),
        {"available": 0, "rejected": 1},
    ),
    Vector(
        "resilience4j-narrower",
        f"{SEMAPHORE}changePermissionsCountWhileOneThreadIsRunningWithThisPermission",
        2,
        0,
        (*come(2), 1, "done"),
        {"available": 0, "inflight": 1},
    ),
    Vector(
        "resilience4j-narrower-free",
        f"{SEMAPHORE}changePermissionsCountWhileOneThreadIsRunningWithThisPermission",
        2,
        0,
        (*come(2), 1, "done", "done"),
        {"available": 1, "limit": 1},
    ),
    Vector(
        "resilience4j-waiter-served",
        f"{SEMAPHORE}changePermissionsCountWhileOneThreadIsWaitingForPermission",
        1,
        None,
        (*come(2), 2, "done"),
        {"available": 1, "queued": 0},
    ),
    Vector(
        "resilience4j-there-and-back",
        f"{SEMAPHORE}changePermissionsConcurrently",
        3,
        0,
        (*come(2), 1, 4, "done"),
        {"available": 3, "limit": 4},
    ),
    Vector(
        "failsafe-full",
        f"{FAILSAFE}shouldThrowBulkheadFullExceptionAfterPermitsExceeded",
        2,
        0,
        come(3),
        {"rejected": 1},
    ),
    Vector(
        "failsafe-after-wait",
        f"{FAILSAFE}testPermitAcquiredAfterWait",
        2,
        None,
        (*come(3), "done"),
        {"inflight": 2, "queued": 0},
    ),
    Vector(
        "failsafe-max-wait",
        f"{FAILSAFE}testMaxWaitTimeExceeded",
        2,
        None,
        (*come(3), "quit"),
        {"inflight": 2, "left": 1},
    ),
    Vector(
        "failsafe-large-queue",
        f"{FAILSAFE}testPermitAcquiredAfterWaitWithLargeQueue",
        1,
        None,
        (*come(10), *("done",) * 10),
        {"available": 1, "queued": 0, "rejected": 0},
    ),
]


def polly(name: str, limit: int, queue: int, load: int, *ends: str, **expected: int) -> Vector:
    return Vector(f"polly-{name}", f"{POLLY}{limit}/{queue}/{load}", limit, queue, (*come(load), *ends), expected)


# The scenarios' limits and loads; executing, rejected, queuing and free as the specification computes them.
VECTORS += [
    polly("not-oversubscribed", 5, 0, 3, inflight=3, rejected=0, queued=0, available=2),
    polly("high-capacity", 20, 0, 3, inflight=3, rejected=0, queued=0, available=17),
    polly("high-capacity-cancel", 20, 0, 3, "cancel", inflight=2, available=18),
    polly("no-queue", 3, 0, 4, inflight=3, rejected=1, queued=0, available=0),
    polly("short-queue", 3, 1, 5, inflight=3, rejected=1, queued=1, available=0),
    polly("short-queue-moves-up", 3, 1, 5, "done", inflight=3, queued=0, available=0),
    polly("enough-queue", 5, 3, 8, inflight=5, rejected=0, queued=3, available=0),
    polly("cancel", 6, 3, 9, inflight=6, rejected=0, queued=3, available=0),
    polly("cancel-queuing", 6, 3, 9, "quit", inflight=6, queued=2, available=0),
    polly("cancel-executing", 6, 3, 9, "quit", "cancel", inflight=6, queued=1, available=0),
    polly("tight", 1, 6, 5, inflight=1, rejected=0, queued=4, available=0),
    polly("tight-cancel", 1, 6, 5, "quit", "cancel", inflight=1, queued=2, available=0),
    polly("tight-to-the-end", 1, 6, 5, "quit", "cancel", *("done",) * 3, inflight=0, queued=0, available=1),
]


def play(permits: Permits, events: tuple[str | int, ...]) -> None:
    waiting: list[object] = []
    for event in events:
        if isinstance(event, int):
            granted = permits.resize(event)
            waiting = [waiter for waiter in waiting if waiter not in granted]
        elif event == "come":
            caller = object()
            if not permits.acquire() and permits.join(caller):
                waiting.append(caller)
        elif event == "quit":
            assert not permits.leave(waiting.pop(0))
        else:
            woken = permits.release()
            assert woken is (waiting.pop(0) if woken else None), "first come, first served"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_published_bulkheads(vector: Vector) -> None:
    """Executing, waiting, free and rejected are as published."""
    permits = Permits(vector.limit, vector.queue)
    play(permits, vector.events)
    seen = permits.metrics()
    assert vector.expected == {name: getattr(seen, name) for name in vector.expected}
