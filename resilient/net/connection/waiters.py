"""Who uses a managed connection, who waits for one, and who may not: the same for tasks and for threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from resilient.core.link import Link, State
from resilient.core.pulse import Missed, Pulse
from resilient.drivers import forks
from resilient.drivers.clock import CLOCK, SYSTEM, Clock
from resilient.drivers.loops.waiters import Wakeable
from resilient.errors import DeadlineExceeded, ManagerClosed, NotConnected
from resilient.net.connection.events import Story
from resilient.net.connection.jobs import INSIDE, Job, Lease
from resilient.net.connection.settings import ManagerPlan
from resilient.observe.listeners import Listener

__all__ = ["Callers"]

C = TypeVar("C")


class Callers(Generic[C]):
    """The state of one manager, as its callers see it. The lock is held for a few assignments, nothing more.

    Args:
        plan: the settings.

    Attributes:
        clock: the one by which it was started.
        lease: the connection that is up; None if there is none.
        story: what happened.
    """

    def __init__(self, plan: ManagerPlan) -> None:
        self.plan = plan
        self.clock: Clock = SYSTEM
        self.story = Story(plan.name or "connection", plan.listeners)
        self.lease: Lease[C] | None = None
        self._lock = Lock()
        self._link = Link(plan.link)
        self._pulse = None if plan.heartbeat is None else Pulse(Missed(plan.heartbeat, plan.misses))
        self._heard_at = 0.0
        self._pid: int | None = None
        self._forks = -1
        self._job: Job | None = None
        self._wake: Callable[[], object] | None = None
        self._waiting: dict[Wakeable, None] = {}
        self._drainers: dict[Wakeable, None] = {}
        self._operations = 0
        self._last_error: Exception | None = None

    @property
    def state(self) -> State:
        """What the manager is doing."""
        return self._link.state

    @property
    def called(self) -> str:
        """The manager's name, or what stands for it."""
        return self.story.name

    def check(self) -> None:
        """Whether the manager may be used here.

        Raises:
            RuntimeError: it was never started, or in a process of which this is a fork.
        """
        if self._forks != forks.count:
            self._misused()

    def _misused(self) -> None:
        if self._pid is None:
            if self.state is State.CLOSED:
                raise ManagerClosed(self.plan.name, "it is closed")
            raise RuntimeError(f"the manager of {self.called!r} does not run: enter it first, as a context manager")
        raise RuntimeError(
            f"the manager of {self.called!r} was started in process {self._pid}, of which {os.getpid()} is a fork: "
            "its connections belong to the parent, make a manager of your own"
        )

    @property
    def forked(self) -> bool:
        """Whether this process is a fork of the one where it was started."""
        return self._forks not in {-1, forks.count}

    def enter(self) -> Lease[C] | None:
        """An operation begins: the connection that is up, or None: then it has to wait, see :meth:`admit`."""
        with self._lock:
            lease = self.lease
            if lease is None or self._link.state is not State.READY:
                return None
            self._operations += 1
            return lease

    def admit(self, entered: bool, waiter: Wakeable) -> Lease[C] | None:
        """The connection that is up; or None: the caller is woken when there is one, or none to come.

        Args:
            entered: whether this operation has begun before: it may go on while others drain.
            waiter: woken then.

        Raises:
            NotConnected, Exception: there will be none: the error that says so, or the one that the link ended with.
        """
        with self._lock:
            lease, state = self.lease, self._link.state
            if lease is not None and (entered or state is State.READY):
                self._operations += not entered
                return lease
            if state is not State.FAILED:
                self._check_hope(state)
                self._waiting[waiter] = None
                return None
            error = self._last_error
        if error is None:
            stopped = self._link.stopped
            raise NotConnected(self.plan.name, "" if stopped is None else stopped.why)
        try:
            raise error.with_traceback(None)  # raised again and again, its traceback must not grow
        finally:
            del error  # a frame that holds the error it raised is a cycle

    def _check_hope(self, state: State) -> None:
        if state in {State.DRAINING, State.CLOSED}:
            raise ManagerClosed(self.plan.name, f"its manager is {state}")
        inside = INSIDE.get()
        if inside is not None and inside[1] is self._job:
            raise NotConnected(self.plan.name, "it was asked for by the very hook that is to bring it about")

    def forsake(self, waiter: Wakeable) -> None:
        """A caller waits no more."""
        with self._lock:
            self._waiting.pop(waiter, None)
            self._drainers.pop(waiter, None)

    def patience(self, deadline: float | None, since: float) -> float | None:
        """How long a caller may wait for a connection, seconds; None for ever.

        Args:
            deadline: when the policies around it want it to be over; None if they set no limit.
            since: when it began to wait.

        Raises:
            DeadlineExceeded: not at all.
        """
        if deadline is None:
            return None
        left = deadline - CLOCK.get().now()
        if left <= 0.0:
            raise DeadlineExceeded(max(0.0, deadline - since)) from self._last_error
        return left

    def heard(self) -> None:
        """An operation worked: a sign of life."""
        pulse = self._pulse
        if pulse is not None:
            self._heard_at = now = self.clock.now()
            pulse.heard(now)

    def leave(self) -> None:
        """An operation ended."""
        with self._lock:
            self._operations -= 1
            drainers = () if self._operations or not self._drainers else tuple(self._drainers)
        for drainer in drainers:
            drainer.wake()

    def hear(self, listener: Listener) -> None:
        """Another listener."""
        with self._lock:
            self.story.hear(listener)

    def _wake_all(self) -> None:
        with self._lock:
            over = self._link.state in {State.READY, State.FAILED, State.CLOSED}
            woken = [*self._waiting] if over else []
            if self._link.state is State.CLOSED:
                woken += self._drainers
        self.stir()
        for waiter in woken:
            waiter.wake()

    def stir(self) -> None:
        """Wakes the driver."""
        wake = self._wake
        if wake is not None:
            wake()
