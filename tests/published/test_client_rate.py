"""The client rate limiter against the numbers of the AWS SDKs' suites: one row, one published expectation."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from resilient.core.client_rate import ClientRate, Cubic

# The published numbers have 13 to 17 digits, and those of the SDK for JavaScript 8.
EXACTLY = 1e-12


@dataclass(frozen=True)
class Vector:
    """The last of these responses: when it comes, whether it throttles, and the rates after it."""

    source: str
    at: float
    throttled: bool
    fill_rate: float
    measured_rate: float | None = None


# CUBIC alone, from a throttle at 10 per second at instant 5.
SUCCESS = "aws-sdk-go-v2, aws/retry/adaptive_ratelimit_test.go, TestAdaptiveRateLimit_cubic/success"
MIXED = "smithy-rs, client_rate_limiter.rs, test_calculated_rate_with_throttles"
CURVES = {
    "success": [
        Vector(SUCCESS, 5, False, 7.0),
        Vector(SUCCESS, 6, False, 9.64893600966),
        Vector(SUCCESS, 7, False, 10.000030849917364),
        Vector(SUCCESS, 8, False, 10.453284520772092),
        Vector(SUCCESS, 9, False, 13.408697022224185),
        Vector(SUCCESS, 10, False, 21.26626835427364),
        Vector(SUCCESS, 11, False, 36.425998516920465),
    ],
    "mixed": [
        Vector(MIXED, 5, False, 7.0),
        Vector(MIXED, 6, False, 9.64893600966),
        Vector(MIXED, 7, True, 6.754255206761999),
        Vector(MIXED, 8, True, 4.727978644733399),
        Vector(MIXED, 9, False, 4.670125557970046),
        Vector(MIXED, 10, False, 4.770870456867401),
        Vector(MIXED, 11, False, 6.011819748005445),
        Vector(MIXED, 12, False, 10.792973431384178),
    ],
}

# The whole limiter, from instant 0.
RATES = "smithy-rs, client_rate_limiter.rs, test_client_sending_rates"
RESPONSES = [
    Vector(RATES, 0.2, False, 0.5, 0.0),
    Vector(RATES, 0.4, False, 0.5, 0.0),
    Vector(RATES, 0.6, False, 0.5, 4.800000000000001),
    Vector(RATES, 0.8, False, 0.5, 4.800000000000001),
    Vector(RATES, 1.0, False, 0.5, 4.16),
    Vector(RATES, 1.2, False, 0.6912, 4.16),
    Vector(RATES, 1.4, False, 1.0975999999999997, 4.16),
    Vector(RATES, 1.6, False, 1.6384000000000005, 5.632000000000001),
    Vector(RATES, 1.8, False, 2.3328, 5.632000000000001),
    Vector(RATES, 2.0, True, 3.0284799999999996, 4.3264),
    Vector(RATES, 2.2, False, 3.48663917347026, 4.3264),
    Vector(RATES, 2.4, False, 3.821874416040255, 4.3264),
    Vector(RATES, 2.6, False, 4.053385727709987, 5.66528),
    Vector(RATES, 2.8, False, 4.200373108479454, 5.66528),
    Vector(RATES, 3.0, False, 4.282036558348658, 4.333056),
    Vector(RATES, 3.2, True, 2.99742559084406, 4.333056),
    Vector(RATES, 3.4, False, 3.4522263943863463, 4.333056),
]


def begun() -> ClientRate:
    """A limiter whose time starts at 0."""
    rate = ClientRate()
    rate.acquire(0.0)
    return rate


def in_force(fill_rate: float, capacity: float) -> ClientRate:
    """A limiter in force at 0, its bucket empty."""
    rate = begun()
    rate.enabled, rate.fill_rate, rate.capacity = True, fill_rate, capacity
    return rate


@pytest.mark.parametrize(("name", "last"), [(name, n) for name, rows in CURVES.items() for n in range(len(rows))])
def test_the_curve_is_the_published_one(name: str, last: int) -> None:
    """The rate after each response."""
    cubic, rate = Cubic(), 0.0
    cubic.throttled(5.0, 10.0)
    for row in CURVES[name][: last + 1]:
        if row.throttled:
            rate = cubic.throttled(row.at, rate)
            cubic.throttled(row.at, rate)  # these suites keep the rate after the cut as the last maximum
        else:
            rate = cubic.grown(row.at)
    assert pytest.approx(row.fill_rate, rel=EXACTLY) == rate, row.source


@pytest.mark.parametrize("last", range(len(RESPONSES)))
def test_rates_are_the_published_ones(last: int) -> None:
    """Measured rate and fill rate after each response; in force from the first throttle."""
    rate = begun()
    for row in RESPONSES[: last + 1]:
        rate.responded(row.at, row.throttled)
    assert pytest.approx(row.measured_rate, rel=EXACTLY) == rate.measured_rate, row.source
    assert pytest.approx(row.fill_rate, rel=EXACTLY) == rate.fill_rate, row.source
    assert (row.at >= 2.0) is rate.enabled


# smithy-typescript, DefaultRateLimiter.spec.ts, getSendToken: (instant of the first response, a throttle; wait, s)
@pytest.mark.parametrize(("at", "wait"), [(0.5, 0.8928571428571428), (1, 1.7857142857142856), (2, 2.0)])
def test_the_first_wait_is_the_published_one(at: float, wait: float) -> None:
    """After a throttle the bucket is empty."""
    rate = begun()
    rate.responded(at, True)
    assert pytest.approx(wait, rel=EXACTLY) == rate.acquire(at)


# smithy-typescript, DefaultRateLimiter.spec.ts, cubicThrottle: (instant, rate left by a first response that throttles)
@pytest.mark.parametrize(("at", "left"), [(5, 0.112), (6, 0.09333333), (7, 0.08), (8, 0.07), (9, 0.06222222)])
def test_a_first_throttle_leaves_the_published_rate(at: float, left: float) -> None:
    """Beta of what was measured; the fill rate has its minimum below that."""
    rate = begun()
    rate.responded(at, True)
    assert pytest.approx(left, abs=5e-9) == rate.cubic.grown(at)
    assert 0.5 == rate.fill_rate


# botocore, tests/unit/retries/test_throttling.py, TestCubicCalculator: (test, beta, rate at the throttle, its instant,
# rate left, k)
THROTTLES = [
    ("test_starting_params", 0.7, 10, 0, 7.0, 1.9574338205844317),
    ("test_error_response_decreases_rate_by_beta", 0.7, 8, 1, 5.6, 1.8171205928321397),
    ("test_t_0_should_match_beta_decrease", 0.6, 10, 1, 6.0, None),
]


@pytest.mark.parametrize(("name", "beta", "rate", "at", "left", "k"), THROTTLES)
def test_a_throttle_is_botocores(name: str, beta: float, rate: float, at: float, left: float, k: float | None) -> None:
    """The rate left, at once and as the curve's start, and the time until it is back."""
    cubic = Cubic(beta)
    assert pytest.approx(left, rel=EXACTLY) == cubic.throttled(at, rate), name
    assert pytest.approx(left, rel=EXACTLY) == cubic.grown(at), name
    assert k is None or pytest.approx(k, rel=EXACTLY) == cubic.k


