"""RateLimiter: so many calls in a time, in every form of use."""

import asyncio
import logging
import pickle
from datetime import timedelta
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import events, listen
from resilient.core.rate import RateMetrics
from resilient.errors import RateLimited
from resilient.policies.policy import Pipeline
from resilient.policies.rate_limiter import RateLimiter
from resilient.policies.shared import ProcessHome, Snapshot, snapshot
from resilient.policies.timeout import Timeout
from resilient.testing import FakeClock


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "rate must be finite and > 0, got 0"),
        ({"rate": float("nan")}, "rate must be finite and > 0, got nan"),
        ({"rate": 10**400}, "rate must be finite and > 0, got an integer beyond any float"),
        ({"rate": True}, "rate must be a number of calls > 0, got True"),
        ({"rate": "5"}, "rate must be a number of calls > 0, got '5'"),
        ({"rate": 1, "per": 0}, "per must be > 0 s, got 0"),
        ({"rate": 1, "burst": 0}, "burst must be >= 1, got 0"),
        ({"rate": 1, "max_wait": None}, "max_wait must be seconds .int, float. or a timedelta, got None"),
        ({"rate": 1, "name": 7}, "name must be a str, got 7"),
        ({"rate": 1, "listeners": 7}, "listeners must be functions of an event, got 7"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    """With the argument, the value and the limit."""
    with pytest.raises((ValueError, TypeError), match=message):
        RateLimiter(**settings)


def test_it_shows_compares_and_pickles_by_its_settings() -> None:
    """Its schedule is not among them: a copy has its own."""
    limiter = RateLimiter(0.5, per=timedelta(minutes=1), burst=3, max_wait=2, name="api")
    assert "RateLimiter(rate=0.5, per=60.0, burst=3, max_wait=2.0, name='api')" == repr(limiter)
    limiter.call(len, "")
    copy = pickle.loads(pickle.dumps(limiter))
    assert limiter == copy
    assert (1, 0) == (limiter.metrics().granted, copy.metrics().granted)


def test_a_copy_has_a_schedule_of_its_own() -> None:
    """With the changes."""
    limiter = RateLimiter(1)
    limiter.call(len, "")
    copy = limiter.with_(rate=2, burst=4)
    assert (2, 4, 0) == (copy.rate, copy.burst, copy.metrics().granted)


def test_a_function_is_guarded() -> None:
    """The burst goes through, the next is told when to come back."""
    limiter = RateLimiter(10, per=timedelta(seconds=20), burst=2, name="api")
    guarded = limiter(pow)
    with FakeClock() as clock:
        assert [8, 8] == [guarded(2, 3), guarded(2, 3)]
        with pytest.raises(RateLimited, match="rate limited: call rejected by 'api'; another call .* in 2 s"):
            guarded(2, 3)
        assert RateMetrics(granted=2, rejected=1, queued=0, available=0.0) == limiter.metrics()
        clock.advance(2)
        assert 8 == guarded(2, 3)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_coroutine_function_is_guarded(loop: str) -> None:
    """As a decorator, by ``call``, by a lambda, and in both blocks; each takes one slot."""
    limiter = RateLimiter(1, burst=2, max_wait=9)
    started: list[float] = []

    async def look() -> int:
        started.append(clock.now())
        return 7

    async def main() -> None:
        assert [7, 7, 7] == [
            await limiter(look)(),
            await limiter.call(look),
            await limiter.call(lambda: look()),
        ]
        async with limiter:
            await look()
        async for attempt in limiter:
            with attempt:
                await look()

    with FakeClock() as clock:
        run(loop, main)
        assert [0.0, 0.0, 1.0, 2.0, 3.0] == started
        assert 5 == limiter.metrics().granted


def test_a_block_is_guarded() -> None:
    """Plain and in the loop form; an error does not give the slot back."""
    limiter = RateLimiter(1, max_wait=9)
    with FakeClock() as clock:
        with pytest.raises(KeyError), limiter:
            raise KeyError
        with limiter:
            assert 1.0 == clock.now()
        for attempt in limiter:
            with attempt:
                assert 2.0 == clock.now()


def test_calls_wait_for_their_slots() -> None:
    """In order, and who would wait too long is rejected at once."""
    limiter = RateLimiter(1, max_wait=2)
    started: list[tuple[int, float]] = []

    @limiter
    async def use(n: int) -> None:
        started.append((n, clock.now()))

    async def main() -> list[Any]:
        return await asyncio.gather(*(use(n) for n in range(5)), return_exceptions=True)

    with FakeClock() as clock:
        *_, last = asyncio.run(main())
    assert [(0, 0.0), (1, 1.0), (2, 2.0)] == started
    assert (RateLimited, 3.0) == (type(last), last.retry_after)


def test_a_timeout_around_it_limits_the_wait() -> None:
    """The deadline is passed inward: nobody waits for a slot that comes too late."""
    limiter = RateLimiter(1, max_wait=9)
    guarded = Pipeline(Timeout(0.5), limiter)(lambda: 7)
    with FakeClock() as clock:
        assert 7 == guarded()
        with pytest.raises(RateLimited, match="no slot comes before the deadline"):
            guarded()
        assert 0.0 == clock.now()


def test_rejections_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """To its own listeners, to those of the process, and to the log, for debugging."""
    own: list[events.Event] = []
    everywhere: list[events.Event] = []
    limiter = RateLimiter(1, listeners=(own.append,))
    with caplog.at_level(logging.DEBUG, logger="resilient"), listen(everywhere.append), FakeClock(start=5):
        limiter.call(len, "")
        with pytest.raises(RateLimited) as caught:
            limiter.call(len, "")
    assert [events.CallRejected("RateLimiter", 0.0, "RateLimiter", caught.value, 6.0)] == own == everywhere
    assert ["RateLimiter: rate limited: call rejected; another call makes sense in 1 s"] == caplog.messages


def test_an_outcome_tells_what_happened() -> None:
    """Let through, or rejected."""
    limiter = RateLimiter(1)
    with FakeClock():
        assert ["Entered"] == [type(event).__name__ for event in limiter.execute(lambda: 7).timeline]
        outcome = limiter.execute(lambda: 7)
    assert isinstance(outcome.error, RateLimited)
    assert ["CallRejected"] == [type(event).__name__ for event in outcome.timeline]


def test_a_schedule_is_shared_by_name() -> None:
    """One limiter of a name, and one schedule in a home."""
    home = ProcessHome()
    limiter = RateLimiter.named("api", home=home, rate=1)
    assert RateLimiter.named("api", home=home) is limiter
    with FakeClock() as clock:
        limiter.call(len, "")
        RateLimiter(1, max_wait=9, name="api", home=home).call(len, "")
        assert 1.0 == clock.now()
    assert Snapshot("RateLimiter", "api", limiter.metrics()) in snapshot()


def test_a_reset_begins_anew() -> None:
    """The burst is there again, and the counts are zero."""
    limiter = RateLimiter(1)
    with FakeClock():
        limiter.call(len, "")
        limiter.reset()
        assert RateMetrics(granted=0, rejected=0, queued=0, available=1.0) == limiter.metrics()
        limiter.call(len, "")


def test_a_burst_beyond_any_float_is_refused() -> None:
    """With a clear error, not an OverflowError."""
    with pytest.raises(ValueError, match="burst must be >= 1 and <= 1e.09, got an integer beyond any float"):
        RateLimiter(50, burst=10**400)
