"""Expectations of other projects' own suites: what each of them says a circuit breaker and its windows must do.

A script is words: ``F2`` two failures, ``S`` a success, ``f`` and ``s`` the same but slow (5 s); ``a`` a call that is
admitted and does not end, ``i`` one that is ignored, ``x`` one that is rejected; ``+1.5`` time passes; ``free`` forgets
a call that has not ended; ``trip`` fails until it opens; ``disable``, ``force_open``, ``metrics_only``, ``reset``.
"""

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest

from resilient.core import backoff
from resilient.core.breaker import Breaker, BreakerMetrics, BreakerPlan, State

RNG = Random(7)


@dataclass(frozen=True)
class Vector:
    """One published expectation.

    Attributes:
        id: names it.
        source: project, file and test.
        plan: the settings.
        script: what happens.
        expected: parts of the metrics afterwards, ``retry_after`` too; rates in whole per cent.
    """

    id: str
    source: str
    plan: BreakerPlan
    script: str
    expected: dict[str, Any]


PLAN = BreakerPlan(
    failure_rate=0.5,
    window=10,
    timed=False,
    min_calls=1,
    consecutive=None,
    slow_call=4.0,
    slow_rate=1.0,
    open_for=backoff.constant(5),
    probes=1,
)


def counted(size: int) -> BreakerPlan:
    """A window of so many calls."""
    return replace(PLAN, window=size)


def timed(seconds: float) -> BreakerPlan:
    """A window of so many seconds."""
    return replace(PLAN, window=seconds, timed=True)


def rows(source: str, plan: BreakerPlan, name: str, *steps: tuple[str, dict[str, Any]]) -> list[Vector]:
    """A test that looks several times: each look is an expectation, after everything before it."""
    made, script = [], ""
    for n, (more, expected) in enumerate(steps, 1):
        script = f"{script} {more}"
        made.append(Vector(f"{name}-{n}", source, plan, script, expected))
    return made


def number(calls: int, failures: int, rate: float | None = -1, **more: Any) -> dict[str, Any]:
    """What a window has counted; the rate in per cent, unless left out."""
    rated = {} if rate == -1 else {"failure_rate": rate}
    return {"calls": calls, "failures": failures, **rated, **more}


R4J = "resilience4j"
R4J_METRICS = f"{R4J}, CircuitBreakerMetricsTest.java, testCircuitBreakerMetrics"
R4J_COUNT = f"{R4J}, FixedSizeSlidingWindowMetricsTest.java,"
R4J_TIME = f"{R4J}, SlidingTimeWindowMetricsTest.java,"
R4J_STATE = f"{R4J}, CircuitBreakerStateMachineTest.java,"
# Its setUp: 50 %, four probes, slow above 4 s and at 50 %, a window of 5 s and 5 calls at least, open for 5 s.
R4J_PLAN = replace(timed(5.0), min_calls=5, slow_rate=0.5, probes=4)
# IntervalFunction.ofExponentialBackoff(5000) grows by 1.5.
R4J_GROWING = replace(R4J_PLAN, window=5, timed=False, open_for=backoff.exponential(5, 1.5))
UNRATED = None

