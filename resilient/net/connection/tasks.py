"""The connection manager for tasks, on asyncio and trio alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from resilient.core.duration import Duration, optional_seconds
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.current import current_backend, pause
from resilient.drivers.loops.waiters import await_woken
from resilient.net.connection.base import Managed
from resilient.net.connection.jobs import Lease
from resilient.net.connection.operation import Trouble
from resilient.net.connection.reconcile import Steward
from resilient.net.connection.settings import ManagerPlan, ManagerSettings
from resilient.net.connection.task_jobs import Tasks, running_loop

__all__ = ["ConnectionManager"]

C = TypeVar("C")
T = TypeVar("T")


class ConnectionManager(Managed[C]):
    """Keeps one connection alive for any number of tasks: dials it, watches it, and makes a new one when it is lost.

    Entering it (``async with``) begins to dial, and waits for nothing; leaving it closes it. Whoever needs the
    connection waits until there is one. A loss that many notice is recovered once. It drives the link by one task, in
    the ``async with`` block's own nursery on trio; dials, heartbeats, recoveries and ends of connections run in tasks
    of their own, and are cancelled when they take too long. All functions but listeners may be blocking or async.
    """

    if TYPE_CHECKING:  # as for threads, but connect may be async

        @overload
        def __init__(self, connect: Callable[..., Awaitable[C]], **settings: Unpack[ManagerSettings[C]]) -> None: ...
        @overload
        def __init__(self, connect: Callable[..., C], **settings: Unpack[ManagerSettings[C]]) -> None: ...
        def __init__(self, connect: Callable[..., object], **settings: Any) -> None: ...

    def _staffed(self, plan: ManagerPlan) -> Steward[C]:
        self._hands: Tasks[C] = Tasks(plan)
        return self._hands.steward

    @overload
    async def call(self, fn: Callable[[C], Awaitable[T]], *, idempotent: bool = ...) -> T: ...
    @overload
    async def call(self, fn: Callable[[C], T], *, idempotent: bool = ...) -> T: ...
    async def call(self, fn: Callable[[C], object], *, idempotent: bool = False) -> object:
        """Calls a function of the connection, as often as it takes.

        It waits for a connection, for as long as the policies around it leave. By the verdict on what it raises it is
        tried again after a wait (WAIT), or with a new connection (ROTATE_PROXY, RELOGIN: it was refused), or only if
        it is idempotent (RECONNECT, RETRY: it may have been done). It is never cancelled: when its connection is
        lost, it ends when its client notices that this was closed.

        Args:
            fn: blocking or async.
            idempotent: whether it may be done twice.

        Raises:
            OutcomeUnknown: it was lost with its connection, and is not idempotent.
            DeadlineExceeded: no connection came in time.
            NotConnected: the link is FAILED, and no error says why; or the manager is closed, or never ran.
            Exception: its own error; or that with which the link FAILED.
        """
        self._check()
        steward = self._steward
        lease, trouble = steward.enter(), None
        entered = lease is not None
        try:
            while True:
                if lease is None:
                    lease = await self._granted(entered)
                    entered = True
                try:
                    value = fn(lease.conn)
                    if isawaitable(value):
                        value = await value
                except Exception as error:
                    if trouble is None:
                        trouble = Trouble(steward, idempotent)
                    wait = trouble.failed(error, lease)
                    if wait is None:
                        raise
                else:
                    steward.heard()
                    return value
                lease = None
                if wait:
                    await pause(steward.clock, wait)
        finally:
            if entered:
                steward.leave()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[C]:
        """The connection, for a block. What the block raises is its own, and may tell that the connection is lost.

        Raises:
            DeadlineExceeded, NotConnected, Exception: there is no connection, as for ``call``.
        """
        self._check()
        steward = self._steward
        lease = steward.enter()
        if lease is None:
            lease = await self._granted(entered=False)
        try:
            yield lease.conn
        except Exception as error:
            steward.noticed(error, lease)
            raise
        else:
            steward.heard()
        finally:
            steward.leave()

    async def drain(self, timeout: Duration | None = None) -> bool:
        """Takes no more operations, waits for those under way, and closes.

        Args:
            timeout: how long to wait for them, seconds, >= 0; None for no limit.

        Returns:
            whether all of them ended in time.
        """
        limit = optional_seconds("timeout", timeout)
        self._check()
        steward = self._steward
        waiter = current_backend().waiter()
        if not steward.drain(waiter):
            try:
                await await_woken(waiter, steward.clock, limit)
            finally:
                steward.forsake(waiter)
        drained = steward.drained
        await self.close()
        return drained

    async def close(self) -> None:
        """Closes the connection and the manager; in any state, any number of times, from any task of its event loop.

        Called from a function that the manager itself runs, it does not wait for the end.
        """
        if self._hands.crew is not None:
            self._check()
        self._steward.close()
        if self._hands.crew is not None and not self._steward.within:
            await self._hands.over.wait()

    async def __aenter__(self) -> Self:
        self._steward.start()
        try:
            await self._hands.open()
        except BaseException:
            self._steward.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del error, traceback  # a frame that holds the error it raised is a cycle
        if self._steward.forked:  # what is open belongs to the parent
            return
        self._steward.close()
        if kind is not GeneratorExit:  # else nothing can be awaited: the tasks end by themselves
            await self._hands.close()

    def _check(self) -> None:
        self._steward.check()
        if self._hands.loop is not running_loop():
            raise RuntimeError(
                f"the manager of {self._steward.called!r} was started in another event loop, to which its connections "
                "belong: make one for each loop"
            )

    async def _granted(self, entered: bool) -> Lease[C]:
        steward, deadline = self._steward, DEADLINE.get()
        since = 0.0 if deadline is None else CLOCK.get().now()
        while True:
            waiter = current_backend().waiter()
            lease = steward.admit(entered, waiter)
            if lease is not None:
                return lease
            try:
                await await_woken(waiter, CLOCK.get(), steward.patience(deadline, since))
            finally:
                steward.forsake(waiter)
            steward.patience(deadline, since)  # before the connection: what comes too late is not taken
