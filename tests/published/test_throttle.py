"""Expectations of the book and of other projects' own suites for client-side throttling.

Events: ``S`` a call that is accepted, ``F`` one that is not, each with how often; a number is seconds that pass.
"""

from dataclasses import dataclass
from random import Random

import pytest

from resilient.core.throttle import Throttle


@dataclass(frozen=True)
class Fixed:
    """Chance that always says the same."""

    number: float

    def random(self) -> float:
        return self.number


ADMIT = Fixed(1 - 2**-53)


@dataclass(frozen=True)
class Vector:
    """One published expectation.

    Attributes:
        id: names it.
        source: project or text, file and test.
        k: calls sent per accepted call.
        window: seconds.
        min_calls: below them nothing is rejected.
        events: what happens.
        expected: calls, accepts, probability; None: the source does not say.
        within: how exact the source is about the probability.
    """

    id: str
    source: str
    k: float
    window: float
    min_calls: int
    events: tuple[tuple[str, int] | float, ...]
    expected: tuple[int | None, int | None, float | None]
    within: float = 1e-12


BOOK = 'Google, "Site Reliability Engineering", chapter 21, Handling Overload, Client-Side Throttling'
WORKLOAD = "io.github.workload, ClientSideAdaptiveThrottlerTest.java, localRejectProbability"
KRATOS = "go-kratos/aegis, circuitbreaker/sre/sre_test.go,"
GO_ZERO = "zeromicro/go-zero, core/breaker/googlebreaker_test.go,"
GRPC = "grpc-go, balancer/rls/internal/adaptive/adaptive_test.go, TestRegisterBackendResponse,"
BEAM = "Apache Beam, adaptive_throttler_test.py,"


def book(name: str, k: float, calls: int, accepts: int, probability: float) -> Vector:
    """So many calls, of which so many were accepted."""
    source = f"{BOOK}: until requests is K times as large as accepts; beyond, equation 21-1"
    return Vector(
        f"book-{name}", source, k, 120, 0, (("S", accepts), ("F", calls - accepts)), (None, None, probability)
    )


def workload(calls: int, accepts: int, k: float, probability: float) -> Vector:
    """Its deltas are 0.01."""
    events = (("S", accepts), ("F", calls - accepts))
    return Vector(f"workload-{accepts}-{k:g}", WORKLOAD, k, 120, 0, events, (calls, accepts, probability), 0.01)


def paced(kind: str, times: int, seconds: float) -> tuple[tuple[str, int] | float, ...]:
    """So many calls, so far apart."""
    return ((kind, 1), seconds) * times


