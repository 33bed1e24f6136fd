"""A manager's part in a recovery that it may share with others."""

from __future__ import annotations

from resilient.core.action import Action
from resilient.core.flight import Part
from resilient.drivers.clock import SYSTEM
from resilient.drivers.retry.single_flight import SingleFlight
from resilient.net.connection.job import Job
from resilient.net.connection.recovery import RecoveryPart
from resilient.testing import FakeClock


class Runs:
    """What runs a job, and how often it was woken and cancelled."""

    def __init__(self) -> None:
        self.woken = self.cancelled = 0

    def wake(self) -> None:
        self.woken += 1

    def cancel(self) -> None:
        self.cancelled += 1


def part_of(flight: SingleFlight, clock: FakeClock | None = None, ends_at: float = 30.0) -> tuple[RecoveryPart, Runs]:
    part, runs = RecoveryPart(Job(1, ends_at, Action.RELOGIN), flight, str, clock or SYSTEM), Runs()
    part.task = runs
    return part, runs


def test_one_leads_and_the_others_join() -> None:
    """Until the leader is done: then nobody needs to any more."""
    flight = SingleFlight(0)
    (leader, _), (other, runs) = part_of(flight), part_of(flight)
    assert [Part.LEAD, Part.JOIN] == [leader.ask(bool), other.ask(runs.wake)]
    assert "" == leader.run_handler()
    leader.finish(leader.ended(None))
    leader.finish(None)
    assert (1, Part.SKIP, 1) == (runs.woken, other.ask(runs.wake), flight.generation)


def test_a_failure_is_kept_for_whoever_reports_it() -> None:
    """The recovery is over all the same."""
    part, _ = part_of(SingleFlight(0))
    part.ask(bool)
    error = OSError()
    part.finish(part.ended(error))
    assert error is part.failure


def test_a_part_that_was_left_waits_no_more() -> None:
    """It is cancelled and woken, asks no more, and begins nothing."""
    flight = SingleFlight(0)
    (leader, _), (part, runs) = part_of(flight), part_of(flight)
    leader.ask(bool)
    part.ask(runs.wake)
    assert (True, None) == (part.goes_on(), part.patience())
    part.cancel()
    assert (1, 1, False, False) == (runs.cancelled, runs.woken, part.goes_on(), part.begins())
    assert Part.SKIP is part.ask(runs.wake)


def test_a_leader_that_was_left_goes_on_to_lead() -> None:
    """No other handler runs at the same time as one that cannot be stopped."""
    flight, clock = SingleFlight(0), FakeClock()
    part, _ = part_of(flight, clock)
    part.ask(bool)
    part.cancel()
    assert Part.JOIN is flight.ask(0, bool)
    part.finish(None)
    assert (0, Part.LEAD) == (flight.generation, flight.ask(0, bool))


def test_a_leader_whose_time_is_up_leads_no_more() -> None:
    """The recovery has failed for all who share it."""
    flight, clock = SingleFlight(5), FakeClock()
    part, _ = part_of(flight, clock)
    part.ask(bool)
    clock.advance(30)
    part.cancel()
    other, _ = part_of(flight, clock)
    assert (1, 5.0) == (flight.generation, other.hold())