# botocore, TestCubicCalculator.test_success_responses_until_max_hit: (share of k, below, at or above the last maximum)
@pytest.mark.parametrize(("share", "side"), [(1 / 3, -1), (1 / 2, -1), (1 / 1.1, -1), (1.0, 0), (1.1, 1), (2.0, 1)])
def test_the_curve_meets_the_last_maximum_at_k(share: float, side: int) -> None:
    """Below before k, at it, above after it."""
    cubic = Cubic()
    cubic.throttled(0.0, 10.0)
    rate = cubic.grown(cubic.k * share)
    assert side == (0 if rate == pytest.approx(10.0) else 1 if rate > 10 else -1)


# botocore, tests/unit/retries/test_adaptive.py, TestRateClocker: (test, instants, measured rate from and to)
CLOCKED = [
    ("test_initial_rate_is_0", [], 0, 0),
    ("test_time_updates_if_after_bucket_range", [1], 0.8, 0.8),
    ("test_can_measure_constant_rate", list(range(1, 21)), 1 - 5e-8, 1 + 5e-8),
    ("test_uses_smoothing_to_favor_recent_weights-before", [1, 1.5, 2, 2.5, 3, 3.5, 4], 1.99, 2.0),
    ("test_uses_smoothing_to_favor_recent_weights-after", [1, 1.5, 2, 2.5, 3, 3.5, 4, 14], 0.1, 2.0),
    ("test_noop_when_delta_t_is_0", [1, 1, 1, 2, 3], 1.0, float("inf")),
    ("test_times_are_grouped_per_time_bucket-before", [0.1, 0.2, 0.3, 0.4, 0.49], 0, 0),
    ("test_times_are_grouped_per_time_bucket-after", [0.1, 0.2, 0.3, 0.4, 0.49, 0.5], 12 * 0.8, 12 * 0.8),
]


