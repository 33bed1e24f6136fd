"""AdaptiveLimiter as users hold it: settings, drops, forms, totals."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import AdaptiveLimiter, AttemptTimeout, BulkheadFull, CircuitOpen, Classifier, Rule, Timeout
from resilient.core.classify import classifier_of
from resilient.core.concurrency import ConcurrencyMetrics
from resilient.core.limits import AIMD, Gradient2
from resilient.core.vegas import Vegas
from resilient.policies.shared import ProcessHome
from resilient.testing import FakeClock


def fail(error: BaseException) -> None:
    raise error


def test_defaults_are_those_of_the_original() -> None:
    """But for the least limit."""
    made = AdaptiveLimiter()
    assert ("gradient", 20, 1, 200, classifier_of(TimeoutError), "", 20) == (
        made.algorithm,
        made.initial,
        made.min_limit,
        made.max_limit,
        made.on,
        made.name,
        made.limit,
    )


@pytest.mark.parametrize(("name", "kind"), [("gradient", Gradient2), ("vegas", Vegas), ("aimd", AIMD)])
def test_three_algorithms(name: Any, kind: type) -> None:
    """By name; with the settings."""
    made = AdaptiveLimiter(name, initial=7, min_limit=3, max_limit=50)
    algorithm: Any = made.gate.machine.algorithm
    assert kind is type(algorithm)
    assert (7, 3, 50) == (made.limit, algorithm.min_limit, algorithm.max_limit)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"algorithm": "tcp"}, ValueError, "algorithm must be one of 'gradient', 'vegas', 'aimd', got 'tcp'"),
    ({"min_limit": 0}, ValueError, "min_limit must be >= 1, got 0"),
    ({"max_limit": 0}, ValueError, "max_limit must be >= 1, got 0"),
    ({"min_limit": 5, "max_limit": 4}, ValueError, "max_limit must be >= 5, got 4"),
    ({"initial": 201}, ValueError, r"initial must be <= max_limit \(200\), got 201"),
    ({"initial": 1, "min_limit": 2}, ValueError, "initial must be >= 2, got 1"),
    ({"initial": 1.5}, TypeError, "initial must be a whole number"),
    ({"on": None}, TypeError, "on must say which errors"),
    ({"name": 5}, TypeError, "name must be a str, got 5"),
    ({"listeners": 5}, TypeError, "listeners must be functions of an event, got 5"),
]


@pytest.mark.parametrize(("settings", "error", "text"), BAD)
def test_bad_settings_are_told_at_once(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """The argument, the value, the limit."""
    with pytest.raises(error, match=text):
        AdaptiveLimiter(**settings)


def test_it_compares_copies_and_pickles_by_its_settings() -> None:
    """The state is its own each time."""
    made = AdaptiveLimiter("aimd", initial=5)
    made.call(int)
    copy, again = made.with_(initial=6), pickle.loads(pickle.dumps(made))
    assert (made, hash(made)) == (again, hash(again))
    assert made != copy
    assert [1, 0, 0] == [limiter.metrics().succeeded for limiter in (made, copy, again)]
    assert repr(made).startswith("AdaptiveLimiter(algorithm='aimd', initial=5")


@pytest.mark.parametrize("name", ["gradient", "vegas", "aimd"])
def test_drops_lower_every_limit(name: Any) -> None:
    """The call's own timeouts and those of policies inside; down to the least."""
    limiter = AdaptiveLimiter(name, initial=10, min_limit=2)
    for error in (TimeoutError(), AttemptTimeout(1)):
        before = limiter.limit
        with pytest.raises(type(error)):
            limiter.call(fail, error)
        assert limiter.limit < before
    for _ in range(100):
        with suppress(TimeoutError):
            limiter.call(fail, TimeoutError())
    assert (2, 102) == (limiter.limit, limiter.metrics().dropped)


@pytest.mark.parametrize("error", [OSError(), CircuitOpen(), KeyboardInterrupt(), GeneratorExit()])
def test_other_errors_say_nothing(error: BaseException) -> None:
    """They have come too early to be a measure."""
    limiter = AdaptiveLimiter(initial=10)
    with pytest.raises(type(error)):
        limiter.call(fail, error)
    assert ConcurrencyMetrics(10, 0, 0, 0, 1, 0) == limiter.metrics()


def test_which_errors_are_drops_can_be_said() -> None:
    """As for Retry."""
    limiter = AdaptiveLimiter(initial=10, on=(OSError, "builtins.LookupError"))
    for error in (OSError(), KeyError(), ValueError()):
        with pytest.raises(type(error)):
            limiter.call(fail, error)
    assert (2, 1) == (limiter.metrics().dropped, limiter.metrics().forgotten)


def test_the_limit_grows_while_it_is_made_use_of() -> None:
    """One by one with AIMD, from the first call at half of it."""
    limiter = AdaptiveLimiter("aimd", initial=1)
    for _ in range(2):
        limiter.call(int)
    assert (3, 2) == (limiter.limit, limiter.metrics().succeeded)


