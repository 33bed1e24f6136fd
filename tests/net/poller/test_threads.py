"""Poller for threads: what was good stays in force."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resilient import DeadlineExceeded, events, listen
from resilient.net.sync import Poller, StopSignal, Supervisor
from resilient.testing import FakeClock


def answers(*script: object, stop: StopSignal) -> Callable[[], Any]:
    """A fetch that plays these, and gives the signal with the last."""
    left = list(script)

    def fetch() -> object:
        now = left.pop(0)
        if not left:
            stop.give()
        if isinstance(now, BaseException):
            raise now
        return now

    return fetch


def test_it_fetches_at_the_interval() -> None:
    """The value and its age can be read at any time."""
    stop = StopSignal()
    poller = Poller(answers(1, 2, 3, stop=stop), interval=30)
    assert (None, None) == (poller.value, poller.age)
    with FakeClock() as clock:
        poller.run(stop)
    assert (3, 0, 0, [30, 30, 30], 60) == (poller.value, poller.age, poller.failures, clock.sleeps, clock.now())


def test_failures_back_off_and_keep_the_value_in_force() -> None:
    """Then it says that it gave up, and goes on at the cap."""
    stop, heard, down = StopSignal(), [], OSError("down")
    poller = Poller(answers("good", *[down] * 12, stop=stop), interval=30, listeners=(heard.append,))
    with FakeClock() as clock:
        poller.run(stop)
    waits = [30, *(0.1 * 2**n for n in range(9)), 300, 300, 300]
    assert ("good", 12, pytest.approx(waits)) == (poller.value, poller.failures, clock.sleeps)
    assert [10] == [event.attempts for event in heard if isinstance(event, events.GaveUp)]


def test_it_may_stop_instead() -> None:
    """Then ``run`` returns."""
    poller = Poller(answers(OSError(), OSError(), stop=StopSignal()), interval=30, attempts=2, keep_trying=False)
    with FakeClock() as clock:
        poller.run(StopSignal())
    assert (None, [0.1]) == (poller.value, clock.sleeps)


def test_applying_that_blows_up_keeps_the_value_before() -> None:
    """It is told as a panic by its name, counted, and no failure."""
    stop, heard, applied = StopSignal(), [], []

    def apply(value: int) -> None:
        if value < 0:
            raise ValueError(f"bad value {value}")
        applied.append(value)

    poller = Poller(answers(1, -2, stop=stop), apply, interval=30, name="config")
    with FakeClock() as clock, listen(heard.append):
        poller.run(stop)
    assert (1, 1, 0, [1], [30, 30], 30) == (
        poller.value, poller.rejected, poller.failures, applied, clock.sleeps, poller.age,
    )  # fmt: skip
    assert ["config: apply: caught a panic (call): ValueError: bad value -2"] == [str(event) for event in heard]


def test_a_supervisor_runs_it() -> None:
    """By the real clock: stopping is prompt, whatever the interval."""
    fetched = threading.Event()

    def fetch() -> str:
        fetched.set()
        return "good"

    poller = Poller(fetch, interval=1000)
    with Supervisor() as supervisor:
        supervisor.add("poller", poller.run)
        fetched.wait()
        with pytest.raises(RuntimeError, match="poller runs already: once at a time"):
            poller.run(StopSignal())
    assert ("good", ()) == (poller.value, supervisor.stats().running)


def test_async_functions_are_for_the_other_one() -> None:
    """Refused where it is made."""

    async def later() -> None: ...

    def stream() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="fetch must be a function, not a generator, got <function"):
        Poller(stream, interval=1)
    with pytest.raises(TypeError, match="fetch must be a blocking function, got <function"):
        Poller(later, interval=1)
    with pytest.raises(TypeError, match="apply must be a blocking function, got <function"):
        Poller(print, later, interval=1)


def test_it_fetches_at_once_on_demand() -> None:
    """From another thread: nobody waits for the interval."""
    stop, fetched = StopSignal(), threading.Semaphore(0)
    poller: Poller[int] = Poller(lambda: fetched.release() or 1, interval=3600)
    poller.poll_now()  # it does not run yet: there is nothing to do
    thread = threading.Thread(target=poller.run, args=(stop,))
    thread.start()
    for _ in range(5):
        assert fetched.acquire(timeout=20)
        poller.poll_now()
    stop.give()
    thread.join()


def test_one_may_wait_for_the_first_value() -> None:
    """No longer than one wants to."""
    go = threading.Event()
    poller = Poller(lambda: go.wait(20) and "value", interval=3600)
    with pytest.raises(DeadlineExceeded):
        poller.ready(0.01)
    with Supervisor() as supervisor:
        supervisor.add("poll", poller.run)
        threading.Timer(0.01, go.set).start()
        poller.ready()
        poller.ready(20)
        assert "value" == poller.value


def test_fetches_are_spread() -> None:
    """By the jitter, drawn by the clock in use."""
    stop = StopSignal()
    poller = Poller(answers(1, 2, 3, stop=stop), interval=30, jitter=0.5)
    with FakeClock() as clock:
        poller.run(stop)
    assert all(15 <= wait <= 45 and wait != 30 for wait in clock.sleeps)
