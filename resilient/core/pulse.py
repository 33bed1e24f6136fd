"""Heartbeats and failure detectors: is the other side still there, and is it us who were away?

Two detectors say from what instant a silent peer is suspected. :class:`Missed` counts intervals. :class:`Phi` learns
how regularly beats come and suspects when a silence has become improbable enough. To both any received byte is a
sign of life, so a large frame that trickles in is one long sign of it; only beats are samples of regularity.

A :class:`Pulse` says when to beat and when to look at the clock, and how late each look was: nobody can be heard
while our own loop is blocked or our process suspended. A late look is therefore our own silence. It is taken off the
peer's, and leaves it an interval more, for what it sent meanwhile is yet to be read and what we owed it yet to be
sent. Looks come twice an interval, so a pause that goes unnoticed is shorter than one::

    unnoticed pause + interval between its beats < misses * interval        0.75 + 1 < 2

The other side of it: a loop that is late at every single look accuses nobody.
"""

from __future__ import annotations

import math
from array import array
from typing import Protocol

from resilient.core.duration import Duration, number, seconds, whole

__all__ = ["Detector", "Missed", "Phi", "Pulse", "phi_of", "phi_reached_at"]

LOOKS_PER_INTERVAL = 2
# A look is late, and not just scheduled among others, from this share of an interval on.
LATE = 0.25

# Hayashibara et al. leave the threshold to the application; 8 is the default of both Akka and Cassandra.
THRESHOLD = 8.0
WINDOW = 200  # samples: akka.remote.watch-failure-detector.max-sample-size; its cluster and Cassandra keep 1000
MIN_DEVIATION = 0.1  # seconds: min-std-deviation of all of Akka's detectors
# Akka's first guess, while the environment is unknown: two intervals, this share below and above the estimate.
FIRST_DEVIATION = 0.25

# Logistic approximation of the normal distribution: F(y) = 1 / (1 + exp(-y * (LINEAR + CUBIC * y * y))), off by no
# more than 0.00014. Source: Bowling et al., "A logistic approximation to the cumulative normal distribution", Journal
# of Industrial Engineering and Management 2 (1), 2009; with the constants that Akka takes from the BETA handbook.
LINEAR, CUBIC = 1.5976, 0.070566
FARTHEST = 1e100  # standard deviations: beyond it phi would not fit a float
LN10 = math.log(10)

MICRO = 1_000_000  # samples are whole microseconds, whose sums are exact
LONGEST = 1e9  # seconds: the longest sample


class Detector(Protocol):
    """What tells a silent peer from a dead one. Instants are monotonic seconds. Not thread-safe.

    Attributes:
        interval: between two beats, seconds.
        suspect_at: the peer is suspected from this instant on, unless it is heard before.
    """

    @property
    def interval(self) -> float: ...

    @property
    def suspect_at(self) -> float: ...

    def opened(self, now: float) -> None:
        """A new connection: what its predecessor owed is forgotten."""

    def heard(self, now: float) -> None:
        """At least one byte came."""

    def answered(self, now: float) -> None:
        """A beat of the peer came, or its answer to one of ours."""

    def stalled(self, now: float, pause: float) -> None:
        """Up to now we were away ourselves, for so many seconds."""


class Missed:
    """Suspects a peer from which nothing came for so many intervals.

    Args:
        interval: between two beats, seconds, > 0.
        misses: intervals of silence, >= 2: with 1, a beat that is a little late would do.

    Attributes:
        interval: the same.
        suspect_at: the peer is suspected from this instant on, unless it is heard before.
    """

    __slots__ = ("_limit", "interval", "suspect_at")

    def __init__(self, interval: Duration, misses: int = 3) -> None:
        self.interval = seconds("interval", interval, above=True)
        self._limit = self.interval * whole("misses", misses, least=2)
        self.suspect_at = math.inf

    def heard(self, now: float) -> None:
        """At least one byte came."""
        self.suspect_at = now + self._limit

    opened = answered = heard

    def stalled(self, now: float, pause: float) -> None:
        """Up to now we were away ourselves, for so many seconds: they are ours, and an interval is left at least."""
        fair = max(self.suspect_at + pause, now + self.interval)
        self.suspect_at = min(fair, now + self._limit)


