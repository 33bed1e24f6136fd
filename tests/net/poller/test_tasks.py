"""Poller: what was good stays in force."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import DeadlineExceeded, backoff, events, listen
from resilient.drivers.loops.current import current_backend
from resilient.net import Poller, Supervisor
from resilient.testing import FakeClock


def virtually(loop: str, main: Callable[[FakeClock], Awaitable[Any]]) -> Any:
    """What ``main(clock)`` gives under virtual time."""

    async def within() -> Any:
        with FakeClock() as clock:
            return await main(clock)

    return run(loop, within)


def answers(*script: object) -> Callable[[], Awaitable[Any]]:
    """A fetch that plays these; the last repeats."""
    left = list(script)

    async def fetch() -> object:
        now = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(now, BaseException):
            raise now
        return now

    return fetch


async def polled(poller: Poller[Any], clock: FakeClock, seconds: float) -> None:
    """Lets it run so long."""
    with current_backend().cutoff(seconds, clock):
        await poller.run()


@pytest.mark.parametrize("loop", LOOPS)
def test_it_fetches_at_the_interval(loop: str) -> None:
    """The value and its age can be read at any time."""

    async def main(clock: FakeClock) -> Any:
        poller = Poller(answers(1, 2, 3), interval=30)
        before = poller.value, poller.age
        await polled(poller, clock, 70)
        return before, poller.value, poller.age, poller.failures, clock.sleeps

    assert ((None, None), 3, 10.0, 0, [30, 30, 30]) == virtually(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_failures_back_off_and_keep_the_value_in_force(loop: str) -> None:
    """100 ms, doubling; an answer begins anew."""
    heard: list[Any] = []

    async def main(clock: FakeClock) -> Any:
        down = OSError("down")
        poller = Poller(answers("good", down, down, down, "new"), interval=30, name="config", listeners=(heard.append,))
        await polled(poller, clock, 30.4)
        during = poller.value, poller.failures, poller.age
        await polled(poller, clock, 1)
        return during, poller.value, poller.failures, clock.sleeps

    during, value, failures, sleeps = virtually(loop, main)
    assert (("good", 3, pytest.approx(30.4)), "new", 0, [30, 0.1, 0.2, 0.4, 30]) == (during, value, failures, sleeps)
    assert [
        "config: attempt 1 failed with OSError: down: RETRY",
        "config: waiting 0.1 s before attempt 2",
        "config: attempt 2 failed with OSError: down: RETRY",
        "config: waiting 0.2 s before attempt 3",
        "config: attempt 3 failed with OSError: down: RETRY",
        "config: waiting 0.4 s before attempt 4",
        "config: succeeded at attempt 4 after 0.4 s",
    ] == [str(event) for event in heard]


@pytest.mark.parametrize("loop", LOOPS)
def test_after_the_last_attempt_it_says_so_once_and_goes_on_at_the_cap(loop: str) -> None:
    """Ten attempts, then every 300 s."""
    heard: list[Any] = []

    async def main(clock: FakeClock) -> Any:
        poller = Poller(answers(OSError("down")), interval=30, listeners=(heard.append,))
        await polled(poller, clock, 1000)
        return clock.sleeps, poller.failures

    sleeps, failures = virtually(loop, main)
    assert ([0.1 * 2**n for n in range(9)] + [300] * 4, 13) == (pytest.approx(sleeps), failures)
    (gave_up,) = [event for event in heard if isinstance(event, events.GaveUp)]
    assert (10, "attempts", "down") == (gave_up.attempts, gave_up.stopped_by, str(gave_up.error))
    assert (
        "poller: gave up after 10 attempts in 51.10 s: going on all the same; the last good value stays in force; "
        "last failure: OSError: down"
    ) == str(gave_up)


@pytest.mark.parametrize("loop", LOOPS)
def test_it_may_stop_instead(loop: str) -> None:
    """Then ``run`` returns, and the value stays in force."""
    heard: list[Any] = []

    async def main(clock: FakeClock) -> Any:
        fetch = answers("good", OSError("down"))
        poller = Poller(fetch, interval=30, attempts=2, keep_trying=False, listeners=(heard.append,))
        await poller.run()
        return poller.value, clock.sleeps

    assert ("good", [30, 0.1]) == virtually(loop, main)
    assert "stopping; the last good value stays in force" in str(heard[-1])


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_applying_that_blows_up_keeps_the_value_before(loop: str, asynchronous: bool) -> None:
    """It is told as a panic by its name, counted, and no failure: the next fetch comes at the interval."""
    own: list[Any] = []
    everywhere: list[Any] = []
    applied: list[int] = []

    def apply(value: int) -> None:
        if value < 0:
            raise ValueError(f"bad value {value}")
        applied.append(value)

    async def apply_later(value: int) -> None:
        await current_backend().sleep(0)
        apply(value)

    async def main(clock: FakeClock) -> Any:
        poller: Poller[int] = Poller(
            answers(1, -2, 3, -4), apply_later if asynchronous else apply, interval=30, name="config",
            listeners=(own.append,),
        )  # fmt: skip
        seen = []
        with listen(everywhere.append):
            for _ in range(4):
                await polled(poller, clock, 10)
                seen.append((poller.value, poller.rejected, poller.failures))
        return seen

    assert [(1, 0, 0), (1, 1, 0), (3, 1, 0), (3, 2, 0)] == virtually(loop, main)
    assert ([1, 3], own) == (applied, everywhere)
    assert [f"config: apply: caught a panic (call): ValueError: bad value {n}" for n in (-2, -4)] == [
        str(event) for event in own
    ]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_supervisor_runs_it(loop: str) -> None:
    """A cancellation ends it, in every phase; it can go on afterwards, but runs once at a time."""

    async def main(clock: FakeClock) -> Any:
        async def slow() -> int:
            await clock.asleep(10)
            return 7

        async def applies(value: int) -> None:
            await clock.asleep(10)

        poller = Poller(slow, applies, interval=10)
        seen = []
        for phase in (5, 15, 25):
            async with Supervisor() as supervisor:
                supervisor.add("poller", poller.run)
                await clock.asleep(phase)
                with pytest.raises(RuntimeError, match="poller runs already: once at a time"):
                    await poller.run()
            seen.append((poller.value, supervisor.stats().panics))
        return seen

    assert [(None, {}), (None, {}), (7, {})] == virtually(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_error_leaves_no_cycle(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one of fetching, nor one of applying."""
    monkeypatch.setattr(logging.getLogger("resilient"), "disabled", True)  # pytest keeps what is logged
    kept: list[weakref.ref[BaseException]] = []

    class Lost(Exception):
        def __init__(self) -> None:
            kept.append(weakref.ref(self))

    async def fetch() -> int:
        if len(kept) == 1:
            return 3
        raise Lost

    def apply(value: int) -> None:
        raise Lost

    async def main(clock: FakeClock) -> None:
        await polled(Poller(fetch, apply, interval=1), clock, 3)

    gc.collect()
    gc.disable()
    try:
        virtually(loop, main)
        assert len(kept) > 2
        assert {None} == {ref() for ref in kept}
    finally:
        gc.enable()


