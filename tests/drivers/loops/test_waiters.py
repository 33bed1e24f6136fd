"""Waiting until woken, or until time is up."""

import threading
from typing import Any

import pytest
from loops import LOOPS, run

from resilient.drivers.clock import SYSTEM
from resilient.drivers.loops.current import current_backend, task_group
from resilient.drivers.loops.waiters import Latch, ThreadWaiter, await_woken
from resilient.testing import FakeClock


def waiting(waiter: ThreadWaiter, seconds: float | None) -> threading.Thread:
    """A thread that ends when its wait does."""
    thread = threading.Thread(target=waiter.wait, args=(SYSTEM, seconds), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_thread_is_woken_by_another(seconds: float | None) -> None:
    """It waits until then, and no longer."""
    waiter = ThreadWaiter()
    thread = waiting(waiter, seconds)
    assert thread.is_alive()
    assert waiter.wake()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_thread_that_was_woken_before_does_not_wait(seconds: float | None) -> None:
    """Once or often."""
    waiter = ThreadWaiter()
    assert [True, True] == [waiter.wake(), waiter.wake()]
    thread = waiting(waiter, seconds)
    thread.join(20)
    assert not thread.is_alive()


def test_a_thread_waits_no_longer_than_its_time() -> None:
    """By the real clock, with nobody to wake it."""
    thread = waiting(ThreadWaiter(), 0.001)
    thread.join(20)
    assert not thread.is_alive()


def test_virtual_time_that_others_let_pass_ends_a_wait() -> None:
    """The thread itself lets none pass; without any to wait for it does not."""
    clock, waiter = FakeClock(), ThreadWaiter()
    thread = threading.Thread(target=waiter.wait_outside, args=(clock, 5.0), daemon=True)
    thread.start()
    while clock._next_due() is None:
        assert thread.is_alive()
    clock.advance(5)
    thread.join(20)
    assert (False, 5.0) == (thread.is_alive(), clock.now())
    ThreadWaiter().wait_outside(clock, 0.0)


def test_real_time_ends_a_wait_for_others() -> None:
    """Without a limit, only being woken does."""
    ThreadWaiter().wait_outside(SYSTEM, 0.001)
    waiter = ThreadWaiter()
    waiter.wake()
    waiter.wait_outside(FakeClock(), None)


@pytest.mark.parametrize(("due", "seconds", "now"), [(2, 5.0, 2.0), (5, 2.0, 2.0), (2, None, 2.0), (5, 5.0, 5.0)])
def test_virtual_time_passes_until_a_timer_wakes(due: float, seconds: float | None, now: float) -> None:
    """Timer by timer, and no further than it must; nothing of the wait is left behind."""
    clock, waiter = FakeClock(), ThreadWaiter()
    timer = clock.call_later(due, waiter.wake)
    waiter.wait(clock, seconds)
    assert now == clock.now()
    timer.cancel()
    assert not clock.jump()


def test_who_is_awake_lets_no_time_pass() -> None:
    """A wake-up before the wait counts."""
    clock, waiter = FakeClock(), ThreadWaiter()
    waiter.wake()
    waiter.wait(clock, 5.0)
    assert 0.0 == clock.now()


def test_another_thread_may_wake_what_virtual_time_does_not() -> None:
    """Without a limit, and with no timer left, there is nothing else to wait for."""
    clock, waiter = FakeClock(), ThreadWaiter()
    clock.call_later(3, lambda: threading.Thread(target=waiter.wake).start())
    waiter.wait(clock, None)
    assert 3.0 == clock.now()


def test_an_exit_during_a_virtual_wait_leaves_no_timer() -> None:
    """Ctrl-C passes."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    clock = FakeClock()
    clock.call_later(1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        ThreadWaiter().wait(clock, 5.0)
    assert not clock.jump()
    assert 1.0 == clock.now()


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(("due", "seconds", "now"), [(2, 5.0, 2.0), (5, 2.0, 2.0), (2, None, 2.0)])
def test_a_task_is_woken_or_its_time_is_up(loop: str, due: float, seconds: float | None, now: float) -> None:
    """On every loop, without an error in either case."""
    clock = FakeClock()

    async def main() -> Any:
        waiter = current_backend().waiter()
        timer = clock.call_later(due, waiter.wake)
        current_backend().when_idle(clock.jump)
        await await_woken(waiter, clock, seconds)
        ended = clock.now()
        timer.cancel()
        return ended

    assert now == run(loop, main)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_latch_is_waited_for_by_many(loop: str) -> None:
    """Before and after it happened; it happens once."""
    woken: list[int] = []

    async def main() -> None:
        latch, ended = Latch(), Latch()
        group = task_group()
        await group.open()

        async def waiting() -> None:
            await latch.wait()
            woken.append(1)

        for n in range(3):
            group.start(waiting, f"{n}", lambda: len(woken) == 3 and ended.happen())
        await current_backend().sleep(0)
        latch.happen()
        latch.happen()
        await ended.wait()
        await latch.wait()
        await group.close()

    run(loop, main)
    assert 3 == len(woken)
