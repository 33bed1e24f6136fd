"""The copies of a hedged call on trio."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from math import inf
from types import TracebackType

import trio

from resilient.drivers.clock import Clock, is_virtual
from resilient.drivers.hedging.base import Copy
from resilient.drivers.loops.trio import TRIO
from resilient.drivers.retry.attempts import handed_on

__all__ = ["TrioHedgeTasks"]


class TrioHedgeTasks:
    """A nursery that never sees an error: copies report theirs, so that none comes back in a group."""

    __slots__ = ("_context", "_manager", "_nursery", "_scope")

    cancelled: type[BaseException] = trio.Cancelled

    def __init__(self) -> None:
        self._context = handed_on(copy_context())
        self._scope = trio.CancelScope()
        self._manager = trio.open_nursery()

    async def __aenter__(self) -> TrioHedgeTasks:
        self._nursery = await self._manager.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._nursery.cancel_scope.cancel()
        interrupt: BaseException | None = None
        try:
            await self._manager.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            interrupt = group.exceptions[0]  # Ctrl-C while it waited: trio knows no other way in here
        try:
            if interrupt is not None:
                raise interrupt
        finally:
            del interrupt, error, traceback  # a frame that holds the error it raised is a cycle

    def first(self) -> trio.CancelScope:
        return self._scope

    def cut(self) -> None:
        self._scope.cancel()

    def leaving(self) -> bool:
        """Whether the caller is being cancelled from outside."""
        return trio.current_effective_deadline() == -inf

    def start(self, copy: Copy, number: int) -> None:
        """Runs a copy in the background, in a copy of the caller's context."""
        self._context.run(self._nursery.start_soon, copy, number)

    def alarm(self, seconds: float, clock: Clock, ring: Callable[[int], None], copies: int) -> None:
        """Calls ``ring(copies)`` after that time."""
        self._nursery.start_soon(self._ring, seconds, clock, ring, copies)

    async def _ring(self, seconds: float, clock: Clock, ring: Callable[[int], None], copies: int) -> None:
        if not is_virtual(clock):
            await trio.sleep(seconds)
        else:
            waiter = TRIO.waiter()
            timer = clock.call_later(seconds, waiter.wake)
            TRIO.when_idle(clock.jump)
            try:
                await waiter.wait()
            finally:
                timer.cancel()
        ring(copies)
