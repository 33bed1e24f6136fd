"""The event loops: what asyncio and trio do differently, and nothing else.

Neither is imported before a coroutine that runs under it gets into trouble.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakKeyDictionary

from resilient.drivers.clock import LONGEST_SLEEP, Clock, Timer, VirtualClock

if TYPE_CHECKING:
    import asyncio

    import trio

__all__ = ["Backend", "Cutoff", "Waiter", "current_backend", "pause"]


class Waiter(Protocol):
    """Something a task waits for; any thread may wake it, more than once."""

    def wake(self) -> None: ...

    async def wait(self) -> None: ...


class Cutoff(Protocol):
    """A block that is cancelled when its time is up; ``expired`` says that this is why it ended."""

    @property
    def expired(self) -> bool: ...

    def __enter__(self) -> Cutoff: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class Backend(Protocol):
    """One kind of event loop."""

    async def sleep(self, seconds: float) -> None:
        """Sleeps, and lets others run even for 0 seconds."""
        ...

    def waiter(self) -> Waiter: ...

    def cutoff(self, seconds: float, clock: Clock) -> Cutoff: ...

    def when_idle(self, look: Callable[[], bool]) -> None:
        """Calls ``look`` whenever no task can run, until it says False."""
        ...


def current_backend() -> Backend:
    """The backend of the event loop that runs in this thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return TRIO
    return ASYNCIO


async def pause(clock: Clock, seconds: float) -> None:
    """Sleeps by a clock; under a virtual one, until nothing else can run."""
    backend = current_backend()
    if not isinstance(clock, VirtualClock):
        await backend.sleep(min(seconds, LONGEST_SLEEP))
        return
    clock.record(seconds)
    waiter = backend.waiter()
    timer = clock.call_later(seconds, waiter.wake)
    backend.when_idle(clock.jump)
    try:
        await waiter.wait()
    finally:
        timer.cancel()


class AsyncioBackend:
    """asyncio, uvloop included."""

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    def waiter(self) -> Waiter:
        return AsyncioWaiter()

    def cutoff(self, seconds: float, clock: Clock) -> Cutoff:
        return AsyncioCutoff(seconds, clock)

    def when_idle(self, look: Callable[[], bool]) -> None:
        import asyncio

        _watch(asyncio.get_running_loop(), look)


class AsyncioWaiter:
    """A future that any thread may finish."""

    def __init__(self) -> None:
        import asyncio

        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    def wake(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish)

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

    __slots__ = ("_cancelled_before", "_clock", "_fired", "_seconds", "_soon", "_task", "_timer", "expired")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._fired = False
        self._soon: asyncio.Handle | None = None
        self.expired = False

    def __enter__(self) -> AsyncioCutoff:
        import asyncio

        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a timeout needs a running asyncio task: call the guarded coroutine from one")
        self._task = task
        self._cancelled_before = task.cancelling()
        self._timer = self._schedule()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool:
        import asyncio

        self._timer.cancel()
        if self._soon is not None:
            self._soon.cancel()
        if self._fired and self._task.uncancel() <= self._cancelled_before:
            self.expired = kind is not None and issubclass(kind, asyncio.CancelledError)
        return self.expired

    def _schedule(self) -> Timer | asyncio.TimerHandle:
        import asyncio

        loop = asyncio.get_running_loop()
        if not isinstance(self._clock, VirtualClock):
            return loop.call_later(self._seconds, self._fire)

        def fire_soon() -> None:
            # Virtual time may be advanced by the very task that is to be cancelled: it must leave the block first,
            # or the cancellation would strike behind it.
            self._soon = loop.call_soon_threadsafe(self._fire)

        timer = self._clock.call_later(self._seconds, fire_soon)
        ASYNCIO.when_idle(self._clock.jump)
        return timer

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()


# How often in a row a loop must find nothing ready before it counts as idle: data that is on its way through
# the selector, or handed over from a thread, gets a few turns to arrive.
QUIET_TURNS = 5
# One watcher a loop, however many clocks and tasks wait: two would keep each other busy, or jump twice.
_watched: WeakKeyDictionary[Any, list[Callable[[], bool]]] = WeakKeyDictionary()


def _watch(loop: asyncio.AbstractEventLoop, look: Callable[[], bool]) -> None:
    looks = _watched.get(loop)
    if looks is not None:
        if look not in looks:
            looks.append(look)
        return
    _watched[loop] = looks = [look]
    ready: Any = getattr(loop, "_ready", None)  # uvloop does not show its queue: there, turns alone must do

    def turn(quiet: int) -> None:
        quiet = 0 if ready else quiet + 1
        if quiet > QUIET_TURNS:
            quiet, looks[:] = 0, [look for look in looks if look()]
            if not looks:
                del _watched[loop]
                return
        loop.call_soon(turn, quiet)

    loop.call_soon(turn, 0)


class TrioBackend:
    """trio."""

    async def sleep(self, seconds: float) -> None:
        import trio

        await trio.sleep(seconds)

    def waiter(self) -> Waiter:
        return TrioWaiter()

    def cutoff(self, seconds: float, clock: Clock) -> Cutoff:
        return TrioCutoff(seconds, clock)

    def when_idle(self, look: Callable[[], bool]) -> None:
        import trio

        token = trio.lowlevel.current_trio_token()
        looks = _watched.get(token)
        if looks is None:
            _watched[token] = [look]
            trio.lowlevel.spawn_system_task(_look_when_blocked, token)
        elif look not in looks:
            looks.append(look)


async def _look_when_blocked(token: trio.lowlevel.TrioToken) -> None:
    import trio.testing

    looks = _watched[token]
    try:
        while looks:
            await trio.testing.wait_all_tasks_blocked()
            looks[:] = [look for look in looks if look()]
    finally:
        del _watched[token]


class TrioWaiter:
    """An event that any thread may set."""

    def __init__(self) -> None:
        import trio

        self._token = trio.lowlevel.current_trio_token()
        self._woken = trio.Event()

    def wake(self) -> None:
        import trio

        try:
            self._token.run_sync_soon(self._woken.set)
        except trio.RunFinishedError:
            return  # nobody is left to wake

    async def wait(self) -> None:
        await self._woken.wait()


class TrioCutoff:
    """A cancel scope, by any clock."""

    __slots__ = ("_clock", "_scope", "_seconds", "_timer")

    def __init__(self, seconds: float, clock: Clock) -> None:
        import trio

        self._seconds = seconds
        self._clock = clock
        self._timer: Timer | None = None
        self._scope: trio.CancelScope = trio.CancelScope()

    @property
    def expired(self) -> bool:
        return self._scope.cancelled_caught

    def __enter__(self) -> TrioCutoff:
        import trio

        if isinstance(self._clock, VirtualClock):
            self._timer = self._clock.call_later(self._seconds, self._scope.cancel)
            TRIO.when_idle(self._clock.jump)
        else:
            self._scope.deadline = trio.current_time() + self._seconds
        self._scope.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None:
        if self._timer is not None:
            self._timer.cancel()
        return self._scope.__exit__(kind, error, traceback)


ASYNCIO = AsyncioBackend()
TRIO = TrioBackend()