def test_the_limit_falls_when_calls_get_slow() -> None:
    """Gradient: tenfold durations, without any drop."""
    with FakeClock() as clock:
        limiter = AdaptiveLimiter(initial=2, max_limit=2)
        for _ in range(20):
            limiter.call(clock.advance, 0.1)
        for _ in range(20):
            with limiter:
                limiter.call(clock.advance, 10)
    assert 2 == limiter.limit  # the queue that is allowed for keeps it at its most
    with FakeClock() as clock:
        tight = AdaptiveLimiter("vegas", initial=8, max_limit=20)
        for _ in range(5):
            tight.call(clock.advance, 0.1)
        with tight, tight, tight, tight:
            tight.call(clock.advance, 10)
    assert tight.limit < 8


def test_a_full_limiter_rejects() -> None:
    """At once, with words."""
    limiter = AdaptiveLimiter(initial=1, name="db")
    with limiter, pytest.raises(BulkheadFull, match=r"by 'db': 1 calls run, which is the limit now"):
        limiter.call(int)
    assert (1, 1, 0) == (limiter.metrics().rejected, limiter.metrics().succeeded, limiter.metrics().inflight)


def test_it_is_reset() -> None:
    """To the first limit; calls that run are still counted as running."""
    limiter = AdaptiveLimiter("aimd", initial=2)
    with limiter:
        limiter.call(int)
        assert 3 == limiter.limit
        limiter.reset()
        assert ConcurrencyMetrics(2, 1, 0, 0, 0, 0) == limiter.metrics()
    assert 0 == limiter.metrics().inflight


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_calls_give_their_permits_back(loop: str) -> None:
    """A crowd of tasks, cut off by a limit of time: nothing leaks, and the limit is never passed."""
    limiter = AdaptiveLimiter(initial=5, max_limit=5)
    running: list[int] = []
    most = rejected = 0

    @limiter
    async def call() -> None:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        try:
            await sleep(60)
        finally:
            running.pop()

    async def sleep(seconds: float) -> None:
        await (pytest.importorskip("trio") if loop == "trio" else asyncio).sleep(seconds)

    async def task() -> None:
        nonlocal rejected
        try:
            await call()
        except BulkheadFull:
            rejected += 1

    async def main() -> None:
        if loop == "trio":
            trio = pytest.importorskip("trio")
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(task)
                await trio.sleep(0)
                await trio.sleep(0)
                nursery.cancel_scope.cancel()
        else:
            tasks = [asyncio.ensure_future(task()) for _ in range(20)]
            await asyncio.sleep(0)
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    run(loop, main)
    assert (5, 15, 0, 5) == (most, rejected, limiter.metrics().inflight, limiter.metrics().forgotten)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_timeout_inside_is_a_drop(loop: str) -> None:
    """Which is what the limiter learns from."""
    limiter = AdaptiveLimiter(initial=10)

    @limiter
    @Timeout(1)
    async def call() -> None:
        await FakeClock.asleep(clock, 60)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await call()

    with FakeClock() as clock:
        run(loop, main)
    assert (1, 9) == (limiter.metrics().dropped, limiter.limit)


@pytest.mark.parametrize("name", ["gradient", "vegas", "aimd"])
def test_threads_lose_no_call(name: Any) -> None:
    """8 x 10,000 calls, drops mixed in: exact totals, never more at once than the most there may be."""
    limiter = AdaptiveLimiter(name, initial=6, max_limit=6)
    running: list[int] = []
    most, rejected = [0] * 8, [0] * 8

    @limiter
    def call(n: int, turn: int) -> None:
        running.append(n)
        most[n] = max(most[n], len(running))
        running.pop()
        if turn % 50 == 49:
            raise TimeoutError

    def work(n: int) -> None:
        for turn in range(10_000):
            try:
                call(n, turn)
            except BulkheadFull:
                rejected[n] += 1
            except TimeoutError:
                pass

    assert [] == together(8, work)
    seen = limiter.metrics()
    assert (80_000, 0, sum(rejected)) == (seen.succeeded + seen.dropped + seen.rejected, seen.inflight, seen.rejected)
    assert max(most) <= 6


def test_settings_agree_however_they_are_written() -> None:
    """By name they are one."""
    home = ProcessHome()
    made = AdaptiveLimiter.named("x", home=home, on=[OSError, KeyError])
    assert made is AdaptiveLimiter.named("x", home=home, on=(OSError, KeyError))
    assert isinstance(made.on, Classifier)
    assert hash(made) == hash(AdaptiveLimiter(on=(OSError, KeyError), name="x"))


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("error", [None, OSError, TimeoutError])
def test_a_lambda_in_between_changes_no_number(loop: str, error: type[Exception] | None) -> None:
    """What the call gives only its result tells: it is one call all the same."""

    async def call() -> None:
        if error is not None:
            raise error

    async def main(policy: AdaptiveLimiter, asked: Callable[[], Awaitable[None]]) -> object:
        for _ in range(100):
            with suppress(OSError, BulkheadFull):
                await policy.call(asked)
        return policy.metrics()

    def seen(asked: Callable[[], Awaitable[None]]) -> object:
        with FakeClock():
            policy = AdaptiveLimiter("aimd")
            return run(loop, lambda: main(policy, asked))

    assert seen(call) == seen(lambda: call())


def test_returned_values_may_be_drops() -> None:
    """By a rule for results."""
    limiter = AdaptiveLimiter(initial=10, on=Classifier(Rule.result(lambda status: status == 503), Rule(TimeoutError)))
    assert [200, 503, 200] == [limiter.call(int, status) for status in (200, 503, 200)]
    assert (1, 2, 0) == (limiter.metrics().dropped, limiter.metrics().succeeded, limiter.metrics().inflight)
