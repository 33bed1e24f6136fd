"""Expectations of other projects' own suites for the phi accrual failure detector.

Akka and Hazelcast share one formula, the normal distribution by its logistic approximation. Cassandra's intervals are
exponentially distributed, so that of its numbers only the verdict applies: on which side of its threshold, 8, phi is.
"""

from dataclasses import dataclass

import pytest

from resilient.core.pulse import Phi, phi_of

AKKA = "akka, akka-remote/src/test/scala/akka/remote/AccrualFailureDetectorSpec.scala:"
HAZELCAST = "hazelcast, hazelcast/src/test/java/com/hazelcast/internal/cluster/fd/PhiAccrualFailureDetectorTest.java:"
CASSANDRA = "cassandra, test/unit/org/apache/cassandra/gms/ArrivalWindowTest.java:"


@dataclass(frozen=True)
class Vector:
    """Phi of one silence, given mean and deviation.

    Attributes:
        id: names it.
        source: project, file and test.
        silence, mean, deviation: milliseconds.
        expected: phi, or the probability that a beat has come by then if ``cdf``.
        within: how exact the source is.
    """

    id: str
    source: str
    silence: float
    mean: float
    deviation: float
    expected: float
    within: float
    cdf: bool = False


def cumulative(silence: float, expected: float, within: float = 0.001) -> Vector:
    """A row of Akka's table for mean 0 and deviation 10."""
    source = f"{AKKA} use good enough cumulative distribution function"
    return Vector(f"akka-cdf-{silence:g}", source, silence, 0, 10, expected, within, cdf=True)


def realistic(silence: float, expected: float) -> Vector:
    """A row of Akka's table for mean 1000 and deviation 100."""
    source = f"{AKKA} return realistic phi values"
    return Vector(f"akka-realistic-{silence:g}", source, silence, 1000, 100, expected, 0.1)


PHIS = [
    cumulative(0, 0.5),
    cumulative(6, 0.7257),
    cumulative(15, 0.9332),
    cumulative(20, 0.97725),
    cumulative(25, 0.99379),
    cumulative(35, 0.99977),
    cumulative(40, 0.99997, 0.0001),
    Vector("akka-cdf-mean", f"{AKKA} use good enough cumulative distribution function", 22, 20, 3, 0.7475, 0.001, True),
    Vector("akka-outlier", f"{AKKA} handle outliers without losing precision", 10, 0, 1, 38.0, 1.0),
    Vector("akka-outlier-early", f"{AKKA} handle outliers without losing precision", -25, 0, 1, 0.0, 0.0),
    realistic(0, 0.0),
    realistic(500, 0.1),
    realistic(1000, 0.3),
    realistic(1200, 1.6),
    realistic(1400, 4.7),
    realistic(1600, 10.8),
    realistic(1700, 15.3),
]


@pytest.mark.parametrize("vector", PHIS, ids=lambda vector: vector.id)
def test_published_phi(vector: Vector) -> None:
    """Within the exactness of the source."""
    phi = phi_of(vector.silence / 1000, vector.mean / 1000, vector.deviation / 1000)
    assert pytest.approx(vector.expected, abs=vector.within) == (1 - 10**-phi if vector.cdf else phi)


@dataclass(frozen=True)
class Story:
    """A detector, beats at intervals, and what is expected of the silence after them.

    Attributes:
        id: names it.
        source: project, file and test.
        settings: of the detector, seconds.
        beats: intervals between them, milliseconds; the first is at 0.
        silence: after the last, milliseconds.
        expected: lowest and highest phi, or whether it is suspected.
    """

    id: str
    source: str
    settings: dict[str, float | int]
    beats: tuple[float, ...]
    silence: float
    expected: tuple[float, float] | bool


ONE = {"interval": 1.0, "pause": 0.0, "window": 1000, "min_deviation": 0.1}
THREE = ONE | {"pause": 3.0}
HAZEL = {"interval": 0.1, "pause": 1.0, "window": 100, "min_deviation": 0.1, "threshold": 1.0}
LONG = (1000.0,) * 999
GUESS = f"{AKKA} return phi based on guess when only one heartbeat"
AGAIN = f"{AKKA} mark node as available if it starts heartbeat again"
QUICK = {"interval": 2.0, "pause": 0.0, "window": 4}  # whose first guess has left the window