class Phi:
    """Suspects a peer whose silence is too improbable, given how regularly its beats came.

    Phi is -log10 of the probability that a beat comes later still, under a normal distribution with the mean and
    deviation of the latest intervals: at 8 one suspicion in 10 ** 8 is wrong, if intervals are so distributed.

    Args:
        interval: between two beats, seconds, > 0: the guess until intervals are known.
        threshold: phi from which it is suspected, > 0 and <= 1e6.
        pause: silence that is added to the mean, seconds, >= 0; an interval by default, so that a single beat may
            be lost.
        window: intervals remembered, >= 1.
        min_deviation: deviation that is assumed at least, seconds, > 0: a very regular peer may be late too.

    Attributes:
        interval, suspect_at: as with any detector.

    Source: Hayashibara, Defago, Yared, Katayama, "The phi accrual failure detector", SRDS 2004; the first guess, the
    least deviation and the pause are those of Akka's PhiAccrualFailureDetector.
    """

    __slots__ = (
        "_beat_at", "_heard_at", "_min_deviation", "_next", "_patience", "_pause", "_quantile", "_samples", "_squares",
        "_sum", "_window", "interval",
    )  # fmt: skip

    def __init__(
        self,
        interval: Duration,
        *,
        threshold: float = THRESHOLD,
        pause: Duration | None = None,
        window: int = WINDOW,
        min_deviation: Duration = MIN_DEVIATION,
    ) -> None:
        self.interval = seconds("interval", interval, above=True)
        self._quantile = phi_reached_at(number("threshold", threshold, least=0, above=True, most=1e6))
        self._pause = self.interval if pause is None else seconds("pause", pause)
        self._window = whole("window", window, least=1)
        self._min_deviation = seconds("min_deviation", min_deviation, above=True)
        self._heard_at: float | None = None
        self._beat_at: float | None = None
        self._samples = array("q")
        self._next = self._sum = self._squares = 0
        for share in (1.0 - FIRST_DEVIATION, 1.0 + FIRST_DEVIATION):
            self._add(self.interval * share)

    @property
    def suspect_at(self) -> float:
        """The peer is suspected from this instant on, unless it is heard before."""
        return math.inf if self._heard_at is None else self._heard_at + self._patience

    @property
    def mean(self) -> float:
        """Of the intervals known or guessed, seconds."""
        return self._sum / len(self._samples) / MICRO

    @property
    def deviation(self) -> float:
        """Of the intervals known or guessed, seconds; not below the least."""
        n = len(self._samples)
        return max(self._min_deviation, math.sqrt(n * self._squares - self._sum * self._sum) / n / MICRO)

    def phi(self, now: float) -> float:
        """How suspicious the peer is, >= 0, finite; 0 before anything came."""
        if self._heard_at is None:
            return 0.0
        return phi_of(now - self._heard_at, self.mean + self._pause, self.deviation)

    def opened(self, now: float) -> None:
        """A new connection: its peer has all to prove, but how regular beats are is still known."""
        self._heard_at, self._beat_at = now, None

    def heard(self, now: float) -> None:
        """At least one byte came."""
        self._heard_at = now

    def answered(self, now: float) -> None:
        """A beat of the peer came, or its answer to one of ours: a sample, but for the first and for a late one.

        What comes after a failure, or from behind a long frame, says nothing about regular intervals (so does Akka).
        """
        if self._beat_at is not None and now < self._beat_at + self._patience:
            self._add(now - self._beat_at)
        self._heard_at = self._beat_at = now

    def stalled(self, now: float, pause: float) -> None:
        """Up to now we were away ourselves, for so many seconds: they are ours, and an interval is left at least."""
        if self._heard_at is not None:
            fair = max(self._heard_at + pause, now + self.interval - self._patience)
            self._heard_at = min(fair, now)
        if self._beat_at is not None:
            self._beat_at = min(self._beat_at + pause, now)

    def _add(self, interval: float) -> None:
        sample = int(min(max(0.0, interval), LONGEST) * MICRO + 0.5)
        if len(self._samples) < self._window:
            self._samples.append(sample)
        else:
            oldest = self._samples[self._next]
            self._samples[self._next] = sample
            self._next = (self._next + 1) % self._window
            self._sum -= oldest
            self._squares -= oldest * oldest
        self._sum += sample
        self._squares += sample * sample
        self._patience = self.mean + self._pause + self._quantile * self.deviation


