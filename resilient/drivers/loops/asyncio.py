"""The backend for asyncio, uvloop included: sleeping, waiting, cutting off, tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

from resilient.drivers.clock import Clock, Timer, VirtualClock, is_virtual
from resilient.drivers.loops.base import Cutoff, TaskGroup, Waiter, Work

__all__ = ["ASYNCIO", "AsyncioBackend", "AsyncioCutoff", "AsyncioTaskGroup", "AsyncioWaiter", "call_later"]


class AsyncioBackend:
    """asyncio as the backend of a driver."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def waiter(self) -> Waiter:
        return AsyncioWaiter()

    def cutoff(self, seconds: float, clock: Clock) -> Cutoff:
        return AsyncioCutoff(seconds, clock)

    def task_group(self) -> TaskGroup:
        return AsyncioTaskGroup()

    def when_idle(self, look: Callable[[], bool]) -> None:
        _watch(asyncio.get_running_loop(), look)


class AsyncioWaiter:
    """A future that any thread may finish."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:  # the loop is closed
            return False
        return True

    async def wait(self) -> None:
        await self._woken

    def _finish(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


class AsyncioCutoff:
    """``asyncio.timeout`` as a plain ``with``, by any clock, and telling its own end from the call's.

    The accounting of cancellations is that of ``asyncio.Timeout`` (bpo-46771): a cancellation from outside
    that arrives together with the timer is never swallowed.
    """

    __slots__ = ("_cancelled_before", "_clock", "_fired", "_seconds", "_task", "_timer", "expired")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._fired = False
        self.expired = False

    def __enter__(self) -> AsyncioCutoff:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a timeout needs a running asyncio task: call the guarded coroutine from one")
        self._task = task
        self._cancelled_before = task.cancelling()
        self._timer = call_later(asyncio.get_running_loop(), self._seconds, self._clock, self._fire)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool:
        self._timer.cancel()
        task = self._task
        del self._task  # its error's traceback may lead back to this
        if self._fired and task.uncancel() <= self._cancelled_before:
            self.expired = kind is not None and issubclass(kind, asyncio.CancelledError)
        return self.expired

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()


def call_later(
    loop: asyncio.AbstractEventLoop, seconds: float, clock: Clock, callback: Callable[..., object], *args: object
) -> Timer | asyncio.TimerHandle:
    """Calls back in the loop that runs, with these arguments, when that much time has passed by the clock."""
    if is_virtual(clock):
        return _VirtualTimer(loop, seconds, clock, partial(callback, *args))
    return loop.call_later(seconds, callback, *args)


class _VirtualTimer:
    """A timer of a clock that any thread may let pass, whose callback runs in the loop."""

    __slots__ = ("_soon", "_timer")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, clock: VirtualClock, callback: Callable[[], object]
    ) -> None:
        self._soon: asyncio.Handle | None = None

        def fire_soon() -> None:
            # Virtual time may be advanced by the very task that is to be cancelled: it must leave the block first,
            # or the cancellation would strike behind it.
            self._soon = loop.call_soon_threadsafe(callback)

        self._timer = clock.call_later(seconds, fire_soon)
        ASYNCIO.when_idle(clock.jump)

    def cancel(self) -> None:
        self._timer.cancel()
        if self._soon is not None:
            self._soon.cancel()


class AsyncioTaskGroup:
    """A group of separate asyncio tasks: a cancellation reaches only the task at which it aims."""

    __slots__ = ("_context", "_loop", "_tasks")

    cancelled: type[BaseException] = asyncio.CancelledError

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Opens the group, which needs nothing on asyncio."""

    async def close(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    def abandon(self) -> None:
        for task in self._tasks:
            task.cancel()

    def start(self, work: Work, name: str, ended: Callable[[], object]) -> asyncio.Task[None]:
        task = self._loop.create_task(work(), name=name, context=self._context.copy())
        self._tasks.add(task)

        # A callback: a task that is cancelled before it began runs none of its own code.
        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                task.exception()  # an exit: the event loop has raised it already
            ended()

        task.add_done_callback(done)
        return task

    def shelter(self) -> AbstractContextManager[object]:
        return nullcontext()  # a cancellation comes once

    def cancellations(self) -> int:
        task = asyncio.current_task()
        return 0 if task is None else task.cancelling()

    def left(self, before: int) -> bool:
        return self.cancellations() > before


# How often in a row a loop must find nothing ready before it counts as idle: data that is on its way through
# the selector, or handed over from a thread, gets a few turns to arrive.
QUIET_TURNS = 5
BLIND_TURNS = 50  # of a loop that does not show what is ready
# One watcher a loop, however many clocks and tasks wait: two would keep each other busy, or jump twice.
_watched: WeakKeyDictionary[Any, list[Callable[[], bool]]] = WeakKeyDictionary()


def _watch(loop: asyncio.AbstractEventLoop, look: Callable[[], bool]) -> None:
    looks = _watched.get(loop)
    if looks is not None:
        if look not in looks:
            looks.append(look)
        return
    _watched[loop] = looks = [look]
    loop.call_soon(_turn, loop, looks, 0)


def _turn(loop: asyncio.AbstractEventLoop, looks: list[Callable[[], bool]], quiet: int) -> None:
    """Looks at a loop that has been quiet for so many turns, and comes again on the next turn."""
    ready: Any = getattr(loop, "_ready", None)  # uvloop does not show its queue: there, turns alone must do
    quiet = 0 if ready else quiet + 1
    if quiet > (BLIND_TURNS if ready is None else QUIET_TURNS):
        quiet, looks[:] = 0, [look for look in looks if look()]
        if not looks:
            del _watched[loop]
            return
    loop.call_soon(_turn, loop, looks, quiet)


ASYNCIO = AsyncioBackend()
