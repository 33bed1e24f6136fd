"""The connection manager for tasks, on asyncio and trio alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from resilient.core.duration import Duration, optional_seconds
from resilient.core.link import State
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.base import Task, TaskGroup, Waiter
from resilient.drivers.loops.current import current_backend, current_loop, task_group
from resilient.drivers.loops.steps import Steps, play_async
from resilient.drivers.loops.waiters import Latch, await_woken
from resilient.errors import ManagerClosed
from resilient.net.connection.base import BaseConnectionManager
from resilient.net.connection.job import Job, is_within
from resilient.net.connection.jobs import BaseJobs
from resilient.net.connection.operation import Operation
from resilient.net.connection.reconcile import Reconciler
from resilient.net.connection.settings import ManagerSettings
from resilient.net.connection.state import ConnectionState
from resilient.policies.timeout import Timeout

__all__ = ["ConnectionManager"]

C = TypeVar("C")
T = TypeVar("T")


class ConnectionManager(BaseConnectionManager[C]):
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

    def _driven(self, state: ConnectionState[C]) -> Callable[[], object]:
        self._jobs = TaskJobs(state)
        return self._jobs.reconciler.stir

    @overload
    async def call(
        self, fn: Callable[[C], Awaitable[T]], *, idempotent: bool = ..., timeout: Duration | None = ...
    ) -> T: ...
    @overload
    async def call(self, fn: Callable[[C], T], *, idempotent: bool = ..., timeout: Duration | None = ...) -> T: ...
    async def call(
        self, fn: Callable[[C], object], *, idempotent: bool = False, timeout: Duration | None = None
    ) -> object:
        """Calls a function of the connection, as often as it takes.

        It waits for a connection, for as long as the policies around it leave. By the verdict on what it raises it is
        tried again after a wait (WAIT), or with a new connection (ROTATE_PROXY, RELOGIN: it was refused), or only if
        it is idempotent (RECONNECT, RETRY: it may have been done). It is never cancelled: when its connection is
        lost, it ends when its client notices that this was closed. One that is cancelled from outside, or cut off by
        a limit of time, leaves a connection that may still carry its answer: see ``on_cancel``.

        Args:
            fn: blocking or async.
            idempotent: whether it may be done twice.
            timeout: for all of it, seconds, > 0; None for what the policies around it leave.

        Raises:
            OutcomeUnknown: it was lost with its connection, and is not idempotent.
            DeadlineExceeded: no connection came in time.
            NotConnected: the link is FAILED, and no error says why; or the manager is closed, or never ran.
            Exception: its own error; or that with which the link FAILED.
        """
        if timeout is not None:
            return await Timeout(timeout).call(self.call, fn, idempotent=idempotent)
        self._check()
        lease = operation = None
        try:
            lease = self._waiters.enter()
            if lease is not None:
                value = fn(lease.conn)
                if isawaitable(value):
                    value = await value
                self._state.heard()
                return value
        except Exception as error:
            operation = Operation(self._state, self._waiters, fn, idempotent, lease, error)
        except BaseException:
            if lease is not None:
                self._state.cut_off(lease)
            raise
        finally:
            if lease is not None and operation is None:
                self._waiters.leave(lease)
        operation = operation or Operation(self._state, self._waiters, fn, idempotent)
        await play_async(operation.steps(current_backend().waiter), self._state.clock)
        return operation.result()

    @asynccontextmanager
    async def use(self) -> AsyncIterator[C]:
        """The connection, for a block. What the block raises is its own, and may tell that the connection is lost.

        Raises:
            DeadlineExceeded, NotConnected, Exception: there is no connection, as for ``call``.
        """
        self._check()
        lease = self._waiters.enter()
        if lease is None:
            lease = await play_async(self._waiters.granted(current_backend().waiter), self._state.clock)
        with self._using(lease) as conn:
            yield conn

    async def ready(self, timeout: Duration | None = None) -> None:
        """Waits until a connection is up.

        Args:
            timeout: how long, seconds, > 0; None for what the policies around it leave.

        Raises:
            DeadlineExceeded: none came in time; its cause is the last error.
            NotConnected, Exception: there will be none.
        """
        limit = optional_seconds("timeout", timeout)
        self._check()
        waits = self._waiters.granted(current_backend().waiter, limit=limit)
        self._waiters.leave(await play_async(waits, self._state.clock))

    async def __aiter__(self) -> AsyncIterator[C]:
        """Each new connection: the one that is up or comes next, after a loss the next; ends when it is closed."""
        self._check()
        generation = 0
        while True:
            try:
                waits = self._waiters.following(current_backend().waiter, generation)
                lease = await play_async(waits, self._state.clock)
            except ManagerClosed:
                return
            generation = lease.generation
            yield lease.conn

    async def drain(self, timeout: Duration | None = None) -> bool:
        """Takes no more operations, waits for those under way, and closes.

        Args:
            timeout: how long to wait for them, seconds, >= 0; None for no limit.

        Returns:
            whether all of them ended in time.
        """
        limit = optional_seconds("timeout", timeout)
        self._check()
        drained = await play_async(self._drained(current_backend().waiter(), limit), self._state.clock)
        await self.close()
        return drained

    async def close(self) -> None:
        """Closes the connection and the manager; in any state, any number of times, from any task of its event loop.

        Called from a function that the manager itself runs, it does not wait for the end.
        """
        if self._jobs.group is not None:
            self._check()
        self._state.close()
        if self._jobs.group is not None and not is_within(self._state):
            await self._jobs.ended.wait()

    async def __aenter__(self) -> Self:
        self._state.start()
        try:
            await self._jobs.open()
        except BaseException:
            self._state.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del error, traceback  # a frame that holds the error it raised is a cycle
        if self._state.origin.forked:  # what is open belongs to the parent
            return
        self._state.close()
        if kind is not GeneratorExit:  # else nothing can be awaited: the tasks end by themselves
            await self._jobs.close()

    def _check(self) -> None:
        self._state.check()
        if self._jobs.loop is not current_loop():
            raise RuntimeError(
                f"the manager of {self._state.name!r} was started in another event loop, to which its connections "
                "belong: make one for each loop"
            )


class TaskJobs(BaseJobs[C]):
    """The driver and the jobs of one manager, each in a task.

    Attributes:
        group: the tasks, from when the manager is entered on.
        loop: the event loop of them.
        ended: happens when the last of them has ended.
    """

    def __init__(self, state: ConnectionState[C]) -> None:
        super().__init__(state)
        self.group: TaskGroup | None = None
        self.loop: object = None
        self.ended = Latch()
        self.reconciler = Reconciler(state, self)
        self._running = 0

    async def open(self) -> None:
        """Starts the driver in a task."""
        self.loop = current_loop()
        group = task_group()
        await group.open()
        self.group, self.cancelled = group, group.cancelled
        self._start(self._drive, "driver")

    async def close(self) -> None:
        """Waits for the last task, whatever cancels this one meanwhile; that is told in the end."""
        group = self._opened()
        interrupt: BaseException | None = None
        try:
            while not self.ended.happened:
                try:
                    with group.shelter():
                        await self.ended.wait()
                except GeneratorExit:
                    raise
                except BaseException as error:
                    interrupt = error
            await group.close()
            if interrupt is not None:
                raise interrupt
        finally:
            del interrupt  # a frame that holds the error it raised is a cycle

    def start(self, what: str, steps: Steps[Waiter, None], job: Job) -> Task:
        return self._start(partial(play_async, steps, self._state.clock), what)

    def waiter(self) -> Waiter:
        return current_backend().waiter()

    def unwanted(self, conn: C) -> None:
        self._state.discard(conn)

    def tell(self) -> None:
        """Hands out the events that nobody was told yet."""
        self._state.events.tell_all()

    def _opened(self) -> TaskGroup:
        assert self.group is not None  # it was entered
        return self.group

    def _start(self, work: Callable[[], Any], what: str) -> Task:
        self._running += 1
        return self._opened().start(work, f"{self._state.name}: {what}", self._ended)

    def _ended(self) -> None:
        self._running -= 1
        if not self._running:
            self.ended.happen()
        elif self._state.state is State.CLOSED:  # the driver waits for the last of them
            self.reconciler.stir()

    async def _drive(self) -> None:
        DEADLINE.set(None)  # that of whoever entered the manager is not the connection's
        try:
            while True:
                waiter = self.waiter()
                pause = self.reconciler.turn(waiter.wake)
                if pause is not None:
                    await await_woken(waiter, self._state.clock, pause.seconds)
                elif self._running > 1:  # jobs that were cancelled: what they made is yet to be closed
                    await waiter.wait()
                else:
                    return
        finally:
            self._state.close("its driver ended")
