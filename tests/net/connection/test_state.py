"""The state of a managed connection: facts in, and what is up, due and unwanted out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from hypothesis.strategies import sampled_from
from net.plans import plan_of

from resilient import Action, AttemptTimeout, Classifier, ManagerClosed, NotConnected, PeerSilent, Recovery, Rule
from resilient.core import backoff
from resilient.core.link import Dial, Recover, State, Wait
from resilient.net.connection.job import Job, began
from resilient.net.connection.state import ConnectionState
from resilient.testing import FakeClock

FOREVER = float("inf")


class Held:
    """A state under a fake clock, and what it told its watcher."""

    def __init__(self, **plan: Any) -> None:
        self.clock = FakeClock()
        self.state: ConnectionState[Any] = ConnectionState(plan_of(**plan))
        self.told = 0
        self.state.watch(self.watch)
        with self.clock:
            self.state.start()

    def watch(self) -> None:
        self.told += 1

    def dial(self) -> Job:
        """A dial that has begun."""
        due = self.due()
        assert isinstance(due, Dial)
        job = self.state.begin_dial(due, FOREVER)
        assert job is not None
        return job

    def due(self) -> Any:
        return self.state.due(self.clock.now())

    def up(self, conn: str = "one") -> Job:
        """A connection that is up."""
        job = self.dial()
        self.state.made(job, conn)
        job.over = True
        assert self.state.opened(job, conn)
        return job


def test_a_dial_that_succeeds_makes_it_ready() -> None:
    """Its connection is what operations get; nothing is due any more."""
    held = Held()
    job = held.dial()
    assert (job, None) == (held.due(), held.state.ready)
    held.state.made(job, "one")
    job.over = True
    assert held.state.opened(job, "one")
    lease = held.state.current
    assert lease is not None
    assert ("one", 1) == (lease.conn, lease.generation)
    assert (lease, None, State.READY) == (held.state.ready, held.due(), held.state.state)
    assert (lease, 1) == (held.state.lease(entered=False), held.told)


def test_a_dial_that_fails_is_waited_for_and_made_again() -> None:
    """The wait is the plan's; virtual time is told of it."""
    held = Held()
    job = held.dial()
    job.over = True
    held.state.dial_failed(job, OSError("refused"))
    assert (Wait(10.0), [10.0], 1) == (held.due(), held.clock.sleeps, held.told)
    held.clock.advance(4)
    assert Wait(6.0) == held.due()
    held.clock.advance(6)
    assert Dial(2) == held.due()


def test_the_first_fact_about_a_connection_ends_it() -> None:
    """What is told of it afterwards is history; it is to be closed once."""
    held = Held()
    held.up()
    for _ in range(3):
        held.state.lost(ConnectionResetError(), "one")
    assert (State.BACKING_OFF, None, None) == (held.state.state, held.state.current, held.state.ready)
    assert [("one",), ()] == [held.state.take_unwanted(), held.state.take_unwanted()]
    assert 1 == held.state.stats(operations=0, waiting=0).losses


def test_a_loss_may_be_told_before_the_dial_says_so() -> None:
    """Then the dial has failed, and its connection is the job's to close."""
    held = Held()
    job = held.dial()
    held.state.lost(ConnectionResetError("early"), "one")
    job.over = True
    assert not held.state.opened(job, "one")
    assert ("early", 0) == (str(held.state.last_error), len(held.state.take_unwanted()))


def test_a_dial_that_was_given_up_makes_nothing_ready() -> None:
    """Its job is stale, and its connection unwanted."""
    held = Held(waits=plan_of().link.backoff)
    job = held.dial()
    held.state.overran(job, TimeoutError("too long"))
    assert (job, None) == (held.state.take_stale_job(), held.state.take_stale_job())
    assert not held.state.opened(job, "late")
    assert State.BACKING_OFF is held.state.state


def test_a_link_that_gave_up_says_why() -> None:
    """Its last error, as often as it is asked, with a note; resumed, it dials again."""
    held = Held(attempts=1)
    job = held.dial()
    job.over = True
    held.state.dial_failed(job, OSError("refused"))
    for _ in range(3):
        with pytest.raises(OSError, match="refused") as caught:
            held.state.lease(entered=False)
    assert ["gave up after 1 attempt in 0.00 s: attempts exhausted"] == caught.value.__notes__
    held.state.resume()
    assert Dial(2) == held.due()


