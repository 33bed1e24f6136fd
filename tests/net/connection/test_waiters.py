"""Who uses a connection, who waits for one, and who waits for the end of all use."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import lists, sampled_from
from threads import together

from resilient import DeadlineExceeded, ManagerClosed, Timeout
from resilient.core.link import State
from resilient.drivers.clock import SYSTEM
from resilient.drivers.loops.steps import Join, play
from resilient.drivers.loops.waiters import ThreadWaiter
from resilient.net.connection.job import Lease
from resilient.net.connection.waiters import Waiters
from resilient.testing import FakeClock


class Connection:
    """A state of a connection that is set by hand."""

    def __init__(self, state: State = State.CONNECTING) -> None:
        self.state = state
        self.up = Lease("conn", 1)
        self.released: list[Lease[str]] = []
        self.last_error: Exception | None = None

    @property
    def ready(self) -> Lease[str] | None:
        return self.up if self.state is State.READY else None

    def release(self, lease: Lease[str]) -> None:
        self.released.append(lease)

    def lease(self, *, entered: bool) -> Lease[str] | None:
        if self.state is State.CLOSED:
            raise ManagerClosed("db", "its manager is CLOSED")
        return self.up if entered and self.state is State.DRAINING else self.ready


class Sleeper:
    """Something that waits, and counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> bool:
        self.woken += 1
        return True


def plain(value: object) -> object:
    return value


def test_an_operation_begins_where_a_connection_is_up() -> None:
    """And nowhere else."""
    connection = Connection()
    waiters = Waiters(connection)
    assert (None, 0) == (waiters.enter(), waiters.operations)
    connection.state = State.READY
    assert (connection.up, 1) == (waiters.enter(), waiters.operations)
    waiters.leave(connection.up)
    assert 0 == waiters.operations


@pytest.mark.parametrize("state", [State.READY, State.FAILED, State.CLOSED])
def test_what_decides_a_wait_wakes_whoever_waits(state: State) -> None:
    """Each of them, to look again."""
    connection, sleepers = Connection(), [Sleeper(), Sleeper()]
    waiters = Waiters(connection)
    waits = [waiters.granted(lambda sleeper=sleeper: sleeper) for sleeper in sleepers]
    assert [Join, Join] == [type(next(wait)) for wait in waits]
    for state_now in (State.BACKING_OFF, State.CONNECTING):
        connection.state = state_now
        waiters.look_again()
    assert ([0, 0], 2) == ([sleeper.woken for sleeper in sleepers], waiters.waiting)
    connection.state = state
    waiters.look_again()
    assert [1, 1] == [sleeper.woken for sleeper in sleepers]
    for wait in waits:
        wait.close()
    assert (0, 0) == (waiters.waiting, waiters.operations)


def test_who_is_granted_a_connection_has_begun() -> None:
    """One that had begun before does not begin again, and may go on while others drain."""
    connection = Connection(State.READY)
    waiters = Waiters(connection)
    assert "conn" == play(waiters.granted(ThreadWaiter), SYSTEM, plain).conn
    connection.state = State.DRAINING
    assert "conn" == play(waiters.granted(ThreadWaiter, entered=True), SYSTEM, plain).conn
    assert (1, 0) == (waiters.operations, waiters.waiting)


def test_who_cannot_hope_is_told_so() -> None:
    """And nothing is left of it."""
    waiters = Waiters(Connection(State.CLOSED))
    with pytest.raises(ManagerClosed):
        play(waiters.granted(ThreadWaiter), SYSTEM, plain)
    assert (0, 0) == (waiters.operations, waiters.waiting)


def test_a_wait_ends_at_the_deadline() -> None:
    """With the last error as its cause; a connection that comes too late is not taken."""
    connection = Connection()
    connection.last_error = OSError("refused")
    waiters = Waiters(connection)

    def wait() -> None:
        steps = waiters.granted(Sleeper)
        assert 5.0 == next(steps).seconds
        clock.advance(5)
        connection.state = State.READY
        steps.send(None)

    with FakeClock() as clock, pytest.raises(DeadlineExceeded) as caught:
        Timeout(5).call(wait)
    assert connection.last_error is caught.value.__cause__
    assert (0, 0) == (waiters.operations, waiters.waiting)


def test_a_retired_connection_is_released_by_its_last_user() -> None:
    """Not before, and once."""
    connection = Connection(State.READY)
    waiters = Waiters(connection)
    for _ in range(2):
        waiters.enter()
    connection.up.retired = True
    waiters.part(connection.up)
    assert ([], 2) == (connection.released, waiters.operations)
    waiters.leave(connection.up)
    assert ([connection.up], 1) == (connection.released, waiters.operations)
    waiters.leave(None)
    assert ([connection.up], 0) == (connection.released, waiters.operations)


