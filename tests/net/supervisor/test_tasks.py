"""Supervisor: tasks that are started again when they die."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from loops import LOOPS, run

from resilient import Retry, backoff, events, listen
from resilient.drivers.loops.current import current_backend
from resilient.net import Supervisor, TooManyRestarts
from resilient.testing import FakeClock

ONE = backoff.constant(1)

pytestmark = pytest.mark.parametrize("loop", LOOPS)


class PanicException(BaseException):
    """As PyO3 raises it."""


PanicException.__module__ = "pyo3_runtime"


def virtually(loop: str, main: Callable[[FakeClock], Awaitable[Any]], **settings: Any) -> Any:
    """What ``main(clock)`` gives under virtual time."""

    async def within() -> Any:
        with FakeClock(**settings) as clock:
            return await main(clock)

    return run(loop, within)


async def forever() -> None:
    """A loop that only a cancellation ends."""
    await current_backend().waiter().wait()


def dies(*ends: object) -> Callable[[], Awaitable[None]]:
    """A loop that ends so, one end after the other; then it goes on for ever."""
    left = list(ends)

    async def die() -> None:
        if not left:
            await forever()
        end = left.pop(0)
        if isinstance(end, BaseException):
            raise end

    return die


def in_order(ended: list[str], name: str, clock: FakeClock, takes: float = 0) -> Callable[[], Awaitable[None]]:
    """A loop that notes its end, and takes its time for it."""

    async def loop() -> None:
        try:
            await forever()
        finally:
            if takes:
                await shielded(clock, takes)
            ended.append(name)

    return loop


async def shielded(clock: FakeClock, seconds: float) -> None:
    """A clean-up that no cancellation ends."""
    import sys

    if "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_run():
        import trio

        with trio.CancelScope(shield=True):
            await clock.asleep(seconds)
        return
    until = clock.now() + seconds
    while clock.now() < until:
        try:
            await clock.asleep(until - clock.now())
        except asyncio.CancelledError:
            pass


def test_a_loop_that_dies_is_started_again(loop: str) -> None:
    """After the waits of its backoff; the errors are told as panics, counted by name."""
    heard: list[Any] = []

    async def main(clock: FakeClock) -> Any:
        async with Supervisor(listeners=(heard.append,)) as supervisor:
            supervisor.add("beat", dies(OSError("one"), PanicException("two"), None))
            await supervisor.wait()
        return clock.sleeps, supervisor.stats()

    sleeps, stats = virtually(loop, main)
    assert ([0.1, 0.2], (), {"beat": 2}, {"beat": 2}, ()) == (
        sleeps, stats.running, stats.restarts, stats.panics, stats.late,
    )  # fmt: skip
    assert [
        "beat: caught a panic (loop): OSError: one",
        "beat: waiting 0.1 s before attempt 2",
        "beat: caught a panic (loop): PanicException: two",
        "beat: waiting 0.2 s before attempt 3",
    ] == [str(event) for event in heard]


def test_listeners_of_the_process_hear_it_too(loop: str) -> None:
    """With the loop's name."""
    heard: list[Any] = []

    async def main(clock: FakeClock) -> None:
        with listen(heard.append):
            supervisor = Supervisor()
            supervisor.add("beat", dies(OSError("one"), None))
            await supervisor.run()

    virtually(loop, main)
    assert [("Panic", "beat"), ("Waiting", "beat")] == [(type(event).__name__, event.name) for event in heard]


def test_add_is_a_decorator(loop: str) -> None:
    """That gives the function back; with its settings."""
    supervisor = Supervisor()
    calls = []

    @supervisor.add("tick", backoff=ONE, intensity=(3, 60), permanent=True)
    async def tick() -> None:
        calls.append("tick")

    async def main(clock: FakeClock) -> None:
        await tick()
        with pytest.raises(TooManyRestarts) as raised:
            await supervisor.run()
        assert ("tick", 3, 60) == (raised.value.name, raised.value.restarts, raised.value.seconds)

    virtually(loop, main)
    assert 5 == len(calls)


def test_a_temporary_loop_stays_dead(loop: str) -> None:
    """Its error is told all the same."""

    async def main(clock: FakeClock) -> Any:
        supervisor = Supervisor()
        supervisor.add("once", dies(OSError("one")), temporary=True)
        await supervisor.run()
        return supervisor.stats()

    stats = virtually(loop, main)
    assert ({"once": 0}, {"once": 1}) == (stats.restarts, stats.panics)


def test_stable_uptime_resets_the_backoff(loop: str) -> None:
    """A mere start does not."""

    async def main(clock: FakeClock) -> list[float]:
        uptimes = [0.0, 0.0, 10.0, 0.0]

        async def connection() -> None:
            if not uptimes:
                return
            await clock.asleep(uptimes.pop(0))
            raise OSError("lost")

        supervisor = Supervisor()
        supervisor.add("connection", connection, stable_after=10)
        await supervisor.run()
        return clock.sleeps

    assert [0.1, 0.2, 0.1, 0.2] == virtually(loop, main)


