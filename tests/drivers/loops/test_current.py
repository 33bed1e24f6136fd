"""What asyncio and trio do differently."""

import asyncio
import sys
import threading
from functools import partial

import pytest
from loops import LOOPS, run

from resilient.drivers.clock import SYSTEM
from resilient.drivers.loops import current as backends
from resilient.drivers.loops.asyncio import AsyncioBackend, AsyncioCutoff
from resilient.drivers.loops.current import (
    current_backend,
    current_loop,
    current_task,
    loop_runs,
    pause,
    running,
    task_group,
)  # fmt: skip
from resilient.testing import FakeClock


@pytest.mark.parametrize("loop", LOOPS)
def test_the_backend_is_that_of_the_running_loop(loop: str) -> None:
    """Told apart by what runs, not by what is installed."""

    async def main() -> object:
        return current_backend()

    assert (loop == "trio") is (not isinstance(run(loop, main), AsyncioBackend))


@pytest.mark.parametrize("loop", LOOPS)
def test_a_waiter_is_woken_from_any_thread_more_than_once(loop: str) -> None:
    """Waking twice is nothing; waking after the loop is gone neither."""

    async def main() -> object:
        waiter = current_backend().waiter()
        thread = threading.Thread(target=lambda: (waiter.wake(), waiter.wake()))
        thread.start()
        await waiter.wait()
        thread.join()
        return waiter

    assert run(loop, main).wake() is False


@pytest.mark.parametrize("loop", LOOPS)
def test_real_pauses_end(loop: str) -> None:
    """A short real sleep, and one of no length."""

    async def main() -> str:
        await pause(SYSTEM, 0.001)
        await pause(SYSTEM, 0)
        return "over"

    assert "over" == run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_virtual_pauses_pass_in_order(loop: str) -> None:
    """Of several sleepers the nearest wakes first, at its own instant, whatever clock it sleeps by."""
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, clock: FakeClock, seconds: float) -> None:
        await pause(clock, seconds)
        woken.append((name, clock.now()))

    async def main() -> None:
        if loop == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for arguments in sleepers:
                    nursery.start_soon(sleeper, *arguments)
        else:
            await asyncio.gather(*(sleeper(*arguments) for arguments in sleepers))

    one, other = FakeClock(), FakeClock(start=100)
    sleepers = [("late", one, 9), ("early", one, 1), ("middle", one, 5), ("other", other, 7)]
    run(loop, main)
    assert [("early", 1.0), ("middle", 5.0), ("late", 9.0)] == [entry for entry in woken if entry[0] != "other"]
    assert ("other", 107.0) in woken


@pytest.mark.parametrize("loop", LOOPS)
def test_a_pause_that_is_cancelled_leaves_no_timer(loop: str) -> None:
    """The clock forgets it."""
    clock = FakeClock()

    async def main() -> None:
        if loop == "trio":
            import trio

            with trio.move_on_after(0):
                await pause(clock, 50)
        else:
            task = asyncio.create_task(pause(clock, 50))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(loop, main)
    assert not clock.jump()
    assert 0.0 == clock.now()


def test_busy_tasks_keep_virtual_time_still() -> None:
    """Time moves only when nothing else can run."""
    clock = FakeClock()
    seen: list[float] = []

    async def busy() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
            seen.append(clock.now())

    async def main() -> None:
        await asyncio.gather(pause(clock, 5), busy())

    asyncio.run(main())
    assert [0.0] * 100 == seen


