"""Adaptive concurrency limits against the numbers of the projects that they come from."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from random import Random

import pytest

from resilient.core.concurrency import Algorithm, Concurrency
from resilient.core.limits import AIMD, ExponentialAverage, Gradient2
from resilient.core.vegas import Vegas, decades

MS = 0.001
CORE = "Netflix/concurrency-limits, concurrency-limits-core"
JAVA = f"{CORE}/src/test/java/com/netflix/concurrency/limits"
GRPC = "Netflix/concurrency-limits, concurrency-limits-grpc/src/test/java/com/netflix/concurrency/limits/grpc"
GO = "platinummonkey/go-concurrency-limits (its port to Go)"


@dataclass(frozen=True)
class Vector:
    """One published expectation: what is played, and what comes of it."""

    id: str
    source: str
    expected: object
    play: Callable[[], object]


@dataclass
class Fixed:
    """The projects' FixedLimit and SettableLimit."""

    limit: int

    def sampled(self, rtt: float, inflight: int, dropped: bool) -> None:
        """Learns nothing."""


Sample = tuple[float, int, bool]


def after(algorithm: Algorithm, *samples: Sample) -> int:
    """The limit after these calls: duration, in flight, dropped."""
    for sample in samples:
        algorithm.sampled(*sample)
    return algorithm.limit


def vegas(initial: int = 10, max_limit: int = 20) -> Vegas:
    """VegasLimitTest.create: alpha 3, beta 6, no smoothing."""
    return Vegas(initial, max_limit, alpha=lambda _: 3, beta=lambda _: 6, rng=Random(7))


def halving(smoothing: float) -> Vegas:
    """VegasLimitTest.decreaseSmoothing and its neighbour: a decrease halves the limit."""
    return Vegas(100, 200, smoothing=smoothing, decrease=lambda limit: limit / 2, rng=Random(7))


HALVINGS: list[Sample] = [(10 * MS, 100, False), (20 * MS, 100, False), (20 * MS, 100, False)]
LARGE: list[Sample] = [(10.0, 5000, False), (10.0, 6000, False)]


def large(samples: list[Sample]) -> int:
    """VegasLimitTest.largeLimitIncrease."""
    return after(Vegas(10000, 20000, rng=Random(7)), *samples)


def averaged(samples: Iterable[float]) -> float:
    """ExpAvgMeasurementTest: window 100, warm-up 10."""
    average = ExponentialAverage(100, 10)
    for sample in samples:
        average.add(sample)
    return average.value


def ported_gradient(*phases: Iterable[Sample]) -> int:
    """gradient2_test.go: its constructor's fallbacks, and no tolerance, which the port does not know."""
    algorithm = Gradient2(50, 4, 1000, rtt_tolerance=1.0, long_window=100)
    for phase in phases:
        after(algorithm, *phase)
    return algorithm.limit


def tolerant() -> Gradient2:
    """Twice the usual duration is acceptable, and no room for a queue: whatever is not acceptable shows."""
    return Gradient2(100, 1, rtt_tolerance=2.0, queue_size=0)


QUIET: list[Sample] = [(10.0, 1, False)]
RISING: list[Sample] = [(10.0 * i, i, False) for i in range(25)]
DROP: list[Sample] = [(2500.0, 25, True)]
IDLE: list[Sample] = [(10.0, 5, False)]
# The port, like the original, ignores that a call was dropped and looks at its duration. From here on its numbers
# are those of ours only if the dropped calls are told as calls that were just slow.
SLOW: list[Sample] = [(2500.0, 25, False)]
DRAIN: list[Sample] = [(1000.0, i, False) for i in range(100)]
UNUSED: list[Sample] = list(repeat((1.0, 1, False), 100))


def gate(limit: int, calls: int = 0) -> Concurrency:
    """A limiter of a fixed limit, so many calls admitted."""
    made = Concurrency(Fixed(limit))
    for _ in range(calls):
        made.admit()
    return made


def ended(made: Concurrency, ticket: int = 1) -> Concurrency:
    """One call succeeded."""
    made.done(ticket, MS, False)
    return made


def settled(made: Concurrency, limit: int) -> Concurrency:
    """The limit is set anew."""
    made.algorithm = Fixed(limit)
    return made


def crowd() -> tuple[bool, int]:
    """SimpleLimiterTest.testConcurrentSimple, 100 threads of 1000 calls on 10 permits, by an interleaving of chance."""
    made, rng, tickets, most, succeeded = Concurrency(Fixed(10)), Random(7), list[int](), 0, 0
    for _ in range(100 * 1000):
        ticket = made.admit()
        if ticket is not None:
            tickets.append(ticket)
        most = max(most, made.inflight)
        if tickets and rng.random() < 0.5:
            made.done(tickets.pop(), MS, False)
            succeeded += 1
    return most <= 10, succeeded + len(tickets) + made.rejected


