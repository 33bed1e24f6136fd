"""What a manager's driver does: it compares what is wanted with what runs, and begins the jobs that are missing.

The driver is the one task or thread that calls :meth:`Reconciler.turn`. It runs nothing of the user's: jobs do, each in
the background, and report to the state of the connection how they ended. So nothing that hangs holds the driver up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from resilient.core.link import Recover, State, Wait
from resilient.drivers.loops.base import Task
from resilient.errors import AttemptTimeout, PeerSilent
from resilient.net.connection.job import Job
from resilient.net.connection.state import ConnectionState

__all__ = ["JobRunner", "Pause", "Reconciler"]

BREATHER = 1.0  # seconds: asyncio's own ACCEPT_RETRY_DELAY, when a system has run out of something

C = TypeVar("C")
Taken = TypeVar("Taken", contravariant=True)


class JobRunner(Protocol[Taken]):
    """Who runs jobs in the background, as tasks or as threads."""

    def dial(self, job: Job) -> Task: ...

    def recover(self, job: Job) -> Task: ...

    def probe(self, job: Job, conn: Taken) -> Task: ...

    def discard(self, conn: Taken) -> object:
        """Ends a connection in the background."""
        ...

    def tell(self) -> object:
        """Hands out the events that nobody was told yet."""
        ...


class Pause(NamedTuple):
    """The driver has nothing to do for so long, or until it is woken.

    Attributes:
        seconds: None for no limit.
        passes: whether virtual time passes for it, as for any wait of a policy.
    """

    seconds: float | None = None
    passes: bool = False


Act: TypeAlias = Callable[[], object]


class Reconciler(Generic[C]):
    """Begins, one after the other, the jobs that the state of a connection asks for.

    Args:
        state: of the connection.
        runner: of the jobs.
    """

    __slots__ = ("_breathes_until", "_runner", "_state", "_wake")

    def __init__(self, state: ConnectionState[C], runner: JobRunner[C]) -> None:
        self._state = state
        self._runner = runner
        self._wake: Callable[[], object] | None = None
        self._breathes_until = -math.inf  # nothing could be started a moment ago

    def stir(self) -> None:
        """Wakes the driver; from any thread."""
        wake = self._wake
        if wake is not None:
            wake()

    def turn(self, wake: Callable[[], object]) -> Pause | None:
        """Does all there is to do now.

        Args:
            wake: called, from any thread, when there is more.

        Returns:
            how long to wait; None when the manager is closed and nothing is left to be begun.
        """
        self._wake = wake  # first: a fact that comes after the last look must be heard
        events = self._state.events
        while True:
            if events.news and not self._breathes():
                events.news = False
                self._try(self._runner.tell, self._tell_later)
            act = self._next()
            if act is not None and not isinstance(act, Pause):
                act()
            elif not events.news or self._breathes():
                return self._shortened(act)

    def _try(self, start: Callable[[], object], failed: Callable[[Exception], object]) -> None:
        """Starts something in the background; where no thread or memory is left, it is tried again after a while."""
        try:
            start()
        except Exception as error:
            self._breathes_until = self._state.clock.now() + BREATHER
            failed(error)

    def _breathes(self) -> bool:
        return self._state.clock.now() < self._breathes_until

    def _shortened(self, pause: Pause | None) -> Pause | None:
        """A pause that ends when what could not be started is tried again."""
        left = self._breathes_until - self._state.clock.now()
        if left <= 0.0 or (pause is None and not self._state.has_unwanted and not self._state.events.news):
            return pause
        return Pause(left if pause is None or pause.seconds is None else min(left, pause.seconds))

    def _tell_later(self, error: Exception) -> None:
        self._state.events.news = True

    def _next(self) -> Act | Pause | None:
        state = self._state
        unwanted = () if self._breathes() else state.take_unwanted()
        if unwanted:
            (conn,) = unwanted
            return partial(self._try, partial(self._runner.discard, conn), lambda error: state.discard(conn))
        stale = state.take_stale_job()
        if stale is not None:
            return stale.cancel
        now = state.clock.now()
        match state.state:
            case State.CLOSED:
                return None
            case State.CONNECTING | State.BACKING_OFF:
                return self._connect(now)
            case State.READY | State.DRAINING:
                return self._beat(now)
            case _:
                return Pause()

    def _connect(self, now: float) -> Act | Pause:
        state = self._state
        due = state.due(now)
        if due is None:  # it has just been decided otherwise
            return self.stir
        if isinstance(due, Job):
            return self._await(due, now)
        if isinstance(due, Wait):
            return Pause(due.seconds, passes=True)
        if isinstance(due, Recover):
            return self._recover(due, now)
        job = state.begin_dial(due, self._limit(now))
        return self.stir if job is None else self._beginning(self._runner.dial, job, partial(state.overran, job))

    def _recover(self, step: Recover, now: float) -> Act:
        state, recovery = self._state, self._state.plan.recovery
        if recovery is None or recovery.handler(step.action) is None:
            return partial(state.skip_recovery, step, now)
        # Its handler, or that of whoever recovers already, begins when the throttle allows.
        job = state.begin_recovery(step, self._limit(now + recovery.flight.hold(now)), now)
        return self.stir if job is None else self._beginning(self._runner.recover, job, partial(state.overran, job))

    def _await(self, job: Job, now: float) -> Act | Pause:
        """A dial or a recovery is under way: it may go on for a while, or has taken too long."""
        if now < job.ends_at:
            return Pause(None if job.ends_at == math.inf else job.ends_at - now)
        limit = self._state.plan.connect_timeout
        assert limit is not None  # else it would never end
        return partial(self._state.overran, job, AttemptTimeout(limit))

    def _beat(self, now: float) -> Act | Pause:
        state = self._state
        lease = state.current
        left = state.age_left(now)
        if left is not None and left <= 0.0:
            return partial(state.retire, lease, "it is as old as it may be")
        due = None if lease is None else state.beat(now)
        if isinstance(due, Job):
            assert lease is not None  # a probe is of a connection
            return self._beginning(partial(self._probe, lease.conn), due, lambda error: state.unprobed(due))
        if isinstance(due, PeerSilent):
            assert lease is not None  # likewise
            return partial(state.lost_of, lease.generation, due, cut_off=True)
        return Pause(due if left is None or (due is not None and due < left) else left)

    def _limit(self, begins_at: float) -> float:
        """When a job that begins then is given up."""
        limit = self._state.plan.connect_timeout
        return math.inf if limit is None else begins_at + limit

    def _beginning(self, run: Callable[[Job], Task], job: Job, failed: Callable[[Exception], object]) -> Act:
        return partial(self._try, partial(self._begin, run, job), failed)

    def _begin(self, run: Callable[[Job], Task], job: Job) -> None:
        job.task = run(job)

    def _probe(self, conn: C, job: Job) -> Task:
        return self._runner.probe(job, conn)