def test_who_follows_gets_each_new_connection() -> None:
    """Without using it; until there will be none."""
    connection, sleeper = Connection(State.READY), Sleeper()
    waiters = Waiters(connection)
    assert connection.up is play(waiters.following(ThreadWaiter, 0), SYSTEM, plain)
    next(steps := waiters.following(lambda: sleeper, 1))
    connection.up = Lease("next", 2)
    waiters.look_again()
    with pytest.raises(StopIteration) as end:
        steps.send(None)
    assert (connection.up, 1, 0, 0) == (end.value.value, sleeper.woken, waiters.operations, waiters.waiting)
    connection.state = State.CLOSED
    with pytest.raises(ManagerClosed):
        next(waiters.following(ThreadWaiter, 2))


def test_a_wait_may_have_a_limit_of_its_own() -> None:
    """The lesser one counts."""
    waiters = Waiters(Connection())
    with FakeClock() as clock:
        assert 3.0 == next(waiters.granted(Sleeper, limit=3.0)).seconds
        with pytest.raises(DeadlineExceeded):
            Timeout(2).call(lambda: play(waiters.granted(ThreadWaiter, limit=0.0), clock, plain))


def test_a_drain_ends_with_the_last_operation() -> None:
    """Whoever drains is woken by it."""
    connection, sleeper = Connection(State.READY), Sleeper()
    waiters = Waiters(connection)
    waiters.enter()
    waiters.enter()
    draining = waiters.drained(sleeper, 3.0, SYSTEM)
    assert Join(sleeper, 3.0, SYSTEM) == next(draining)
    waiters.leave(connection.up)
    assert 0 == sleeper.woken
    waiters.leave(connection.up)
    assert 1 == sleeper.woken
    with pytest.raises(StopIteration) as end:
        draining.send(None)
    assert end.value.value is True


@pytest.mark.parametrize("state", [State.READY, State.CLOSED])
def test_a_drain_does_not_wait_in_vain(state: State) -> None:
    """Where nothing is under way, or the end has come before it; that is told."""
    connection = Connection(State.READY)
    waiters = Waiters(connection)
    if state is State.CLOSED:
        waiters.enter()
    connection.state = state
    assert (state is State.READY) is play(waiters.drained(ThreadWaiter(), None, SYSTEM), SYSTEM, plain)


@given(lists(sampled_from(["enter", "leave", "up", "down", "drain"]), max_size=40))
def test_operations_are_counted_exactly(facts: list[str]) -> None:
    """Whatever the order: as many as have begun and not ended, and none begins without a connection."""
    connection, began = Connection(), 0
    waiters = Waiters(connection)
    for fact in facts:
        if fact == "enter":
            lease = waiters.enter()
            assert (lease is not None) == (connection.state is State.READY)
            began += lease is not None
        elif fact == "leave" and began:
            waiters.leave(connection.up)
            began -= 1
        elif fact != "leave":
            connection.state = {"up": State.READY, "down": State.BACKING_OFF, "drain": State.DRAINING}[fact]
            waiters.look_again()
        assert began == waiters.operations


def test_nobody_sleeps_through_the_connection() -> None:
    """However close a caller's look and the connection's coming are."""
    for _ in range(200):
        connection, got = Connection(), list[Any]()
        waiters = Waiters(connection)

        def work(n: int) -> None:
            if n:
                got.append(play(waiters.granted(ThreadWaiter), SYSTEM, plain))  # noqa: B023  # it ends in this turn
            else:
                connection.state = State.READY  # noqa: B023
                waiters.look_again()  # noqa: B023

        assert [] == together(3, work)
        assert (2, 0) == (waiters.operations, waiters.waiting)


def test_nothing_begins_behind_a_drain() -> None:
    """However close the two are: who has drained sees every operation, or it has not begun."""
    for _ in range(200):
        connection, begun = Connection(State.READY), list[bool]()
        waiters = Waiters(connection)

        def work(n: int) -> None:
            if n:
                begun.append(waiters.enter() is not None)  # noqa: B023
            else:
                connection.state = State.DRAINING  # noqa: B023
                steps = waiters.drained(ThreadWaiter(), 0.0, SYSTEM)  # noqa: B023
                if play(steps, SYSTEM, plain):
                    begun.append(False)  # noqa: B023

        assert [] == together(2, work)
        assert waiters.operations == sum(begun)
