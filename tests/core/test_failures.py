"""Failures in a row, and the waits that they call for."""

from random import Random

import pytest

from resilient import backoff
from resilient.core.failures import ATTEMPTS, BACKOFF, Failures, checked_attempts, checked_backoff

RNG = Random(7)


def waits(failures: Failures, count: int) -> list[float]:
    """The waits of so many failures in a row, each asked for before its failure."""
    drawn = []
    for _ in range(count):
        drawn.append(failures.delay(RNG))
        failures.failed()
    return drawn


def test_the_default_numbers_are_those_of_system_2() -> None:
    """min(100 ms * 2 ** failures so far, 300 s), ten attempts."""
    expected = [min(0.1 * 2**failures, 300) for failures in range(15)]
    assert (expected, 10) == (pytest.approx(waits(Failures(BACKOFF), 15)), ATTEMPTS)


def test_a_success_begins_anew() -> None:
    """The count and the waits."""
    failures = Failures(BACKOFF, 3)
    waits(failures, 3)
    failures.succeeded()
    assert (0, False, 0.1) == (failures.count, failures.exhausted, failures.delay(RNG))


def test_attempts_end() -> None:
    """With as many failures, and not before; without a limit never."""
    limited, endless = Failures(BACKOFF, 2), Failures(BACKOFF)
    seen = []
    for _ in range(3):
        limited.failed()
        endless.failed()
        seen.append((limited.exhausted, endless.exhausted))
    assert [(False, False), (True, False), (True, False)] == seen


def test_a_jittered_wait_is_drawn_once() -> None:
    """Asking twice gives the same; a failure draws anew."""
    failures = Failures(BACKOFF.jitter("full"))
    first = failures.delay(RNG)
    assert first == failures.delay(RNG)
    failures.failed()
    assert first != failures.delay(RNG)


def test_failures_that_nobody_waited_for_count() -> None:
    """The wait is that of their number."""
    failures = Failures(BACKOFF)
    for _ in range(3):
        failures.failed()
    assert 0.8 == failures.delay(RNG)


def test_a_decorrelated_wait_knows_the_one_before() -> None:
    """It is drawn between the first and thrice the one before."""
    drawn = waits(Failures(backoff.decorrelated(1, cap=50)), 200)
    assert all(1 <= wait <= min(50, 3 * before) for before, wait in zip(drawn, drawn[1:]))


@pytest.mark.parametrize(
    ("waiting", "longest"),
    [(BACKOFF, 300), (backoff.sequence(3, 4), 3), (backoff.constant(2), 2), (backoff.linear(1), 1)],
)
def test_the_longest_wait_is_the_cap(waiting: backoff.Backoff, longest: float) -> None:
    """Without one, it is the next wait."""
    assert longest == Failures(waiting).longest(RNG)


def test_the_longest_wait_keeps_its_jitter() -> None:
    """A crowd at the cap is not in step."""
    failures = Failures(BACKOFF.jitter("full"))
    assert 20 == len({failures.longest(RNG) for _ in range(20)})


def test_settings_are_checked() -> None:
    """By name, value and limit."""
    assert (BACKOFF, None, 3) == (checked_backoff(BACKOFF), checked_attempts(None), checked_attempts(3))
    with pytest.raises(TypeError, match=r"backoff must be a Backoff, .* got 3"):
        checked_backoff(3)
    with pytest.raises(ValueError, match="attempts must be >= 1, got 0"):
        checked_attempts(0)
