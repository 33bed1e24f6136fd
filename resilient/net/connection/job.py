"""Jobs, which a connection manager runs in the background, and leases, the connections that they are about."""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Generic, TypeVar

from resilient.core.action import Action
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.base import Task

__all__ = ["Job", "Lease", "began", "is_within", "running_job"]


C = TypeVar("C")


class Lease(Generic[C]):
    """A connection that is up, or was.

    Attributes:
        conn: what connect gave.
        generation: its number among the connections of its manager.
        users: operations that run on it.
        retired: whether it is closed as soon as nobody uses it: new operations get another one.
    """

    __slots__ = ("conn", "generation", "retired", "users")

    def __init__(self, conn: C, generation: int) -> None:
        self.conn = conn
        self.generation = generation
        self.users = 0
        self.retired = False


class Job:
    """A dial, a recovery, a probe, or the end of a connection.

    Attributes:
        generation: of the connection that it is about.
        ends_at: when it is given up, monotonic seconds.
        action: the recovery that it is; None for everything else.
        endpoint: where it dials.
        born: the generation of the recovery on which that began.
        task: what runs it; None before that.
        over: whether it has ended.
    """

    __slots__ = ("action", "born", "endpoint", "ends_at", "generation", "over", "task")

    def __init__(self, generation: int, ends_at: float = math.inf, action: Action | None = None) -> None:
        self.generation = generation
        self.ends_at = ends_at
        self.action = action
        self.endpoint: object = None
        self.born = 0
        self.task: Task | None = None
        self.over = False

    def cancel(self) -> None:
        """Ends it early, as far as it can be."""
        if self.task is not None:
            self.task.cancel()


# The job in which this context runs, and whose it is: what a hook does to its own manager must not wait for the hook's
# own end.
_RUNNING: ContextVar[tuple[object, Job] | None] = ContextVar("resilient.job", default=None)


def began(job: Job, owner: object) -> None:
    """A job of this owner begins, in this context."""
    _RUNNING.set((owner, job))
    # The deadline of whoever entered the manager is not the connection's.
    DEADLINE.set(None if job.ends_at == math.inf else job.ends_at)


def running_job() -> Job | None:
    """The job in which this code runs, whosever it is; None if it runs in none."""
    running = _RUNNING.get()
    return None if running is None else running[1]


def is_within(owner: object) -> bool:
    """Whether this code runs in a job of this owner that has not ended."""
    running = _RUNNING.get()
    return running is not None and running[0] is owner and not running[1].over
