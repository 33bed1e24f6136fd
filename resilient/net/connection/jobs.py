"""What the jobs of a manager do, step by step, and what they report; for tasks and threads alike."""

from __future__ import annotations

from functools import partial
from typing import Any, Generic, TypeVar, cast

from resilient.drivers.loops.base import Task
from resilient.drivers.loops.steps import Call, Steps
from resilient.drivers.retry.recovery import recover
from resilient.net.connection.job import Job, began
from resilient.net.connection.recovery import RecoveryPart
from resilient.net.connection.settings import CLOSE_TIMEOUT
from resilient.net.connection.state import ConnectionState

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

    def start(self, what: str, steps: Steps[Any, None], job: Job) -> Task:
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
        """Makes a connection, probes it, and lets the user prepare it."""
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
        assert job.action is not None  # it is a recovery
        handler = recovery.handler(job.action)
        assert handler is not None  # likewise
        part = RecoveryPart(job, recovery.flight, handler, self._state.clock)
        part.task = self.start("recovery", self._recover(job, part), job)
        return part

    def _dial(self, job: Job) -> Steps[Any, None]:
        state, plan = self._state, self._state.plan
        made: list[C] = []
        began(job, state)
        try:
            conn = cast("C", (yield Call(partial(plan.dial, job.endpoint) if plan.endpoints else plan.dial)))
            made.append(conn)
            state.made(job, conn)
            if plan.probe is not None:
                yield Call(partial(plan.probe, conn))
            if plan.on_connect is not None:
                yield Call(partial(plan.on_connect, conn))
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

    def _probe(self, job: Job, conn: C) -> Steps[Any, None]:
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

    def _discard(self, job: Job, conn: C) -> Steps[Any, None]:
        close = self._state.plan.close
        assert close is not None  # whoever calls this has looked
        began(job, self._state)
        try:
            yield Call(partial(close, conn), CLOSE_TIMEOUT)
        except Exception:
            return  # a connection that is gone seldom likes to be closed
        finally:
            job.over = True

    def _recover(self, job: Job, part: RecoveryPart) -> Steps[Any, None]:
        began(job, self._state)
        try:
            yield from recover(part, self.waiter)
        except BaseException as error:
            job.over = True
            self._interrupted(job, error)
            raise
        failure, part.failure = part.failure, None
        try:
            job.over = True
            self._state.recovered(job, failure)
        finally:
            del failure  # a frame that holds the error it raised is a cycle

    def _interrupted(self, job: Job, error: BaseException) -> None:
        """A job was cancelled, or its user code wants the program to end."""
        if isinstance(error, self.cancelled):
            self._state.dropped(job, error)
        else:
            self._state.close("a hook wanted the program to end")
