"""Bulkhead: at most so many calls at once, in every form of use."""

import asyncio
import logging
import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import events, listen
from resilient.core.permits import PermitsMetrics
from resilient.errors import BulkheadFull
from resilient.policies.bulkhead import Bulkhead
from resilient.policies.policy import Pipeline
from resilient.policies.shared import ProcessHome, Snapshot, snapshot
from resilient.policies.timeout import Timeout
from resilient.testing import FakeClock


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"limit": 0}, "limit must be >= 1, got 0"),
        ({"limit": 1.5}, "limit must be a whole number >= 1, got 1.5"),
        ({"limit": 1, "queue": -1}, "queue must be >= 0, got -1"),
        ({"limit": 1, "max_wait": -1}, "max_wait must be >= 0 s, got -1"),
        ({"limit": 1, "name": 7}, "name must be a str, got 7"),
        ({"limit": 1, "listeners": 7}, "listeners must be functions of an event, got 7"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    """With the argument, the value and the limit."""
    with pytest.raises((ValueError, TypeError), match=message):
        Bulkhead(**settings)


def test_it_shows_compares_and_pickles_by_its_settings() -> None:
    """Permits are not among them: a copy has its own."""
    bulkhead = Bulkhead(3, max_wait=timedelta(seconds=2), queue=5, name="db")
    assert "Bulkhead(limit=3, max_wait=2.0, queue=5, name='db')" == repr(bulkhead)
    with bulkhead:
        copy = pickle.loads(pickle.dumps(bulkhead))
        assert bulkhead == copy
        assert (1, 0) == (bulkhead.metrics().inflight, copy.metrics().inflight)


def test_a_copy_has_permits_of_its_own() -> None:
    """With the changes, and None and 0 are honoured."""
    bulkhead = Bulkhead(1, max_wait=2, queue=3)
    with bulkhead:
        copy = bulkhead.with_(limit=2, max_wait=None, queue=0)
        assert (2, None, 0, 0) == (copy.limit, copy.max_wait, copy.queue, copy.metrics().inflight)


def test_a_function_is_guarded() -> None:
    """Within itself it finds the permit taken; afterwards it is free, whatever happened."""
    bulkhead = Bulkhead(1, name="db")

    @bulkhead
    def inner() -> int:
        return 7

    @bulkhead
    def outer() -> int:
        return inner()

    with pytest.raises(BulkheadFull, match="bulkhead full: call rejected by 'db': limit=1 is reached"):
        outer()
    assert 7 == inner()
    assert PermitsMetrics(limit=1, inflight=0, available=1, queued=0, rejected=1, left=0) == bulkhead.metrics()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_coroutine_function_is_guarded(loop: str) -> None:
    """As a decorator, by ``call``, by a lambda, and in a block."""
    bulkhead = Bulkhead(1)
    seen: list[int] = []

    async def look() -> int:
        seen.append(bulkhead.metrics().inflight)
        return 7

    async def main() -> None:
        assert [7, 7, 7] == [
            await bulkhead(look)(),
            await bulkhead.call(look),
            await bulkhead.call(lambda: look()),
        ]
        async with bulkhead:
            await look()
        async for attempt in bulkhead:
            with attempt:
                await look()

    run(loop, main)
    assert ([1] * 5, 0) == (seen, bulkhead.metrics().inflight)


def test_a_block_is_guarded() -> None:
    """Plain, nested in a full one, and in the loop form."""
    bulkhead = Bulkhead(1)
    with bulkhead:
        with pytest.raises(BulkheadFull), bulkhead:
            pass
    for attempt in bulkhead:
        with attempt:
            assert 1 == bulkhead.metrics().inflight
    with pytest.raises(KeyError), bulkhead:
        raise KeyError
    assert 0 == bulkhead.metrics().inflight


@pytest.mark.parametrize("leaving", [KeyError, KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_whatever_ends_a_call_gives_its_permit_back(leaving: type[BaseException]) -> None:
    """Errors, exits and cancellation pass."""
    bulkhead = Bulkhead(1)

    def leave() -> None:
        raise leaving

    with pytest.raises(leaving):
        bulkhead.call(leave)
    assert 1 == bulkhead.metrics().available


@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_waits_for_its_permit(loop: str) -> None:
    """No longer than ``max_wait``, and no more than ``queue`` of them."""
    bulkhead = Bulkhead(1, max_wait=5, queue=1)
    ended: list[str] = []

    async def use(name: str, seconds: float) -> None:
        try:
            async with bulkhead:
                await clock.asleep(seconds)
            ended.append(name)
        except BulkheadFull as error:
            ended.append(f"{name}: {error.why}")

    async def on_asyncio() -> None:
        await asyncio.gather(use("a", 3), use("b", 1), use("c", 1))

    async def on_trio() -> None:
        import trio

        async with trio.open_nursery() as nursery:
            for name, seconds in (("a", 3), ("b", 1), ("c", 1)):
                nursery.start_soon(use, name, seconds)
                await trio.sleep(0)
                await trio.sleep(0)

    if loop == "trio":
        pytest.importorskip("trio")
    with FakeClock() as clock:
        run(loop, on_trio if loop == "trio" else on_asyncio)
        assert 4.0 == clock.now()
    assert ["c: limit=1 and queue=1 are reached", "a", "b"] == ended


def test_a_timeout_around_it_limits_the_wait() -> None:
    """The deadline is passed inward."""
    bulkhead = Bulkhead(1, max_wait=None)
    guarded = Pipeline(Timeout(2), bulkhead)(lambda: 7)
    with FakeClock() as clock, bulkhead:
        with pytest.raises(BulkheadFull, match="no call ended within 2 s"):
            guarded()
        assert 2.0 == clock.now()
    assert 7 == guarded()


def test_rejections_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """To its own listeners, to those of the process, and to the log, for debugging."""
    own: list[events.Event] = []
    everywhere: list[events.Event] = []
    bulkhead = Bulkhead(1, name="db", listeners=(own.append,))
    with caplog.at_level(logging.DEBUG, logger="resilient"), listen(everywhere.append), bulkhead:
        with pytest.raises(BulkheadFull) as caught:
            bulkhead.call(len, "")
    assert [events.CallRejected("db", 0.0, "Bulkhead", caught.value, None)] == own == everywhere
    assert ["db: bulkhead full: call rejected by 'db': limit=1 is reached"] == caplog.messages


def test_an_outcome_tells_what_happened() -> None:
    """Let through, or rejected."""
    bulkhead = Bulkhead(1)
    timeline = bulkhead.execute(lambda: 7).timeline
    assert ["Entered"] == [type(event).__name__ for event in timeline]
    with bulkhead:
        outcome = bulkhead.execute(lambda: 7)
    assert isinstance(outcome.error, BulkheadFull)
    assert ["CallRejected"] == [type(event).__name__ for event in outcome.timeline]


def test_permits_are_shared_by_name() -> None:
    """One bulkhead of a name, and one set of permits in a home."""
    home = ProcessHome()
    bulkhead = Bulkhead.named("db", home=home, limit=1)
    assert Bulkhead.named("db", home=home) is bulkhead
    patient = Bulkhead(1, max_wait=9, name="db", home=home)
    with bulkhead, FakeClock():
        with pytest.raises(BulkheadFull, match="no call ended within 9 s"):
            patient.call(len, "")
    assert 1 == bulkhead.metrics().left
    assert Snapshot("Bulkhead", "db", bulkhead.metrics()) in snapshot()


def test_a_reset_counts_from_zero() -> None:
    """Calls that run keep their permits."""
    bulkhead = Bulkhead(1)
    with bulkhead:
        with pytest.raises(BulkheadFull):
            bulkhead.call(len, "")
        bulkhead.reset()
        assert PermitsMetrics(limit=1, inflight=1, available=0, queued=0, rejected=0, left=0) == bulkhead.metrics()


def test_tasks_that_are_cancelled_in_every_phase_leak_nothing() -> None:
    """Waiting, handed the permit, or running, by decorator and by block."""
    bulkhead = Bulkhead(2, max_wait=None)

    async def turning(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def in_block(turns: int) -> None:
        async with bulkhead:
            await turning(turns)

    forms: list[Callable[[int], Any]] = [
        in_block,
        bulkhead(lambda turns: asyncio.sleep(0, turns)),
        bulkhead(turning),
    ]

    async def main() -> None:
        tasks = [asyncio.ensure_future(forms[n % 3](n % 4)) for n in range(60)]
        for turn in range(40):
            await asyncio.sleep(0)
            for task in tasks[turn % 7 :: 7]:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert (0, 2, 0) == (bulkhead.metrics().inflight, bulkhead.metrics().available, bulkhead.metrics().queued)
