"""What the jobs of a manager do, step by step, and what they report; for tasks and threads alike."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, cast

from resilient.core.flight import Part
from resilient.net.connection.job import Job, Task, began
from resilient.net.connection.recovery import RecoveryPart
from resilient.net.connection.settings import CLOSE_TIMEOUT
from resilient.net.connection.state import ConnectionState
from resilient.net.connection.steps import Call, Join, Sleep, Steps
from resilient.policies.recovery import Recovery

__all__ = ["BaseJobs"]

C = TypeVar("C")


class BaseJobs(Generic[C]):
    """Runs the jobs of one manager in the background; a subclass knows how.

    Args:
        state: of the connection, told how each job ended.

    Attributes:
        cancelled: what is raised where a job is cancelled.
    """

    cancelled: type[BaseException] | tuple[type[BaseException], ...] = ()

    def __init__(self, state: ConnectionState[C]) -> None:
        self._state = state

    def start(self, what: str, steps: Steps[None], job: Job) -> Task:
        """Runs a job in the background.

        Args:
            what: the kind of job, for names.
            steps: what it does.
            job: which it is.
        """
        raise NotImplementedError

    def waiter(self) -> Any:
        """Something that a job may wait for."""
        raise NotImplementedError

    def unwanted(self, conn: C) -> None:
        """Ends a connection that a dial made, and that nobody wants."""
        raise NotImplementedError

    def dial(self, job: Job) -> Task:
        """Makes a connection, and probes it."""
        return self.start("dial", self._dial(job), job)

    def probe(self, job: Job, conn: C) -> Task:
        """Asks a connection whether it lives."""
        return self.start("probe", self._probe(job, conn), job)

    def discard(self, conn: C) -> None:
        """Ends a connection in the background."""
        if self._state.plan.close is not None:
            job = Job(0)
            self.start("close", self._discard(job, conn), job)

    def recover(self, job: Job) -> Task:
        """Runs the handler of an action, or waits for whoever runs it already."""
        recovery = self._state.plan.recovery
        assert recovery is not None  # the reconciler has looked
        part = RecoveryPart(recovery.flight, self._state.clock, job.ends_at)
        part.task = self.start("recovery", self._recover(job, recovery, part), job)
        return part

    def _dial(self, job: Job) -> Steps[None]:
        state, plan = self._state, self._state.plan
        made: list[C] = []
        began(job, state)
        try:
            conn = cast("C", (yield Call(partial(plan.dial, job.endpoint) if plan.endpoints else plan.dial)))
            made.append(conn)
            state.made(job, conn)
            if plan.probe is not None:
                yield Call(partial(plan.probe, conn))
        except Exception as error:
            job.over = True
            state.dial_failed(job, error)
        except BaseException as error:
            job.over = True
            self._interrupted(job, error)
            raise
        else:
            job.over = True
            if state.opened(job, conn):
                made.clear()
        finally:
            for conn in made:
                self.unwanted(conn)

    def _probe(self, job: Job, conn: C) -> Steps[None]:
        probe, failure = self._state.plan.probe, None
        assert probe is not None  # heartbeats need one
        began(job, self._state)
        try:
            yield Call(partial(probe, conn))
        except Exception as error:
            failure = error
        finally:
            job.over = True
        try:
            self._state.probed(job, failure)
        finally:
            del failure  # a frame that holds the error it raised is a cycle

    def _discard(self, job: Job, conn: C) -> Steps[None]:
        close = self._state.plan.close
        assert close is not None  # whoever calls this has looked
        began(job, self._state)
        try:
            yield Call(partial(close, conn), CLOSE_TIMEOUT, self._state.clock)
        except Exception:
            return  # a connection that is gone seldom likes to be closed
        finally:
            job.over = True

    def _recover(self, job: Job, recovery: Recovery, part: RecoveryPart) -> Steps[None]:
        assert job.action is not None  # it is a recovery
        handler, failure = recovery.handler(job.action), None
        assert handler is not None  # the reconciler has looked
        began(job, self._state)
        try:
            while not part.left:
                waiter = self.waiter()
                asked = part.ask(job.born, waiter)
                if asked is Part.LEAD:
                    yield from self._lead(recovery, part, waiter, handler)
                if asked is not Part.JOIN:
                    break
                try:
                    if not part.left:  # else nobody would wake it again
                        yield Join(waiter)
                finally:
                    part.leave(waiter.wake)
        except Exception as error:
            failure = error
        except BaseException as error:
            job.over = True
            self._interrupted(job, error)
            raise
        try:
            job.over = True
            self._state.recovered(job, failure)
        finally:
            del failure  # a frame that holds the error it raised is a cycle

    def _lead(self, recovery: Recovery, part: RecoveryPart, waiter: Any, handler: Callable[[], object]) -> Steps[None]:
        clock, flight, ended_at = self._state.clock, recovery.flight, None
        unmark = flight.lead()
        try:
            hold = flight.hold(clock.now())
            if hold:
                yield Sleep(hold, clock, waiter)
            if part.left:
                return
            try:
                yield Call(handler)
            except Exception:
                ended_at = clock.now()
                raise
            ended_at = clock.now()
        finally:
            unmark()
            part.finish(ended_at)

    def _interrupted(self, job: Job, error: BaseException) -> None:
        """A job was cancelled, or its user code wants the program to end."""
        if isinstance(error, self.cancelled):
            self._state.dropped(job, error)
        else:
            self._state.close("a hook wanted the program to end")