def test_too_many_restarts_escalate(loop: str) -> None:
    """The others are stopped in reverse order of start; the error comes out of wait, with a note, and there alone."""
    heard: list[Any] = []
    ended: list[str] = []
    error = OSError("dead")

    async def main(clock: FakeClock) -> Any:
        supervisor = Supervisor(listeners=(heard.append,))
        for name in ("a", "b"):
            supervisor.add(name, in_order(ended, name, clock))
        supervisor.add("dying", dies(*[error] * 4), backoff=ONE, intensity=(3, 5))
        supervisor.add("c", in_order(ended, "c", clock))
        async with supervisor:
            with pytest.raises(OSError, match="dead") as raised:
                await supervisor.wait()
            assert ["c", "b", "a"] == ended
            with pytest.raises(RuntimeError, match="supervisor is stopping: no loop can be added, got 'late'"):
                supervisor.add("late", forever)
            with pytest.raises(OSError, match="dead"):
                await supervisor.wait()
        return raised.value.__notes__

    assert ["the loop 'dying' is given up: more than 3 restarts in 5 s"] == virtually(loop, main)
    gave_up = heard[-1]
    assert isinstance(gave_up, events.GaveUp)
    assert ("dying", 4, "intensity", error, 3.0) == (
        gave_up.name, gave_up.attempts, gave_up.stopped_by, gave_up.error, gave_up.elapsed,
    )  # fmt: skip


def test_an_escalation_comes_out_of_the_block(loop: str) -> None:
    """Where nobody waited; and every waiter hears of it."""

    async def main(clock: FakeClock) -> None:
        async with Supervisor() as supervisor:
            supervisor.add("dying", dies(PanicException("dead")), intensity=(0, 5))
            await clock.asleep(60)

    with pytest.raises(PanicException, match="dead"):
        virtually(loop, main)


def test_what_the_block_raises_goes_first(loop: str) -> None:
    """It is the nearer."""

    async def main(clock: FakeClock) -> None:
        async with Supervisor() as supervisor:
            supervisor.add("dying", dies(OSError("dead")), intensity=(0, 5))
            await clock.asleep(60)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        virtually(loop, main)


def test_the_block_stops_its_loops_in_reverse_order(loop: str) -> None:
    """Each has ended before the next is told."""
    ended: list[str] = []

    async def main(clock: FakeClock) -> Any:
        async with Supervisor() as supervisor:
            for name, takes in (("a", 1), ("b", 3), ("c", 2)):
                supervisor.add(name, in_order(ended, name, clock, takes))
            await clock.asleep(1)
            assert ("a", "b", "c") == supervisor.stats().running
        return clock.now(), supervisor.stats().running

    assert ((7.0, ()), ["c", "b", "a"]) == (virtually(loop, main), ended)


def test_stop_may_be_called_before_the_end_and_twice(loop: str) -> None:
    """By the block, or by one of the loops."""
    ended: list[str] = []

    async def main(clock: FakeClock) -> None:
        async with Supervisor() as supervisor:

            async def stopping() -> None:
                await clock.asleep(1)
                await supervisor.stop()
                ended.append("never")

            supervisor.add("a", in_order(ended, "a", clock))
            supervisor.add("stopping", stopping)
            supervisor.add("c", in_order(ended, "c", clock))
            await supervisor.wait()
            await supervisor.stop()

    virtually(loop, main)
    assert ["c", "a"] == ended


def test_one_that_is_late_does_not_keep_the_others(loop: str) -> None:
    """After its timeout the next is stopped; in the end it is waited for."""
    if loop == "uvloop":
        pytest.skip("it does not show its queue: virtual time passes there while others still run")
    heard: list[Any] = []
    ended: list[str] = []

    async def main(clock: FakeClock) -> Any:
        async with Supervisor(listeners=(heard.append,)) as supervisor:
            supervisor.add("quick", in_order(ended, "quick", clock))
            supervisor.add("slow", in_order(ended, "slow", clock, takes=12), stop_timeout=5)
            await clock.asleep(1)
        return clock.now(), supervisor.stats().late, supervisor.stats().running

    assert ((13.0, ("slow",), ()), ["quick", "slow"]) == (virtually(loop, main), ended)
    assert ["slow: asked to stop, still running after 5 s"] == [str(event) for event in heard]