@pytest.mark.parametrize("clocked", ["really", "virtually"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_cutoff_ends_its_block(loop: str, clocked: str) -> None:
    """By real and by virtual time; a block that ends in time did not expire."""

    async def main() -> tuple[bool, bool]:
        backend, clock = current_backend(), SYSTEM if clocked == "really" else FakeClock()
        with backend.cutoff(0.01, clock) as short:
            await backend.waiter().wait()
        with backend.cutoff(60, clock) as long:
            await backend.sleep(0)
        return short.expired, long.expired

    assert (True, False) == run(loop, main)


def test_a_cutoff_needs_a_task() -> None:
    """Outside a task the error says what is missing."""
    caught: list[BaseException] = []

    async def main() -> None:
        def outside() -> None:
            try:
                with AsyncioCutoff(1, SYSTEM):
                    raise AssertionError
            except RuntimeError as error:
                caught.append(error)

        asyncio.get_running_loop().call_soon(outside)
        await asyncio.sleep(0.001)

    asyncio.run(main())
    assert "a timeout needs a running asyncio task" in str(caught[0])


def test_a_swallowed_cutoff_is_no_timeout() -> None:
    """A block that ends by itself although it was struck did not expire."""

    async def main() -> tuple[bool, int]:
        with AsyncioCutoff(0.001, SYSTEM) as cutoff:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)
        return cutoff.expired, task.cancelling()

    assert (False, 0) == asyncio.run(main())


def test_time_advanced_inside_the_block_does_not_strike_behind_it() -> None:
    """A block that itself lets virtual time pass beyond its limit leaves no cancellation behind."""

    async def main() -> bool:
        with AsyncioCutoff(5, clock) as cutoff:
            clock.advance(6)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return cutoff.expired

    clock = FakeClock()
    assert asyncio.run(main()) is False


def test_an_outer_cancellation_and_the_limit_together() -> None:
    """Both at once: the outer one is not swallowed."""

    async def main() -> None:
        async def bounded() -> None:
            with AsyncioCutoff(5, clock):
                clock.advance(5)
                task.cancel()
                await asyncio.sleep(60)

        task = asyncio.create_task(bounded())
        with pytest.raises(asyncio.CancelledError):
            await task

    clock = FakeClock()
    asyncio.run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_backend_is_loaded_where_it_is_first_asked_for(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And kept: it is asked for on every timeout."""
    monkeypatch.setattr(backends, "_backends", {})

    async def main() -> bool:
        return current_backend() is current_backend()

    assert run(loop, main)
    assert ["trio" if loop == "trio" else "asyncio"] == list(backends._backends)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_abandoned_group_is_cancelled(loop: str) -> None:
    """All of it at once."""
    ended: list[int] = []

    async def main() -> None:
        group = task_group()
        await group.open()
        for n in range(3):
            group.start(current_backend().waiter().wait, f"{n}", lambda: ended.append(1))
        await current_backend().sleep(0)
        group.abandon()
        await group.close()

    run(loop, main)
    assert [1, 1, 1] == ended


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancellation_from_outside_is_told_from_one_within(loop: str) -> None:
    """asyncio counts them; on trio each stays in its scope."""
    seen: list[bool] = []

    async def main() -> None:
        group = task_group()
        await group.open()

        async def look() -> None:
            before = group.cancellations()
            seen.append(group.left(before))
            try:
                await current_backend().waiter().wait()
            finally:
                seen.append(group.left(before))

        task = group.start(look, "look", lambda: None)
        await current_backend().sleep(0.001)
        task.cancel()
        await group.close()

    run(loop, main)
    assert [loop == "trio", True] == seen


@pytest.mark.parametrize("loop", LOOPS)
def test_a_group_is_closed_when_its_tasks_have_ended(loop: str) -> None:
    """By themselves, each in a context of its own."""
    ended: list[int] = []

    async def main() -> None:
        group = task_group()
        await group.open()
        for n in range(3):
            group.start(partial(pause, SYSTEM, 0.001), f"{n}", lambda: ended.append(1))
        await group.close()

    run(loop, main)
    assert [1, 1, 1] == ended


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_an_exit_of_a_task_comes_out(loop: str) -> None:
    """On asyncio out of the loop itself, on trio when the group is closed; it is no group of errors."""

    async def leave() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        group = task_group()
        await group.open()
        group.start(leave, "leaves", lambda: None)
        await group.close()

    with pytest.raises(KeyboardInterrupt):
        run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_shelter_is_reached_by_no_second_cancellation(loop: str) -> None:
    """What was cancelled once can still await its own end."""

    async def main() -> bool:
        group = task_group()
        with current_backend().cutoff(0.001, SYSTEM) as cutoff:
            try:
                await current_backend().waiter().wait()
            finally:
                with group.shelter():
                    await current_backend().sleep(0)
        return cutoff.expired

    assert run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_what_runs_is_known_where_it_runs(loop: str) -> None:
    """The kind of loop, the loop itself and the task: other ones in another run, the same ones again in this one."""

    async def main() -> tuple[object, object]:
        kind = "trio" if loop == "trio" else "asyncio"
        assert (kind, True) == (running(), loop_runs())
        assert (current_loop(), current_task()) == (current_loop(), current_task())
        assert current_task() is not None
        return current_loop(), current_task()

    one, other = run(loop, main), run(loop, main)
    assert one[0] is not other[0]
    assert one[1] is not other[1]


def test_outside_an_event_loop_none_runs() -> None:
    """Neither in this thread nor in one beside a loop."""
    assert (None, False, None) == (running(), loop_runs(), current_task())
    with pytest.raises(RuntimeError, match="no running event loop"):
        current_loop()

    async def main() -> object:
        return await asyncio.to_thread(lambda: (running(), loop_runs(), current_task()))

    assert (None, False, None) == asyncio.run(main())


def test_what_is_not_imported_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not imported to find that out."""
    monkeypatch.delitem(sys.modules, "asyncio")
    monkeypatch.delitem(sys.modules, "trio", raising=False)
    assert (None, False, None) == (running(), loop_runs(), current_task())
    with pytest.raises(RuntimeError, match="no running event loop"):
        current_loop()
    assert "asyncio" not in sys.modules


def test_in_a_callback_runs_no_task() -> None:
    """Though its loop does."""
    seen: list[object] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: seen.append((running(), current_task())))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert [("asyncio", None)] == seen