def phi_of(silence: float, mean: float, deviation: float) -> float:
    """How suspicious a silence is: -log10 of the probability that it lasts so long, >= 0.

    Computed from the logarithm on, so that it neither overflows nor loses what is small: finite and never falling,
    whatever the silence.

    Args:
        silence: since the last sign of life, seconds.
        mean: of the intervals, seconds.
        deviation: of the intervals, seconds, > 0.
    """
    y = min(max(-FARTHEST, (silence - mean) / deviation), FARTHEST)
    odds = y * (LINEAR + CUBIC * y * y)  # ln of (it has come by now : it has yet to come)
    return (max(0.0, odds) + math.log1p(math.exp(-abs(odds)))) / LN10


def phi_reached_at(phi: float) -> float:
    """At how many deviations above the mean phi is reached; the inverse of :func:`phi_of`.

    Args:
        phi: > 0, at most 1e6.
    """
    p = phi * LN10
    odds = p + math.log(-math.expm1(-p))
    # The one real root of CUBIC * y**3 + LINEAR * y = odds, by the hyperbolic form of Cardano's formula.
    scale = 2.0 * math.sqrt(LINEAR / CUBIC / 3.0)
    return scale * math.sinh(math.asinh(3.0 * odds / (LINEAR * scale)) / 3.0)


class Pulse:
    """When to beat, when to look at the clock, and whether the peer is suspected. Not thread-safe.

    Args:
        detector: what judges the peer's silence. ``heard``, called with every read, is its own.

    Attributes:
        look_at: when to look next, unless a connection ends before.
    """

    __slots__ = ("_due_at", "detector", "heard", "look_at")

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self.heard = detector.heard
        self.look_at = self._due_at = math.inf

    def opened(self, now: float) -> None:
        """A new connection is up."""
        self.detector.opened(now)
        self._due_at = now + self.detector.interval
        self._plan_look(now)

    def beaten(self, now: float) -> None:
        """We sent a beat."""
        self._due_at = now + self.detector.interval

    def looked(self, now: float) -> float:
        """The driver looks at the clock, at ``look_at`` or earlier if it likes, before it asks whether anything is up.

        Returns:
            For how long it was away itself, seconds; 0.0 if it came in time.
        """
        late = now - self.look_at
        if late <= LATE * self.detector.interval:
            late = 0.0
        else:
            self.detector.stalled(now, late)
        self._due_at = min(self._due_at, now + self.detector.interval)  # later can only be on another clock
        self._plan_look(now)
        return late

    def due(self, now: float) -> bool:
        """Whether to send a beat, ahead of everything else that waits to be sent."""
        return now >= self._due_at

    def suspected(self, now: float) -> bool:
        """Whether the peer has been silent for too long."""
        return now >= self.detector.suspect_at

    def _plan_look(self, now: float) -> None:
        due_at, suspect_at = self._due_at, self.detector.suspect_at
        look_at = now + self.detector.interval / LOOKS_PER_INTERVAL
        if now < due_at < look_at:
            look_at = due_at
        self.look_at = suspect_at if now < suspect_at < look_at else look_at