RESILIENCE4J = [
    *rows(
        R4J_METRICS, replace(PLAN, min_calls=10), "r4j-metrics",
        ("metrics_only S2 F2", number(4, 2, UNRATED)),
        ("F4 S4", number(10, 6, 60)),
        ("S3", number(10, 3, 30)),
    ),
    *rows(f"{R4J_COUNT} checkInitialBucketCreation", counted(5), "r4j-count-empty", ("", number(0, 0, slow=0))),
    *rows(f"{R4J_COUNT} testRecordSuccess", counted(5), "r4j-count-success", ("S", number(1, 0, 0, slow=0))),
    *rows(f"{R4J_COUNT} testRecordError", counted(5), "r4j-count-error", ("metrics_only F", number(1, 1, 100, slow=0))),
    *rows(f"{R4J_COUNT} testRecordSlowSuccess", counted(5), "r4j-slow", ("metrics_only s", number(1, 0, 0, slow=1))),
    *rows(
        f"{R4J_COUNT} testSlowCallsPercentage", counted(5), "r4j-count-slow-rate",
        ("metrics_only s f S3", {"calls": 5, "failures": 1, "slow": 2, "slow_rate": 40}),
    ),
    *rows(
        f"{R4J_COUNT} testSlidingWindowMetrics", counted(4), "r4j-count-slides",
        ("metrics_only F", number(1, 1, 100)),
        ("S", number(2, 1, 50)),
        ("S", number(3, 1, 33)),
        ("S", number(4, 1, 25)),
        ("S", number(4, 0, 0)),
    ),
    *rows(
        f"{R4J_COUNT} testSlidingWindowMetricsWithSlowCalls", counted(2), "r4j-count-slow-slides",
        ("metrics_only f", number(1, 1, 100, slow=1)),
        ("s", number(2, 1, 50, slow=2)),
        ("S", number(2, 0, 0, slow=1)),
        ("S", number(2, 0, 0, slow=0)),
        ("S", number(2, 0, 0, slow=0)),
    ),
    *rows(
        f"{R4J_TIME} testSlowCallsPercentage", timed(5), "r4j-time-slow-rate",
        ("metrics_only s f S3", {"calls": 5, "failures": 1, "slow": 2, "slow_rate": 40}),
    ),
    *rows(
        f"{R4J_TIME} shouldClearSlidingTimeWindowMetrics", timed(5), "r4j-time-clears",
        ("metrics_only F", number(1, 1, 100)),
        ("+0.1 S", number(2, 1, 50)),
        ("+0.7 S", number(3, 1)),
        ("+4", number(3, 1)),
        ("+1", number(0, 0)),
        ("+0.1 S", number(1, 0, 0)),
    ),
    *rows(
        f"{R4J_TIME} testSlidingTimeWindowMetrics", timed(5), "r4j-time-slides",
        ("metrics_only F", number(1, 1)),
        ("+0.1 S", number(2, 1)),
        ("+0.1 S", number(3, 1)),
        ("+1 S", number(4, 1)),
        ("+1 S", number(5, 1)),
        ("+1 F", number(6, 2)),
        ("+1 S", number(7, 2)),
        ("+1 S", number(5, 1)),
        ("+1 S", number(5, 1)),
        ("+5 S", number(1, 0)),
    ),
    *rows(
        f"{R4J_STATE} shouldThrowCallNotPermittedExceptionWhenStateIsOpen", R4J_PLAN, "r4j-open-rejects",
        ("trip x", {"rejected": 1}),
    ),
    *rows(
        f"{R4J_STATE} shouldThrowCallNotPermittedExceptionWhenStateIsForcedOpen", R4J_PLAN, "r4j-forced-open-rejects",
        ("force_open x", {"rejected": 1}),
    ),
    *rows(
        f"{R4J_STATE} shouldIncreaseCounterOnReleasePermission", R4J_PLAN, "r4j-release",
        ("trip +5 a4 x2 free a", {"state": "half_open"}),
    ),
    *rows(
        f"{R4J_STATE} shouldOnlyPermitFourCallsInHalfOpenState", R4J_PLAN, "r4j-four-probes",
        ("trip +5 a4 x2", {"state": "half_open", "retry_after": None}),
    ),
    *rows(
        f"{R4J_STATE} shouldOpenAfterFailureRateThresholdExceeded", R4J_PLAN, "r4j-failure-rate",
        ("F", number(1, 1, UNRATED, state="closed")),
        ("F", number(2, 2, UNRATED, state="closed")),
        ("F", number(3, 3, UNRATED, state="closed")),
        ("S", number(4, 3, UNRATED, state="closed")),
        ("S", number(5, 3, 60, state="open", rejected=0)),
        ("x", number(5, 3, 60, state="open", rejected=1)),
    ),
    *rows(
        f"{R4J_STATE} shouldOpenAfterSlowCallRateThresholdExceeded", R4J_PLAN, "r4j-slow-rate",
        ("f s F S", {"state": "closed"}),
        ("s", {"state": "open", "calls": 5, "slow": 3, "slow_rate": 60}),
    ),
    *rows(
        f"{R4J_STATE} shouldTransitionToHalfOpenAfterWaitDuration", R4J_PLAN, "r4j-wait",
        ("trip x +3 x", {"state": "open", "rejected": 2}),
        ("+3 a", number(0, 0, UNRATED, state="half_open")),
    ),
    *rows(
        f"{R4J_STATE} shouldTransitionToHalfOpenAfterWaitInterval", R4J_GROWING, "r4j-wait-grows",
        ("trip x +3 x", {"state": "open"}),
        ("+3 F4", {"state": "open"}),
        ("+6 x", {"state": "open"}),
        ("+5 a", number(0, 0, UNRATED, state="half_open")),
    ),
    *rows(
        f"{R4J_STATE} shouldTransitionBackToOpenStateWhenFailureRateIsAboveThreshold", R4J_PLAN, "r4j-reopens",
        ("trip +5 F2 S F", number(4, 3, 75, state="open")),
    ),
    *rows(
        f"{R4J_STATE} shouldTransitionBackToOpenStateWhenSlowCallRateIsAboveThreshold", R4J_PLAN, "r4j-reopens-slow",
        ("trip +5 s3 S", number(4, 0, 0, state="open", slow=3, slow_rate=75)),
    ),
    *rows(
        f"{R4J_STATE} shouldTransitionBackToClosedStateWhenFailureIsBelowThreshold", R4J_PLAN, "r4j-closes",
        ("trip +5 F S3", number(0, 0, UNRATED, state="closed")),
        ("S", number(1, 0, UNRATED, state="closed")),
    ),
    *rows(
        f"{R4J_STATE} shouldResetMetrics", R4J_PLAN, "r4j-reset",
        ("S F", number(2, 1, UNRATED)),
        ("reset", number(0, 0, UNRATED)),
    ),
    *rows(
        f"{R4J_STATE} shouldDisableCircuitBreaker", R4J_PLAN, "r4j-disabled",
        ("disable S F4", number(0, 0, UNRATED, state="disabled", rejected=0)),
    ),
    *rows(
        f"{R4J_STATE} shouldForceOpenCircuitBreaker", R4J_PLAN, "r4j-forced-open",
        ("force_open x +6 x", number(0, 0, UNRATED, state="forced_open", rejected=2)),
    ),
    *rows(
        f"{R4J_STATE} shouldReleasePermissionWhenExceptionIgnored", R4J_PLAN, "r4j-ignored-frees",
        ("trip +5 S", number(1, 0, UNRATED, state="half_open")),
        ("S", number(2, 0, UNRATED, state="half_open")),
        ("S", number(3, 0, UNRATED, state="half_open")),
        ("i", number(3, 0, UNRATED, state="half_open")),
        ("F", number(0, 0, UNRATED, state="closed")),
    ),
    *rows(
        f"{R4J_STATE} shouldIgnoreExceptionsAndThenTransitionToClosed", R4J_PLAN, "r4j-ignored-then-closed",
        ("trip +5 i4", number(0, 0, UNRATED, state="half_open")),
        ("S3", number(3, 0, UNRATED, state="half_open")),
        ("S", number(0, 0, UNRATED, state="closed")),
    ),
    *rows(f"{R4J_STATE} shouldResetToClosedState", R4J_PLAN, "r4j-reset-open", ("trip reset", {"state": "closed"})),
    *rows(f"{R4J_STATE} shouldResetClosedState", R4J_PLAN, "r4j-reset-2", ("S2 reset", number(0, 0, state="closed"))),
    *rows(
        f"{R4J_STATE} shouldResetMetricsAfterMetricsOnlyStateTransition", R4J_PLAN, "r4j-metrics-only-anew",
        ("S2 metrics_only", number(0, 0, state="metrics_only")),
    ),
    *rows(
        f"{R4J_STATE} shouldRecordMetricsInMetricsOnlyState", R4J_PLAN, "r4j-metrics-only",
        ("metrics_only F3 S", number(4, 3, UNRATED, state="metrics_only")),
        ("S", number(5, 3, 60, state="metrics_only")),
        ("F", {"state": "metrics_only"}),
    ),
]  # fmt: skip

