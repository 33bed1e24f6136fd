"""What the other policies cost on the success path, alone and in pipelines, and what a rejected call costs.

Run as ``python -m benchmarks.guards``; with ``--gate`` it exits 1 if a ratio is beyond 1.5 times its mark.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pybreaker
import stamina
import tenacity

from benchmarks.calls import by_hand, by_hand_async, plain, plain_async, repeat, repeat_async
from benchmarks.harness import Mark, measure, report
from resilient import (
    AdaptiveLimiter,
    AdaptiveRate,
    AdaptiveThrottle,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Hedge,
    Pipeline,
    Policy,
    RateLimiter,
    Retry,
    RetryBudget,
    Timeout,
    catch,
)

Case = Callable[[int], None]

CROWD = 16_000  # tasks
PLENTY = 1e9  # calls a second: a limiter that is never in the way

# Each guard as somebody would set it up; none of them is ever in the way.
GUARDS: dict[str, Policy] = {
    "timeout": Timeout(60),
    "breaker": CircuitBreaker(),
    "breaker, slow calls": CircuitBreaker(slow_call=1),
    "rate limiter": RateLimiter(PLENTY, burst=1000),
    "bulkhead": Bulkhead(10),
    "adaptive limiter": AdaptiveLimiter(),
    "adaptive throttle": AdaptiveThrottle(),
    "adaptive rate": AdaptiveRate(on=OSError),
    "retry with a budget": Retry(on=OSError, attempts=3, budget=RetryBudget()),
    "fallback": Fallback(0),
    "catch": catch(default=0),
}
# A coroutine's timeout needs a timer of its event loop: see loop_cases.
LOOPLESS = [name for name in GUARDS if name != "timeout"]


def five_layers() -> Pipeline:
    """Rate limiter, total timeout, retry, breaker, attempt timeout."""
    return Pipeline(
        RateLimiter(PLENTY, burst=1000), Timeout(60), Retry(on=OSError, attempts=3), CircuitBreaker(), Timeout(10)
    )


def five_by_others() -> Callable[[int, int], int]:
    """The same, of stamina (which has the timeouts too), pybreaker and a semaphore."""
    breaker, slots = pybreaker.CircuitBreaker(fail_max=5), threading.BoundedSemaphore(10)

    @stamina.retry(on=OSError, attempts=3, timeout=60)
    def guarded(a: int, b: int) -> int:
        return int(breaker.call(plain, a, b))

    def limited(a: int, b: int) -> int:
        with slots:
            return guarded(a, b)

    return limited


def layers(count: int) -> Callable[[int, int], int]:
    """So many breakers, one in the other."""
    return Pipeline(*(CircuitBreaker() for _ in range(count)))(plain)


def rejected() -> Callable[[int, int], object]:
    """A call that an open breaker rejects, caught."""
    breaker = CircuitBreaker()
    breaker.force_open()
    guarded = breaker(plain)

    def call(a: int, b: int) -> object:
        try:
            return guarded(a, b)
        except CircuitOpen as error:
            return error

    return call


def cases() -> dict[str, Case]:
    by_tenacity = tenacity.retry(stop=tenacity.stop_after_attempt(3), retry=tenacity.retry_if_exception_type(OSError))
    found = {"by hand": repeat(by_hand), "by hand, async": repeat_async(by_hand_async)}
    found |= {name: repeat(guard(plain)) for name, guard in GUARDS.items()}
    found |= {f"{name}, async": repeat_async(GUARDS[name](plain_async)) for name in LOOPLESS}
    pipeline = five_layers()
    return found | {
        "five layers": repeat(pipeline(plain)),
        "five layers, .call": repeat(lambda a, b: pipeline.call(plain, a, b)),
        "five layers, by others": repeat(five_by_others()),
        "tenacity": repeat(by_tenacity(plain)),
        "rejected": repeat(rejected()),
        **{f"{count} breakers": repeat(layers(count)) for count in (1, 5, 9)},
    }


def repeat_in_loop(call: Callable[[int, int], Coroutine[Any, Any, object]]) -> Case:
    """What needs timers or tasks, in a real event loop."""
    loop = asyncio.new_event_loop()

    async def awaited(count: int) -> None:
        for _ in range(count):
            await call(1, 2)

    return lambda count: loop.run_until_complete(awaited(count))


async def timed_by_asyncio(a: int, b: int) -> int:
    async with asyncio.timeout(60):
        return await plain_async(a, b)


async def hedged_by_hand(a: int, b: int) -> int:
    """What the shortest hedge does while it is not needed: a task, a wait, and nothing else."""
    primary = asyncio.ensure_future(plain_async(a, b))
    done, _ = await asyncio.wait({primary}, timeout=60)
    assert done
    return await primary


def open_at_once(guard: contextlib.AbstractAsyncContextManager[object]) -> Case:
    """So many tasks are in a block of one guard at the same time, and then leave it."""
    loop = asyncio.new_event_loop()

    async def one(go: asyncio.Event) -> None:
        async with guard:
            await go.wait()

    async def awaited(count: int) -> None:
        for _ in range(count):
            go = asyncio.Event()
            tasks = [asyncio.create_task(one(go)) for _ in range(CROWD)]
            await asyncio.sleep(0)  # all are in their blocks
            go.set()
            await asyncio.gather(*tasks)

    return lambda count: loop.run_until_complete(awaited(count))


def loop_cases() -> dict[str, Case]:
    return {
        "asyncio.timeout": repeat_in_loop(timed_by_asyncio),
        "timeout, async": repeat_in_loop(Timeout(60)(plain_async)),
        "hedge by hand, async": repeat_in_loop(hedged_by_hand),
        "hedge, async": repeat_in_loop(Hedge(60)(plain_async)),
        "16,000 blocks at once": open_at_once(Bulkhead(CROWD)),
        "16,000 semaphores at once": open_at_once(asyncio.Semaphore(CROWD)),
    }


LOOP_MARKS = [
    Mark("timeout, async / asyncio.timeout", "timeout, async", "asyncio.timeout", at_most=1.5),
    Mark("hedge, async / by hand", "hedge, async", "hedge by hand, async", at_most=1.5),
    Mark("16,000 blocks / semaphores", "16,000 blocks at once", "16,000 semaphores at once", at_most=2),
]

MARKS = [
    *(Mark(f"{name} / by hand", name, "by hand", at_most=4) for name in GUARDS),
    *(Mark(f"{name}, async / by hand", f"{name}, async", "by hand, async", at_most=4) for name in LOOPLESS),
    Mark("stamina, pybreaker, semaphore / five layers", "five layers", "five layers, by others", at_least=8),
    Mark("rejected / tenacity's success", "rejected", "tenacity", at_most=1 / 3),
    Mark("layers 6 to 9 / layers 2 to 5", "layers 6 to 9", "layers 2 to 5", at_most=1.25),
]


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--gate", action="store_true", help="exit 1 if a ratio is beyond 1.5 times its mark")
    options.add_argument("--rounds", type=int, default=25)
    chosen = options.parse_args()
    with contextlib.suppress(AttributeError):
        stamina.instrumentation.set_on_retry_hooks([])
    seconds = measure(cases(), rounds=chosen.rounds)
    # What each further layer adds: the same, however many there are already.
    seconds["layers 2 to 5"] = seconds["5 breakers"] - seconds["1 breakers"]
    seconds["layers 6 to 9"] = seconds["9 breakers"] - seconds["5 breakers"]
    passed = report("guards", seconds, MARKS, gate=chosen.gate)
    seconds = measure(loop_cases(), rounds=chosen.rounds)
    return 0 if report("guards in an event loop", seconds, LOOP_MARKS, gate=chosen.gate) and passed else 1


if __name__ == "__main__":
    sys.exit(main())
