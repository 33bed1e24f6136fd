"""The tasks of a supervisor on trio."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial

import trio

from resilient.net.task_group import Work

__all__ = ["TrioCrew"]


class TrioCrew:
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
