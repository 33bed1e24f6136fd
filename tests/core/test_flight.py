"""Single flight: one recovers for all."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilient.core.flight import Flight, Part


def test_the_first_leads_and_the_others_join() -> None:
    """Of many that fail together one recovers."""
    flight = Flight(0)
    assert [Part.LEAD, Part.JOIN, Part.JOIN] == [flight.ask(0) for _ in range(3)]


def test_failures_on_an_older_connection_skip() -> None:
    """Whoever failed on what has been recovered since just tries again."""
    flight = Flight(0)
    flight.ask(0)
    flight.ended(1.0)
    assert [Part.SKIP, Part.LEAD, Part.SKIP] == [flight.ask(0), flight.ask(1), flight.ask(0)]


def test_an_abandoned_flight_is_led_by_the_next() -> None:
    """A cancelled leader leaves the generation as it was."""
    flight = Flight(0)
    flight.ask(0)
    flight.abandoned()
    assert (Part.LEAD, 0) == (flight.ask(0), flight.generation)


def test_throttle_keeps_recoveries_apart() -> None:
    """The first is immediate; the next waits for the rest of the throttle."""
    flight = Flight(5)
    assert 0.0 == flight.hold(100.0)
    flight.ask(0)
    flight.ended(100.0)
    assert [5.0, 3.0, 0.0] == [flight.hold(100.0), flight.hold(102.0), flight.hold(110.0)]


def test_another_clock_owes_nothing() -> None:
    """A recovery on a fake clock, or before one, leaves no wait of its instants behind."""
    flight = Flight(5)
    flight.ask(0)
    flight.ended(1e9)
    assert 0.0 == flight.hold(3.0)


class Crowd(RuleBasedStateMachine):
    """Any interleaving of callers that fail, join, leave and lead."""

    def __init__(self) -> None:
        super().__init__()
        self.flight = Flight(0)
        self.leaders = 0
        self.finished = 0

    @rule(age=st.integers(0, 2))
    def fails(self, age: int) -> None:
        born = max(0, self.flight.generation - age)
        part = self.flight.ask(born)
        if born < self.flight.generation:
            assert part is Part.SKIP
        elif self.leaders:
            assert part is Part.JOIN
        else:
            assert part is Part.LEAD
            self.leaders += 1

    @precondition(lambda self: self.leaders)
    @rule(cancelled=st.booleans())
    def leader_ends(self, cancelled: bool) -> None:
        self.leaders -= 1
        if cancelled:
            self.flight.abandoned()
        else:
            self.flight.ended(float(self.finished))
            self.finished += 1

    @invariant()
    def one_leader_and_one_generation_a_recovery(self) -> None:
        assert self.leaders <= 1
        assert self.finished == self.flight.generation


TestCrowd = Crowd.TestCase