POLLY_BEHAVIOUR = "Polly v8, AdvancedCircuitBehaviorTests.cs, OnActionFailure_WhenClosed_EnsureCorrectBehavior"
POLLY_HEALTH = "Polly v8, RollingHealthMetricsTests.cs,"
POLLY_STATE = "Polly v8, CircuitStateControllerTests.cs,"
TENTH = replace(timed(10), failure_rate=0.1, min_calls=10)
# CircuitBreakerConstants: DefaultSamplingDuration 30 s, DefaultBreakDuration 5 s. The suite trips by a mock.
POLLY_PLAN = replace(timed(30), min_calls=2)

POLLY = [
    Vector("polly-rate-0", f"{POLLY_BEHAVIOUR}(10, 10, 0.0, 0.1)", TENTH, "S10", {"state": "closed"}),
    Vector("polly-rate-10", f"{POLLY_BEHAVIOUR}(10, 10, 0.1, 0.1)", TENTH, "S9 F", {"state": "open"}),
    Vector("polly-rate-20", f"{POLLY_BEHAVIOUR}(10, 10, 0.2, 0.1)", TENTH, "S8 F2", {"state": "open"}),
    Vector("polly-empty", f"{POLLY_HEALTH} Ctor_EnsureDefaults", timed(10), "", number(0, 0)),
    Vector("polly-increment", f"{POLLY_HEALTH} Increment_Ok", timed(10), "metrics_only F S4", number(5, 1, 20)),
    *rows(
        f"{POLLY_HEALTH} GetHealthInfo_EnsureWindowRespected", timed(10), "polly-window",
        ("metrics_only F S +2", number(2, 1, 50)),
        ("F S +2", number(4, 2, 50)),
        ("S2 +2 S2 +2", number(8, 2, 25)),
        ("S2 +2", number(8, 1, 12)),
        ("+2", number(6, 0, 0)),
    ),
    *rows(
        f"{POLLY_HEALTH} GetHealthInfo_EnsureWindowCapacityRespected", timed(10), "polly-capacity",
        ("S +1 S +1 S +1 S +1 S +1 S +1 S +1 S +1 S +1 S +1", {"calls": 9}),
        ("+1", {"calls": 8}),
    ),
    Vector("polly-reset", f"{POLLY_HEALTH} Reset_Ok", timed(10), "S reset", {"calls": 0}),
    *rows(
        f"{POLLY_HEALTH} GetHealthInfo_SamplingDurationRespected", timed(10), "polly-duration",
        ("S2 +10", number(0, 0)),
        ("+0.001", number(0, 0)),
    ),
    Vector("polly-default", f"{POLLY_STATE} Ctor_EnsureDefaults", POLLY_PLAN, "", {"state": "closed"}),
    *rows(
        f"{POLLY_STATE} IsolateAsync_Ok", POLLY_PLAN, "polly-isolated",
        ("+1 force_open", {"state": "forced_open"}),
        ("x reset a", {"state": "closed"}),
    ),
    Vector("polly-blocked", f"{POLLY_STATE} OnActionPreExecute_CircuitOpenedByValue", POLLY_PLAN, "trip x",
           {"retry_after": 5.0}),
    Vector("polly-half-open-ok", f"{POLLY_STATE} HalfOpen_EnsureCorrectStateTransitionAfterExecution(true)",
           POLLY_PLAN, "trip +5 S", {"state": "closed"}),
    Vector("polly-half-open-fails", f"{POLLY_STATE} HalfOpen_EnsureCorrectStateTransitionAfterExecution(false)",
           POLLY_PLAN, "trip +5 F", {"state": "open"}),
    Vector("polly-one-probe", f"{POLLY_STATE} OnActionPreExecute_HalfOpen", POLLY_PLAN, "trip +5 a x",
           {"state": "half_open"}),
    Vector("polly-generated", f"{POLLY_STATE} OnActionFailureAsync_EnsureBreakDurationGeneration",
           replace(POLLY_PLAN, open_for=backoff.constant(42 * 60)), "S F", {"retry_after": 2520.0, "failure_rate": 50}),
    *rows(
        f"{POLLY_STATE} Flow_Closed_HalfOpen_Open_HalfOpen_Closed", POLLY_PLAN, "polly-flow",
        ("trip +5 F", {"state": "open"}),
        ("+0.001 x", {"state": "open"}),
        ("+10 S", {"state": "closed"}),
    ),
]  # fmt: skip

