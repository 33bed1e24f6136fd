"""What befalls a managed connection, and what its user asks for: facts in, from any thread, for the link to decide."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from resilient.core.action import Action, Verdict
from resilient.core.endpoints import Endpoints
from resilient.core.events import described
from resilient.core.link import State, Step, Wait
from resilient.core.run import PLAIN_FAIL, TRY_AGAIN, Stop, gave_up_text
from resilient.drivers import forks
from resilient.drivers.clock import CLOCK, is_virtual
from resilient.drivers.loops.waiters import Wakeable
from resilient.errors import ManagerClosed, NotConnected
from resilient.net.connection.events import note
from resilient.net.connection.jobs import Job, Lease
from resilient.net.connection.settings import ManagerPlan, ManagerStats
from resilient.net.connection.waiters import Callers

__all__ = ["Facts"]

C = TypeVar("C")


class Facts(Callers[C]):
    """The state of one manager, as those who tell it something see it.

    Args:
        plan: the settings.
    """

    def __init__(self, plan: ManagerPlan) -> None:
        super().__init__(plan)
        self._endpoints = Endpoints(plan.endpoints) if plan.endpoints else None
        self._endpoint: object = None
        self._step: Step | None = None
        self._until = 0.0
        self._beat: Job | None = None
        self._made: Lease[C] | None = None
        self._early: list[tuple[C, object]] = []
        self._doomed: deque[C] = deque()
        self._opened_at = self._outage_at = 0.0
        self._connects = self._failures = self._losses = self._recoveries = 0

    def stats(self) -> ManagerStats:
        """The present numbers."""
        now = self.clock.now()
        with self._lock:
            link = self._link
            return ManagerStats(
                link.state,
                link.generation,
                self._endpoint,
                self._connects,
                self._failures,
                self._losses,
                self._recoveries,
                self._operations,
                len(self._waiting),
                0.0 if self.lease is None else max(0.0, now - self._opened_at),
                self._last_error,
            )

    def start(self) -> None:
        """The manager is entered.

        Raises:
            RuntimeError: it runs, or did.
        """
        if self.forked:
            self._misused()
        with self._lock:
            state = self._link.state
            if state is State.IDLE:
                self._pid, self._forks, self.clock = os.getpid(), forks.count, CLOCK.get()
                self.story.started = now = self.clock.now()
                self._took(self._link.started(now), "")
        if state is State.CLOSED:
            raise ManagerClosed(self.plan.name, "it is closed, make another manager")
        if state is not State.IDLE:
            raise RuntimeError(f"the manager of {self.called!r} runs already")

    def resume(self) -> None:
        """A FAILED link begins anew.

        Raises:
            ManagerClosed: the manager is closed or drains.
        """
        self._ask(self._link.resumed, "resumed")

    def reconnect(self) -> None:
        """A new connection, now.

        Raises:
            ManagerClosed: the manager is closed or drains.
        """
        self._ask(self._link.asked_to_reconnect, "asked to reconnect")

    def _ask(self, fact: Callable[[float], Step | None], why: str) -> None:
        self.check()
        now = self.clock.now()
        with self._lock:
            state = self._link.state
            over = state in {State.DRAINING, State.CLOSED}
            if not over:
                if state is State.READY:
                    self._mark_ended(now, lost=False)
                self._took(fact(now), why)
        if over:
            raise ManagerClosed(self.plan.name, f"its manager is {state}")
        self._wake_all()

    def drain(self, waiter: Wakeable) -> bool:
        """No more operations; True if none is under way, else ``waiter`` is woken after the last one."""
        with self._lock:
            self._link.draining(self.clock.now())
            self._took(None, "asked to drain")
            idle = self._operations == 0 or self._link.state is State.CLOSED
            if not idle:
                self._drainers[waiter] = None
        self._wake_all()
        return idle

    @property
    def drained(self) -> bool:
        """Whether no operation is under way."""
        return self._operations == 0

    def close(self, why: str = "asked to close") -> None:
        """No connection any more; in any state, any number of times."""
        with self._lock:
            self._link.closed(self.clock.now())
            self._took(None, why)
        self._wake_all()

    def judge(self, error: Exception, *, cut_off: bool = False) -> tuple[Verdict, Exception]:
        """What an error calls for; and the error, or what the user's own predicate raised about it."""
        try:
            return self.plan.link.judge(error, cut_off=cut_off), error
        except Exception as broken:
            try:
                return PLAIN_FAIL, broken
            finally:
                del error

    def made(self, job: Job, conn: C) -> None:
        """A dial gave a connection, which is yet to be probed."""
        with self._lock:
            self._made = Lease(conn, job.generation)

    def opened(self, job: Job, conn: C) -> bool:
        """A dial succeeded; False if nobody wants this connection any more, and it is to be closed by the job."""
        now = self.clock.now()
        with self._lock:
            early = [error for broken, error in self._early if broken is conn]
            wanted = not early and self._link.opened(job.generation, now) is None
            if wanted:
                self.lease = Lease(conn, job.generation)
                self._opened_at = self._heard_at = now
                self._connects += 1
                if self._pulse is not None:
                    self._pulse.opened(now)
                self._dial_over()
                self._took(None, "")
        if early:
            error = early[0]
            self.dial_failed(job, error if isinstance(error, Exception) else None)
        else:
            self._wake_all()
        return wanted

    def dial_failed(self, job: Job, error: Exception | None, *, cut_off: bool = False) -> None:
        """A dial raised, or took too long."""
        verdict = TRY_AGAIN
        if error is not None:
            verdict, error = self.judge(error, cut_off=cut_off)
        try:
            self._failed(self._link.dial_failed, job.generation, error, verdict)
        finally:
            del error  # a frame that holds the error it raised is a cycle

    def dropped(self, job: Job, error: BaseException) -> None:
        """A job was cancelled: by us, or else by the user's own code."""
        if job is self._job and job.generation == self._link.generation and self.state is not State.CLOSED:
            what = "dial" if job.action is None else "recovery"
            stopped = NotConnected(self.plan.name, f"its {what} was cancelled by {type(error).__name__}")
            if job.action is None:
                self.dial_failed(job, stopped, cut_off=True)
            else:
                self.recovered(job, stopped)

    def lost(self, error: object, conn: C) -> None:
        """Somebody noticed that a connection has ended; again, or of another connection, it is history."""
        self.check()
        with self._lock:
            lease = next(
                (lease for lease in (self.lease, self._made) if lease is not None and lease.conn is conn), None
            )
            if lease is None and self._link.state is State.CONNECTING:
                self._early.append((conn, error))  # of this dial, perhaps, which has yet to say so
        if lease is not None:
            self.lost_of(lease.generation, error if isinstance(error, Exception) else None)

    def lost_of(self, generation: int, error: Exception | None, *, cut_off: bool = False) -> None:
        """The connection of this generation has ended."""
        if generation != self._link.generation:
            return
        verdict: Verdict | None = None
        if error is not None:
            verdict, error = self.judge(error, cut_off=cut_off)
        try:
            self._failed(self._link.lost, generation, error, verdict)
        finally:
            del error  # likewise

    def lost_by(self, verdict: Verdict, lease: Lease[C], error: Exception) -> None:
        """An operation failed on a connection, and this is the verdict."""
        if lease.generation == self._link.generation:
            self._failed(self._link.lost, lease.generation, error, verdict)

    def noticed(self, error: Exception, lease: Lease[C]) -> None:
        """A block failed on a connection, which may have been its end."""
        verdict, _ = self.judge(error)
        if verdict.action not in {Action.FAIL, Action.WAIT}:
            self.lost_by(verdict, lease, error)

    def _failed(
        self, fact: Callable[..., Step | None], generation: int, error: Exception | None, verdict: Verdict | None
    ) -> None:
        now = self.clock.now()
        with self._lock:
            link = self._link
            if generation != link.generation:
                return
            if self.lease is None:
                self._failures += 1
                self._dial_failed_at(self._endpoint)
            else:
                self._losses += 1
                self._mark_ended(now, lost=True)
            self._last_error = error
            self._dial_over()
            step = fact(generation, verdict, now, self.clock)
            if link.failures <= 1:
                self._outage_at = now
            if isinstance(step, Stop) and error is not None:
                note(error, gave_up_text(link.failures, now - self._outage_at, step.why))
            self._took(step, "the connection ended" if error is None else described(error))
        self._wake_all()

    def _dial_over(self) -> None:
        if self._job is not None and self._job.over:  # else it is cancelled by the driver, as its connection is history
            self._job = None
        self._made = None
        self._early.clear()

    def _dial_failed_at(self, endpoint: object) -> None:
        if self._endpoints is not None:
            self._endpoints.failed(endpoint)

    def _mark_ended(self, now: float, *, lost: bool) -> None:
        if self._endpoints is None:
            return
        if now >= self._opened_at + self.plan.link.stable_after:
            self._endpoints.worked(self._endpoint)
        if lost:
            self._dial_failed_at(self._endpoint)

    def recovered(self, job: Job, failure: Exception | None) -> None:
        """A handler returned, or raised this."""
        assert job.action is not None  # else it were no recovery
        now = self.clock.now()
        with self._lock:
            if job is not self._job:
                return
            self._job = None
            self.story.recovered(now, job.action, failure)
            self._took(self._link.recovered(job.generation, now), "")
        self._wake_all()

    def probed(self, job: Job, failure: Exception | None) -> None:
        """A heartbeat was answered, or not."""
        with self._lock:
            if job is not self._beat:
                return
            self._beat = None
            if failure is None and self._pulse is not None:
                self._heard_at = now = self.clock.now()
                self._pulse.detector.answered(now)
        if failure is not None:
            self.lost_of(job.generation, failure)

    def doom(self, conn: C) -> None:
        """A connection that was made is to be closed by the driver."""
        with self._lock:
            self._doomed.append(conn)
        self.stir()

    def _took(self, step: Step | None, why: str) -> None:
        """What every fact ends in, while the lock is held."""
        now = self.clock.now()
        if step is not None:
            self._step = step
        if isinstance(step, Wait):
            self._until = now + step.seconds
        lease = self.lease
        if lease is not None and (self._link.generation != lease.generation or self._link.state is State.CLOSED):
            self.lease = None
            self._doomed.append(lease.conn)
        if isinstance(step, Stop):
            why = f"{step.why}: {why}"
        self.story.moved(self._link.take_moves(), now, why)
        if isinstance(step, Wait) and why:
            if is_virtual(self.clock):
                self.clock.record(step.seconds)
            self.story.waiting(now, self._link.failures + 1, step.seconds)