def test_a_clean_up_that_blows_up_is_a_panic_and_no_restart(loop: str) -> None:
    """Counted as any other."""

    async def untidy() -> None:
        try:
            await forever()
        finally:
            raise OSError("untidy")

    async def stubborn() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            return

    async def main(clock: FakeClock) -> Any:
        async with Supervisor() as supervisor:
            supervisor.add("untidy", untidy, intensity=(0, 1))
            supervisor.add("stubborn", stubborn, permanent=True)
            await clock.asleep(1)
        return supervisor.stats()

    stats = virtually(loop, main)
    assert ({"untidy": 1}, {"untidy": 0, "stubborn": 0}) == (stats.panics, stats.restarts)


def test_loops_that_wait_to_be_restarted_are_stopped_at_once(loop: str) -> None:
    """They count as running until then."""

    async def main(clock: FakeClock) -> Any:
        async with Supervisor() as supervisor:
            supervisor.add("dead", dies(OSError("one")), backoff=backoff.constant(1000))
            await clock.asleep(1)
            running = supervisor.stats().running
        return running, clock.now()

    assert (("dead",), 1.0) == virtually(loop, main)


def test_a_loop_stopped_before_it_began(loop: str) -> None:
    """Is over like any other."""

    async def main(clock: FakeClock) -> Any:
        async with Supervisor() as supervisor:
            supervisor.add("beat", forever)
        return supervisor.stats().running

    assert () == virtually(loop, main)


def test_no_loop_is_no_wait(loop: str) -> None:
    """And one added after that is waited for."""

    async def main(clock: FakeClock) -> Any:
        async with Supervisor() as supervisor:
            await supervisor.wait()
            supervisor.add("pause", lambda: clock.asleep(5))
            await supervisor.wait()
            supervisor.add("pause", lambda: clock.asleep(5))
            await supervisor.wait()
        return clock.now()

    assert 10.0 == virtually(loop, main)


def test_it_may_be_used_again(loop: str) -> None:
    """Its loops start afresh; but not twice at once."""

    async def main(clock: FakeClock) -> Any:
        supervisor = Supervisor(name="host")
        seen = []

        @supervisor.add("dying", intensity=(2, 60))
        async def die() -> None:
            seen.append(clock.now())
            if len(seen) % 3:
                raise OSError("again")

        for _ in range(2):
            await supervisor.run()
        async with supervisor:
            with pytest.raises(RuntimeError, match="host runs already"):
                await supervisor.__aenter__()
            await supervisor.wait()
        return len(seen)

    assert 9 == virtually(loop, main)


def test_used_again_after_an_escalation(loop: str) -> None:
    """Nothing of it is left."""

    async def main(clock: FakeClock) -> Any:
        supervisor = Supervisor()
        supervisor.add("dying", dies(OSError("one"), OSError("two"), None), backoff=ONE, intensity=(0, 5))
        for _ in range(2):
            with pytest.raises(OSError):
                await supervisor.run()
        await supervisor.run()
        return supervisor.stats().panics

    assert {} == virtually(loop, main)


def test_outside_its_block_nothing_can_be_waited_for(loop: str) -> None:
    """It says so."""

    async def main(clock: FakeClock) -> None:
        for call in (Supervisor().wait, Supervisor().stop):
            with pytest.raises(RuntimeError, match="supervisor does not run: enter it first, by async with"):
                await call()

    virtually(loop, main)


def test_a_cancellation_from_outside_stops_everything_in_order(loop: str) -> None:
    """While it waits, and while it stops; then it goes on its way."""
    ended: list[str] = []

    async def main(clock: FakeClock) -> Any:
        with current_backend().cutoff(5, clock) as cutoff:
            supervisor = Supervisor()
            for name in ("a", "b", "c"):
                supervisor.add(name, in_order(ended, name, clock, takes=1))
            await supervisor.run()
        stopping = clock.now()
        with current_backend().cutoff(2, clock) as second:
            async with Supervisor() as supervisor:
                for name in ("d", "e"):
                    supervisor.add(name, in_order(ended, name, clock, takes=4))
                await clock.asleep(1)
        return cutoff.expired, stopping, second.expired, clock.now()

    expired, stopping, again, now = virtually(loop, main)
    assert (True, 8.0, 17.0, ["c", "b", "a", "e", "d"]) == (expired, stopping, now, ended)
    assert again is (loop != "trio")  # nothing behind the shelter needed to be cancelled there


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit])
@pytest.mark.filterwarnings("default::pytest.PytestUnraisableExceptionWarning")
def test_exits_pass_at_once(loop: str, leaving: type[BaseException]) -> None:
    """They end the program, and the loops on the way."""
    heard: list[Any] = []
    ended: list[str] = []

    async def main(clock: FakeClock) -> None:
        async with Supervisor(listeners=(heard.append,)) as supervisor:
            supervisor.add("a", in_order(ended, "a", clock))
            supervisor.add("leaving", dies(leaving("now")))
            await forever()

    with pytest.raises(leaving):
        virtually(loop, main)
    assert (["a"], []) == (ended, heard)


