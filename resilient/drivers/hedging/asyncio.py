"""The copies of a hedged call on asyncio, uvloop included."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from types import TracebackType

from resilient.drivers.clock import Clock, Timer
from resilient.drivers.hedging.base import Copy
from resilient.drivers.loops.asyncio import call_later
from resilient.drivers.retry.attempts import handed_on

__all__ = ["AsyncioHedgeTasks"]


class AsyncioHedgeTasks:
    """The tasks of a hedged call, cancelled and awaited in the end; the call is cut as ``asyncio.timeout`` does it."""

    __slots__ = ("_before", "_context", "_cut", "_loop", "_task", "_tasks", "_timer")

    cancelled = asyncio.CancelledError

    def __init__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a hedge needs a running asyncio task: call the guarded coroutine from one")
        self._task = task
        self._loop = task.get_loop()
        self._context = handed_on(copy_context())
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: Timer | asyncio.TimerHandle | None = None
        self._before = task.cancelling()
        self._cut = False

    async def __aenter__(self) -> AsyncioHedgeTasks:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if kind is GeneratorExit:  # the coroutine is being closed: nothing can be awaited
            for task in self._tasks:
                task.cancel()
        elif self._tasks:
            await self._dismiss(kind is None)

    async def _dismiss(self, told: bool) -> None:
        """Cancels and awaits all copies; a cancellation that comes meanwhile is handed on, and told in the end."""
        cancelled: asyncio.CancelledError | None = None
        try:
            while self._tasks:
                for task in self._tasks:
                    task.cancel()
                try:
                    await self._ended()
                except asyncio.CancelledError as error:
                    cancelled = error
            if cancelled is not None and told:
                raise cancelled
        finally:
            del cancelled  # a frame that holds the error it raised is a cycle

    async def _ended(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)
            self._tasks = {task for task in self._tasks if not task.done()}

    def first(self) -> AsyncioHedgeTasks:
        return self

    def __enter__(self) -> AsyncioHedgeTasks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        # A cancellation from outside that arrives together with the cut is not swallowed (bpo-46771).
        if self._cut and self._task.uncancel() <= self._before:
            return kind is not None and issubclass(kind, asyncio.CancelledError)
        return False

    def cut(self) -> None:
        self._cut = True
        self._task.cancel()

    def leaving(self) -> bool:
        """Whether the caller is being cancelled from outside."""
        return self._task.cancelling() > self._before + self._cut

    def start(self, copy: Copy, number: int) -> None:
        """Runs a copy in the background, in a copy of the caller's context."""
        self._tasks.add(self._context.run(self._loop.create_task, copy(number)))

    def alarm(self, seconds: float, clock: Clock, ring: Callable[[int], None], copies: int) -> None:
        """Calls ``ring(copies)`` after that time; earlier alarms do not ring any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = call_later(self._loop, seconds, clock, ring, copies)
