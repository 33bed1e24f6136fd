"""What type checkers infer of the policies beside Retry: checked by mypy and pyright, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from resilient import (
    AdaptiveLimiter,
    AdaptiveRate,
    AdaptiveThrottle,
    Bulkhead,
    CircuitBreaker,
    CircuitOpen,
    Fallback,
    Hedge,
    Outcome,
    Pipeline,
    RateLimiter,
    Retry,
    RetryBudget,
    Timeout,
    backoff,
    catch,
    current_deadline,
    snapshot,
)
from resilient.core.breaker import BreakerMetrics

breaker = CircuitBreaker(failure_rate=0.5, window=timedelta(minutes=1), open_for=backoff.exponential(5), name="db")
limiter = RateLimiter(50, per=timedelta(seconds=1), burst=10, max_wait=1)
pipeline = Pipeline(limiter, Timeout(60), Retry(on=OSError, budget=RetryBudget.ratio(0.1)), breaker, Timeout(5))


@breaker
def pull(a: int, *, b: str = "") -> list[int]:
    return [a]


@pipeline
async def apull(a: int) -> list[int]:
    return [a]


@Fallback("")
def length(text: str) -> int:
    return len(text)


@Fallback({TimeoutError: 0, ConnectionError: 1})
async def alength(text: str) -> str:
    return text


class Client:
    @Bulkhead(10, queue=5)
    def method(self, key: str) -> bytes:
        return key.encode()


def used() -> None:
    assert_type(pull(1, b="x"), list[int])
    assert_type(breaker.call(pull, 1), list[int])
    assert_type(pipeline.execute(pull, 1), Outcome[list[int]])
    assert_type(pipeline.proxy(Client()), Client)
    assert_type(Client().method("k"), bytes)
    assert_type(length("x"), int | str)
    assert_type(breaker >> limiter, Pipeline)
    assert_type(breaker.metrics(), BreakerMetrics)
    assert_type(breaker.with_(probes=3), CircuitBreaker)
    assert_type(CircuitBreaker.named("db"), CircuitBreaker)
    assert_type(Pipeline(catch(default=0), Hedge("p95"), AdaptiveLimiter("vegas")), Pipeline)
    pull("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    breaker.with_(speed=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AdaptiveRate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    AdaptiveLimiter("fast")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for taken in snapshot():
        assert_type(taken.kind, str)
    with breaker as held:
        assert_type(held, CircuitBreaker)
    for attempt in pipeline:
        with attempt:
            assert_type(attempt.remaining, float | None)
    deadline = current_deadline()
    if deadline is not None:
        assert_type(deadline.remaining, float)
    try:
        pull(1)
    except CircuitOpen as error:
        assert_type(error.retry_after, float | None)


async def aused() -> None:
    assert_type(await apull(1), list[int])
    assert_type(await alength("x"), str | int)
    assert_type(await pipeline.call(apull, 1), list[int])
    assert_type(await AdaptiveThrottle().execute(apull, 1), Outcome[list[int]])
    async with Bulkhead(3) as held:
        assert_type(held, Bulkhead)