FAILSAFE_CLOSED = "Failsafe 3, ClosedStateTest.java,"
FAILSAFE_HALF_OPEN = "Failsafe 1 (net.jodah), HalfOpenStateTest.java,"
FAILSAFE_OPEN = "Failsafe 3, OpenStateTest.java,"
FAILSAFE_TIMED = "Failsafe 3, TimedCircuitStatsTest.java, testMetrics"


def ratio(failures: int, calls: int) -> BreakerPlan:
    """``withFailureThreshold(failures, calls)``."""
    return replace(PLAN, failure_rate=failures / calls, window=calls, min_calls=calls, probes=calls)


def streak(failures: int, probes: int = 1) -> BreakerPlan:
    """``withFailureThreshold(failures)``, ``withSuccessThreshold(probes)``."""
    return replace(PLAN, failure_rate=None, consecutive=failures, probes=probes)


FAILSAFE = [
    Vector("failsafe-one", f"{FAILSAFE_CLOSED} testFailureWithDefaultConfig", streak(1), "F", {"state": "open"}),
    *rows(
        f"{FAILSAFE_CLOSED} testFailureWithFailureRatio", ratio(2, 3), "failsafe-ratio",
        ("F S", {"state": "closed"}),
        ("F", {"state": "open"}),
    ),
    *rows(
        f"{FAILSAFE_CLOSED} testFailureWithFailureThreshold", streak(3), "failsafe-streak",
        ("F S F2", {"state": "closed"}),
        ("F", {"state": "open"}),
    ),
    Vector("failsafe-success", f"{FAILSAFE_CLOSED} testSuccessWithDefaultConfig", streak(1), "S", {"state": "closed"}),
    Vector("failsafe-below-ratio", f"{FAILSAFE_CLOSED} testSuccessWithFailureRatio", ratio(3, 4), "S F " * 20,
           {"state": "closed"}),
    Vector("failsafe-no-streak", f"{FAILSAFE_CLOSED} testSuccessWithFailureThreshold", streak(2), "S F " * 20,
           {"state": "closed"}),
    Vector("failsafe-probe-fails", f"{FAILSAFE_HALF_OPEN} testFailureWithDefaultConfig", streak(1), "trip +5 F",
           {"state": "open"}),
    *rows(
        f"{FAILSAFE_HALF_OPEN} testFailureWithFailureRatio", ratio(2, 3), "failsafe-probes-ratio",
        ("trip +5 F S", {"state": "half_open"}),
        ("F", {"state": "open"}),
    ),
    *rows(
        f"{FAILSAFE_HALF_OPEN} testFailureWithSuccessAndFailureRatios (3 of 4 succeed)", ratio(2, 4),
        "failsafe-3-of-4-fails",
        ("trip +5 S F S", {"state": "half_open"}),
        ("F", {"state": "open"}),
    ),
    *rows(
        f"{FAILSAFE_HALF_OPEN} testFailureWithSuccessAndFailureThresholds", streak(2, 3), "failsafe-3-successes-fails",
        ("trip +5 S2", {"state": "half_open"}),
        ("F", {"state": "open"}),
    ),
    *rows(
        f"{FAILSAFE_HALF_OPEN} testFailureWithSuccessRatioAndFailureThreshold (2 of 4 succeed)", ratio(3, 4),
        "failsafe-2-of-4-fails",
        ("trip +5 S F2", {"state": "half_open"}),
        ("F", {"state": "open"}),
    ),
    Vector("failsafe-probe-passes", f"{FAILSAFE_HALF_OPEN} testSuccessWithDefaultConfig", streak(1), "trip +5 S",
           {"state": "closed"}),
    *rows(
        f"{FAILSAFE_HALF_OPEN} testSuccessWithFailureRatio", ratio(2, 3), "failsafe-probes-pass",
        ("trip +5 F S", {"state": "half_open"}),
        ("S", {"state": "closed"}),
    ),
    *rows(
        f"{FAILSAFE_HALF_OPEN} testSuccessWithSuccessAndFailureRatios (3 of 4 succeed)", ratio(2, 4),
        "failsafe-3-of-4-passes",
        ("trip +5 S F S", {"state": "half_open"}),
        ("S", {"state": "closed"}),
    ),
    *rows(
        f"{FAILSAFE_HALF_OPEN} testSuccessWithSuccessThreshold", streak(1, 3), "failsafe-3-successes",
        ("trip +5 S2", {"state": "half_open"}),
        ("S", {"state": "closed"}),
    ),
    *rows(
        f"{FAILSAFE_OPEN} testTryAcquirePermit", replace(streak(1), open_for=backoff.constant(0.1)), "failsafe-delay",
        ("trip x", {"state": "open"}),
        ("+0.11 a", {"state": "half_open"}),
    ),
    Vector("failsafe-no-delay", f"{FAILSAFE_OPEN} testNoRemainingDelay",
           replace(streak(1), open_for=backoff.constant(0.01)), "trip +0.05", {"retry_after": 0.0}),
    *rows(
        "Failsafe 3, CircuitBreakerTest.java, shouldGetSuccessAndFailureStats", counted(10), "failsafe-stats",
        ("metrics_only S F S F S F S", number(7, 3, 43)),
        ("F S3 F S3 F S3 F S2", number(10, 2, 20)),
    ),
    Vector("failsafe-stats-half-open", "Failsafe 3, CircuitBreakerTest.java, shouldGetSuccessAndFailureStats",
           ratio(6, 20), "trip +5" + " F S2" * 5, number(15, 5, state="half_open")),
    *rows(
        "Failsafe 3, CountingCircuitStatsTest.java, testMetrics", counted(100), "failsafe-counting",
        ("metrics_only" + " S F2" * 16 + " S F", number(50, 33, 66)),
        ("S100", number(100, 0, 0)),
    ),
    *rows(
        FAILSAFE_TIMED, timed(4), "failsafe-timed",
        ("metrics_only" + " S F4" * 10, number(50, 40, 80)),
        ("+1 S10", number(60, 40, 67)),
        ("+1.5 F20", number(80, 60, 75)),
        ("+0.6" + " S F4" * 5, number(105, 80, 76)),
        ("+2.3 S8", number(53, 40, 75)),
        ("+1.9 F5", number(13, 5, 38)),
        ("+15.2", number(0, 0)),
    ),
]  # fmt: skip