VECTORS = [
    book("equal", 2, 100, 100, 0.0),
    book("k-times", 2, 20, 10, 0.0),
    book("beyond", 2, 21, 10, 1 / 22),
    book("no-accepts", 2, 9, 0, 9 / 10),
    book("one-of-ten-more", 1.1, 11, 10, 0.0),
    book("k-1.1-beyond", 1.1, 12, 10, 1 / 13),
    Vector("book-two-minutes", f"{BOOK}: for the last two minutes of its history", 2, 120, 0, (("F", 50), 120.0),
           (0, 0, 0)),
    workload(1000, 200, 2, 0.59),
    workload(1000, 400, 2, 0.19),
    workload(1000, 500, 2, 0.0),
    workload(1000, 500, 0.5, 0.74),
    Vector("kratos-close-80", f"{KRATOS} testSREClose", 2, 1, 100, (("S", 80),), (80, 80, 0)),
    Vector("kratos-close-200", f"{KRATOS} testSREClose", 2, 1, 100, (("S", 200),), (200, 200, 0)),
    Vector("kratos-few", f"{KRATOS} TestSRESelfProtection, total request < 100", 2, 1, 100, (("F", 99),), (99, 0, 0)),
    Vector("kratos-all", f"{KRATOS} TestSRESummary, succ == total", 2, 1, 100, paced("S", 10, 0.05), (10, 10, None)),
    Vector("kratos-none", f"{KRATOS} TestSRESummary, fail == total", 2, 1, 100, paced("F", 10, 0.05), (10, 0, None)),
    Vector("kratos-half", f"{KRATOS} TestSRESummary, succ = 1/2 * total", 2, 1, 100,
           paced("F", 5, 0.05) + paced("S", 5, 0.05), (10, 5, None)),
    Vector("kratos-reset", f"{KRATOS} TestSRESummary, auto reset rolling counter", 2, 1, 100,
           (*paced("F", 5, 0.05), *paced("S", 5, 0.05), 1.0), (0, 0, None)),
    Vector("go-zero-close-80", f"{GO_ZERO} TestGoogleBreakerClose", 5, 0.1, 5, (("S", 80),), (None, None, 0)),
    Vector("go-zero-close-200", f"{GO_ZERO} TestGoogleBreakerClose", 5, 0.1, 5, (("S", 200),), (None, None, 0)),
    Vector("go-zero-few", f"{GO_ZERO} TestGoogleBreakerSelfProtection", 5, 0.1, 5, (("F", 4), 0.01), (4, 0, 0)),
    Vector("go-zero-all", f"{GO_ZERO} TestGoogleBreakerHistory, accepts == total", 5, 0.1, 5, paced("S", 10, 0.005),
           (10, 10, None)),
    Vector("go-zero-none", f"{GO_ZERO} TestGoogleBreakerHistory, fail == total", 5, 0.1, 5, paced("F", 10, 0.005),
           (10, 0, None)),
    Vector("go-zero-half", f"{GO_ZERO} TestGoogleBreakerHistory, accepts = 1/2 * total", 5, 0.1, 5,
           paced("F", 5, 0.005) + paced("S", 5, 0.005), (10, 5, None)),
    Vector("go-zero-reset", f"{GO_ZERO} TestGoogleBreakerHistory, auto reset rolling counter", 5, 0.1, 5, (0.1,),
           (0, 0, None)),
    Vector("grpc-accumulate", f"{GRPC} Accumulate", 2, 3, 0, (("S", 1), 1.0, ("F", 1), 1.0), (None, 1, None)),
    Vector("grpc-time-travel", f"{GRPC} LightTimeTravel", 2, 3, 0, (1.0, ("S", 1), -1.0, ("F", 1), 2.0),
           (None, 1, None)),
    Vector("beam-empty", f"{BEAM} test_no_initial_throttling", 2, 60, 0, (), (0, 0, 0)),
    Vector("beam-no-errors", f"{BEAM} test_no_throttling_if_no_errors", 2, 60, 0, paced("S", 20, 0.001), (20, 20, 0)),
    Vector("beam-expired", f"{BEAM} test_no_throttling_after_errors_expire", 2, 60, 0,
           paced("F", 600, 0.1) + paced("S", 600, 0.1), (None, None, 0)),
]  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_published(vector: Vector) -> None:
    """What the source expects after the same events."""
    throttle, now = Throttle(vector.k, vector.window, vector.min_calls), 0.0
    for event in vector.events:
        if not isinstance(event, tuple):
            now += event
            continue
        kind, times = event
        for _ in range(times):
            throttle.admit(now, ADMIT)
            if kind == "S":
                throttle.accepted(now)
    metrics = throttle.metrics(now)
    calls, accepts, probability = vector.expected
    assert calls is None or calls == metrics.calls
    assert accepts is None or accepts == metrics.accepts
    assert probability is None or pytest.approx(probability, abs=vector.within) == metrics.probability


def test_beam_throttles_after_errors() -> None:
    """Apache Beam, test_throttling_after_errors: a third succeeds; chance says 0.0, 0.1 ... 0.9, over and over."""
    throttle = Throttle(2, 60, 0)
    for t in range(20):
        admitted = throttle.admit(t / 1000, Fixed(t % 10 / 10))
        if t % 3 == 1:
            throttle.accepted(t / 1000)
        if t > 10:
            assert pytest.approx(0.33, abs=0.1) == throttle.probability(t / 1000)
            assert (t >= 14) is admitted


def test_the_book_in_large_overload() -> None:
    """Backends end up rejecting one request for each request they actually process (K = 2)."""
    throttle, rng, sent, accepted = Throttle(2, 120, 0), Random(7), 0, 0
    for second in range(600):  # a hundred calls a second for a backend that takes ten
        room = 10
        for _ in range(100):
            if throttle.admit(float(second), rng):
                counts = second >= 240  # after two windows it is steady
                sent += counts
                if room:
                    room -= 1
                    accepted += counts
                    throttle.accepted(float(second))
    assert pytest.approx(2.0, abs=0.1) == sent / accepted
