"""The backend for trio: sleeping, waiting, cutting off, tasks."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from types import TracebackType
from weakref import WeakKeyDictionary

import trio
from trio.testing import wait_all_tasks_blocked

from resilient.drivers.clock import Clock, Timer, is_virtual
from resilient.drivers.loops.base import Cutoff, TaskGroup, Waiter, Work

__all__ = ["TRIO", "TrioBackend", "TrioCutoff", "TrioTaskGroup", "TrioWaiter"]

# One watcher a run, however many clocks and tasks wait: two would jump twice.
_watched: WeakKeyDictionary[trio.lowlevel.TrioToken, list[Callable[[], bool]]] = WeakKeyDictionary()


class TrioBackend:
    """trio as the backend of a driver."""

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def waiter(self) -> Waiter:
        return TrioWaiter()

    def cutoff(self, seconds: float, clock: Clock) -> Cutoff:
        return TrioCutoff(seconds, clock)

    def task_group(self) -> TaskGroup:
        return TrioTaskGroup()

    def when_idle(self, look: Callable[[], bool]) -> None:
        token = trio.lowlevel.current_trio_token()
        looks = _watched.get(token)
        if looks is None:
            _watched[token] = [look]
            trio.lowlevel.spawn_system_task(_look_when_blocked, token)
        elif look not in looks:
            looks.append(look)


async def _look_when_blocked(token: trio.lowlevel.TrioToken) -> None:
    looks = _watched[token]
    try:
        while looks:
            await wait_all_tasks_blocked()
            looks[:] = [look for look in looks if look()]
    finally:
        del _watched[token]


class TrioWaiter:
    """An event that any thread may set."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._woken = trio.Event()

    def wake(self) -> bool:
        try:
            self._token.run_sync_soon(self._woken.set)
        except trio.RunFinishedError:
            return False
        return True

    async def wait(self) -> None:
        await self._woken.wait()


class TrioCutoff:
    """A cancel scope whose time passes by any clock."""

    __slots__ = ("_clock", "_scope", "_seconds", "_timer")

    def __init__(self, seconds: float, clock: Clock) -> None:
        self._seconds = seconds
        self._clock = clock
        self._timer: Timer | None = None
        self._scope: trio.CancelScope = trio.CancelScope()

    @property
    def expired(self) -> bool:
        return self._scope.cancelled_caught

    def __enter__(self) -> TrioCutoff:
        if is_virtual(self._clock):
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


class TrioTaskGroup:
    """A nursery whose tasks are each in a shielded scope, so that they can be stopped in order."""

    __slots__ = ("_context", "_manager", "_nursery", "_scopes")

    cancelled: type[BaseException] = trio.Cancelled

    def __init__(self) -> None:
        self._context = copy_context()
        self._manager = trio.open_nursery()
        self._scopes: set[trio.CancelScope] = set()

    async def open(self) -> None:
        self._nursery = await self._manager.__aenter__()

    async def close(self) -> None:
        left: BaseException | None = None
        try:
            await self._manager.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            left = group.exceptions[0]  # an exit: trio knows no other way in here
        try:
            if left is not None:
                raise left
        finally:
            del left  # a frame that holds the error it raised is a cycle

    def abandon(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def start(self, work: Work, name: str, ended: Callable[[], object]) -> trio.CancelScope:
        scope = trio.CancelScope(shield=True)
        self._scopes.add(scope)

        async def run() -> None:
            try:
                with scope:
                    await work()
            finally:
                self._scopes.discard(scope)
                ended()

        self._context.copy().run(partial(self._nursery.start_soon, run, name=name))
        return scope

    def shelter(self) -> trio.CancelScope:
        return trio.CancelScope(shield=True)

    def cancellations(self) -> int:
        return 0

    def left(self, before: int) -> bool:
        return True  # a cancellation never leaves the scope that it is of


TRIO = TrioBackend()