def test_an_error_leaves_no_cycle(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is restarted from, nor one that escalates."""
    monkeypatch.setattr(logging.getLogger("resilient"), "disabled", True)  # pytest keeps what is logged
    kept: list[weakref.ref[BaseException]] = []

    class Lost(Exception):
        pass

    async def die() -> None:
        error = Lost()
        kept.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    async def main(clock: FakeClock) -> None:
        supervisor = Supervisor()
        supervisor.add("dying", die, intensity=(1, 60))
        try:
            await supervisor.run()
        except Lost:
            pass

    gc.collect()
    gc.disable()
    try:
        virtually(loop, main)
        assert [None, None] == [ref() for ref in kept]
    finally:
        gc.enable()


def test_a_hundred_loops_that_die_together(loop: str) -> None:
    """Each by its own backoff; none left at the end."""

    async def main(clock: FakeClock) -> Any:
        async with Supervisor() as supervisor:
            for n in range(100):
                supervisor.add(f"{n}", dies(OSError(), OSError(), None))
            await supervisor.wait()
        return sum(supervisor.stats().restarts.values()), clock.now()

    restarts, now = virtually(loop, main)
    assert (200, pytest.approx(0.3)) == (restarts, now)


@pytest.mark.parametrize(
    ("name", "fn", "settings", "kind", "said"),
    [
        ("", forever, {}, TypeError, "name must be a text that is not empty, got ''"),
        ("x", forever, {"intensity": 3}, TypeError, "intensity must be"),
        ("x", print, {"permanent": 3}, TypeError, "permanent must be"),
        ("x", 3, {}, TypeError, "fn must be a function, got 3"),
        ("x", test_no_loop_is_no_wait, {}, TypeError, "fn must be an async function, got <function"),
        ("taken", forever, {}, ValueError, "name must be that of no other loop of this supervisor, got 'taken'"),
    ],
)
def test_settings_are_checked(loop: str, name: Any, fn: Any, settings: Any, kind: Any, said: str) -> None:
    """By name, value and limit."""
    supervisor = Supervisor()
    supervisor.add("taken", forever)
    with pytest.raises(kind, match=said):
        supervisor.add(name, fn, **settings)


def test_loops_may_be_guarded_functions(loop: str) -> None:
    """A supervised loop under a policy is still async."""
    seen = []

    @Retry(on=OSError, attempts=2, backoff=ONE)
    async def guarded() -> None:
        seen.append(1)
        raise OSError("x")

    async def main(clock: FakeClock) -> None:
        supervisor = Supervisor()
        supervisor.add("guarded", guarded, intensity=(1, 60))
        with pytest.raises(OSError):
            await supervisor.run()

    virtually(loop, main)
    assert 4 == len(seen)


def test_the_name_and_listeners_are_checked(loop: str) -> None:
    """Where it is made."""
    with pytest.raises(TypeError, match="name must be a str, got 3"):
        Supervisor(name=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="listeners must be functions of an event, got 3"):
        Supervisor(listeners=3)  # type: ignore[arg-type]


def test_what_a_loop_awaits_may_be_cancelled(loop: str) -> None:
    """asyncio: that is a death like any other, unlike a cancellation of the loop's own task."""
    if loop == "trio":
        pytest.skip("a cancellation never leaves its scope there")

    async def awaiting() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    tasks = SimpleNamespace(own=None)

    async def cancelled() -> None:
        tasks.own = asyncio.current_task()
        await forever()

    async def main(clock: FakeClock) -> Any:
        async with Supervisor() as supervisor:
            supervisor.add("awaiting", awaiting, intensity=(2, 60))
            supervisor.add("cancelled", cancelled)
            await asyncio.sleep(0)
            tasks.own.cancel()
            with pytest.raises(TooManyRestarts, match="the loop 'awaiting' is given up: more than 2 restarts in 60 s"):
                await supervisor.wait()
        return supervisor.stats().panics

    assert {"awaiting": 3} == virtually(loop, main)


def test_a_coroutine_that_is_closed_cancels_its_loops(loop: str) -> None:
    """Nothing can be awaited any more; asyncio's tasks end by themselves."""
    if loop == "trio":
        pytest.skip("a nursery cannot be left so")
    ended: list[str] = []

    async def holding(clock: FakeClock, stop: float) -> None:
        async with Supervisor() as supervisor:
            supervisor.add("a", in_order(ended, "a", clock, stop))
            await forever()

    async def main(clock: FakeClock) -> None:
        for stop in (0, 5):
            coroutine = holding(clock, stop)
            coroutine.send(None)
            await asyncio.sleep(0)
            if stop:
                coroutine.throw(asyncio.CancelledError)
                await clock.asleep(1)
            coroutine.close()
            await clock.asleep(10)

    virtually(loop, main)
    assert ["a", "a"] == ended
