"""What becomes of one operation on a managed connection, after its first failure: the same for tasks and threads."""

from __future__ import annotations

from typing import Any

from resilient.core.action import Action
from resilient.core.run import Run, gave_up_text
from resilient.drivers.deadline import DEADLINE
from resilient.errors import OutcomeUnknown
from resilient.net.connection.events import note
from resilient.net.connection.jobs import Lease
from resilient.net.connection.reconcile import Steward

__all__ = ["Trouble"]

# These say that the other side did not do it.
REFUSED = frozenset({Action.WAIT, Action.ROTATE_PROXY, Action.RELOGIN})


class Trouble:
    """The decisions of one operation.

    Args:
        steward: of the connections it runs on.
        idempotent: whether it may be done twice.
    """

    __slots__ = ("_idempotent", "_run", "_steward")

    def __init__(self, steward: Steward[Any], idempotent: bool) -> None:
        self._steward = steward
        self._idempotent = idempotent
        link = steward.plan.link
        self._run = Run(link.run, steward.clock.now(), link.attempts)

    def failed(self, error: Exception, lease: Lease[Any]) -> float | None:
        """The operation raised: how long to wait before it is tried again, seconds; None: the error is the caller's.

        Raises:
            OutcomeUnknown: it was lost with its connection, and may have been done.
            Exception: what the user's own predicate raised about the error.
        """
        steward, run = self._steward, self._run
        judged: Exception | None = None
        try:
            verdict, judged = steward.judge(error)
            if judged is not error:
                raise judged
            if verdict.action is Action.FAIL:
                if run.failures:
                    self._gave_up(error, run.failures + 1, "classified as FAIL")
                return None
            if verdict.action is not Action.WAIT:
                steward.lost_by(verdict, lease, error)
                if not self._idempotent and verdict.action not in REFUSED:
                    raise OutcomeUnknown(steward.plan.name) from error
            # A wait for the connection is the link's to choose, and bounded where it is waited.
            run.outer = DEADLINE.get() if verdict.action is Action.WAIT else None
            stop = run.judged(verdict, steward.clock.now(), steward.clock)
            if stop is not None:
                self._gave_up(error, run.failures, stop.why)
                return None
            return run.wait if verdict.action is Action.WAIT else 0.0
        finally:
            del error, judged  # a frame that holds the error it raised is a cycle

    def _gave_up(self, error: Exception, failures: int, why: str) -> None:
        note(error, gave_up_text(failures, self._steward.clock.now() - self._run.started, why))
