"""Heartbeats: when to beat, when a silence is too long, and whose silence it is."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient.core.pulse import Detector, Missed, Phi, Pulse, phi_of, phi_reached_at


@dataclass
class World:
    """A driver on a virtual clock that looks when it is told to, beats when that is due, and reads what comes.

    Attributes:
        answers: whether the peer answers our beats, at once.
        accused_at: when it was first suspected.
    """

    pulse: Pulse
    now: float = 0.0
    answers: bool = True
    accused_at: float | None = None
    beats: int = 0
    looks: int = 0

    def open(self) -> "World":
        self.pulse.opened(self.now)
        return self

    def look(self) -> float:
        self.looks += 1
        forgiven = self.pulse.looked(self.now)
        if self.pulse.suspected(self.now) and self.accused_at is None:
            self.accused_at = self.now
        if self.pulse.due(self.now):
            self.pulse.beaten(self.now)
            self.beats += 1
            if self.answers:
                self.pulse.detector.answered(self.now)
        return forgiven

    def run(self, until: float) -> "World":
        while self.pulse.look_at <= until:
            self.now = self.pulse.look_at
            self.look()
        self.now = until
        return self

    def blocked(self, seconds: float) -> float:
        self.now += seconds
        return self.look() if self.now >= self.pulse.look_at else 0.0


def world(detector: Detector | None = None, now: float = 0.0) -> World:
    """A connection just opened, watched by three missed intervals of 10 s unless told otherwise."""
    return World(Pulse(detector or Missed(10)), now).open()


# Beats and looks


def test_a_beat_is_due_every_interval() -> None:
    """And two looks come in each."""
    played = world().run(100.0)
    assert (10, 20, None) == (played.beats, played.looks, played.accused_at)


def test_a_beat_that_is_not_sent_stays_due() -> None:
    """But nobody is woken more often for it."""
    pulse = Pulse(Missed(10))
    pulse.opened(0.0)
    looks = []
    for _ in range(4):
        looks.append(pulse.look_at)
        pulse.looked(pulse.look_at)
    assert [5.0, 10.0, 15.0, 20.0] == looks
    assert pulse.due(20.0)


def test_looks_come_when_something_is_due() -> None:
    """A beat, or an accusation, is not kept waiting for the next regular look."""
    pulse = Pulse(Missed(10))
    pulse.opened(0.0)
    pulse.beaten(2.0)
    pulse.detector.heard(1.0)
    looks = []
    for _ in range(7):
        looks.append(pulse.look_at)
        pulse.looked(pulse.look_at)
    assert [5.0, 10.0, 12.0, 17.0, 22.0, 27.0, 31.0] == looks
    assert (True, 36.0) == (pulse.suspected(31.0), pulse.look_at)


def test_before_a_connection_nothing_is_due() -> None:
    """Nobody is suspected either."""
    for detector in (Missed(10), Phi(10)):
        pulse = Pulse(detector)
        assert (math.inf, False, False) == (pulse.look_at, pulse.due(1e9), pulse.suspected(1e9))
        assert 0.0 == pulse.looked(5.0)


def test_more_looks_than_asked_for_are_welcome() -> None:
    """A driver may look whenever it is awake."""
    played = world()
    for _ in range(100):
        played.now += 0.5
        assert 0.0 == played.look()
    assert (None, 5) == (played.accused_at, played.beats)


# Missed intervals


@pytest.mark.parametrize("misses", [2, 3, 5])
def test_a_stalled_peer_is_suspected_after_so_many_intervals(misses: int) -> None:
    """Exactly, since it was last heard."""
    played = world(Missed(10, misses)).run(43.0)
    played.pulse.heard(43.0)
    played.answers = False
    assert 43.0 + 10 * misses == played.run(200.0).accused_at


def test_a_peer_that_never_says_anything_is_suspected() -> None:
    """Its time begins with the connection."""
    played = world()
    played.answers = False
    assert 30.0 == played.run(200.0).accused_at


def test_any_byte_is_a_sign_of_life() -> None:
    """A frame of 5 MB that comes in at 1 MB/s is no silence, though it takes longer than three intervals."""
    played = world(Missed(1))
    played.answers = False
    for chunk in range(1, 81):  # of 64 KiB
        played.run(chunk / 16)
        played.pulse.heard(played.now)
    assert (5.0, None) == (played.now, played.accused_at)
    assert 8.0 == played.run(20.0).accused_at


def test_a_new_connection_owes_nothing() -> None:
    """However its predecessor ended."""
    for detector in (Missed(10), Phi(10)):
        played = world(detector)
        played.answers = False
        played.run(200.0)
        played.pulse.opened(200.0)
        assert not played.pulse.suspected(205.0)


# Our own silence


@pytest.mark.parametrize("interval", [1, 10, 15, 20, 30])
@pytest.mark.parametrize("make", [Missed, Phi, partial(Missed, misses=2)], ids=["missed", "phi", "two misses"])
@pytest.mark.parametrize("start", [0.0, 0.1, 0.5, 0.74, 0.99])
def test_our_own_stall_accuses_nobody(make: Callable[[float], Detector], interval: float, start: float) -> None:
    """A loop that is blocked for 20 s, at any point of an interval, ten times over."""
    played = world(make(interval))
    for _ in range(10):
        played.run(played.now + interval * (4 + start))
        played.blocked(20.0)
        assert played.accused_at is None
    assert played.run(played.now + 10 * interval).accused_at is None


def test_a_late_look_says_for_how_long_we_were_away() -> None:
    """From when it was to come."""
    played = world().run(7.0)
    assert 17.0 == played.blocked(20.0)
    assert 0.0 == played.look()


def test_a_look_a_little_late_is_in_time() -> None:
    """Others had their turn; a quarter of an interval is the most that takes."""
    assert (0.0, 2.75) == (world().run(7.0).blocked(5.5), world().run(7.0).blocked(5.75))


@pytest.mark.parametrize("make", [Missed, Phi])
def test_after_a_stall_the_peer_has_an_interval_more(make: Callable[[float], Detector]) -> None:
    """What it sent meanwhile is yet to be read; but a stall is no pardon."""
    played = world(make(10)).run(100.0)
    played.answers = False
    while played.pulse.detector.suspect_at > played.now + 0.5:
        played.run(played.now + 0.5)
    played.blocked(20.0)
    assert played.now + 10.0 == pytest.approx(played.pulse.detector.suspect_at)
    played.run(played.now + 30.0)
    assert played.accused_at is not None


def test_a_stall_before_anything_was_heard() -> None:
    """Harms neither detector, and begins the time of one that only counts."""
    missed, phi = Missed(10), Phi(10)
    missed.stalled(50.0, 20.0)
    phi.stalled(50.0, 20.0)
    assert (80.0, math.inf) == (missed.suspect_at, phi.suspect_at)


def test_a_stall_is_no_sample() -> None:
    """The beat that was late because we were is as regular as the others."""
    phi = Phi(10)
    phi.opened(0.0)
    for beat in range(5):
        phi.answered(10.0 * beat)
    phi.stalled(59.0, 10.0)
    phi.answered(60.0)
    assert (10.0, True) == (phi.mean, phi.deviation < 2.0)


def test_a_stall_longer_than_the_silence_is_not_held_in_credit() -> None:
    """What came after it is as fresh as it is."""
    for detector in (Missed(10), Phi(10)):
        detector.opened(0.0)
        detector.answered(39.0)
        limit = detector.suspect_at - 39.0
        detector.stalled(40.0, 30.0)
        assert pytest.approx(40.0 + limit) == detector.suspect_at


# The clock


@pytest.mark.parametrize("make", [Missed, Phi])
def test_a_clock_that_goes_slightly_backwards_harms_nothing(make: Callable[[float], Detector]) -> None:
    """Nobody is accused, nothing is late, and silence is still found."""
    played = world(make(10), 1000.0)
    for _ in range(50):
        played.run(played.now + 7.0)
        played.now -= 0.3
        assert 0.0 == played.look()
        played.pulse.heard(played.now)
    assert played.accused_at is None
    played.answers = False
    assert played.run(played.now + 30.0).accused_at is not None


def test_another_clock_beats_on() -> None:
    """An interval after it took over."""
    pulse = Pulse(Missed(10))
    pulse.opened(1e9)
    pulse.looked(0.0)
    assert (5.0, False, True) == (pulse.look_at, pulse.due(9.0), pulse.due(10.0))


# Phi


def beaten(phi: Phi, *intervals: float) -> Phi:
    """A detector that heard beats at these intervals."""
    now = 0.0
    phi.answered(now)
    for interval in intervals:
        now += interval
        phi.answered(now)
    return phi


def test_before_it_knows_better_it_guesses() -> None:
    """Two intervals, a quarter below and above."""
    phi = Phi(10)
    assert (10.0, 2.5, 0.0) == (phi.mean, phi.deviation, phi.phi(99.0))


def test_it_learns_how_regular_the_peer_is() -> None:
    """What is longer ago than its window is forgotten."""
    phi = beaten(Phi(10, window=3, pause=30), 8, 12, 9, 11, 10)
    assert (10.0, pytest.approx(math.sqrt(2 / 3))) == (phi.mean, phi.deviation)


def test_a_regular_peer_is_suspected_sooner() -> None:
    """Two intervals and a little; one that is not gets more time."""
    regular = beaten(Phi(10), *[10.0] * 200)
    unsteady = beaten(Phi(10), *[8.0, 12.0] * 100)
    assert 20.0 < regular.suspect_at - 2000.0 < 21.0
    assert 30.0 < unsteady.suspect_at - 2000.0 < 31.0


def test_a_very_regular_peer_may_still_be_a_little_late() -> None:
    """The deviation has a floor."""
    assert 0.5 == beaten(Phi(10, min_deviation=0.5), *[10.0] * 200).deviation


def test_what_comes_after_a_failure_is_no_sample() -> None:
    """One long pause would make it blind."""
    phi = beaten(Phi(10), *[10.0] * 200)
    phi.answered(2300.0)
    assert (10.0, True) == (phi.mean, phi.suspect_at > 2310.0)


def test_bytes_are_a_sign_of_life_and_no_sample() -> None:
    """A beat that comes late behind a long frame says nothing about regular intervals."""
    phi = beaten(Phi(10), *[10.0] * 200)
    for tick in range(400):
        phi.heard(2000.0 + tick / 4)
        assert phi.suspect_at > 2020.0 + tick / 4
    phi.answered(2100.0)
    assert 10.0 == phi.mean


def test_the_first_beat_of_a_connection_is_no_sample() -> None:
    """How soon it comes depends on our first; what was learnt before is kept."""
    phi = beaten(Phi(10), *[10.0] * 200)
    phi.opened(2500.0)
    phi.answered(2500.1)
    assert (10.0, pytest.approx(0.1)) == (phi.mean, phi.deviation)


def test_a_stalled_peer_is_suspected_within_three_intervals_by_phi() -> None:
    """Once a few beats were heard."""
    for interval in (1.0, 30.0):
        played = world(Phi(interval)).run(interval * 20.5)
        played.answers = False
        played.run(interval * 100)
        assert played.accused_at is not None
        assert played.accused_at - interval * 20 <= 3 * interval


@given(
    gaps=st.lists(st.floats(0, 1e9), min_size=2, max_size=20).map(sorted),
    mean=st.floats(0, 1e9),
    deviation=st.floats(1e-300, 1e9),
)
def test_phi_is_finite_and_never_falls(gaps: list[float], mean: float, deviation: float) -> None:
    """For silences of up to 30 years, whatever the intervals were."""
    phis = [phi_of(gap, mean, deviation) for gap in gaps]
    assert all(0.0 <= phi < math.inf for phi in phis)
    assert phis == sorted(phis)


@pytest.mark.parametrize(
    ("silence", "phi"),
    [(0, 0.0), (500, 0.0), (1000, 0.3), (1200, 1.6), (1400, 4.7), (1600, 10.8), (1700, 15.3)],
)
def test_phi_is_what_akka_computes(silence: float, phi: float) -> None:
    """ "return realistic phi values" of its AccrualFailureDetectorSpec: mean 1000 ms, deviation 100 ms, to 0.1."""
    assert pytest.approx(phi, abs=0.1) == phi_of(silence, 1000.0, 100.0)


@pytest.mark.parametrize("phi", [1e-300, 1e-9, 0.1, 0.30103, 1.0, 8.0, 16.0, 300.0, 1e6])
def test_a_threshold_is_reached_where_phi_says_so(phi: float) -> None:
    """The one is the inverse of the other."""
    assert pytest.approx(phi, rel=1e-9) == phi_of(phi_reached_at(phi), 0.0, 1.0)


@given(intervals=st.lists(st.floats(5, 15), max_size=30), threshold=st.floats(0.5, 20))
def test_it_is_suspected_when_phi_reaches_the_threshold(intervals: list[float], threshold: float) -> None:
    """Not before, not after, as seen on the clock."""
    phi = beaten(Phi(10, threshold=threshold), *intervals)
    assert phi.phi(phi.suspect_at - 1e-6) <= threshold * (1 + 1e-3)
    assert phi.phi(phi.suspect_at) == pytest.approx(threshold, rel=1e-6)


@given(intervals=st.lists(st.floats(-1, 1e12), max_size=30))
def test_any_intervals_make_sense(intervals: list[float]) -> None:
    """Backwards, or longer than any pause."""
    phi = beaten(Phi(10, pause=1e12), *intervals)
    assert 0.0 <= phi.mean <= 1e9
    assert 0.1 <= phi.deviation <= 1e9
    assert math.isfinite(phi.suspect_at)


# Settings


@pytest.mark.parametrize(
    ("make", "settings", "kind", "text"),
    [
        (Missed, {"interval": 0}, ValueError, "interval must be > 0 s, got 0"),
        (Missed, {"misses": 1}, ValueError, "misses must be >= 2, got 1"),
        (Phi, {"interval": -1}, ValueError, "interval must be > 0 s, got -1"),
        (Phi, {"threshold": 0}, ValueError, "threshold must be > 0 and <= 1e.06, got 0"),
        (Phi, {"pause": -1}, ValueError, "pause must be >= 0 s, got -1"),
        (Phi, {"window": 0}, ValueError, "window must be >= 1, got 0"),
        (Phi, {"min_deviation": 0}, ValueError, "min_deviation must be > 0 s, got 0"),
    ],
)
def test_bad_settings_are_refused(make: Any, settings: dict[str, Any], kind: type[Exception], text: str) -> None:
    """By name, value and limit."""
    with pytest.raises(kind, match=text):
        make(**{"interval": 10} | settings)


def test_durations_may_be_timedeltas() -> None:
    """Like everywhere."""
    assert (60.0, 60.0) == (Missed(timedelta(minutes=1)).interval, Phi(timedelta(minutes=1)).interval)


class Watch(RuleBasedStateMachine):
    """A healthy peer, its bytes, our stalls and an unsteady clock, in any order; then it falls silent."""

    @initialize(
        kind=st.sampled_from([Missed, Phi]), interval=st.sampled_from([0.5, 1.0, 30.0]), start=st.floats(0, 1e6)
    )
    def begin(self, kind: Any, interval: float, start: float) -> None:
        self.interval = interval
        self.world = world(kind(interval), start)

    @rule(share=st.floats(0, 3))
    def passes(self, share: float) -> None:
        self.world.run(self.world.now + self.interval * share)

    @rule(share=st.floats(0, 100))  # of an interval
    def is_blocked(self, share: float) -> None:
        self.world.blocked(self.interval * share)

    @rule()
    def hears(self) -> None:
        self.world.pulse.heard(self.world.now)

    @rule(share=st.floats(0, 0.05))
    def clock_goes_back(self, share: float) -> None:
        self.world.now -= self.interval * share
        self.world.look()

    @invariant()
    def nobody_is_accused(self) -> None:
        assert self.world.accused_at is None

    @invariant()
    def the_next_look_is_not_far(self) -> None:
        assert self.world.pulse.look_at <= self.world.now + self.interval / 2

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.answers = False
            silent_since = self.world.now
            self.world.pulse.heard(silent_since)
            self.world.run(silent_since + 10 * self.interval)
            assert self.world.accused_at is not None
            most = 3 + 1e-6 if isinstance(self.world.pulse.detector, Missed) else 10
            assert self.world.accused_at - silent_since <= most * self.interval


TestWatch = Watch.TestCase