def test_a_link_that_ends_without_an_error_says_so() -> None:
    """There is none to raise."""
    held = Held(attempts=1)
    held.up()
    held.state.lost(None, "one")
    with pytest.raises(NotConnected):
        held.state.lease(entered=True)


@pytest.mark.parametrize("end", [ConnectionState.drain, ConnectionState.close])
def test_no_operation_begins_at_the_end(end: Callable[[ConnectionState[Any]], None]) -> None:
    """One that has begun goes on while there is a connection."""
    held = Held()
    held.up()
    end(held.state)
    with pytest.raises(ManagerClosed):
        held.state.lease(entered=False)
    assert held.state.ready is None
    if end is ConnectionState.drain:
        assert held.state.current is held.state.lease(entered=True)
    for ask in (held.state.resume, held.state.reconnect):
        with pytest.raises(ManagerClosed):
            ask()


def test_a_hook_does_not_wait_for_what_it_is_to_bring_about() -> None:
    """Its own dial is told so; others wait."""
    held = Held()
    job = held.dial()
    assert held.state.lease(entered=False) is None
    began(job, held.state)
    with pytest.raises(NotConnected, match="by the very hook"):
        held.state.lease(entered=False)


def test_a_recovery_comes_before_the_dial() -> None:
    """Once; whether it worked or not, the dial follows."""
    relogin = Classifier(Rule(PermissionError, Action.RELOGIN))
    held = Held(on=relogin, recovery=Recovery(relogin=str))
    job = held.dial()
    job.over = True
    held.state.dial_failed(job, PermissionError())
    held.clock.advance(10)
    step = held.due()
    assert isinstance(step, Recover)
    recovery = held.state.begin_recovery(step, FOREVER, 10.0)
    assert recovery is not None
    assert (recovery, None) == (held.due(), held.state.begin_recovery(step, FOREVER, 10.0))
    held.state.recovered(recovery, OSError("no"))
    held.state.recovered(recovery, None)
    assert (Dial(2), 1) == (held.due(), held.state.stats(operations=0, waiting=0).recoveries)


def test_a_recovery_without_a_handler_is_skipped() -> None:
    """The dial follows at once; again, it is history."""
    held = Held(on=Classifier(Rule(PermissionError, Action.RELOGIN)))
    job = held.dial()
    job.over = True
    held.state.dial_failed(job, PermissionError())
    held.clock.advance(10)
    step = held.due()
    held.state.skip_recovery(step, 10.0)
    held.state.skip_recovery(step, 10.0)
    assert Dial(2) == held.due()


def test_a_dial_begins_only_if_it_is_still_wanted() -> None:
    """Not for a connection that is history."""
    held = Held()
    due = held.due()
    held.state.close()
    assert (None, None) == (held.state.begin_dial(due, FOREVER), held.due())


def test_a_heartbeat_asks_an_idle_connection() -> None:
    """One at a time; its answer is a sign of life, its failure the end."""
    held = Held(heartbeat=10.0, probe=str)
    assert held.state.beat(0.0) is None
    held.up()
    assert 5.0 == held.state.beat(held.clock.now())
    held.clock.advance(5)
    held.state.beat(held.clock.now())
    held.clock.advance(5)
    probe = held.state.beat(held.clock.now())
    assert isinstance(probe, Job)
    assert isinstance(held.state.beat(held.clock.now()), float)
    held.state.probed(probe, None)
    held.state.probed(probe, OSError("late"))
    assert State.READY is held.state.state
    for _ in range(2):
        held.clock.advance(5)
        probe = held.state.beat(held.clock.now())
    assert isinstance(probe, Job)
    held.state.probed(probe, OSError("no answer"))
    assert (State.BACKING_OFF, "no answer") == (held.state.state, str(held.state.last_error))


def test_a_silent_peer_is_found_out() -> None:
    """After as many intervals as the plan says; a probe that hangs is stale by then."""
    held = Held(heartbeat=10.0, probe=str)
    held.up()
    found: list[Any] = []
    for _ in range(6):
        held.clock.advance(5)
        found.append(held.state.beat(held.clock.now()))
    assert (PeerSilent, 30.0) == (type(found[-1]), found[-1].seconds)
    held.state.lost_of(1, found[-1], cut_off=True)
    assert isinstance(held.state.take_stale_job(), Job)


