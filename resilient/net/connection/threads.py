"""The connection manager for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from resilient.core.duration import Duration, optional_seconds
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.net.connection.base import Managed
from resilient.net.connection.jobs import Lease
from resilient.net.connection.operation import Trouble
from resilient.net.connection.reconcile import Steward
from resilient.net.connection.settings import ManagerPlan
from resilient.net.connection.thread_jobs import Threads, hold, plain

__all__ = ["ConnectionManager"]

C = TypeVar("C")
T = TypeVar("T")


class ConnectionManager(Managed[C]):
    """Keeps one connection alive for any number of threads: dials it, watches it, and makes a new one when it is lost.

    Entering it (``with``) begins to dial, and waits for nothing; leaving it closes it. Whoever needs the connection
    waits until there is one. A loss that many notice is recovered once. One daemon thread drives the link, and runs
    nothing of the user's: dials, heartbeats, recoveries, ends of connections and listeners have short-lived threads of
    their own. A thread cannot be stopped: what takes too long is left behind, and a connection that it still makes is
    closed. All functions block; none may be async.
    """

    def _staffed(self, plan: ManagerPlan) -> Steward[C]:
        self._hands: Threads[C] = Threads(plan)
        return self._hands.steward

    def call(self, fn: Callable[[C], T], *, idempotent: bool = False) -> T:
        """Calls a function of the connection, as often as it takes.

        It waits for a connection, for as long as the policies around it leave. By the verdict on what it raises it is
        tried again after a wait (WAIT), or with a new connection (ROTATE_PROXY, RELOGIN: it was refused), or only if
        it is idempotent (RECONNECT, RETRY: it may have been done). It is never interrupted: when its connection is
        lost, it ends when its client notices that this was closed.

        Args:
            fn: called with the connection.
            idempotent: whether it may be done twice.

        Raises:
            OutcomeUnknown: it was lost with its connection, and is not idempotent.
            DeadlineExceeded: no connection came in time.
            NotConnected: the link is FAILED, and no error says why; or the manager is closed, or never ran.
            Exception: its own error; or that with which the link FAILED.
        """
        steward = self._steward
        steward.check()
        lease, trouble = steward.enter(), None
        entered = lease is not None
        try:
            while True:
                if lease is None:
                    lease = self._granted(entered)
                    entered = True
                try:
                    value = plain(fn(lease.conn))
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
                    steward.clock.sleep(wait)
        finally:
            if entered:
                steward.leave()

    @contextmanager
    def use(self) -> Iterator[C]:
        """The connection, for a block. What the block raises is its own, and may tell that the connection is lost.

        Raises:
            DeadlineExceeded, NotConnected, Exception: there is no connection, as for ``call``.
        """
        steward = self._steward
        steward.check()
        lease = steward.enter()
        if lease is None:
            lease = self._granted(entered=False)
        try:
            yield lease.conn
        except Exception as error:
            steward.noticed(error, lease)
            raise
        else:
            steward.heard()
        finally:
            steward.leave()

    def drain(self, timeout: Duration | None = None) -> bool:
        """Takes no more operations, waits for those under way, and closes.

        Args:
            timeout: how long to wait for them, seconds, >= 0; None for no limit.

        Returns:
            whether all of them ended in time.
        """
        limit = optional_seconds("timeout", timeout)
        steward = self._steward
        steward.check()
        waiter = ThreadWaiter()
        if not steward.drain(waiter):
            try:
                hold(waiter, steward.clock, limit)
            finally:
                steward.forsake(waiter)
        drained = steward.drained
        self.close()
        return drained

    def close(self) -> None:
        """Closes the connection and the manager; in any state, any number of times, from any thread.

        Called from a function that the manager itself runs, it does not wait for the end.
        """
        if self._hands.started:
            self._steward.check()
        self._steward.close()
        if not self._steward.within:
            self._hands.join()

    def __enter__(self) -> Self:
        self._steward.start()
        try:
            self._hands.open()
        except BaseException:
            self._steward.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._steward.forked:  # else what is open belongs to the parent
            self.close()

    def _granted(self, entered: bool) -> Lease[C]:
        steward, clock, deadline = self._steward, CLOCK.get(), DEADLINE.get()
        since = 0.0 if deadline is None else clock.now()
        while True:
            waiter = ThreadWaiter()
            lease = steward.admit(entered, waiter)
            if lease is not None:
                return lease
            try:
                hold(waiter, clock, steward.patience(deadline, since))
            finally:
                steward.forsake(waiter)
            steward.patience(deadline, since)  # before the connection: what comes too late is not taken
