"""Waiting until woken, or until time is up."""

import threading
from typing import Any

import pytest
from loops import LOOPS, run

from resilient.drivers.backends import current_backend
from resilient.drivers.clock import SYSTEM
from resilient.drivers.waiters import ThreadWaiter, await_woken
from resilient.testing import FakeClock


@pytest.mark.parametrize("seconds", [None, 60.0])
def test_a_thread_is_woken_by_another(seconds: float | None) -> None:
    """Once or often, before or during its wait."""
    waiter = ThreadWaiter()
    waker = threading.Thread(target=waiter.wake)
    waker.start()
    waiter.wait(SYSTEM, seconds)
    waker.join()
    waiter.wake()
    waiter.wait(SYSTEM, seconds)


def test_a_thread_waits_no_longer_than_its_time() -> None:
    """By the real clock."""
    ThreadWaiter().wait(SYSTEM, 0.001)


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
