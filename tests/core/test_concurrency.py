"""Permits come back whatever happens, and what calls took reaches the algorithm."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.core.concurrency import Algorithm, Concurrency, ConcurrencyMetrics
from resilient.core.limits import AIMD, Gradient2
from resilient.core.vegas import Vegas


class Told:
    """An algorithm that only remembers."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.samples: list[tuple[float, int, bool]] = []

    def sampled(self, rtt: float, inflight: int, dropped: bool) -> None:
        self.samples.append((rtt, inflight, dropped))


def test_no_more_than_the_limit_run() -> None:
    """Tickets count up to the limit; then nobody is admitted, and that is counted."""
    gate = Concurrency(Told(2))
    assert [1, 2, None, None] == [gate.admit() for _ in range(4)]
    assert (2, 2) == (gate.inflight, gate.rejected)


@pytest.mark.parametrize("dropped", [False, True])
def test_a_done_call_is_a_sample(dropped: bool) -> None:
    """Its duration, how many ran when it started, and whether it was dropped."""
    told = Told(3)
    gate = Concurrency(told)
    gate.admit()
    ticket = gate.admit()
    gate.admit()
    assert ticket is not None
    gate.done(ticket, 0.5, dropped)
    assert ([(0.5, 2, dropped)], 2) == (told.samples, gate.inflight)


def test_a_forgotten_call_is_none() -> None:
    """Only its permit comes back."""
    told = Told(1)
    gate = Concurrency(told)
    ticket = gate.admit()
    assert ticket is not None
    gate.forgotten(ticket)
    assert ([], 1) == (told.samples, gate.admit())


def test_an_undone_call_leaves_no_trace() -> None:
    """Its permit comes back, and no count tells of it."""
    told = Told(1)
    gate = Concurrency(told)
    before = gate.metrics()
    ticket = gate.admit()
    assert ticket is not None
    gate.undone(ticket)
    assert ([], before, 1) == (told.samples, gate.metrics(), gate.admit())


def test_rejections_teach_nothing() -> None:
    """What never ran took no time."""
    told = Told(0)
    Concurrency(told).admit()
    assert [] == told.samples


def test_a_lower_limit_takes_nothing_away() -> None:
    """Running calls go on; the next is admitted when fewer run than may."""
    told = Told(3)
    gate = Concurrency(told)
    for _ in range(3):
        gate.admit()
    told.limit = 2
    answers = [gate.admit()]
    for _ in range(2):
        gate.forgotten(1)
        answers.append(gate.admit())
    assert [None, None, 2] == answers
    assert 2 == gate.limit


def test_a_permit_that_is_not_out_cannot_come_back() -> None:
    """A driver that gives one back twice hears of it, and no limit is raised by it."""
    gate = Concurrency(Told(1))
    with pytest.raises(RuntimeError, match="done: no call is in flight"):
        gate.done(1, 0.1, False)
    with pytest.raises(RuntimeError, match="forgotten: no call is in flight"):
        gate.forgotten(1)
    with pytest.raises(RuntimeError, match="undone: no call is in flight"):
        gate.undone(1)
    assert 0 == gate.inflight


def test_metrics_count_every_call_once() -> None:
    """By how it ended; those that run are in flight."""
    gate = Concurrency(Told(5))
    for _ in range(6):
        gate.admit()
    gate.done(1, 0.1, False)
    gate.done(2, 0.1, True)
    gate.forgotten(3)
    expected = ConcurrencyMetrics(limit=5, inflight=2, succeeded=1, dropped=1, forgotten=1, rejected=1)
    assert expected == gate.metrics()


ALGORITHMS: dict[str, Callable[[], Algorithm]] = {
    "aimd": lambda: AIMD(4, 2, 9, timeout=1.0),
    "gradient": lambda: Gradient2(4, 2, 9),
    "vegas": lambda: Vegas(4, 9, min_limit=2, probe_multiplier=1, rng=Random(7)),
}


class Crowd(RuleBasedStateMachine):
    """Any interleaving of calls that come, end, are dropped and are cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.tickets: list[int] = []
        self.asked = self.admitted = self.ended = 0
        self.gate = Concurrency(Told(1))

    @initialize(name=st.sampled_from(sorted(ALGORITHMS)))
    def begins(self, name: str) -> None:
        self.gate = Concurrency(ALGORITHMS[name]())

    @rule(times=st.integers(1, 5))
    def asks(self, times: int) -> None:
        for _ in range(times):
            self.asked += 1
            room = self.gate.inflight < self.gate.limit
            ticket = self.gate.admit()
            assert room is (ticket is not None)
            if ticket is not None:
                self.admitted += 1
                self.tickets.append(ticket)
                assert len(self.tickets) == ticket <= self.gate.limit

    @precondition(lambda self: self.tickets)
    @rule(which=st.integers(0), rtt=st.floats(), dropped=st.booleans())
    def ends(self, which: int, rtt: float, dropped: bool) -> None:
        self.gate.done(self.tickets.pop(which % len(self.tickets)), rtt, dropped)
        self.ended += 1

    @precondition(lambda self: self.tickets)
    @rule(which=st.integers(0))
    def is_cancelled(self, which: int) -> None:
        limit = self.gate.limit
        self.gate.forgotten(self.tickets.pop(which % len(self.tickets)))
        self.ended += 1
        assert limit == self.gate.limit

    @invariant()
    def permits_add_up(self) -> None:
        seen = self.gate.metrics()
        assert len(self.tickets) == seen.inflight == self.admitted - self.ended
        assert self.ended == seen.succeeded + seen.dropped + seen.forgotten
        assert self.asked == self.admitted + seen.rejected

    @invariant()
    def the_limit_stays_in_its_bounds(self) -> None:
        assert 1 <= self.gate.limit <= 9


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=60, deadline=None)