def test_its_repr_tells_its_state() -> None:
    """Failures, and values that blew up."""
    assert "<Poller 'config': 0 failures, 0 rejected>" == repr(Poller(answers(1), interval=1, name="config"))


@pytest.mark.parametrize(
    ("settings", "kind", "said"),
    [
        ({"fetch": 3}, TypeError, "fetch must be a function, got 3"),
        ({"fetch": test_its_repr_tells_its_state}, TypeError, "fetch must be an async function, got <function"),
        ({"apply": 3}, TypeError, "apply must be a function, got 3"),
        ({"interval": 0}, ValueError, "interval must be > 0 s, got 0"),
        ({"backoff": backoff}, TypeError, "backoff must be a Backoff"),
        ({"attempts": 0}, ValueError, "attempts must be >= 1, got 0"),
        ({"keep_trying": 1}, TypeError, "keep_trying must be True or False"),
        ({"name": 3}, TypeError, "name must be a str, got 3"),
        ({"listeners": 3}, TypeError, "listeners must be functions of an event, got 3"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], kind: type[Exception], said: str) -> None:
    """By name, value and limit."""
    with pytest.raises(kind, match=said):
        Poller(**{"fetch": answers(1), "interval": 30, **settings})


@pytest.mark.parametrize("loop", LOOPS)
def test_it_fetches_at_once_on_demand(loop: str) -> None:
    """During a wait, also that of a backoff; during a fetch, again after it."""
    polls: list[float] = []

    async def main(clock: FakeClock) -> Any:
        async def fetch() -> int:
            polls.append(clock.now())
            if len(polls) == 2:
                poller.poll_now()
            if len(polls) == 3:
                clock.call_later(0.01, poller.poll_now)
                raise OSError("down")
            return 1

        poller = Poller(fetch, interval=30)
        clock.call_later(10, poller.poll_now)
        await polled(poller, clock, 45)

    virtually(loop, main)
    assert [0, 10, 10, 10.01, 40.01] == polls


@pytest.mark.parametrize("loop", LOOPS)
def test_one_may_wait_for_the_first_value(loop: str) -> None:
    """No longer than one wants to."""

    async def main(clock: FakeClock) -> Any:
        poller = Poller(answers(OSError("down"), OSError("down"), "value"), interval=30)
        with pytest.raises(DeadlineExceeded):
            await poller.ready(5)
        async with Supervisor() as supervisor:
            supervisor.add("poll", poller.run)
            await poller.ready()
            await poller.ready(1)
            return poller.value, clock.now()

    assert ("value", pytest.approx(5.3)) == virtually(loop, main)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_cancellation_from_below_is_a_failed_fetch(loop: str) -> None:
    """What it awaited was cancelled; one of the poller itself ends it."""
    heard: list[Any] = []

    async def main(clock: FakeClock) -> Any:
        fetch = answers("value", asyncio.CancelledError(), "new")
        poller = Poller(fetch, interval=30, listeners=(heard.append,))
        await polled(poller, clock, 45)
        return poller.value, clock.sleeps

    assert ("new", [30, 0.1, 30]) == virtually(loop, main)
    assert "poller: attempt 1 failed with RuntimeError: what the fetch awaited was cancelled: RETRY" == str(heard[0])


def test_a_poller_that_is_cancelled_while_it_fetches_ends() -> None:
    """That is no failure."""

    async def main() -> None:
        async def fetch() -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(Poller(fetch, interval=30).run())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