VECTORS = [*RESILIENCE4J, *POLLY, *FAILSAFE]


class Player:
    """Plays a script; instants are kept in whole milliseconds, so that they are the published ones."""

    def __init__(self, plan: BreakerPlan) -> None:
        self.breaker = Breaker(plan, RNG)
        self.milliseconds = 0
        self.tickets: list[int] = []

    @property
    def now(self) -> float:
        return self.milliseconds / 1000

    def word(self, word: str) -> None:
        """One word of a script."""
        breaker = self.breaker
        if word.startswith("+"):
            self.milliseconds += round(float(word) * 1000)
        elif word == "trip":
            while breaker.state is State.CLOSED:
                self.call("F")
        elif word == "free":
            breaker.forgotten(self.tickets.pop())
        elif hasattr(breaker, word):
            getattr(breaker, word)(self.now)
        else:
            for _ in range(int(word[1:] or 1)):
                self.call(word[0])

    def call(self, kind: str) -> None:
        """One call: see the top of this file."""
        ticket = self.breaker.admit(self.now)
        if kind == "x":
            assert ticket is None
            return
        assert ticket is not None
        if kind == "a":
            self.tickets.append(ticket)
        elif kind == "i":
            self.breaker.forgotten(ticket)
        else:
            self.breaker.recorded(ticket, self.now, kind in "Ff", 5.0 if kind.islower() else 0.1)


def shown(metrics: BreakerMetrics, name: str) -> object:
    """A part of the metrics; rates in whole per cent, as these projects show them."""
    value = getattr(metrics, name)
    return round(100 * value) if name.endswith("_rate") and value is not None else value


def test_every_vector_has_a_name_of_its_own() -> None:
    """So that a failure names one expectation."""
    assert len(VECTORS) == len({vector.id for vector in VECTORS})


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.id)
def test_published(vector: Vector) -> None:
    """What the source expects after the same events."""
    player = Player(vector.plan)
    for word in vector.script.split():
        player.word(word)
    metrics = player.breaker.metrics(player.now)
    seen = {
        name: player.breaker.retry_after(player.now) if name == "retry_after" else shown(metrics, name)
        for name in vector.expected
    }
    assert vector.expected == seen