def counts(made: Concurrency) -> tuple[int, int, int, int]:
    """As InterceptorTestUtil.verifyCounts lists them: dropped, ignored, success, rejected."""
    seen = made.metrics()
    return seen.dropped, seen.forgotten, seen.succeeded, seen.rejected


def emptied(made: Concurrency) -> Concurrency:
    """All calls succeeded."""
    while made.inflight:
        ended(made)
    return made


def forgetting(made: Concurrency) -> Concurrency:
    """One call is ignored."""
    made.forgotten(1)
    return made


def dropping(made: Concurrency) -> Concurrency:
    """One call is dropped."""
    made.done(1, MS, True)
    return made


AIMD_TEST = f"{JAVA}/limit/AIMDLimitTest"
VEGAS_TEST = f"{JAVA}/limit/VegasLimitTest"
AVERAGE_TEST = f"{JAVA}/limit/ExpAvgMeasurementTest.testWarmup"
LOG_TEST = f"{JAVA}/limit/functions/Log10RootIntFunctionTest"
SIMPLE_TEST = f"{JAVA}/limiter/SimpleLimiterTest"
GO_GRADIENT = f"{GO}, limit/gradient2_test.go, TestGradient2Limit"
LISTENER = f"{GO}, limiter/default_test.go, TestDefaultListener"

