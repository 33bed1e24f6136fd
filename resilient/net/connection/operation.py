"""One operation on a managed connection: whether it is tried again, when, and by which error it ends otherwise."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar, cast

from resilient.core.action import Action
from resilient.core.notes import note
from resilient.core.run import Run, gave_up_text
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.loops.steps import Call, Sleep, Steps
from resilient.drivers.loops.waiters import Wakeable
from resilient.errors import OutcomeUnknown, PolicyTimeout
from resilient.net.connection.job import Lease
from resilient.net.connection.state import ConnectionState
from resilient.net.connection.waiters import Waiters

__all__ = ["Operation"]

C = TypeVar("C")
T = TypeVar("T")
W = TypeVar("W", bound=Wakeable)

# These say that the other side did not do it.
REFUSED = frozenset({Action.WAIT, Action.ROTATE_PROXY, Action.RELOGIN})


class Operation(Generic[C, T]):
    """One operation that did not work at the first attempt, or that has to wait for a connection.

    Args:
        state: of the connections it runs on.
        waiters: among which it is counted.
        function: called with a connection.
        idempotent: whether it may be done twice.
        lease: the connection on which it was tried; None if there was none.
        error: what that attempt raised.
    """

    __slots__ = ("_error", "_function", "_idempotent", "_lease", "_run", "_state", "_value", "_waiters")

    def __init__(
        self,
        state: ConnectionState[C],
        waiters: Waiters[C],
        function: Callable[[C], T],
        idempotent: bool,
        lease: Lease[C] | None = None,
        error: Exception | None = None,
    ) -> None:
        self._state = state
        self._waiters = waiters
        self._function = function
        self._idempotent = idempotent
        self._lease = lease
        self._error = error
        self._value: T | None = None
        self._run: Run | None = None

    def steps(self, waiter: Callable[[], W]) -> Steps[W, None]:
        """All that follows, until there is a result.

        Args:
            waiter: makes what the caller waits for.

        Raises:
            OutcomeUnknown: it was lost with its connection, and may have been done.
            DeadlineExceeded: no connection came in time.
            NotConnected, Exception: there will be none.
        """
        lease = self._lease
        entered = lease is not None
        try:
            while True:
                if lease is not None:
                    wait = self._failed(lease)
                    if wait is None:
                        return
                    self._waiters.part(lease)
                    lease = None
                    if wait:
                        yield Sleep(wait)
                lease = yield from self._waiters.granted(waiter, entered)
                entered = True
                try:
                    self._value = yield Call(partial(self._function, lease.conn))
                except Exception as error:
                    self._error = error
                except BaseException:
                    self._state.cut_off(lease)
                    raise
                else:
                    self._state.heard()
                    return
        finally:
            if entered:
                self._waiters.leave(lease)

    def result(self) -> T:
        """What the operation came to in the end.

        Raises:
            Exception: its own error, or what the user's predicate raised about that.
        """
        error, self._error = self._error, None
        if error is None:
            return cast("T", self._value)
        try:
            raise error
        finally:
            del error  # a frame that holds the error it raised is a cycle

    def _failed(self, lease: Lease[C]) -> float | None:
        """An attempt raised: how long to wait before the next, seconds; None: the error is kept, for the caller.

        Raises:
            OutcomeUnknown: it was lost with its connection, and may have been done.
        """
        state, link = self._state, self._state.plan.link
        run = self._run = self._run or Run(link.run, state.clock.now(), link.attempts)
        error, self._error = self._error, None
        assert error is not None  # it raised
        judged: Exception | None = None
        try:
            verdict, judged = state.judge(error)
            if judged is not error:
                self._error = judged
                return None
            if verdict.action is Action.FAIL:
                if run.failures:
                    self._gave_up(run, error, run.failures + 1, "classified as FAIL")
                if isinstance(error, PolicyTimeout):
                    state.cut_off(lease)
                self._error = error
                return None
            if verdict.action is not Action.WAIT:
                state.lost_by(verdict, lease, error)
                if not self._idempotent and verdict.action not in REFUSED:
                    raise OutcomeUnknown(state.plan.name) from error
            # A wait for the connection is the link's to choose, and bounded where it is waited.
            run.outer = DEADLINE.get() if verdict.action is Action.WAIT else None
            stop = run.judged(verdict, state.clock.now(), state.clock)
            if stop is not None:
                self._gave_up(run, error, run.failures, stop.why)
                self._error = error
                return None
            return run.wait if verdict.action is Action.WAIT else 0.0
        finally:
            del error, judged  # a frame that holds the error it raised is a cycle

    def _gave_up(self, run: Run, error: Exception, failures: int, why: str) -> None:
        note(error, gave_up_text(failures, self._state.clock.now() - run.started, why), once=True)
