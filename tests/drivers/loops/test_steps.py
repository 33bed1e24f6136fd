"""Steps that threads and tasks play alike."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
from loops import LOOPS, run

from resilient.drivers.clock import SYSTEM
from resilient.drivers.loops.current import current_backend
from resilient.drivers.loops.steps import Call, Join, Sleep, play, play_async
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.testing import FakeClock

PLAYERS = ["thread", *LOOPS]


def played(player: str, steps: Callable[[Callable[[], Any]], Generator[Any, Any, Any]], clock: FakeClock) -> Any:
    """What steps come to that are made with what makes a waiter."""
    if player == "thread":
        return play(steps(ThreadWaiter), clock, lambda value: value)

    async def main() -> Any:
        return await play_async(steps(current_backend().waiter), clock)

    return run(player, main)


def fail() -> None:
    raise OSError("as told")


@pytest.mark.parametrize("player", PLAYERS)
def test_a_call_is_answered_by_its_value(player: str) -> None:
    """What the generator returns is what its player returns."""

    def steps(waiter: object) -> Generator[Any, Any, Any]:
        first = yield Call(lambda: 3)
        second = yield Call(lambda: first + 4)
        return first, second

    assert (3, 7) == played(player, steps, FakeClock())


@pytest.mark.parametrize("player", PLAYERS)
def test_the_error_of_a_call_is_raised_at_its_step(player: str) -> None:
    """The generator may go on after it, or let it pass."""

    def steps(waiter: object) -> Generator[Any, Any, Any]:
        try:
            yield Call(fail)
        except OSError as error:
            caught.append(str(error))
        assert None is (yield Sleep(1))
        yield Call(fail)

    clock, caught = FakeClock(), list[str]()
    with pytest.raises(OSError, match="as told"):
        played(player, steps, clock)
    assert ([1], ["as told"]) == (clock.sleeps, caught)


@pytest.mark.parametrize("player", PLAYERS)
def test_an_error_that_looks_like_the_end_is_an_error(player: str) -> None:
    """A StopIteration that a call raises can be caught like any other."""

    def steps(waiter: object) -> Generator[Any, Any, Any]:
        try:
            yield Call(lambda: next(iter(())))
        except StopIteration:
            return "caught"

    assert "caught" == played(player, steps, FakeClock())


@pytest.mark.parametrize("player", PLAYERS)
def test_a_sleep_takes_its_time_by_the_clock(player: str) -> None:
    """A clock that is virtual says how long."""

    def steps(waiter: object) -> Generator[Any, Any, Any]:
        yield Sleep(2)
        yield Sleep(3)
        return clock.now()

    clock = FakeClock()
    assert 5.0 == played(player, steps, clock)


@pytest.mark.parametrize("player", PLAYERS)
def test_a_join_ends_when_it_is_woken(player: str) -> None:
    """Another thread wakes it."""

    def steps(waiter: Callable[[], Any]) -> Generator[Any, Any, Any]:
        over = waiter()
        threading.Thread(target=over.wake).start()
        yield Join(over)
        return "woken"

    assert "woken" == played(player, steps, FakeClock())


@pytest.mark.parametrize("player", PLAYERS)
def test_a_join_ends_when_its_time_is_up(player: str) -> None:
    """A thread waits in real time, a task by the clock."""

    def steps(waiter: Callable[[], Any]) -> Generator[Any, Any, Any]:
        yield Join(waiter(), 0.001)
        return "over"

    assert "over" == played(player, steps, FakeClock())


@pytest.mark.parametrize("player", PLAYERS)
def test_a_join_may_be_measured_by_a_clock_of_its_own(player: str) -> None:
    """A virtual one's time is let pass by others."""

    def steps(waiter: Callable[[], Any]) -> Generator[Any, Any, Any]:
        threading.Timer(0.01, lambda: own.advance(60)).start()
        yield Join(waiter(), 60, own)
        return own.now()

    clock, own = FakeClock(), FakeClock()
    assert 60.0 == played(player, steps, clock)