STORIES = [
    Story("akka-one-beat", GUESS, ONE, (), 1000, (0.1, 0.5)),
    Story("akka-one-beat-later", GUESS, ONE, (), 2000, (4.2, 4.8)),
    Story("akka-one-beat-last", GUESS, ONE, (), 3000, (15, 1e9)),
    Story("akka-first", f"{AKKA} return phi value using first interval", ONE, (), 100, (1e-9, 1)),
    Story("akka-second", f"{AKKA} return phi value using first interval", ONE, (200,), 100, (1e-9, 1)),
    Story("akka-series", f"{AKKA} mark node as monitored", ONE, (1000, 100), 100, False),
    Story("akka-alive", f"{AKKA} mark node as dead", ONE | {"threshold": 3}, (1000, 100), 100, False),
    Story("akka-dead", f"{AKKA} mark node as dead", ONE | {"threshold": 3}, (1000, 100), 7100, True),
    Story("akka-pause", AGAIN, THREE, LONG, 300_000, True),
    Story("akka-after-pause", AGAIN, THREE, (*LONG, 300_100), 900, False),
    Story("akka-pause-again", AGAIN, THREE, (*LONG, 300_100, 1000), 7000, True),
    Story("akka-after-all", AGAIN, THREE, (*LONG, 300_100, 1000, 7100), 900, False),
    Story("akka-after-all-on", AGAIN, THREE, (*LONG, 300_100, 1000, 7100, 1000), 900, False),
    Story("akka-missing", f"{AKKA} accept some configured missing", THREE, (1000,) * 3, 4000, False),
    Story("akka-missing-beat", f"{AKKA} accept some configured missing", THREE, (1000, 1000, 1000, 5000), 1000, False),
    Story("akka-enough", f"{AKKA} fail after configured acceptable", THREE, (1000,) * 5, 500, False),
    Story("akka-too-many", f"{AKKA} fail after configured acceptable", THREE, (1000,) * 6, 5000, True),
    Story("hazelcast-none", f"{HAZELCAST} suspicionLevel_whenHeartbeat", HAZEL, (), 0, (0, 1e-9)),
    Story("hazelcast-before", f"{HAZELCAST} suspicionLevel_beforeHeartbeatTimeout", HAZEL, (), 500, (0, 1)),
    Story("hazelcast-alive", f"{HAZELCAST} member_isAlive_beforeHeartbeatTimeout", HAZEL, (), 500, False),
    Story("hazelcast-after", f"{HAZELCAST} suspicionLevel_afterHeartbeatTimeout", HAZEL, (), 2000, (1, 1e9)),
    Story("hazelcast-dead", f"{HAZELCAST} member_isNotAlive_afterHeartbeatTimeout", HAZEL, (), 2000, True),
    Story("cassandra-in-time", f"{CASSANDRA} testWithNanoTime, phi 0.4342", QUICK, (111,) * 4, 111, False),
    Story("cassandra-late", f"{CASSANDRA} testWithNanoTime, phi 9.566", QUICK, (111,) * 4, 2445, True),
]  # fmt: skip

VECTORS = [*PHIS, *STORIES]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.id)
def test_published_story(story: Story) -> None:
    """The level of suspicion, or whether it crosses the threshold."""
    phi, now = Phi(**story.settings), 0.0  # type: ignore[arg-type]  # whole where it must be
    phi.answered(now)
    for interval in story.beats:
        now += interval / 1000
        phi.answered(now)
    now += story.silence / 1000
    if isinstance(story.expected, bool):
        assert story.expected is (now >= phi.suspect_at)
    else:
        least, most = story.expected
        assert least <= phi.phi(now) <= most


def test_akka_orders() -> None:
    """Phi rises with the silence, and falls with the deviation: the sliding and the larger-deviation expectations."""
    phis = [phi_of(silence, 0, 10) for silence in range(41)]
    assert all(before < after for before, after in zip(phis, phis[1:], strict=False))
    assert phi_of(1.1, 1.0, 0.5) < phi_of(1.1, 1.0, 0.1)


def test_akka_forgets_all_but_its_window() -> None:
    """AccrualFailureDetectorSpec, use maxSampleSize heartbeats: the same phi once old intervals are dropped.

    Its deviation is the least in both, its silence the mean: 100 and 500 ms after beats at 100 and 500 ms.
    """
    phi = Phi(1.0, pause=0.0, window=3)
    for now in (0.0, 0.1, 0.2, 0.3):
        phi.answered(now)
    first = phi.phi(0.4)
    for now in (1.0, 1.5, 2.0, 2.5):
        phi.answered(now)
    assert pytest.approx(first, abs=0.001) == phi.phi(3.0)


def test_akka_statistics() -> None:
    """AccrualFailureDetectorSpec, calculate correct mean and variance, and be capped: here the deviation, in ms."""
    for window, intervals, mean, variance in (
        (5, (100, 200, 125, 340, 130), 179.0, 7584.0),
        (3, (100, 110, 90), 100.0, 66.6666667),
        (3, (100, 110, 90, 140), 113.333333, 422.222222),
        (3, (100, 110, 90, 140, 80), 103.333333, 688.88888889),
    ):
        phi, now = Phi(1.0, pause=1000.0, window=window, min_deviation=1e-9), 0.0
        phi.answered(now)
        for interval in intervals:
            now += interval / 1000
            phi.answered(now)
        assert (pytest.approx(mean), pytest.approx(variance)) == (phi.mean * 1000, (phi.deviation * 1000) ** 2)
