"""The state of a managed connection: facts come in from any thread, and the link decides what follows."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from resilient.core.action import Action, Verdict
from resilient.core.endpoints import Endpoints
from resilient.core.events import described
from resilient.core.link import Dial, Link, Recover, State, Step, Wait
from resilient.core.notes import note
from resilient.core.run import PLAIN_FAIL, TRY_AGAIN, Stop, gave_up_text
from resilient.drivers.clock import CLOCK, SYSTEM, Clock, is_virtual
from resilient.drivers.forks import Origin
from resilient.errors import ManagerClosed, NotConnected, PeerSilent, PolicyTimeout
from resilient.net.connection.events import EventQueue
from resilient.net.connection.heartbeat import Heartbeat
from resilient.net.connection.job import Job, Lease, running_job
from resilient.net.connection.settings import ManagerPlan, ManagerStats
from resilient.observe.listeners import Listener

__all__ = ["ConnectionState"]

C = TypeVar("C")


class ConnectionState(Generic[C]):
    """What is known of one managed connection and its successors. Any thread may tell it a fact, and ask.

    The lock is held for a few assignments, never while user code runs; whoever watches is told behind it.

    Args:
        plan: the settings.

    Attributes:
        clock: the one by which the manager was started.
        current: the connection that is up; None if there is none.
        ready: the same, if operations may begin on it.
        last_error: what the last dial failed with, or the last connection was lost by; None if there was nothing.
        events: what happened, for listeners.
        origin: the process where the manager was started.
    """

    __slots__ = (
        "_born", "_connects", "_early", "_endpoint", "_endpoints", "_failures", "_heartbeat", "_job", "_link", "_lock",
        "_losses", "_made", "_opened_at", "_outage_at", "_probe", "_recoveries", "_retired", "_round", "_step",
        "_until", "_unwanted", "_watchers", "clock", "current", "events", "last_error", "origin", "plan", "ready",
    )  # fmt: skip

    def __init__(self, plan: ManagerPlan) -> None:
        self.plan = plan
        self.clock: Clock = SYSTEM
        self.events = EventQueue(plan.name or "connection", plan.listeners)
        self.current: Lease[C] | None = None
        self.ready: Lease[C] | None = None
        self.last_error: Exception | None = None
        self.origin = Origin()
        self._watchers: tuple[Callable[[], object], ...] = ()
        self._lock = Lock()
        self._link = Link(plan.link)
        self._heartbeat = None if plan.heartbeat is None else Heartbeat(plan.heartbeat, plan.misses)
        self._endpoints = Endpoints(plan.endpoints) if plan.endpoints else None
        self._endpoint: object = None
        self._step: Step | None = None
        self._until = 0.0  # the end of the wait that this step is
        self._job: Job | None = None  # the dial or recovery under way
        self._probe: Job | None = None  # the heartbeat under way
        self._made: Lease[C] | None = None  # by the dial under way, but yet to be probed
        self._early: list[tuple[C, object]] = []  # losses told of what a dial has yet to give
        self._unwanted: deque[C] = deque()  # connections to be closed
        self._retired: set[Lease[C]] = set()  # those to be closed when nobody uses them any more
        self._born = 0
        self._round = 0  # endpoints that failed since the last connection
        self._opened_at = self._outage_at = 0.0
        self._connects = self._failures = self._losses = self._recoveries = 0

    def watch(self, watcher: Callable[[], object]) -> None:
        """Adds a function that is called after every change, in whatever thread that came; no lock is held."""
        self._watchers = (*self._watchers, watcher)

    @property
    def state(self) -> State:
        """What the manager is doing."""
        return self._link.state

    @property
    def name(self) -> str:
        """The manager's name, or what stands for it."""
        return self.events.name

    def stats(self, *, operations: int, waiting: int) -> ManagerStats:
        """The numbers of connections and operations, as of now."""
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
                operations,
                waiting,
                0.0 if self.current is None else max(0.0, now - self._opened_at),
                self.last_error,
            )

    def check(self) -> None:
        """Refuses to be used where the manager does not run.

        Raises:
            RuntimeError: it was never started, or in a process of which this is a fork.
        """
        if not self.origin.here:
            self._refuse()

    # What its user asks for.

    def start(self) -> None:
        """The manager is entered.

        Raises:
            RuntimeError: it runs, or did.
        """
        if self.origin.forked:
            self._refuse()
        with self._lock:
            state = self._link.state
            if state is State.IDLE:
                self.clock = CLOCK.get()
                self.origin.begin()
                self.events.started = now = self.clock.now()
                self._took(self._link.started(now), "")
        if state is State.CLOSED:
            raise ManagerClosed(self.plan.name, "it is closed, make another manager")
        if state is not State.IDLE:
            raise RuntimeError(f"the manager of {self.name!r} runs already")

    def resume(self) -> None:
        """A FAILED link is to begin anew.

        Raises:
            ManagerClosed: the manager is closed or drains.
        """
        self._ask(self._link.resumed, "resumed")

    def reconnect(self) -> None:
        """A new connection is wanted now.

        Raises:
            ManagerClosed: the manager is closed or drains.
        """
        if self._endpoints is not None:
            with self._lock:
                self._endpoints.forget()
        self._ask(self._link.asked_to_reconnect, "asked to reconnect")

    def renew(self) -> None:
        """The connection that is up is to be replaced, without ending what runs on it.

        Raises:
            ManagerClosed: the manager is closed or drains.
        """
        lease = self.ready
        if lease is None:
            self._ask(self._link.asked_to_reconnect, "renewed")
        else:
            self.retire(lease, "renewed")

    def cut_off(self, lease: Lease[C]) -> None:
        """An operation was cancelled or cut off while it ran on a connection, which may still carry its answer."""
        if self.plan.on_cancel == "retire":
            self.retire(lease, "a call on it was cut off")

    def retire(self, lease: Lease[C] | None, why: str) -> None:
        """A connection is to be replaced: operations that run on it end there, new ones get the next.

        Of one that is history, or while the manager drains, it changes nothing.
        """
        now = self.clock.now()
        with self._lock:
            if lease is None or lease is not self.ready:
                return
            self._mark_ended(now, lost=False)
            lease.retired = True
            self._retired.add(lease)
            self._took(self._link.asked_to_reconnect(now), why)
        if not lease.users:
            self.release(lease)
        self._tell_watchers()

    def release(self, lease: Lease[C]) -> None:
        """Nobody uses a connection any more that is retired: it is to be closed."""
        with self._lock:
            if lease not in self._retired:
                return
            self._retired.remove(lease)
            self._unwanted.append(lease.conn)
        self._tell_watchers()

    def drain(self) -> None:
        """No more operations are to begin."""
        with self._lock:
            self._link.draining(self.clock.now())
            self._took(None, "asked to drain")
        self._tell_watchers()

    def close(self, why: str = "asked to close") -> None:
        """No connection is wanted any more; in any state, any number of times."""
        with self._lock:
            self._link.closed(self.clock.now())
            self._took(None, why)
        self._tell_watchers()

    def hear(self, listener: Listener) -> None:
        """Adds a listener for every later event.

        Raises:
            TypeError: it cannot be called, or would have to be awaited.
        """
        with self._lock:
            self.events.hear(listener)

    # What operations ask and tell.

    def lease(self, *, entered: bool) -> Lease[C] | None:
        """The connection, if an operation may use it now; None: there may be one later.

        Args:
            entered: whether that operation has begun before: then it may go on while others drain.

        Raises:
            NotConnected, Exception: there will be none: the error that says so, or the one that the link ended with.
        """
        with self._lock:
            lease = self.current if entered else self.ready
            state = self._link.state
            if lease is not None:
                return lease
            if state is not State.FAILED:
                self._check_hope(state)
                return None
            error = self.last_error
        if error is None:
            stopped = self._link.stopped
            raise NotConnected(self.plan.name, "" if stopped is None else stopped.why)
        try:
            raise error.with_traceback(None)  # raised again and again, its traceback must not grow
        finally:
            del error  # a frame that holds the error it raised is a cycle

    def heard(self) -> None:
        """An operation worked: a sign of life."""
        if self._heartbeat is not None:
            self._heartbeat.heard(self.clock.now())

    def lost(self, error: object, conn: C) -> None:
        """Somebody noticed that a connection has ended; again, or of another connection, it is history."""
        self.check()
        with self._lock:
            lease = next(
                (lease for lease in (self.current, self._made) if lease is not None and lease.conn is conn), None
            )
            if lease is None and self._link.state is State.CONNECTING:
                self._early.append((conn, error))  # of this dial, perhaps, which has yet to say so
        if lease is not None:
            self.lost_of(lease.generation, error if isinstance(error, Exception) else None)

    def lost_by(self, verdict: Verdict, lease: Lease[C], error: Exception) -> None:
        """An operation failed on a connection, and this is the verdict."""
        self._failed(self._link.lost, lease.generation, error, verdict)

    def noticed(self, error: Exception, lease: Lease[C]) -> None:
        """A block failed on a connection, which may have been its end."""
        verdict, _ = self.judge(error)
        if verdict.action not in {Action.FAIL, Action.WAIT}:
            self.lost_by(verdict, lease, error)
        elif isinstance(error, PolicyTimeout):
            self.cut_off(lease)

    def judge(self, error: Exception, *, cut_off: bool = False) -> tuple[Verdict, Exception]:
        """What an error calls for; and the error, or what the user's own predicate raised about it."""
        try:
            return self.plan.link.judge(error, cut_off=cut_off), error
        except Exception as broken:
            try:
                return PLAIN_FAIL, broken
            finally:
                del error

    # What the driver asks for, to begin the jobs that are due.

    def take_unwanted(self) -> tuple[C, ...]:
        """A connection that is to be closed, if there is any."""
        with self._lock:
            return (self._unwanted.popleft(),) if self._unwanted else ()

    @property
    def has_unwanted(self) -> bool:
        """Whether any connection is to be closed."""
        return bool(self._unwanted)

    def take_stale_job(self) -> Job | None:
        """A job whose connection is history."""
        with self._lock:
            generation, closed = self._link.generation, self._link.state is State.CLOSED
            job, probe = self._job, self._probe
            if job is not None and (closed or job.generation != generation):
                self._job = self._made = None
                return job
            if probe is not None and (closed or probe.generation != generation):
                self._probe = None
                return probe
            return None

    def due(self, now: float) -> Job | Wait | Recover | Dial | None:
        """What there is to do on the way to a connection: await the job under way, wait, recover, or dial.

        None where a connection is up, or none is wanted.
        """
        with self._lock:
            link = self._link
            if link.state not in {State.CONNECTING, State.BACKING_OFF}:
                return None
            if self._job is not None:
                return self._job
            if link.state is State.BACKING_OFF:
                if isinstance(self._step, Wait):
                    if now < self._until:
                        return Wait(self._until - now)
                    self._took(link.woke(now), "")
                if isinstance(self._step, Wait | Recover):
                    return self._step
            return Dial(link.generation)

    def begin_dial(self, dial: Dial, ends_at: float) -> Job | None:
        """A dial that begins now; None if it is not wanted any more."""
        recovery = self.plan.recovery
        with self._lock:
            if dial.generation != self._link.generation or self._link.state is State.CLOSED:
                return None
            job = self._job = Job(dial.generation, ends_at)
            if self._endpoints is not None:
                self._endpoint = job.endpoint = self._endpoints.best(self.clock.now() - self.plan.failback_after)
            if recovery is not None:
                job.born = self._born = recovery.flight.generation
            return job

    def begin_recovery(self, step: Recover, ends_at: float, now: float) -> Job | None:
        """A recovery that begins now; None if it is not wanted any more."""
        with self._lock:
            if step is not self._step or step.generation != self._link.generation:
                return None
            self._step = None
            job = self._job = Job(step.generation, ends_at, step.action)
            job.born = self._born
            self._recoveries += 1
            self.events.recovering(now, step.action)
            return job

    def skip_recovery(self, step: Recover, now: float) -> None:
        """There is no handler for a recovery: what follows it begins."""
        with self._lock:
            if step is not self._step:
                return
            self._step = None
            # Where there are endpoints, the next one is the way of ROTATE_PROXY.
            if self._endpoints is None or step.action is not Action.ROTATE_PROXY:
                self.events.unrecovered(now, step.action)
            self._took(self._link.recovered(step.generation, now), "")

    def beat(self, now: float) -> Job | PeerSilent | float | None:
        """A look at the heartbeat: a probe that begins now, the error of a silent peer, or how long to sleep, seconds.

        None where there are no heartbeats.
        """
        with self._lock:
            heartbeat, lease = self._heartbeat, self.current
            if heartbeat is None or lease is None:
                return None
            if lease.users and not self.plan.probe_when_busy:
                heartbeat.heard(now)  # whoever runs on it will notice its end
            if heartbeat.silent(now):
                return PeerSilent(heartbeat.longest_silence)
            if self._probe is None and heartbeat.beats(now):
                self._probe = Job(lease.generation)
                return self._probe
            return heartbeat.next_look(now)

    def age_left(self, now: float) -> float | None:
        """How long the connection that is up may stay, seconds; None if there is no limit, or no connection."""
        if self.plan.max_age is None or self.ready is None:
            return None
        return self._opened_at + self.plan.max_age - now

    # What jobs report.

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
                self.current = Lease(conn, job.generation)
                self._opened_at = now
                self._round = 0
                self._connects += 1
                if self._heartbeat is not None:
                    self._heartbeat.opened(now)
                self._dial_over()
                self._took(None, "")
        if early:
            error = early[0]
            self.dial_failed(job, error if isinstance(error, Exception) else None)
        else:
            self._tell_watchers()
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
        """A job was cancelled: by its manager, or else by the user's own code."""
        if job is self._job and job.generation == self._link.generation and self.state is not State.CLOSED:
            what = "dial" if job.action is None else "recovery"
            stopped = NotConnected(self.plan.name, f"its {what} was cancelled by {type(error).__name__}")
            if job.action is None:
                self.dial_failed(job, stopped, cut_off=True)
            else:
                self.recovered(job, stopped)

    def overran(self, job: Job, error: Exception) -> None:
        """A dial or a recovery took too long, or cannot even begin."""
        if job.action is None:
            self.dial_failed(job, error, cut_off=True)  # its connection is history: the driver cancels it
        else:
            job.cancel()
            self.recovered(job, error)

    def recovered(self, job: Job, failure: Exception | None) -> None:
        """A handler returned, or raised this."""
        assert job.action is not None  # else it were no recovery
        now = self.clock.now()
        with self._lock:
            if job is not self._job:
                return
            self._job = None
            self.events.recovered(now, job.action, failure)
            self._took(self._link.recovered(job.generation, now), "")
        self._tell_watchers()

    def probed(self, job: Job, failure: Exception | None) -> None:
        """A heartbeat was answered, or not."""
        heartbeat = self._heartbeat
        with self._lock:
            if job is not self._probe:
                return
            self._probe = None
            if failure is None and heartbeat is not None:
                heartbeat.answered(self.clock.now())
        if failure is not None:
            self.lost_of(job.generation, failure)

    def unprobed(self, job: Job) -> None:
        """A heartbeat could not even be sent, for a reason of ours: it says nothing of the other side."""
        with self._lock:
            if job is self._probe:
                self._probe = None

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
            del error  # a frame that holds the error it raised is a cycle

    def discard(self, conn: C) -> None:
        """A connection that was made is to be closed by the driver."""
        with self._lock:
            self._unwanted.append(conn)
        self._tell_watchers()

    def _refuse(self) -> None:
        if self.origin.pid is None:
            if self.state is State.CLOSED:
                raise ManagerClosed(self.plan.name, "it is closed")
            raise RuntimeError(f"the manager of {self.name!r} does not run: enter it first, as a context manager")
        raise RuntimeError(
            f"the manager of {self.name!r} was started in process {self.origin.pid}, of which {os.getpid()} is a "
            "fork: its connections belong to the parent, make a manager of your own"
        )

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
        self._tell_watchers()

    def _check_hope(self, state: State) -> None:
        if state in {State.DRAINING, State.CLOSED}:
            raise ManagerClosed(self.plan.name, f"its manager is {state}")
        if self._job is not None and running_job() is self._job:
            raise NotConnected(self.plan.name, "it was asked for by the very hook that is to bring it about")

    def _failed(
        self, fact: Callable[..., Step | None], generation: int, error: Exception | None, verdict: Verdict | None
    ) -> None:
        # Before the lock is taken, and behind it: texts, notes and attributes of errors are the user's code.
        why = "the connection ended" if error is None else described(error)
        now, gave_up = self.clock.now(), ""
        try:
            with self._lock:
                link = self._link
                if generation != link.generation or (fact == link.dial_failed and self.current is not None):
                    return  # it is history; or the dial succeeded just as its time was up
                if self.current is None:
                    self._failures += 1
                    self._dial_failed_at(self._endpoint)
                else:
                    self._losses += 1
                    self._mark_ended(now, lost=True)
                self.last_error = error
                self._dial_over()
                self._round = 0 if self.current is not None else self._round + 1
                another = self._endpoints is not None and self._round % len(self._endpoints) > 0
                step = fact(generation, verdict, now, self.clock, another=another)
                if link.failures <= 1:
                    self._outage_at = now
                if isinstance(step, Stop):
                    gave_up = gave_up_text(link.failures, now - self._outage_at, step.why)
                self._took(step, why)
            if gave_up and error is not None:
                note(error, gave_up, once=True)
        finally:
            self._tell_watchers()
            del error  # a frame that holds the error it raised is a cycle

    def _dial_over(self) -> None:
        if self._job is not None and self._job.over:  # else it is cancelled by the driver, as its connection is history
            self._job = None
        self._made = None
        self._early.clear()

    def _dial_failed_at(self, endpoint: object) -> None:
        if self._endpoints is not None:
            self._endpoints.failed(endpoint, self.clock.now())

    def _mark_ended(self, now: float, *, lost: bool) -> None:
        if self._endpoints is None:
            return
        if now >= self._opened_at + self.plan.link.stable_after:
            self._endpoints.worked(self._endpoint)
        if lost:
            self._dial_failed_at(self._endpoint)

    def _took(self, step: Step | None, why: str) -> None:
        """What every fact ends in, while the lock is held."""
        now = self.clock.now()
        if step is not None:
            self._step = step
        if isinstance(step, Wait):
            self._until = now + step.seconds
        lease = self.current
        if lease is not None and (self._link.generation != lease.generation or self._link.state is State.CLOSED):
            self.current = None
            if not lease.retired:
                self._unwanted.append(lease.conn)
        if self._retired and self._link.state is State.CLOSED:
            self._unwanted.extend(retired.conn for retired in self._retired)
            self._retired.clear()
        if isinstance(step, Stop):
            why = f"{step.why}: {why}"
        self.ready = self.current if self._link.state is State.READY else None
        self.events.moved(self._link.take_moves(), now, why)
        if isinstance(step, Wait) and why:
            if is_virtual(self.clock):
                self.clock.record(step.seconds)
            self.events.waiting(now, self._link.failures + 1, step.seconds)

    def _tell_watchers(self) -> None:
        for watcher in self._watchers:
            watcher()
