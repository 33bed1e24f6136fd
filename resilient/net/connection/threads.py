"""The connection manager for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import partial
from inspect import iscoroutine
from threading import Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from resilient.core.duration import Duration, optional_seconds
from resilient.drivers.loops.base import Task
from resilient.drivers.loops.steps import Steps, play
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.errors import ManagerClosed
from resilient.net.connection.base import BaseConnectionManager
from resilient.net.connection.job import Job, began, is_within
from resilient.net.connection.jobs import BaseJobs
from resilient.net.connection.operation import Operation
from resilient.net.connection.reconcile import Reconciler
from resilient.net.connection.settings import CLOSE_TIMEOUT
from resilient.net.connection.state import ConnectionState
from resilient.policies.timeout import Timeout

__all__ = ["MOST_HANGING", "ConnectionManager"]

C = TypeVar("C")
T = TypeVar("T")

# Dials that took too long cannot be stopped: from so many on that still hang, the next ones fail instead. So do
# recoveries.
MOST_HANGING = 8
LIMITED = ("dial", "recovery")
# Jobs that closing the manager waits for.
ENDING = ("close", "listeners")


class ConnectionManager(BaseConnectionManager[C]):
    """Keeps one connection alive for any number of threads: dials it, watches it, and makes a new one when it is lost.

    Entering it (``with``) begins to dial, and waits for nothing; leaving it closes it. Whoever needs the connection
    waits until there is one. A loss that many notice is recovered once. One daemon thread drives the link, and runs
    nothing of the user's: dials, heartbeats, recoveries, ends of connections and listeners have short-lived threads of
    their own. A thread cannot be stopped: what takes too long is left behind, and a connection that it still makes is
    closed. All functions block; none may be async.
    """

    def _driven(self, state: ConnectionState[C]) -> Callable[[], object]:
        self._jobs = ThreadJobs(state)
        return self._jobs.reconciler.stir

    def call(self, fn: Callable[[C], T], *, idempotent: bool = False, timeout: Duration | None = None) -> T:
        """Calls a function of the connection, as often as it takes.

        It waits for a connection, for as long as the policies around it leave. By the verdict on what it raises it is
        tried again after a wait (WAIT), or with a new connection (ROTATE_PROXY, RELOGIN: it was refused), or only if
        it is idempotent (RECONNECT, RETRY: it may have been done). It is never interrupted: when its connection is
        lost, it ends when its client notices that this was closed.

        Args:
            fn: called with the connection.
            idempotent: whether it may be done twice.
            timeout: for all of it, seconds, > 0, as ``current_deadline()`` tells the function; None for what the
                policies around it leave.

        Raises:
            OutcomeUnknown: it was lost with its connection, and is not idempotent.
            DeadlineExceeded: no connection came in time.
            NotConnected: the link is FAILED, and no error says why; or the manager is closed, or never ran.
            Exception: its own error; or that with which the link FAILED.
        """
        if timeout is not None:
            return Timeout(timeout).call(self.call, fn, idempotent=idempotent)
        self._state.check()
        lease = operation = None
        try:
            lease = self._waiters.enter()
            if lease is not None:
                value = plain(fn(lease.conn))
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
        play(operation.steps(ThreadWaiter), self._state.clock, plain)
        return operation.result()

    @contextmanager
    def use(self) -> Iterator[C]:
        """The connection, for a block. What the block raises is its own, and may tell that the connection is lost.

        Raises:
            DeadlineExceeded, NotConnected, Exception: there is no connection, as for ``call``.
        """
        self._state.check()
        lease = self._waiters.enter()
        if lease is None:
            lease = play(self._waiters.granted(ThreadWaiter), self._state.clock, plain)
        with self._using(lease) as conn:
            yield conn

    def ready(self, timeout: Duration | None = None) -> None:
        """Waits until a connection is up.

        Args:
            timeout: how long, seconds, > 0; None for what the policies around it leave.

        Raises:
            DeadlineExceeded: none came in time; its cause is the last error.
            NotConnected, Exception: there will be none.
        """
        limit = optional_seconds("timeout", timeout)
        self._state.check()
        waits = self._waiters.granted(ThreadWaiter, limit=limit)
        self._waiters.leave(play(waits, self._state.clock, plain))

    def __iter__(self) -> Iterator[C]:
        """Each new connection: the one that is up or comes next, after a loss the next; ends when it is closed."""
        self._state.check()
        generation = 0
        while True:
            try:
                lease = play(self._waiters.following(ThreadWaiter, generation), self._state.clock, plain)
            except ManagerClosed:
                return
            generation = lease.generation
            yield lease.conn

    def drain(self, timeout: Duration | None = None) -> bool:
        """Takes no more operations, waits for those under way, and closes.

        Args:
            timeout: how long to wait for them, seconds, >= 0; None for no limit.

        Returns:
            whether all of them ended in time.
        """
        limit = optional_seconds("timeout", timeout)
        self._state.check()
        drained = play(self._drained(ThreadWaiter(), limit), self._state.clock, plain)
        self.close()
        return drained

    def close(self) -> None:
        """Closes the connection and the manager; in any state, any number of times, from any thread.

        Called from a function that the manager itself runs, it does not wait for the end.
        """
        if self._jobs.started:
            self._state.check()
        self._state.close()
        if not is_within(self._state):
            self._jobs.join()

    def __enter__(self) -> Self:
        self._state.start()
        try:
            self._jobs.open()
        except BaseException:
            self._state.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._state.origin.forked:  # else what is open belongs to the parent
            self.close()


class LeftBehind:
    """A thread, as whoever would like to stop it sees it."""

    def cancel(self) -> None:
        """Lets it go on: no thread can be stopped."""


LEFT_BEHIND = LeftBehind()


class ThreadJobs(BaseJobs[C]):
    """The driver and the jobs of one manager, each in a daemon thread."""

    def __init__(self, state: ConnectionState[C]) -> None:
        super().__init__(state)
        self.reconciler = Reconciler(state, self)
        self._lock = Lock()
        self._driver: Thread | None = None
        self._ending: set[Thread] = set()
        self._telling = False
        self._under_way: dict[str, int] = dict.fromkeys(LIMITED, 0)  # threads, those left behind too

    @property
    def started(self) -> bool:
        """Whether there is a driver, or was."""
        return self._driver is not None

    def open(self) -> None:
        """Starts the driver in a thread."""
        self._context = copy_context()
        driver = self._thread(self._drive, "driver")
        driver.start()
        self._driver = driver

    def join(self) -> None:
        """Waits for the driver, and for what ends connections and tells listeners, as long as it may take."""
        # By the real clock: real threads take real time.
        until = monotonic() + CLOSE_TIMEOUT
        if self._driver is not None:
            self._driver.join()
        with self._lock:
            ending = list(self._ending)
        for thread in ending:
            thread.join(max(0.0, until - monotonic()))

    def start(self, what: str, steps: Steps[ThreadWaiter, None], job: Job) -> Task:
        work = partial(play, steps, self._state.clock, plain)
        if what not in LIMITED:
            self._start(work, what)
            return LEFT_BEHIND
        try:
            self._start(self._limited(what, job, work), what)
        except BaseException:
            with self._lock:
                self._under_way[what] -= 1
            raise
        return LEFT_BEHIND

    def waiter(self) -> ThreadWaiter:
        return ThreadWaiter()

    def unwanted(self, conn: C) -> None:
        """Ends a connection in this thread: it may have been left behind long ago."""
        if self._state.plan.close is not None:
            play(self._discard(Job(0), conn), self._state.clock, plain)

    def tell(self) -> None:
        """Hands out the events that nobody was told yet, in a thread of their own, one at a time."""
        with self._lock:
            telling, self._telling = self._telling, True
        if not telling:
            try:
                self._start(self._tell, "listeners")
            except BaseException:
                self._telling = False
                raise

    def _thread(self, work: Callable[[], None], what: str) -> Thread:
        run = self._context.copy().run
        return Thread(target=run, args=(work,), name=f"{self._state.name}: {what}", daemon=True)

    def _start(self, work: Callable[[], None], what: str) -> None:
        if what not in ENDING:
            self._thread(work, what).start()
            return

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._ending.discard(thread)

        thread = self._thread(run, what)
        with self._lock:
            self._ending.add(thread)
        try:
            thread.start()
        except BaseException:
            with self._lock:
                self._ending.discard(thread)
            raise

    def _limited(self, what: str, job: Job, work: Callable[[], None]) -> Callable[[], None]:
        """The work of a job of which not too many may hang."""
        with self._lock:
            hanging = self._under_way[what] >= MOST_HANGING
            self._under_way[what] += 1

        def run() -> None:
            try:
                if hanging:
                    self._refuse(job, what)
                else:
                    work()
            finally:
                with self._lock:
                    self._under_way[what] -= 1

        return run

    def _refuse(self, job: Job, what: str) -> None:
        hang = f"{MOST_HANGING} earlier calls for a {what} still hang: the function must heed current_deadline()"
        self._state.overran(job, RuntimeError(hang))

    def _drive(self) -> None:
        clock = self._state.clock
        try:
            while True:
                waiter = ThreadWaiter()
                pause = self.reconciler.turn(waiter.wake)
                if pause is None:
                    return
                if pause.passes:
                    waiter.wait(clock, pause.seconds)
                else:
                    waiter.wait_outside(clock, pause.seconds)
        finally:
            self._state.close("its driver ended")

    def _tell(self) -> None:
        job, events = Job(0), self._state.events
        began(job, self._state)
        try:
            while True:
                events.tell_all()
                with self._lock:
                    if not events.untold:
                        self._telling = False
                        return
        finally:
            job.over = True


def plain(value: T) -> T:
    """Gives a result back, unless somebody would have to await it.

    Raises:
        TypeError: it is a coroutine.
    """
    if iscoroutine(value):
        value.close()
        raise TypeError("a coroutine cannot be awaited by threads: use resilient.net.ConnectionManager for async code")
    return value
