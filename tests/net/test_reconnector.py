"""Reconnector: held without any socket."""

from random import Random

import pytest
from threads import together

from resilient import backoff
from resilient.net import Reconnector
from resilient.testing import FakeClock


def test_the_default_numbers_are_those_of_system_2() -> None:
    """min(100 ms * 2 ** failures so far, 300 s), so 100 ms before any failure; ten attempts."""
    reconnector, seen = Reconnector(), []
    for _ in range(13):
        seen.append((reconnector.next_delay(), reconnector.can_attempt()))
        reconnector.record_failure()
    assert [(min(0.1 * 2**n, 300), n < 10) for n in range(13)] == seen


def test_a_success_resets() -> None:
    """The delay, the attempts, the count."""
    reconnector = Reconnector(attempts=1)
    reconnector.record_failure()
    assert (1, False, 0.2) == (reconnector.failures, reconnector.can_attempt(), reconnector.next_delay())
    reconnector.record_success()
    assert (0, True, 0.1) == (reconnector.failures, reconnector.can_attempt(), reconnector.next_delay())


def test_any_backoff_and_number_will_do() -> None:
    """And no number at all."""
    reconnector = Reconnector(backoff.linear(1), None)
    for _ in range(99):
        reconnector.record_failure()
    assert (100, True) == (reconnector.next_delay(), reconnector.can_attempt())


def test_jitter_is_the_clocks() -> None:
    """Drawn once after each failure."""
    with FakeClock(rng=Random(7)):
        reconnector = Reconnector(backoff.constant(10).jitter("full"))
        first = reconnector.next_delay()
        assert (Random(7).random() * 10, first) == (first, reconnector.next_delay())


def test_threads_may_share_one() -> None:
    """No failure is lost."""
    reconnector = Reconnector(attempts=None)

    def work(n: int) -> None:
        for _ in range(2000):
            reconnector.record_failure()
            reconnector.next_delay()

    assert ([], 16000) == (together(8, work), reconnector.failures)


def test_its_repr_tells_its_state() -> None:
    """Backoff, failures, attempts."""
    expected = "<Reconnector exponential(0.1, factor=2, cap=300): 0 failures, attempts=10>"
    assert expected == repr(Reconnector())


def test_settings_are_checked() -> None:
    """By name, value and limit."""
    with pytest.raises(TypeError, match="backoff must be a Backoff"):
        Reconnector(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="attempts must be >= 1, got 0"):
        Reconnector(attempts=0)
