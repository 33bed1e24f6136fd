"""The tasks of a supervisor on asyncio, uvloop included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context

from resilient.net.task_group import Work

__all__ = ["AsyncioCrew"]


class AsyncioCrew:
    """Tasks of their own: a cancellation reaches only the one at which it aims."""

    __slots__ = ("_context", "_loop", "_tasks")

    cancelled: type[BaseException] = asyncio.CancelledError

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Nothing to be done."""

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