VECTORS = [
    # AIMD
    Vector("aimd begins", f"{AIMD_TEST}.testDefault", 10, lambda: AIMD(10).limit),
    Vector("aimd grows", f"{AIMD_TEST}.increaseOnSuccess", 21, lambda: after(AIMD(20), (MS, 10, False))),
    Vector("aimd shrinks", f"{AIMD_TEST}.decreaseOnDrops", 27, lambda: after(AIMD(30), (0, 0, True))),
    Vector("aimd at most", f"{AIMD_TEST}.successOverflow", 21, lambda: after(AIMD(21, 0, 21), (MS, 10, False))),
    Vector(
        "aimd grows, Go",
        f"{GO}, limit/aimd_test.go, IncreaseOnSuccess",
        11,
        lambda: after(AIMD(10, 1), (MS, 10, False)),
    ),
    Vector(
        "aimd shrinks, Go",
        f"{GO}, limit/aimd_test.go, DecreaseOnDrops",
        9,
        lambda: after(AIMD(10, 1), (1e-9, 1, True)),
    ),
    # Vegas
    Vector("vegas large, first", f"{VEGAS_TEST}.largeLimitIncrease", 10000, lambda: large(LARGE[:1])),
    Vector("vegas large", f"{VEGAS_TEST}.largeLimitIncrease", 10024, lambda: large(LARGE)),
    Vector("vegas grows, first", f"{VEGAS_TEST}.increaseLimit", 10, lambda: after(vegas(), (10 * MS, 10, False))),
    Vector(
        "vegas grows",
        f"{VEGAS_TEST}.increaseLimit",
        16,
        lambda: after(vegas(), (10 * MS, 10, False), (10 * MS, 11, False)),
    ),
    Vector(
        "vegas shrinks",
        f"{VEGAS_TEST}.decreaseLimit",
        9,
        lambda: after(vegas(), (10 * MS, 10, False), (50 * MS, 11, False)),
    ),
    Vector(
        "vegas stays",
        f"{VEGAS_TEST}.noChangeIfWithinThresholds",
        10,
        lambda: after(vegas(), (10 * MS, 10, False), (14 * MS, 14, False)),
    ),
    Vector("vegas smooth 0", f"{VEGAS_TEST}.decreaseSmoothing", 100, lambda: after(halving(0.5), *HALVINGS[:1])),
    Vector("vegas smooth 1", f"{VEGAS_TEST}.decreaseSmoothing", 75, lambda: after(halving(0.5), *HALVINGS[:2])),
    Vector("vegas smooth 2", f"{VEGAS_TEST}.decreaseSmoothing", 56, lambda: after(halving(0.5), *HALVINGS)),
    Vector("vegas rough 0", f"{VEGAS_TEST}.decreaseWithoutSmoothing", 100, lambda: after(halving(1), *HALVINGS[:1])),
    Vector("vegas rough 1", f"{VEGAS_TEST}.decreaseWithoutSmoothing", 50, lambda: after(halving(1), *HALVINGS[:2])),
    Vector("vegas rough 2", f"{VEGAS_TEST}.decreaseWithoutSmoothing", 25, lambda: after(halving(1), *HALVINGS)),
    Vector(
        "vegas begins, Go",
        f"{GO}, limit/vegas_test.go, NewDefaultVegasLimit",
        20,
        lambda: Vegas(rng=Random(7)).limit,
    ),
    # The logarithm of Vegas' steps
    Vector("log of 0", f"{LOG_TEST}.test0Index", 1, lambda: decades(0)),
    Vector("log of 100", f"{LOG_TEST}.testInRange", 2, lambda: decades(100)),
    Vector("log of 10000", f"{LOG_TEST}.testOutofLookupRange", 4, lambda: decades(10000)),
    # The average of Gradient2
    *(
        Vector(f"average of {n + 1}", AVERAGE_TEST, expected, partial(averaged, range(10, 11 + n)))
        for n, expected in enumerate([10.0, 10.5, 11, 11.5, 12, 12.5, 13, 13.5, 14, 14.5])
    ),
    Vector(
        "average forgets",
        AVERAGE_TEST,
        pytest.approx(16.2, abs=0.1),
        lambda: averaged([*range(10, 20), 100]),
    ),
    Vector(
        "average forgets, Go",
        f"{GO}, measurements/exponential_average_test.go, TestExponentialAverageMeasurement",
        pytest.approx(16.2, abs=0.01),
        lambda: averaged([*range(10, 20), 100]),
    ),
    # Gradient2, for which the original has no tests
    Vector("gradient begins", f"{GO_GRADIENT}/Default", 20, lambda: Gradient2().limit),
    Vector("gradient unused", f"{GO_GRADIENT}/OnSample", 50, lambda: ported_gradient(QUIET)),
    Vector("gradient rising", f"{GO_GRADIENT}/OnSample", 50, lambda: ported_gradient(QUIET, RISING)),
    Vector("gradient drops", f"{GO_GRADIENT}/OnSample", 45, lambda: ported_gradient(QUIET, RISING, DROP)),
    Vector("gradient idle", f"{GO_GRADIENT}/OnSample", 45, lambda: ported_gradient(QUIET, RISING, DROP, IDLE)),
    Vector("gradient drains", f"{GO_GRADIENT}/OnSample", 21, lambda: ported_gradient(QUIET, RISING, SLOW, IDLE, DRAIN)),
    Vector(
        "gradient rests",
        f"{GO_GRADIENT}/OnSample",
        21,
        lambda: ported_gradient(QUIET, RISING, SLOW, IDLE, DRAIN, UNUSED),
    ),
    Vector(
        "gradient tolerates",
        f"{CORE}, Gradient2Limit.Builder.rttTolerance: 'a value of 2.0 means that a 2x increase [...] is acceptable'",
        100,
        lambda: after(tolerant(), *repeat((MS, 1, False), 50), (2 * MS, 100, False)),
    ),
    # Permits
    Vector(
        "as many as may",
        f"{SIMPLE_TEST}.useLimiterCapacityUntilTotalLimit",
        [*range(1, 11), None],
        lambda: [made.admit() for made in repeat(gate(10), 11)],
    ),
    Vector(
        "in flight at the limit",
        f"{SIMPLE_TEST}.useLimiterCapacityUntilTotalLimit",
        10,
        lambda: gate(10, 11).inflight,
    ),
    Vector("in flight after one", f"{SIMPLE_TEST}.testReleaseLimit", 9, lambda: ended(gate(10, 11)).inflight),
    Vector("room for one more", f"{SIMPLE_TEST}.testReleaseLimit", 10, lambda: ended(gate(10, 11)).admit()),
    Vector("a crowd", f"{SIMPLE_TEST}.testConcurrentSimple", (True, 100 * 1000), crowd),
    Vector(
        "emptied below",
        f"{JAVA}/limiter/BlockingLimiterTest.test",
        1,
        lambda: emptied(settled(gate(10, 10), 1)).admit(),
    ),
    Vector(
        "limit rises",
        f"{JAVA}/limiter/LifoBlockingLimiterTest.adaptWhenLimitIncreases",
        5,
        lambda: settled(gate(4, 4), 5).admit(),
    ),
    Vector(
        "limit falls",
        f"{JAVA}/limiter/LifoBlockingLimiterTest.adaptWhenLimitDecreases",
        None,
        lambda: ended(settled(gate(4, 4), 3)).admit(),
    ),
    Vector("listener succeeds", f"{LISTENER}, OnSuccess", 2, lambda: ended(gate(10, 3)).inflight),
    Vector("listener ignores", f"{LISTENER}, OnIgnore", 1, lambda: forgetting(ended(gate(10, 3))).inflight),
    Vector("listener drops", f"{LISTENER}, OnDropped", 0, lambda: dropping(forgetting(ended(gate(10, 3)))).inflight),
    Vector(
        "counts a success",
        f"{GRPC}/server/ConcurrencyLimitServerInterceptorTest.releaseOnSuccess",
        (0, 0, 1, 0),
        lambda: counts(ended(gate(20, 1))),
    ),
    Vector(
        "counts an ignored call",
        f"{GRPC}/server/ConcurrencyLimitServerInterceptorTest.releaseOnUncaughtException",
        (0, 1, 0, 0),
        lambda: counts(forgetting(gate(20, 1))),
    ),
]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_published(vector: Vector) -> None:
    """What the project's own suite expects comes of it."""
    assert vector.expected == vector.play()
