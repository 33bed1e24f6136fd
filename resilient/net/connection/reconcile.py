"""What the managers for tasks and for threads share: everything but how to run something in the background.

A steward keeps the link, the connection and whoever waits for one. Facts may come from any thread: each takes the
lock for a few assignments, and wakes the driver and the waiting callers after it. The driver is the one task or
thread that calls :meth:`Steward.turn`: it starts, through the shell's :class:`~resilient.net.connection.jobs.Hands`,
what the link asks for. Only jobs run user code, each in the background, and tell how they ended; so nothing that
hangs holds the driver up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from resilient.core.action import Action
from resilient.core.link import Recover, State, Wait
from resilient.core.pulse import Pulse
from resilient.drivers.deadline import DEADLINE
from resilient.errors import AttemptTimeout, PeerSilent
from resilient.net.connection.jobs import INSIDE, Act, Hands, Job, Member, Pause
from resilient.net.connection.settings import ManagerPlan
from resilient.net.connection.state import Facts

__all__ = ["Steward"]

C = TypeVar("C")


class Steward(Facts[C]):
    """The state of one manager, and what its driver does about it.

    Args:
        plan: the settings.
        hands: what runs its jobs.
    """

    def __init__(self, plan: ManagerPlan, hands: Hands[C]) -> None:
        super().__init__(plan)
        self._hands = hands
        self._born = 0

    def begins(self, job: Job) -> None:
        """A job begins, in this context."""
        INSIDE.set((self, job))
        # The deadline of whoever entered the manager is not the connection's.
        DEADLINE.set(None if job.ends_at == math.inf else job.ends_at)

    def overran(self, job: Job, error: Exception) -> None:
        """A dial or a recovery took too long, or cannot even begin."""
        if job.action is None:
            self.dial_failed(job, error, cut_off=True)  # its connection is history: the driver cancels it
        else:
            job.cancel()
            self.recovered(job, error)

    @property
    def within(self) -> bool:
        """Whether this code runs in one of the manager's own jobs."""
        inside = INSIDE.get()
        return inside is not None and inside[0] is self and not inside[1].over

    def turn(self, wake: Callable[[], object]) -> Pause | None:
        """Does all there is to do now.

        Args:
            wake: called, from any thread, when there is more.

        Returns:
            how long to wait; None when the manager is closed and nothing is left to be begun.
        """
        self._wake = wake  # first: a fact that comes after the last look must be heard
        while True:
            if self.story.news:
                self.story.news = False
                self._hands.tell()
            act = self._next()
            if act is not None and not isinstance(act, Pause):
                act()
            elif not self.story.news:
                return act

    def _next(self) -> Act | Pause | None:
        now = self.clock.now()
        with self._lock:
            if self._doomed:
                return partial(self._hands.discard, self._doomed.popleft())
            late = self._late_job()
            if late is not None:
                return late.cancel
            match self._link.state:
                case State.CLOSED:
                    return None
                case State.CONNECTING:
                    return self._connecting(now)
                case State.BACKING_OFF:
                    return self._backing_off(now)
                case State.READY | State.DRAINING if self._pulse is not None:
                    return self._beating(self._pulse, now)
                case _:
                    return Pause()

    def _late_job(self) -> Job | None:
        """A job whose connection is history."""
        generation, closed = self._link.generation, self._link.state is State.CLOSED
        job, beat = self._job, self._beat
        if job is not None and (closed or job.generation != generation):
            self._job = self._made = None
            return job
        if beat is not None and (closed or beat.generation != generation):
            self._beat = None
            return beat
        return None

    def _connecting(self, now: float) -> Act | Pause:
        if self._job is not None:
            return self._awaited(self._job, now)
        job = self._job = Job(self._link.generation, self._limit(now))
        if self._endpoints is not None:
            self._endpoint = job.endpoint = self._endpoints.best()
        if self.plan.recovery is not None:
            job.born = self.plan.recovery.flight.generation
            self._born = job.born
        return partial(self._launch, self._hands.dial, job)

    def _limit(self, begins_at: float) -> float:
        """When what begins then is given up."""
        limit = self.plan.connect_timeout
        return math.inf if limit is None else begins_at + limit

    def _awaited(self, job: Job, now: float) -> Act | Pause:
        """A dial or a recovery is under way."""
        if now < job.ends_at:
            return Pause(None if job.ends_at == math.inf else job.ends_at - now)
        assert self.plan.connect_timeout is not None  # else it would never end
        return partial(self.overran, job, AttemptTimeout(self.plan.connect_timeout))

    def _launch(self, hand: Callable[[Job], Member], job: Job) -> None:
        job.member = hand(job)

    def _backing_off(self, now: float) -> Act | Pause:
        if self._job is not None:  # it recovers
            return self._awaited(self._job, now)
        if now < self._until and isinstance(self._step, Wait):
            return Pause(self._until - now, passes=True)
        if isinstance(self._step, Wait):
            self._took(self._link.woke(now), "")
        step = self._step
        if not isinstance(step, Recover):
            return Pause(step.seconds) if isinstance(step, Wait) else self._connecting(now)
        self._step = None
        recovery = self.plan.recovery
        if recovery is None or recovery.handler(step.action) is None:
            if self._endpoints is None or step.action is not Action.ROTATE_PROXY:  # else the next endpoint is the way
                self.story.unrecovered(now, step.action)
            self._took(self._link.recovered(step.generation, now), "")
            return self._connecting(now)
        # Its handler, or that of whoever recovers already, begins when the throttle allows.
        job = self._job = Job(step.generation, self._limit(now + recovery.flight.hold(now)), step.action)
        job.born = self._born
        self._recoveries += 1
        self.story.recovering(now, step.action)
        return partial(self._launch, self._hands.recover, job)

    def _beating(self, pulse: Pulse, now: float) -> Act | Pause:
        pulse.looked(now)
        if pulse.suspected(now):
            silent = PeerSilent(pulse.detector.interval * self.plan.misses)
            return partial(self.lost_of, self._link.generation, silent, cut_off=True)
        if pulse.due(now) and self._beat is None and self.lease is not None:
            if self._heard_at + pulse.detector.interval > now >= self._heard_at:  # not idle: the beat is put off
                pulse.beaten(self._heard_at)
            else:
                pulse.beaten(now)
                beat = self._beat = Job(self.lease.generation)
                return partial(self._launch, partial(self._probe, self.lease.conn), beat)
        return Pause(max(0.0, pulse.look_at - now))

    def _probe(self, conn: C, job: Job) -> Member:
        return self._hands.probe(job, conn)