def test_a_thread_that_sleeps_may_be_woken() -> None:
    """By its waiter; what it was to sleep is recorded all the same."""

    def steps(waiter: Callable[[], Any]) -> Generator[Any, Any, Any]:
        over = waiter()
        over.wake()
        yield Sleep(1000, over)
        return clock.now()

    clock = FakeClock()
    assert (0.0, [1000]) == (played("thread", steps, clock), clock.sleeps)
    assert None is play(iter_of(Sleep(1000, woken())), SYSTEM, lambda value: value)


def woken() -> ThreadWaiter:
    """A waiter that nobody has to wait for."""
    waiter = ThreadWaiter()
    waiter.wake()
    return waiter


def iter_of(step: Any) -> Generator[Any, Any, None]:
    """The one step."""
    yield step


@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_of_a_task_is_cut_off_at_its_limit(loop: str) -> None:
    """And the steps go on."""

    def steps(waiter: object) -> Generator[Any, Any, Any]:
        cut = yield Call(lambda: clock.asleep(1000), 5)
        return cut, (yield Call(lambda: 3, 5)), clock.now()

    clock = FakeClock()
    assert (None, 3, 5.0) == played(loop, steps, clock)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_awaits_what_a_call_returns(loop: str) -> None:
    """If that can be awaited."""

    async def answer() -> int:
        await current_backend().sleep(0)
        return 7

    def steps(waiter: object) -> Generator[Any, Any, Any]:
        return (yield Call(answer))

    assert 7 == played(loop, steps, FakeClock())


def test_a_thread_asks_whether_a_result_is_plain() -> None:
    """What is refused is raised at the step of the call."""

    def plain(value: object) -> object:
        raise TypeError(f"{value} must be awaited")

    def steps() -> Generator[Any, Any, Any]:
        try:
            yield Call(lambda: "this")
        except TypeError as error:
            return str(error)

    assert "this must be awaited" == play(steps(), FakeClock(), plain)


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("player", ["thread", "asyncio"])
def test_an_exit_passes_through_the_steps(player: str, leaving: type[BaseException]) -> None:
    """What they hold is given back before it goes on."""
    given_back: list[type[BaseException]] = []

    def leave() -> None:
        raise leaving

    def steps(waiter: object) -> Generator[Any, Any, Any]:
        try:
            yield Call(leave)
        except BaseException as error:
            given_back.append(type(error))
            raise

    with pytest.raises(leaving):
        if player == "thread":
            played(player, steps, FakeClock())
        else:
            play_async(steps(None), FakeClock()).send(None)
    assert [leaving] == given_back


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_cancelled_task_cancels_its_step(loop: str) -> None:
    """The generator sees the cancellation where it waits."""
    seen: list[str] = []

    def steps(waiter: Callable[[], Any]) -> Generator[Any, Any, Any]:
        try:
            yield Join(waiter())
        finally:
            seen.append("left")

    async def main() -> None:
        with current_backend().cutoff(5, clock) as cutoff:
            await play_async(steps(current_backend().waiter), clock)
        assert cutoff.expired

    clock = FakeClock()
    run(loop, main)
    assert ["left"] == seen


def test_a_player_that_is_closed_closes_its_steps() -> None:
    """A coroutine that is never finished leaves nothing held."""
    seen: list[str] = []

    def steps() -> Generator[Any, Any, Any]:
        try:
            yield Call(lambda: asyncio.sleep(9))
        finally:
            seen.append("left")

    async def main() -> None:
        playing = play_async(steps(), FakeClock())
        playing.send(None)
        playing.close()

    asyncio.run(main())
    assert ["left"] == seen


@pytest.mark.parametrize("player", ["thread", "asyncio"])
def test_errors_leave_no_garbage(player: str) -> None:
    """Neither one that the steps catch nor one that ends them."""
    errors: list[weakref.ref[BaseException]] = []

    class Noted(OSError):
        pass

    def note() -> None:
        error = Noted()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    def steps(waiter: object) -> Generator[Any, Any, Any]:
        try:
            yield Call(note)
        except Noted:
            pass
        yield Call(note)

    def failing() -> None:
        try:
            if player == "thread":
                played(player, steps, FakeClock())
            else:
                play_async(steps(None), FakeClock()).send(None)
        except Noted:
            pass

    gc.collect()
    gc.disable()
    try:
        failing()
        assert [None, None] == [error() for error in errors]
    finally:
        gc.enable()
