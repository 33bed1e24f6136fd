"""One operation on a managed connection, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from net.plans import plan_of

from resilient import Action, Classifier, OutcomeUnknown, Rule
from resilient.core.link import Dial
from resilient.drivers.loops.steps import Call, Join, Sleep
from resilient.net.connection.operation import Operation
from resilient.net.connection.state import ConnectionState
from resilient.net.connection.waiters import Waiters
from resilient.testing import FakeClock

ON = Classifier(
    Rule(BlockingIOError, Action.WAIT, delay=lambda error: 7.0, attempts=2),
    Rule(PermissionError, Action.RELOGIN),
    Rule(ConnectionError, Action.RECONNECT),
)


class Sleeper:
    """Something that waits."""

    def wake(self) -> bool:
        return True


class Used:
    """A connection that is up, and one operation on it, whose steps are answered by hand."""

    def __init__(self, function: Callable[[Any], Any] = str, *, idempotent: bool = False, on: object = ON) -> None:
        self.state: ConnectionState[Any] = ConnectionState(plan_of(on=on))
        with FakeClock():
            self.state.start()
        self.waiters = Waiters(self.state)
        self.function, self.idempotent = function, idempotent
        self.dialled("one")

    def dialled(self, conn: str) -> None:
        """A new connection is up."""
        self.state.clock.advance(10)  # type: ignore[attr-defined]
        due = self.state.due(self.state.clock.now())
        assert isinstance(due, Dial)
        job = self.state.begin_dial(due, float("inf"))
        assert job is not None
        job.over = True
        assert self.state.opened(job, conn)

    def after(self, error: Exception | None) -> Operation[Any, Any]:
        """The operation, whose first attempt raised this."""
        lease = None if error is None else self.waiters.enter()
        return Operation(self.state, self.waiters, self.function, self.idempotent, lease, error)


def test_an_operation_that_has_to_wait_is_called_with_the_connection() -> None:
    """And counted for as long as it runs."""
    used = Used(lambda conn: conn.upper())
    operation = used.after(None)
    call = next(steps := operation.steps(Sleeper))
    assert (Call, 1) == (type(call), used.waiters.operations)
    with pytest.raises(StopIteration):
        steps.send(call.fn())
    assert ("ONE", 0) == (operation.result(), used.waiters.operations)


def test_an_error_that_is_none_of_the_connections_is_the_callers() -> None:
    """It has lost nothing."""
    used = Used()
    operation = used.after(KeyError("own"))
    assert [] == list(operation.steps(Sleeper))
    with pytest.raises(KeyError, match="own"):
        operation.result()
    assert (0, "one") == (used.waiters.operations, used.state.current and used.state.current.conn)


def test_what_the_other_side_refused_for_now_is_tried_again_after_the_wait() -> None:
    """On the same connection, as often as its rule grants; then its error is the caller's, with a note."""
    used = Used()
    operation = used.after(BlockingIOError())
    steps = operation.steps(Sleeper)
    assert Sleep(7.0) == next(steps)
    assert isinstance(steps.send(None), Call)
    with pytest.raises(StopIteration):
        steps.throw(BlockingIOError("again"))
    with pytest.raises(BlockingIOError, match="again") as caught:
        operation.result()
    assert caught.value.__notes__[0].startswith("gave up after 2 attempts")


def test_what_may_have_been_done_is_not_done_twice() -> None:
    """Unless it is idempotent: then it waits for the next connection."""
    used = Used()
    with pytest.raises(OutcomeUnknown):
        list(used.after(ConnectionResetError()).steps(Sleeper))
    assert (None, 0) == (used.state.current, used.waiters.operations)


@pytest.mark.parametrize(("error", "idempotent"), [(ConnectionResetError(), True), (PermissionError(), False)])
def test_an_operation_goes_on_with_the_next_connection(error: Exception, idempotent: bool) -> None:
    """If it is idempotent, or was refused; it was under way all the time."""
    used = Used(idempotent=idempotent)
    operation = used.after(error)
    steps = operation.steps(Sleeper)
    assert (Join, 1, 1) == (type(next(steps)), used.waiters.operations, used.waiters.waiting)
    if isinstance(error, PermissionError):
        used.state.clock.advance(10)  # type: ignore[attr-defined]
        used.state.skip_recovery(used.state.due(used.state.clock.now()), 0.0)  # type: ignore[arg-type]
    used.dialled("two")
    call = steps.send(None)
    assert "two" == call.fn()
    with pytest.raises(StopIteration):
        steps.send("done")
    assert ("done", 0) == (operation.result(), used.waiters.operations)


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, GeneratorExit])
def test_an_operation_that_is_left_is_not_counted_any_more(leaving: type[BaseException]) -> None:
    """Wherever it was."""
    used = Used()
    steps = used.after(None).steps(Sleeper)
    next(steps)
    with pytest.raises(leaving):
        steps.throw(leaving())
    assert 0 == used.waiters.operations


def test_what_a_predicate_raises_is_the_callers() -> None:
    """In place of the error it was asked about."""

    def broken(error: Exception) -> bool:
        raise ZeroDivisionError

    used = Used(on=broken)
    operation = used.after(OSError())
    assert [] == list(operation.steps(Sleeper))
    with pytest.raises(ZeroDivisionError):
        operation.result()
