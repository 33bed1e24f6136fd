"""The driver and the jobs of a connection manager, as daemon threads."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from inspect import iscoroutine
from threading import Lock, Thread
from time import monotonic
from typing import Generic, TypeVar, cast

from resilient.core.flight import Part
from resilient.drivers.clock import SYSTEM, Clock, is_virtual
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.net.connection.jobs import Job, Member
from resilient.net.connection.reconcile import Steward
from resilient.net.connection.recovery import RecoveryPart
from resilient.net.connection.settings import CLOSE_TIMEOUT, ManagerPlan
from resilient.policies.recovery import Recovery

__all__ = ["MOST_HANGING", "Threads", "hold", "plain"]

C = TypeVar("C")
T = TypeVar("T")

# Dials that took too long cannot be stopped: from so many on that still hang, the next ones fail instead. So do
# recoveries.
MOST_HANGING = 8


class _Left:
    """A thread, as whoever would like to stop it sees it."""

    def cancel(self) -> None:
        """Leaves it behind."""


LEFT = _Left()


class Threads(Generic[C]):
    """The driver and the jobs of one manager, as daemon threads.

    Args:
        plan: the settings.
    """

    def __init__(self, plan: ManagerPlan) -> None:
        self.steward: Steward[C] = Steward(plan, self)
        self._lock = Lock()
        self._driver: Thread | None = None
        self._ending: set[Thread] = set()
        self._telling = False
        self._under_way = {"dial": 0, "recovery": 0}  # threads, those left behind too

    @property
    def started(self) -> bool:
        """Whether there is a driver, or was."""
        return self._driver is not None

    def open(self) -> None:
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

    def dial(self, job: Job) -> Member:
        self._start_limited(self._dial, job, "dial")
        return LEFT

    def recover(self, job: Job) -> Member:
        recovery = self.steward.plan.recovery
        assert recovery is not None  # the steward has looked
        part = RecoveryPart(recovery.flight, self.steward.clock, job.ends_at)
        self._start_limited(partial(self._recover, recovery, part), job, "recovery")
        return part

    def probe(self, job: Job, conn: C) -> Member:
        self._start(partial(self._probe, job, conn), "probe")
        return LEFT

    def discard(self, conn: C) -> None:
        if self.steward.plan.close is not None:
            self._start(partial(self._discard, conn), "close", ends=True)

    def tell(self) -> None:
        with self._lock:
            telling, self._telling = self._telling, True
        if not telling:
            self._start(self._tell, "listeners", ends=True)

    def _thread(self, work: Callable[[], None], what: str) -> Thread:
        run = self._context.copy().run
        return Thread(target=run, args=(work,), name=f"{self.steward.called}: {what}", daemon=True)

    def _start(self, work: Callable[[], None], what: str, *, ends: bool = False) -> None:
        if not ends:
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
        thread.start()

    def _start_limited(self, work: Callable[[Job], None], job: Job, what: str) -> None:
        with self._lock:
            hanging = self._under_way[what] >= MOST_HANGING
            self._under_way[what] += 1

        def run() -> None:
            try:
                if hanging:
                    self._refuse(job, what)
                else:
                    work(job)
            finally:
                with self._lock:
                    self._under_way[what] -= 1

        self._start(run, what)

    def _refuse(self, job: Job, what: str) -> None:
        hang = f"{MOST_HANGING} earlier calls for a {what} still hang: the function must heed current_deadline()"
        self.steward.overran(job, RuntimeError(hang))

    def _drive(self) -> None:
        steward = self.steward
        try:
            while True:
                waiter = ThreadWaiter()
                rest = steward.turn(waiter.wake)
                if rest is None:
                    return
                if rest.passes:
                    waiter.wait(steward.clock, rest.seconds)
                else:
                    hold(waiter, steward.clock, rest.seconds)
        finally:
            steward.close("its driver ended")

    def _tell(self) -> None:
        self.steward.begins(job := Job(0))
        try:
            while True:
                self.steward.story.tell_all()
                with self._lock:
                    if not self.steward.story.untold:
                        self._telling = False
                        return
        finally:
            job.over = True

    def _dial(self, job: Job) -> None:
        steward = self.steward
        plan = steward.plan
        made: list[C] = []
        steward.begins(job)
        try:
            conn = cast("C", plain(plan.dial(job.endpoint) if plan.endpoints else plan.dial()))
            made.append(conn)
            steward.made(job, conn)
            if plan.probe is not None:
                plain(plan.probe(conn))
        except Exception as error:
            job.over = True
            steward.dial_failed(job, error)
        except BaseException:
            job.over = True
            steward.close("a hook wanted the program to end")
            raise
        else:
            job.over = True
            if steward.opened(job, conn):
                made.clear()
        finally:
            for unwanted in made:  # by this thread: it may have been left behind long ago
                if plan.close is not None:
                    self._discard(unwanted)

    def _recover(self, recovery: Recovery, part: RecoveryPart, job: Job) -> None:
        assert job.action is not None  # it is a recovery
        handler, failure = recovery.handler(job.action), None
        assert handler is not None  # the steward has looked
        self.steward.begins(job)
        try:
            while not part.left:
                waiter = ThreadWaiter()
                part.stop = waiter.wake
                asked = part.ask(job.born, waiter.wake)
                if asked is Part.LEAD:
                    self._lead(recovery, part, waiter, handler)
                if asked is not Part.JOIN:
                    break
                if not part.left:  # else nobody would wake it again
                    waiter.wait(SYSTEM, None)
                recovery.flight.leave(waiter.wake)
        except Exception as error:
            failure = error
        except BaseException:
            self.steward.close("a hook wanted the program to end")
            raise
        finally:
            job.over = True
        try:
            self.steward.recovered(job, failure)
        finally:
            del failure  # a frame that holds the error it raised is a cycle

    def _lead(
        self, recovery: Recovery, part: RecoveryPart, waiter: ThreadWaiter, handler: Callable[[], object]
    ) -> None:
        clock, flight, ended_at = self.steward.clock, recovery.flight, None
        unmark = flight.lead()
        try:
            wait = flight.hold(clock.now())
            if wait:
                if is_virtual(clock):
                    clock.record(wait)
                waiter.wait(clock, wait)
            if part.left:
                return
            try:
                plain(handler())
            except Exception:
                ended_at = clock.now()
                raise
            ended_at = clock.now()
        finally:
            unmark()
            part.finish(ended_at)

    def _probe(self, job: Job, conn: C) -> None:
        probe, failure = self.steward.plan.probe, None
        assert probe is not None  # heartbeats need one
        self.steward.begins(job)
        try:
            plain(probe(conn))
        except Exception as error:
            failure = error
        finally:
            job.over = True
        try:
            self.steward.probed(job, failure)
        finally:
            del failure  # likewise

    def _discard(self, conn: C) -> None:
        close = self.steward.plan.close
        assert close is not None  # whoever calls this has looked
        self.steward.begins(job := Job(0))
        try:
            plain(close(conn))
        except Exception:
            return  # a connection that is gone seldom likes to be closed
        finally:
            job.over = True


def plain(value: T) -> T:
    """A result; never one that somebody would have to await."""
    if iscoroutine(value):
        value.close()
        raise TypeError("a coroutine cannot be awaited by threads: use resilient.net.ConnectionManager for async code")
    return value


def hold(waiter: ThreadWaiter, clock: Clock, seconds: float | None) -> None:
    """Blocks the thread until it is woken, or that much time has passed: of virtual time, what others let pass."""
    if seconds is None or not is_virtual(clock):
        waiter.wait(SYSTEM, seconds)
        return
    if seconds <= 0.0:
        return
    timer = clock.call_later(seconds, waiter.wake)
    try:
        waiter.wait(SYSTEM, None)
    finally:
        timer.cancel()
