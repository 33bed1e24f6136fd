"""Switches for users' own suites."""

import threading

import pytest

from resilient import Retry, backoff
from resilient.drivers.clock import SWITCHES
from resilient.testing import FakeClock, Script, fast_retries, no_retries

policy = Retry(on=OSError, backoff=backoff.constant(3600))


def test_fast_retries_retry_without_waiting() -> None:
    """In this thread and in every other: servers under test run in threads of their own."""
    results: list[object] = []
    with fast_retries():
        thread = threading.Thread(target=lambda: results.append(policy.call(Script("fail", 7))))
        thread.start()
        thread.join()
        assert 7 == policy.call(Script("fail", 7))
    assert [7] == results


def test_no_retries_give_the_first_error() -> None:
    """At once."""
    script = Script("fail", 7)
    with no_retries(), pytest.raises(ConnectionError):
        policy.call(script)
    assert 1 == script.calls


def test_switches_are_put_back_even_after_an_error() -> None:
    """And nest."""
    with pytest.raises(KeyError), fast_retries(), no_retries(), fast_retries():
        raise KeyError
    assert (True, True) == (SWITCHES.retries, SWITCHES.waits)
    with FakeClock() as clock:
        policy.call(Script("fail", 7))
    assert [3600] == clock.sleeps
