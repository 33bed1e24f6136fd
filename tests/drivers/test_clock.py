"""The system's clock."""

import time

import pytest

from resilient.drivers.clock import CLOCK, LONGEST_SLEEP, SYSTEM, SystemClock, VirtualClock


def test_now_is_monotonic_and_wall_is_the_epoch() -> None:
    """Two instants of the right kind."""
    assert SYSTEM.now() <= time.monotonic() <= SYSTEM.now()
    assert abs(SYSTEM.wall() - time.time()) < 60


def test_chance_is_in_range() -> None:
    """A number in [0, 1)."""
    assert all(0 <= SYSTEM.random() < 1 for _ in range(100))


@pytest.mark.parametrize(("asked", "slept"), [(0, []), (2.5, [2.5]), (1e300, [LONGEST_SLEEP])])
def test_sleep_asks_the_system_within_its_limits(
    asked: float, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No system call for nothing, and no overflow for ever."""
    seen: list[float] = []
    monkeypatch.setattr(time, "sleep", seen.append)
    SystemClock().sleep(asked)
    assert slept == seen


def test_the_system_clock_is_the_default() -> None:
    """And it is not virtual."""
    assert CLOCK.get() is SYSTEM
    assert not isinstance(SYSTEM, VirtualClock)