def test_a_dial_that_was_cancelled_by_its_own_code_has_failed() -> None:
    """One that its manager cancelled is history."""
    held = Held()
    job = held.dial()
    job.over = True
    held.state.dropped(job, KeyboardInterrupt())
    assert "its dial was cancelled by KeyboardInterrupt" in str(held.state.last_error)
    held.state.dropped(job, KeyboardInterrupt())
    assert 1 == held.state.stats(operations=0, waiting=0).failures


def test_a_connection_that_nobody_wants_is_to_be_closed() -> None:
    """Whoever made it says so."""
    held = Held()
    held.state.discard("late")
    assert [("late",), ()] == [held.state.take_unwanted(), held.state.take_unwanted()]


@pytest.mark.parametrize("users", [0, 1])
def test_a_connection_that_is_renewed_is_closed_when_it_is_unused(users: int) -> None:
    """Those who use it end there; it counts as no loss."""
    held = Held()
    held.up()
    lease = held.state.current
    assert lease is not None
    lease.users = users
    held.state.renew()
    assert (None, True) == (held.state.ready, lease.retired)
    assert ("one",)[: 1 - users] == held.state.take_unwanted()
    held.state.release(lease)
    held.state.release(lease)
    assert ("one",)[:users] == held.state.take_unwanted()
    assert (Dial, 0) == (type(held.due()), held.state.stats(operations=0, waiting=0).losses)


def test_what_is_still_used_is_closed_at_the_end() -> None:
    """Once."""
    held = Held()
    held.up()
    lease = held.state.current
    assert lease is not None
    lease.users = 1
    held.state.renew()
    held.state.close()
    held.state.release(lease)
    assert [("one",), ()] == [held.state.take_unwanted(), held.state.take_unwanted()]


@pytest.mark.parametrize("on_cancel", ["retire", "keep"])
def test_a_connection_whose_call_was_cut_off(on_cancel: str) -> None:
    """It is retired, unless its user says that it may be kept; of an old one it changes nothing."""
    held = Held(on_cancel=on_cancel)
    held.up()
    lease = held.state.current
    assert lease is not None
    held.state.cut_off(lease)
    held.state.cut_off(lease)
    assert (on_cancel == "keep") == (held.state.ready is lease)


def test_a_connection_grows_old() -> None:
    """From when it came up."""
    held = Held(max_age=60.0)
    assert held.state.age_left(0.0) is None
    held.up()
    held.clock.advance(20)
    assert (40.0, None) == (held.state.age_left(held.clock.now()), Held().state.age_left(0.0))


@pytest.mark.parametrize("busy", [True, False])
def test_a_busy_connection_is_not_probed(busy: bool) -> None:
    """Unless that is asked for; nor does it grow suspicious."""
    held = Held(heartbeat=10.0, probe=str, probe_when_busy=busy)
    held.up()
    assert held.state.current is not None
    held.state.current.users = 1
    found = []
    for _ in range(6):
        held.clock.advance(5)
        found.append(held.state.beat(held.clock.now()))
    assert busy == any(isinstance(each, Job) for each in found)
    assert busy == isinstance(found[-1], PeerSilent)


def test_all_endpoints_are_asked_before_it_waits() -> None:
    """The backoff grows by rounds; each dial counts."""
    held = Held(endpoints=("a", "b", "c"), waits=backoff.exponential(10))
    asked = []
    for _ in range(2):
        for _ in range(3):
            job = held.dial()
            asked.append(job.endpoint)
            job.over = True
            held.state.dial_failed(job, ConnectionRefusedError())
        held.clock.advance(held.due().seconds)
    assert (["a", "b", "c"] * 2, [10.0, 20.0]) == (asked, held.clock.sleeps)


