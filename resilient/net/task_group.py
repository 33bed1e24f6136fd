"""The tasks of a supervisor on one kind of event loop: what asyncio and trio do differently, in one place each."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Protocol

from resilient.drivers.loops.current import Waiter, current_backend

__all__ = ["Crew", "Latch", "Member", "Work", "crew"]


class Work(Protocol):
    """What a task does."""

    def __call__(self) -> Coroutine[Any, Any, None]: ...


class Member(Protocol):
    """One task."""

    def cancel(self) -> object: ...


class Crew(Protocol):
    """Tasks that no cancellation from outside reaches: they are cancelled one by one."""

    @property
    def cancelled(self) -> type[BaseException]:
        """What a cancelled task raises."""
        ...

    async def open(self) -> None: ...

    async def close(self) -> None:
        """Waits for the last of them; raises the exit that one of them raised, if any did."""
        ...

    def abandon(self) -> None:
        """Cancels all at once, where nothing can be awaited any more."""
        ...

    def start(self, work: Work, name: str, ended: Callable[[], object]) -> Member:
        """Runs something in a task, in a copy of the context of ``open``; ``ended`` is called behind it."""
        ...

    def shelter(self) -> AbstractContextManager[object]:
        """A block that no cancellation from outside reaches again."""
        ...

    def cancellations(self) -> int:
        """How often the running task has been cancelled from outside so far, as far as that is counted."""
        ...

    def left(self, before: int) -> bool:
        """Whether it was cancelled from outside since: what it awaited may have been cancelled alone."""
        ...


def crew() -> Crew:
    """A crew on the event loop that runs."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        from resilient.net.trio_task_group import TrioCrew

        return TrioCrew()
    from resilient.net.asyncio_task_group import AsyncioCrew

    return AsyncioCrew()


class Latch:
    """Something that happens once; any number of tasks wait for it."""

    __slots__ = ("_waiters", "happened")

    def __init__(self) -> None:
        self.happened = False
        self._waiters: list[Waiter] = []

    def happen(self) -> None:
        """It happens; again does nothing."""
        self.happened = True
        for waiter in self._waiters:
            waiter.wake()

    async def wait(self) -> None:
        """Suspends the task until it has happened."""
        if self.happened:
            return
        waiter = current_backend().waiter()
        self._waiters.append(waiter)
        try:
            await waiter.wait()
        finally:
            self._waiters.remove(waiter)


def running_loop() -> object:
    """What tells one event loop from another: the loop, or trio's token."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return trio.lowlevel.current_trio_token()
    import asyncio

    return asyncio.get_running_loop()
