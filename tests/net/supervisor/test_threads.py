"""Supervisor for threads: loops that are started again when they die."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from threads import together

from resilient import backoff, events
from resilient.net.sync import StopSignal, Supervisor, TooManyRestarts
from resilient.testing import FakeClock

ONE = backoff.constant(1)


class PanicException(BaseException):
    """As PyO3 raises it."""


PanicException.__module__ = "pyo3_runtime"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a thread behind."""
    before = threading.active_count()
    yield
    assert before == threading.active_count()


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Virtual time, also in the threads that a supervisor starts."""
    with FakeClock() as clock:
        yield clock


def forever(stop: StopSignal) -> None:
    """A loop that only its signal ends."""
    stop.wait()


def dies(*ends: object) -> Callable[[StopSignal], None]:
    """A loop that ends so, one end after the other; then it goes on for ever."""
    left = list(ends)

    def die(stop: StopSignal) -> None:
        if not left:
            stop.wait()
            return
        end = left.pop(0)
        if isinstance(end, BaseException):
            raise end

    return die


def in_order(ended: list[str], name: str) -> Callable[[StopSignal], None]:
    """A loop that notes its end."""

    def loop(stop: StopSignal) -> None:
        stop.wait()
        ended.append(name)

    return loop


def test_a_loop_that_dies_is_started_again(clock: FakeClock) -> None:
    """After the waits of its backoff; whatever blows up is told as a panic, a KeyboardInterrupt included."""
    heard: list[Any] = []
    with Supervisor(listeners=(heard.append,)) as supervisor:
        supervisor.add("beat", dies(OSError("one"), PanicException("two"), KeyboardInterrupt(), None))
        assert supervisor.wait()
        stats = supervisor.stats()
    assert ([0.1, 0.2, 0.4], (), {"beat": 3}, {"beat": 3}, ()) == (
        clock.sleeps, stats.running, stats.restarts, stats.panics, stats.late,
    )  # fmt: skip
    assert [
        "beat: caught a panic (loop): OSError: one",
        "beat: waiting 0.1 s before attempt 2",
        "beat: caught a panic (loop): PanicException: two",
        "beat: waiting 0.2 s before attempt 3",
        "beat: caught a panic (loop): KeyboardInterrupt",
        "beat: waiting 0.4 s before attempt 4",
    ] == [str(event) for event in heard]


def test_real_time_passes_likewise() -> None:
    """Without a fake clock."""
    supervisor = Supervisor()
    supervisor.add("beat", dies(OSError("one"), None), backoff=backoff.constant(0.001))
    supervisor.run()
    assert {"beat": 1} == supervisor.stats().restarts


def test_add_is_a_decorator(clock: FakeClock) -> None:
    """With its settings; a permanent loop that keeps returning is given up."""
    supervisor = Supervisor()
    calls = []

    @supervisor.add("tick", backoff=ONE, intensity=(3, 60), permanent=True)
    def tick(stop: StopSignal) -> None:
        calls.append(stop.given)

    tick(StopSignal())
    with pytest.raises(TooManyRestarts, match="the loop 'tick' is given up: more than 3 restarts in 60 s"):
        supervisor.run()
    assert [False] * 5 == calls


def test_a_temporary_loop_stays_dead() -> None:
    """Its error is told all the same."""
    supervisor = Supervisor()
    supervisor.add("once", dies(OSError("one")), temporary=True)
    supervisor.run()
    assert ({"once": 0}, {"once": 1}) == (supervisor.stats().restarts, supervisor.stats().panics)


def test_too_many_restarts_escalate(clock: FakeClock) -> None:
    """The others are stopped in reverse order of start; the error comes out of wait, with a note, and there alone."""
    heard: list[Any] = []
    ended: list[str] = []
    error = OSError("dead")
    supervisor = Supervisor(listeners=(heard.append,))
    for name in ("a", "b"):
        supervisor.add(name, in_order(ended, name))
    supervisor.add("dying", dies(*[error] * 4), backoff=ONE, intensity=(3, 5))
    supervisor.add("c", in_order(ended, "c"))
    with supervisor:
        with pytest.raises(OSError, match="dead") as raised:
            supervisor.wait()
        assert ["c", "b", "a"] == ended
        with pytest.raises(RuntimeError, match="supervisor is stopping: no loop can be added, got 'late'"):
            supervisor.add("late", forever)
    assert ["the loop 'dying' is given up: more than 3 restarts in 5 s"] == raised.value.__notes__
    gave_up = heard[-1]
    assert isinstance(gave_up, events.GaveUp)
    assert ("dying", 4, "intensity", error) == (gave_up.name, gave_up.attempts, gave_up.stopped_by, gave_up.error)


@pytest.mark.parametrize("leaving", [SystemExit, GeneratorExit, asyncio.CancelledError])
def test_exits_pass_to_whoever_waits(leaving: type[BaseException]) -> None:
    """At once: everything else is stopped. They are no panics; and come out of the block, too."""
    heard: list[Any] = []
    ended: list[str] = []
    for waits in (True, False):
        supervisor = Supervisor(listeners=(heard.append,))
        supervisor.add("a", in_order(ended, "a"))
        supervisor.add("leaving", dies(leaving("now")))
        with pytest.raises(leaving), supervisor:
            if waits:
                supervisor.wait()
            supervisor._over.wait()
    assert ([], ["a", "a"]) == (heard, ended)


def test_the_block_stops_its_loops_in_reverse_order() -> None:
    """Each has ended before the next is told."""
    ended: list[str] = []
    with Supervisor() as supervisor:
        for n in range(10):
            supervisor.add(f"{n}", in_order(ended, f"{n}"))
        assert tuple("0123456789") == supervisor.stats().running
        assert not supervisor.wait(0)
    assert (list("9876543210"), ()) == (ended, supervisor.stats().running)


def test_what_the_block_raises_goes_first() -> None:
    """It is the nearer."""
    with pytest.raises(KeyError, match="mine"), Supervisor() as supervisor:
        supervisor.add("dying", dies(OSError("dead")), intensity=(0, 5))
        supervisor._over.wait()
        raise KeyError("mine")


def test_stop_may_be_called_by_anyone_and_twice() -> None:
    """By one of the loops it asks all to end."""
    ended: list[str] = []
    with Supervisor() as supervisor:
        supervisor.add("a", in_order(ended, "a"))
        supervisor.add("stopping", lambda stop: supervisor.stop())
        supervisor.wait()
        supervisor.stop()
        supervisor.stop()
    assert ["a"] == ended


def test_stop_outside_the_block_does_nothing() -> None:
    """Before it, and after it."""
    supervisor = Supervisor()
    supervisor.add("once", lambda stop: None)
    supervisor.stop()
    supervisor.run()
    supervisor.stop()
    assert {"once": 0} == supervisor.stats().restarts


def test_many_may_stop_it_at_once() -> None:
    """One does, the others wait for it."""
    with Supervisor() as supervisor:
        for n in range(5):
            supervisor.add(f"{n}", forever)
        assert [] == together(8, lambda n: (supervisor.stop(), supervisor.wait()))
        assert () == supervisor.stats().running


def test_one_that_is_late_is_left_behind() -> None:
    """It is named, and a daemon."""
    heard: list[Any] = []
    ended: list[str] = []
    release = threading.Event()
    with Supervisor(listeners=(heard.append,)) as supervisor:
        supervisor.add("quick", in_order(ended, "quick"))
        supervisor.add("stuck", lambda stop: release.wait(), stop_timeout=0.01)
    stats = supervisor.stats()
    assert (("stuck",), ("stuck",), ["quick"]) == (stats.late, stats.running, ended)
    assert ["stuck: asked to stop, still running after 0.01 s"] == [str(event) for event in heard]
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "stuck"]
    assert thread.daemon
    release.set()
    thread.join()
    assert () == supervisor.stats().running


def test_an_interrupt_while_it_stops_still_asks_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told by Ctrl-C not to wait leaves no loop running for ever."""
    ended: list[str] = []
    supervisor = Supervisor()
    supervisor.add("a", in_order(ended, "a"))
    supervisor.add("b", in_order(ended, "b"))
    with pytest.raises(KeyboardInterrupt), supervisor:
        (loop,) = [loop for loop in supervisor._loops.in_order() if loop.name == "b"]
        runner = loop.runner
        assert runner is not None

        class Interrupted(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                raise KeyboardInterrupt

        monkeypatch.setattr(runner, "ended", Interrupted())
    for loop in supervisor._loops.in_order():
        assert loop.runner is not None
        loop.runner.thread.join()
    assert ["a", "b"] == sorted(ended)


def test_a_clean_up_that_blows_up_is_a_panic_and_no_restart() -> None:
    """Counted as any other."""

    def untidy(stop: StopSignal) -> None:
        stop.wait()
        raise OSError("untidy")

    with Supervisor() as supervisor:
        supervisor.add("untidy", untidy, intensity=(0, 1))
        supervisor.add("steady", forever, permanent=True)
    stats = supervisor.stats()
    assert ({"untidy": 1}, {"untidy": 0, "steady": 0}) == (stats.panics, stats.restarts)


def test_an_exit_while_it_stops_is_an_end() -> None:
    """Nobody is to be told of it."""

    def leave(stop: StopSignal) -> None:
        stop.wait()
        raise SystemExit

    with Supervisor() as supervisor:
        supervisor.add("leaving", leave)
    assert ({}, ()) == (supervisor.stats().panics, supervisor.stats().running)


def test_loops_that_wait_to_be_restarted_are_stopped_at_once() -> None:
    """They count as running until then."""
    waiting = threading.Event()
    with Supervisor(listeners=(lambda event: isinstance(event, events.Waiting) and waiting.set(),)) as supervisor:
        supervisor.add("dead", dies(OSError("one")), backoff=backoff.constant(1000))
        waiting.wait()
        assert ("dead",) == supervisor.stats().running
    assert () == supervisor.stats().running


def test_no_loop_is_no_wait() -> None:
    """And one added after that is waited for."""
    gate = threading.Event()
    with Supervisor() as supervisor:
        assert supervisor.wait()
        supervisor.add("gate", lambda stop: gate.wait())
        assert not supervisor.wait(0)
        gate.set()
        assert supervisor.wait()


def test_it_may_be_used_again() -> None:
    """Its loops start afresh; but not twice at once."""
    supervisor = Supervisor(name="host")
    supervisor.add("once", lambda stop: None)
    supervisor.add("dying", dies(OSError("one"), OSError("two"), None), intensity=(0, 5))
    for _ in range(2):
        with pytest.raises(OSError):
            supervisor.run()
    with supervisor:
        with pytest.raises(RuntimeError, match="host runs already"):
            supervisor.__enter__()
        supervisor.wait()
    assert {} == supervisor.stats().panics


def test_whoever_cannot_wait_is_told() -> None:
    """Outside the block, and in one of the loops."""
    with pytest.raises(RuntimeError, match="supervisor does not run: enter it first, by with"):
        Supervisor().wait()
    with Supervisor() as supervisor:
        supervisor.add("waiting", lambda stop: supervisor.wait(), temporary=True)
    assert {"waiting": 1} == supervisor.stats().panics


def test_a_thread_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start of the block: those that were are stopped. Within it: the others go on."""
    ended: list[str] = []
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name == "b":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    supervisor = Supervisor()
    for name in ("a", "b", "c"):
        supervisor.add(name, in_order(ended, name))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        supervisor.run()
    assert ["a"] == ended
    others = Supervisor()
    with others:
        others.add("a", in_order(ended, "a"))
        with pytest.raises(RuntimeError, match="can't start new thread"):
            others.add("b", in_order(ended, "b"))
        assert ("a",) == others.stats().running
    monkeypatch.undo()
    with supervisor:
        assert ("a", "b", "c") == supervisor.stats().running


def test_a_loop_added_while_the_block_begins_is_started_once() -> None:
    """By whoever came first."""
    supervisor = Supervisor()
    calls: list[int] = []

    class Late:
        """A lock; somebody else comes as soon as it is free for the first time."""

        def __init__(self) -> None:
            self.lock, self.left = supervisor._lock, 1

        def __enter__(self) -> None:
            self.lock.acquire()

        def __exit__(self, *exc_info: object) -> None:
            self.lock.release()
            if self.left:
                self.left = 0
                supervisor.add("late", lambda stop: calls.append(1))

    supervisor._lock = Late()  # type: ignore[assignment]
    supervisor.run()
    assert [1] == calls


def test_an_error_leaves_no_cycle(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
    """Neither one that is restarted from, nor one that escalates."""
    monkeypatch.setattr(logging.getLogger("resilient"), "disabled", True)  # pytest keeps what is logged
    kept: list[weakref.ref[BaseException]] = []

    class Lost(Exception):
        pass

    def die(stop: StopSignal) -> None:
        error = Lost()
        kept.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    supervisor = Supervisor()
    supervisor.add("dying", die, intensity=(1, 60))
    gc.collect()
    gc.disable()
    try:
        try:
            supervisor.run()
        except Lost:
            pass
        assert [None, None] == [ref() for ref in kept]
    finally:
        gc.enable()


def test_a_hundred_loops_that_die_together(clock: FakeClock) -> None:
    """Each by its own backoff; exact numbers, and none left at the end."""
    with Supervisor() as supervisor:
        for n in range(100):
            supervisor.add(f"{n}", dies(OSError(), OSError(), None))
        supervisor.wait()
        stats = supervisor.stats()
    assert (200, 200) == (sum(stats.restarts.values()), sum(stats.panics.values()))


def test_loops_may_be_added_from_many_threads() -> None:
    """While others end."""
    ran: list[int] = []
    with Supervisor() as supervisor:

        def work(n: int) -> None:
            for turn in range(20):
                supervisor.add(f"{n}.{turn}", lambda stop: ran.append(1))

        assert [] == together(4, work)
        supervisor.wait()
        assert 80 == len(ran)


@pytest.mark.parametrize(
    ("name", "fn", "settings", "kind", "said"),
    [
        (3, forever, {}, TypeError, "name must be a text that is not empty, got 3"),
        ("x", forever, {"backoff": 3}, TypeError, "backoff must be a Backoff"),
        ("x", asyncio.sleep, {}, TypeError, "fn must be a plain function of a StopSignal, got <function sleep"),
        ("taken", forever, {}, ValueError, "name must be that of no other loop of this supervisor, got 'taken'"),
    ],
)
def test_settings_are_checked(name: Any, fn: Any, settings: Any, kind: Any, said: str) -> None:
    """By name, value and limit."""
    supervisor = Supervisor()
    supervisor.add("taken", forever)
    with pytest.raises(kind, match=said):
        supervisor.add(name, fn, **settings)
