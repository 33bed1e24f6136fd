"""Waiting in a queue: until woken from any thread, or until time is up."""

from __future__ import annotations

from threading import TIMEOUT_MAX, Event
from typing import Protocol

from resilient.drivers.clock import SYSTEM, Clock, VirtualClock, is_virtual
from resilient.drivers.loops.base import Waiter
from resilient.drivers.loops.current import current_backend

__all__ = ["Latch", "ThreadWaiter", "Wakeable", "await_woken"]


class Wakeable(Protocol):
    """A thread or task that waits, as whoever wakes it sees it."""

    def wake(self) -> bool:
        """Wakes the one that waits, from any thread; again does nothing. False if its event loop is gone."""
        ...


class ThreadWaiter:
    """What a thread waits for: the blocking twin of a backend's waiter."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken = Event()

    def wake(self) -> bool:
        """Wakes the thread that waits, from any other; again does nothing."""
        self._woken.set()
        return True

    def wait(self, clock: Clock, seconds: float | None) -> None:
        """Blocks the thread until it is woken, or that much time has passed by the clock (None: no limit)."""
        if is_virtual(clock):
            self._let_pass(clock, seconds)
        else:
            self._woken.wait(None if seconds is None else min(seconds, TIMEOUT_MAX))

    def wait_outside(self, clock: Clock, seconds: float | None) -> None:
        """Blocks the thread until it is woken, or that much time has passed: of virtual time, what others let pass."""
        if seconds is None or not is_virtual(clock):
            self.wait(SYSTEM, seconds)
            return
        if seconds <= 0.0:
            return
        timer = clock.call_later(seconds, self.wake)
        try:
            self._woken.wait()
        finally:
            timer.cancel()

    def _let_pass(self, clock: VirtualClock, seconds: float | None) -> None:
        """Lets virtual time pass, timer by timer: any of them may wake this."""
        over = Event()
        timer = None if seconds is None else clock.call_later(seconds, over.set)
        try:
            more = True
            while more and not self._woken.is_set():
                more = clock.jump() and not over.is_set()
        finally:
            if timer is not None:
                timer.cancel()
        if seconds is None:
            self._woken.wait()  # nothing in virtual time will: another thread may


class Latch:
    """Something that happens once; any number of tasks wait for it."""

    __slots__ = ("_waiters", "happened")

    def __init__(self) -> None:
        self.happened = False
        self._waiters: list[Waiter] = []

    def happen(self) -> None:
        """Lets the thing happen, which wakes all who wait; again does nothing."""
        self.happened = True
        for waiter in self._waiters:
            waiter.wake()

    async def wait(self) -> None:
        """Suspends the task until the thing has happened."""
        if self.happened:
            return
        waiter = current_backend().waiter()
        self._waiters.append(waiter)
        try:
            await waiter.wait()
        finally:
            self._waiters.remove(waiter)


async def await_woken(waiter: Waiter, clock: Clock, seconds: float | None) -> None:
    """Suspends the task until the waiter is woken, or that much time has passed by the clock (None: no limit)."""
    if seconds is None:
        await waiter.wait()
        return
    with current_backend().cutoff(seconds, clock):
        await waiter.wait()
