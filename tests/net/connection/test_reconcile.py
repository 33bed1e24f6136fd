"""What a manager's driver begins, with somebody else to run it."""

from __future__ import annotations

from typing import Any

from net.plans import plan_of

from resilient import Action, Classifier, Recovery, Rule
from resilient.core.link import State
from resilient.net.connection.job import Job
from resilient.net.connection.reconcile import Pause, Reconciler
from resilient.net.connection.state import ConnectionState
from resilient.testing import FakeClock


class Runner:
    """Runs nothing, and writes down what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.jobs: list[Job] = []

    def _run(self, what: str, job: Job) -> Runner:
        self.asked.append(what)
        self.jobs.append(job)
        return self

    def dial(self, job: Job) -> Runner:
        return self._run("dial", job)

    def recover(self, job: Job) -> Runner:
        return self._run("recover", job)

    def probe(self, job: Job, conn: str) -> Runner:
        return self._run(f"probe {conn}", job)

    def discard(self, conn: str) -> None:
        self.asked.append(f"close {conn}")

    def tell(self) -> None:
        self.asked.append("tell")

    def cancel(self) -> None:
        self.asked.append("cancel")


class Driven:
    """A reconciler whose turns are taken by hand."""

    def __init__(self, **plan: Any) -> None:
        self.clock, self.runner, self.woken = FakeClock(), Runner(), 0
        self.state: ConnectionState[str] = ConnectionState(plan_of(**plan))
        self.reconciler = Reconciler(self.state, self.runner)
        self.state.watch(self.reconciler.stir)
        with self.clock:
            self.state.start()

    def wake(self) -> None:
        self.woken += 1

    def turn(self) -> tuple[list[Any], Pause | None]:
        """What is asked for in one turn, but for the telling of events, and the pause after it."""
        del self.runner.asked[:]
        pause = self.reconciler.turn(self.wake)
        return [asked for asked in self.runner.asked if asked != "tell"], pause

    def ends(self, conn: str = "", error: Exception | None = None) -> None:
        """The last job ends."""
        job = self.runner.jobs[-1]
        job.over = True
        if conn:
            self.state.opened(job, conn)
        else:
            self.state.dial_failed(job, error)


def test_a_connection_is_dialled_once() -> None:
    """While the dial is under way there is nothing else to do."""
    driven = Driven(connect_timeout=5.0)
    assert (["dial"], Pause(5.0)) == driven.turn()
    driven.clock.advance(2)
    assert ([], Pause(3.0)) == driven.turn()


def test_a_connection_that_is_up_leaves_nothing_to_do() -> None:
    """Until somebody says that it was lost: then it is closed, and dialled after a wait, which virtual time passes."""
    driven = Driven()
    driven.turn()
    driven.ends("one")
    assert (1, ([], Pause())) == (driven.woken, driven.turn())
    driven.state.lost(OSError(), "one")
    assert (["close one"], Pause(10.0, passes=True)) == driven.turn()
    driven.clock.advance(10)
    assert (["dial"], Pause()) == driven.turn()


def test_a_dial_that_takes_too_long_is_given_up() -> None:
    """It is cancelled, and the next one waits its turn."""
    driven = Driven(connect_timeout=5.0)
    driven.turn()
    driven.clock.advance(5)
    assert (["cancel"], Pause(10.0, passes=True)) == driven.turn()
    assert "5" in str(driven.state.last_error)


def test_a_recovery_is_run_before_the_dial() -> None:
    """If there is a handler."""
    on = Classifier(Rule(PermissionError, Action.RELOGIN))
    driven = Driven(on=on, recovery=Recovery(relogin=str), connect_timeout=5.0)
    driven.turn()
    driven.ends(error=PermissionError())
    driven.turn()
    driven.clock.advance(10)
    assert (["recover"], Pause(5.0)) == driven.turn()
    driven.state.recovered(driven.runner.jobs[-1], None)
    assert (["dial"], Pause(5.0)) == driven.turn()


def test_without_a_handler_the_dial_follows() -> None:
    """At once."""
    driven = Driven(on=Classifier(Rule(PermissionError, Action.RELOGIN)))
    driven.turn()
    driven.ends(error=PermissionError())
    driven.turn()
    driven.clock.advance(10)
    assert (["dial"], Pause()) == driven.turn()


def test_an_idle_connection_is_probed() -> None:
    """And lost when it is silent for too long; the probe that hangs is cancelled."""
    driven = Driven(heartbeat=10.0, probe=str)
    driven.turn()
    driven.ends("one")
    asked: list[Any] = []
    for _ in range(6):
        asked += driven.turn()[0]
        driven.clock.advance(5)
    assert ["probe one"] == asked
    assert (["close one", "cancel"], State.BACKING_OFF) == (driven.turn()[0], driven.state.state)


def test_events_are_told_first() -> None:
    """Before what there is to do."""
    driven = Driven(listeners=(print,))
    driven.turn()
    assert ["tell", "dial"] == driven.runner.asked


def test_a_manager_that_is_closed_closes_its_connection() -> None:
    """And then there is nothing left."""
    driven = Driven()
    driven.turn()
    driven.ends("one")
    driven.state.close()
    assert (["close one"], None) == driven.turn()


def test_a_dial_under_way_is_cancelled_at_the_end() -> None:
    """What it makes all the same is closed by it."""
    driven = Driven()
    driven.turn()
    driven.state.close()
    assert (["cancel"], None) == driven.turn()
    assert not driven.state.opened(driven.runner.jobs[-1], "late")


def test_nobody_is_woken_before_the_first_turn() -> None:
    """There is nobody."""
    driven = Driven()
    driven.reconciler.stir()
    assert 0 == driven.woken