@pytest.mark.parametrize(("name", "instants", "least", "most"), CLOCKED)
def test_rates_are_measured_like_botocores(name: str, instants: list[float], least: float, most: float) -> None:
    """A moving average over half seconds."""
    rate = begun()
    for now in instants:
        rate.responded(now, False)
    assert least <= rate.measured_rate <= most, name


# botocore, tests/unit/retries/test_adaptive.py, TestClientRateLimiter: (test, rate by the curve, measured, fill rate)
ADJUSTED = [
    ("test_max_rate_updated_on_success_response", 20, 21, 20),
    ("test_max_rate_cant_exceed_20_percent_max", 100, 20, 40),
]


@pytest.mark.parametrize(("name", "curve", "measured", "fill_rate"), ADJUSTED)
def test_the_fill_rate_is_botocores(name: str, curve: float, measured: float, fill_rate: float) -> None:
    """As the curve says, and at most twice the measured rate."""
    rate = begun()
    rate.measured_rate, rate.cubic.w_max = measured, curve
    rate.responded(0.0, False)
    assert fill_rate == rate.fill_rate, name


def test_tokens_are_taken_only_in_force() -> None:
    """botocore, TestClientRateLimiter: test_bucket_bucket_acquisition_only_if_enabled."""
    rate = begun()
    assert (0.0, 0.0) == (rate.acquire(0.0), rate.available)


def test_a_throttle_brings_the_limit_into_force() -> None:
    """botocore, TestClientRateLimiter: test_token_bucket_enabled_on_throttling_error."""
    rate = begun()
    rate.responded(0.0, True)
    assert (True, 0.0) == (rate.enabled, rate.available)
    rate.acquire(1.0)
    assert -0.5 == rate.available


# botocore, tests/unit/retries/test_bucket.py, TestTokenBucket: (test, fill rate, instants at which a token is there)
BUCKETS = [
    ("test_can_acquire_amount", 10, [1, 2, 3, 4, 5]),
    ("test_can_retrieve_at_max_send_rate", 10, [1 + 0.1 * i for i in range(20)]),
]


@pytest.mark.parametrize(("name", "fill_rate", "instants"), BUCKETS)
def test_the_bucket_fills_like_botocores(name: str, fill_rate: float, instants: list[float]) -> None:
    """At its rate, nobody waits."""
    rate = in_force(fill_rate, fill_rate)
    assert [0.0] * len(instants) == [rate.acquire(now) for now in instants], name


@pytest.mark.parametrize("now", [6, 7, 8, 9, 10])
def test_a_lower_rate_is_still_a_token_a_second(now: int) -> None:
    """botocore, TestTokenBucket.test_can_change_max_capacity_lower: from 10 a second to 1 at instant 5."""
    rate = in_force(10, 10)
    waits = [rate.acquire(second) for second in range(1, 6)]
    rate.fill_rate = rate.capacity = 1
    waits += [rate.acquire(second) for second in range(6, now + 1)]
    assert [0.0] * now == waits


def test_the_bucket_makes_wait_like_botocores() -> None:
    """botocore, TestTokenBucket.test_acquiring_blocks_when_capacity_reached: a token each 0.1 s; 0.05 s too early."""
    rate = in_force(10, 10)
    assert (0.0, 0.0) == (rate.acquire(0.1), rate.available)
    assert pytest.approx(0.05) == rate.acquire(0.15)
    assert 0.0 == rate.acquire(0.300001)


# botocore, TestTokenBucket: (test, least fill rate, rate set, fill rate, capacity)
SET = [
    ("test_max_capacity_is_at_least_one", 0.1, 0.5, 0.5, 1),
    ("test_rate_cant_go_below_min", 0.2, 0.1, 0.2, 1),
]


@pytest.mark.parametrize(("name", "least", "curve", "fill_rate", "capacity"), SET)
def test_minima_are_botocores(name: str, least: float, curve: float, fill_rate: float, capacity: float) -> None:
    """A rate below the minimum, a capacity below one token."""
    rate = ClientRate(min_fill_rate=least)
    rate.acquire(0.0)
    rate.measured_rate, rate.cubic.w_max = 10.0, curve
    rate.responded(0.0, False)
    assert (fill_rate, capacity) == (rate.fill_rate, rate.capacity), name


def test_more_than_there_is_waits() -> None:
    """botocore, TestTokenBucket.test_acquire_fails_on_non_block_mode_returns_false: 100 at once, of 10 a second."""
    assert in_force(10, 10).acquire(1.0, 100) > 0
