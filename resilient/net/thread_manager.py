"""The connection manager for threads."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Generic, TypeVar

from resilient.core.backoff import Backoff
from resilient.core.duration import Duration, optional_seconds
from resilient.core.link import State
from resilient.core.link_plan import BACKOFF, STABLE_AFTER
from resilient.drivers.clock import CLOCK
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.waiters import ThreadWaiter
from resilient.net.jobs import Lease
from resilient.net.manager_plan import CONNECT_TIMEOUT, MISSES, ManagerStats, manager_plan
from resilient.net.manager_threads import Threads, hold, plain
from resilient.net.steward import Steward
from resilient.net.trouble import Trouble
from resilient.observe.listeners import Listener
from resilient.policies.recovery import Recovery

__all__ = ["ConnectionManager"]

C = TypeVar("C")
T = TypeVar("T")
H = TypeVar("H", bound=Listener)


class ConnectionManager(Generic[C]):
    """Keeps one connection alive for any number of threads: dials it, watches it, and makes a new one when it is lost.

    Entering it (``with``) begins to dial, and waits for nothing; leaving it closes it. Whoever needs the connection
    waits until there is one. A loss that many notice is recovered once. One daemon thread drives the link, and runs
    nothing of the user's: dials, heartbeats, ends of connections and listeners have short-lived threads of their own.
    A thread cannot be stopped: what takes too long is left behind, and a connection that it still makes is closed.

    Args:
        connect: makes a connection; called with an endpoint if ``endpoints`` are given. ``current_deadline()`` tells
            it how long it may take.
        close: ends a connection; called once for each that was made, errors ignored.
        probe: asks a connection whether it lives: after connect, and at each heartbeat. If it raises, it does not.
        on: what trouble calls for: classes of errors, a predicate or a classifier. FAIL ends the link.
        backoff: waits between connections that fail.
        attempts: connections that may fail in a row, the lost one included; None for ever. Also the most times that
            an operation is tried.
        stable_after: uptime that resets the backoff, seconds, >= 0.
        throttle: least time between the starts of two dials, seconds, >= 0.
        connect_timeout: for connect and the first probe, seconds, > 0; None for no limit.
        heartbeat: interval of probes while no operation succeeds, seconds, > 0; None for none.
        misses: intervals of silence after which the connection counts as lost, >= 2.
        recovery: handlers for ROTATE_PROXY and RELOGIN, run before the next dial, once for all. (RECONNECT is connect.)
        endpoints: where to connect, in order of preference: those that failed come last.
        name: for events and errors.
        listeners: plain functions of an event.

    Raises:
        TypeError, ValueError: an argument is of the wrong type or out of range.
    """

    def __init__(
        self,
        connect: Callable[..., C],
        *,
        close: Callable[[C], object] | None = None,
        probe: Callable[[C], object] | None = None,
        on: object,
        backoff: Backoff = BACKOFF,
        attempts: int | None = None,
        stable_after: Duration = STABLE_AFTER,
        throttle: Duration = 0,
        connect_timeout: Duration | None = CONNECT_TIMEOUT,
        heartbeat: Duration | None = None,
        misses: int = MISSES,
        recovery: Recovery | None = None,
        endpoints: Iterable[Hashable] = (),
        name: str = "",
        listeners: Iterable[Listener] | Listener = (),
    ) -> None:
        plan = manager_plan(
            connect,
            close=close,
            probe=probe,
            on=on,
            backoff=backoff,
            attempts=attempts,
            stable_after=stable_after,
            throttle=throttle,
            connect_timeout=connect_timeout,
            heartbeat=heartbeat,
            misses=misses,
            recovery=recovery,
            endpoints=endpoints,
            name=name,
            listeners=listeners,
        )
        self._hands: Threads[C] = Threads()
        self._steward = self._hands.steward = Steward[C](plan, self._hands)

    @property
    def name(self) -> str:
        """As it was given."""
        return self._steward.plan.name

    @property
    def state(self) -> State:
        """What it is doing: IDLE before it is entered."""
        return self._steward.state

    def stats(self) -> ManagerStats:
        """The present numbers."""
        return self._steward.stats()

    def on_event(self, listener: H) -> H:
        """Tells a function of every event from now on; a decorator, too. What it raises is logged, nothing more.

        Raises:
            TypeError: it cannot be called, or is async: nobody would await it.
        """
        self._steward.hear(listener)
        return listener

    def call(self, fn: Callable[[C], T], *, idempotent: bool = False) -> T:
        """Calls a function of the connection, as often as it takes.

        It waits for a connection, for as long as the policies around it leave. By the verdict on what it raises it is
        tried again after a wait (WAIT), or with a new connection (ROTATE_PROXY, RELOGIN: it was refused), or only if
        it is idempotent (RECONNECT, RETRY: it may have been done).

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

    def lost(self, error: BaseException | None, conn: C) -> None:
        """Says that a connection has ended, for readers that notice. Of an old connection it changes nothing.

        Args:
            error: how it is known; None for an orderly end.
            conn: which one: the very object that connect gave.
        """
        self._steward.lost(error, conn)

    def resume(self) -> None:
        """Lets a FAILED link begin anew. In any other state it does nothing.

        Raises:
            ManagerClosed: the manager is closed, or drains.
        """
        self._steward.resume()

    def reconnect_now(self) -> None:
        """Asks for a new connection without any wait but the throttle.

        Raises:
            ManagerClosed: the manager is closed, or drains.
        """
        self._steward.reconnect()

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

    def __enter__(self) -> ConnectionManager[C]:
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
