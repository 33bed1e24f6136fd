"""StopSignal: how a loop in a thread is asked to end."""

import threading

import pytest

from resilient.net.sync import StopSignal
from resilient.testing import FakeClock


def test_a_sleep_ends_by_itself() -> None:
    """In virtual time, too."""
    stop = StopSignal()
    with FakeClock() as clock:
        assert (False, 30) == (stop.wait(30), clock.now())
    assert (False, False) == (stop.wait(0), stop.given)


def test_the_signal_wakes_a_sleeper() -> None:
    """Given from another thread, twice."""
    stop = StopSignal()
    thread = threading.Thread(target=lambda: (stop.give(), stop.give()))
    thread.start()
    assert (True, True, True) == (stop.wait(), stop.wait(1000), stop.given)
    thread.join()


def test_its_repr_tells_its_state() -> None:
    """Given or not."""
    stop = StopSignal()
    before = repr(stop)
    stop.give()
    assert ("<StopSignal: not given>", "<StopSignal: given>") == (before, repr(stop))


def test_durations_are_checked() -> None:
    """By name, value and limit."""
    with pytest.raises(ValueError, match="duration must be >= 0 s, got -1"):
        StopSignal().wait(-1)


def test_an_interrupt_ends_one_wait_only() -> None:
    """The one under way, or else the next; the loop goes on."""
    stop = StopSignal()
    stop.interrupt()
    with FakeClock() as clock:
        assert (False, 0) == (stop.wait(30), clock.now())
        assert (False, 30) == (stop.wait(30), clock.now())
    thread = threading.Thread(target=stop.interrupt)
    thread.start()
    assert not stop.wait()
    thread.join()


def test_a_signal_outlasts_an_interrupt() -> None:
    """Whichever comes first."""
    stop = StopSignal()
    stop.interrupt()
    stop.give()
    assert (True, True) == (stop.wait(), stop.wait())
