"""What all gates that learn have in common."""

import gc
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress

import pytest
from adaptive_gates import EXITS, Fixed, guard, limiter, paced, slow, throttle
from threads import together

from resilient.drivers.gates.adaptive_limiter import AdaptiveLimiterGate, SharedConcurrency
from resilient.drivers.gates.adaptive_rate import AdaptiveRateGate, SharedClientRate
from resilient.drivers.gates.adaptive_throttle import AdaptiveThrottleGate, SharedThrottle
from resilient.drivers.gates.failure_judges import FailureJudges
from resilient.errors import Throttled
from resilient.testing import FakeClock


class Boom(OSError):
    """One that can be watched as it goes."""


def test_four_threads_meet_inside() -> None:
    """No lock is held while user code runs."""
    barrier = threading.Barrier(4)
    for gate in (limiter(Fixed(4)), throttle(min_calls=10), paced()):
        assert [] == together(4, lambda n, gate=gate: guard(gate, lambda: barrier.wait(30))())  # type: ignore[misc]


@pytest.mark.parametrize("error", EXITS)
def test_only_errors_are_judged(error: type[BaseException]) -> None:
    """An exit says nothing, whatever the judge would say of it."""
    harsh = FailureJudges(lambda error: True, None)
    limiter = AdaptiveLimiterGate(SharedConcurrency(Fixed(1)), harsh, "db", ())
    throttle = AdaptiveThrottleGate(SharedThrottle(2, 120, 0), harsh, "db", ())
    paced = AdaptiveRateGate(SharedClientRate(0.7, 0.4), harsh, None, "db", ())
    for gate in (limiter, throttle, paced):
        gate.on_failure(gate.enter(), error())  # type: ignore[attr-defined]
    assert (0, 1, False) == (limiter.metrics().dropped, throttle.metrics().accepts, paced.metrics().enabled)


def test_errors_leave_no_cycles() -> None:
    """Rejections, and what calls raise, go with their last name."""

    def fails() -> None:
        raise Boom

    def caught(call: Callable[..., object]) -> weakref.ref[BaseException]:
        try:
            call()
        except Exception as error:
            return weakref.ref(error)
        raise AssertionError

    gc.collect()
    gc.disable()
    try:
        with FakeClock(rng=type("Low", (), {"random": lambda self: 0.0})()):
            full, rejecting, pacing = limiter(Fixed(1)), throttle(), slow(1)
            calls = [guard(gate, fails) for gate in (full, rejecting, paced())]
            assert [None] * 3 == [caught(call)() for call in calls]
            full.enter()
            for _ in range(3):
                with suppress(Throttled):
                    rejecting.on_failure(rejecting.enter(), TimeoutError())
            assert [None] * 3 == [caught(gate.enter)() for gate in (full, rejecting, pacing)]  # type: ignore[attr-defined]
    finally:
        gc.enable()