@pytest.mark.parametrize(("passes", "by_hand", "endpoint"), [(30, False, "b"), (61, False, "a"), (30, True, "a")])
def test_a_preferred_endpoint_is_forgiven(passes: float, by_hand: bool, endpoint: str) -> None:
    """After a while, or by hand."""
    held = Held(endpoints=("a", "b"), stable_after=5.0)
    job = held.dial()
    job.over = True
    held.state.dial_failed(job, ConnectionRefusedError())
    held.up()
    held.clock.advance(passes)
    if by_hand:
        held.state.reconnect()
    else:
        held.state.renew()
    assert endpoint == held.dial().endpoint


class Facts(RuleBasedStateMachine):
    """Any order of facts."""

    def __init__(self) -> None:
        super().__init__()
        self.held = Held(waits=plan_of().link.backoff, stable_after=5.0)
        self.jobs: list[Job] = []
        self.made: list[str] = []
        self.closed: list[str] = []

    @rule()
    def dial(self) -> None:
        due = self.held.due()
        if isinstance(due, Dial):
            job = self.held.state.begin_dial(due, FOREVER)
            assert job is not None
            self.jobs.append(job)

    @rule(works=sampled_from([True, True, False]), late=sampled_from([False, False, True]))
    def ends(self, works: bool, late: bool) -> None:
        if not self.jobs:
            return
        job, state = self.jobs.pop(0), self.held.state
        if late:
            state.overran(job, TimeoutError())
        if not works:
            job.over = True
            state.dial_failed(job, OSError())
            return
        conn = f"conn {len(self.made)}"
        self.made.append(conn)
        state.made(job, conn)
        job.over = True
        if not state.opened(job, conn):
            self.closed.append(conn)

    @rule(error=sampled_from([None, OSError()]))
    def lost(self, error: Exception | None) -> None:
        if self.made:
            self.held.state.lost(error, self.made[-1])

    @rule()
    def turn(self) -> None:
        self.closed += self.held.state.take_unwanted()
        self.held.state.take_stale_job()
        self.held.clock.advance(3)

    @rule()
    def reconnect(self) -> None:
        if self.held.state.state is not State.CLOSED:
            self.held.state.reconnect()

    @invariant()
    def each_connection_is_in_one_place(self) -> None:
        """Up, or closed, or still to be closed; never handed out once it is history."""
        state = self.held.state
        up = [] if state.current is None else [state.current.conn]
        assert not set(up) & set(self.closed)
        assert len(self.closed) == len(set(self.closed))
        assert state.ready in (None, state.current)
        assert (state.ready is not None) == (state.state is State.READY)

    def teardown(self) -> None:
        state = self.held.state
        state.close()
        while left := state.take_unwanted():
            self.closed += left
        assert sorted(self.made) == sorted(self.closed)


Facts.TestCase.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
TestFacts = Facts.TestCase


def test_a_renewal_without_a_connection_is_a_dial_at_once() -> None:
    """There is nothing to be used up."""
    held = Held()
    held.up()
    held.state.lost(OSError("gone"), "one")
    held.state.renew()
    assert isinstance(held.due(), Dial)


def test_a_heartbeat_that_could_not_be_sent_is_asked_for_again() -> None:
    """For want of a thread, say; of another heartbeat nothing is known."""
    held = Held(heartbeat=10.0, probe=str)
    held.up()
    for _ in range(2):
        held.clock.advance(5)
        probe = held.state.beat(held.clock.now())
    assert isinstance(probe, Job)
    held.state.unprobed(Job(1))
    assert isinstance(held.state.beat(held.clock.now()), float)  # that one is still out
    held.state.unprobed(probe)
    for _ in range(2):
        held.clock.advance(5)
        again = held.state.beat(held.clock.now())
    assert isinstance(again, Job)


def test_a_block_that_ran_out_of_time_is_a_cut() -> None:
    """What it asked may still be answered, to nobody."""
    held = Held(on=Classifier(Rule(AttemptTimeout, Action.FAIL)))
    held.up()
    lease = held.state.current
    assert lease is not None
    held.state.noticed(AttemptTimeout(1), lease)
    assert lease.retired


def test_a_dial_that_succeeds_as_its_time_is_up_has_succeeded() -> None:
    """Whoever watched its time comes a moment too late."""
    held = Held()
    job = held.up()
    held.state.overran(job, AttemptTimeout(5))
    assert (State.READY, 0) == (held.state.state, held.state.stats(operations=0, waiting=0).failures)
