"""Hedging of blocking calls: copies in threads, and the decisions that both forms share."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import Retry, backoff, current_attempt
from resilient.core import events
from resilient.core.hedging import hedge_plan
from resilient.drivers.clock import CLOCK
from resilient.drivers.hedging.race import Hedges, Race, Terms
from resilient.drivers.hedging.tasks import adopt
from resilient.drivers.hedging.threads import call_hedged, call_in_threads
from resilient.errors import DeadlineExceeded
from resilient.testing import FakeClock

Told = list[events.Event]


def terms(after: object, extra: int = 1, *, told: Told | None = None, **settings: Any) -> Terms:
    """A policy's terms with a state of their own."""
    listeners = () if told is None else (told.append,)
    timed = isinstance(after, str)
    return Terms(Hedges(hedge_plan(after, extra, **settings)), extra, timed, "hedge", listeners)


class Copies:
    """A callable whose copies do one thing each, in the order of their launches."""

    def __init__(self, *plays: Callable[[], Any]) -> None:
        self._plays = plays
        self._lock = threading.Lock()
        self.calls = 0

    def __call__(self) -> Any:
        with self._lock:
            play = self._plays[self.calls]
            self.calls += 1
        return play()


def sleeps(seconds: float, then: object) -> Callable[[], Any]:
    """Takes virtual time, then returns or raises."""

    def play() -> Any:
        CLOCK.get().sleep(seconds)
        if isinstance(then, BaseException):
            raise then
        return then

    return play


def hedged(of: Terms, copies: Callable[[], Any]) -> Any:
    return call_in_threads(of, copies, (), {})


def others_end() -> None:
    """Waits for all copies."""
    for thread in threading.enumerate():
        if thread.name == "hedge":
            thread.join()


def test_a_quick_call_is_not_hedged() -> None:
    """One copy, no event."""
    told: Told = []
    with FakeClock():
        copies = Copies(sleeps(0.5, "quick"))
        assert "quick" == hedged(terms(1, told=told), copies)
    assert (1, []) == (copies.calls, told)


def test_the_copy_of_a_slow_call_wins() -> None:
    """At the delay a copy goes out; its result is the result."""
    told: Told = []
    with FakeClock() as clock:
        copies = Copies(sleeps(10, "slow"), lambda: ("copy", clock.now()))
        assert ("copy", 1.0) == hedged(terms(1, told=told), copies)
    assert [events.Hedged("hedge", 0.0, 2, 1.0)] == told


def test_sleeping_losers_leave_virtual_time_alone() -> None:
    """They end in their sleep: the next call finds the clock where the last one ended."""
    of = terms(1, load=1)
    with FakeClock() as clock:
        for turn in range(1, 50):
            assert ("copy", 3.0 * turn) == (hedged(of, Copies(sleeps(10, "slow"), sleeps(2, "copy"))), clock.now())


def test_no_more_than_extra_copies() -> None:
    """Each after another delay; the last stays alone."""
    told: Told = []
    with FakeClock():
        copies = Copies(sleeps(9, 1), sleeps(9, 2), sleeps(9, 3))
        assert 3 == hedged(terms(1, 2, told=told), copies)
    assert (3, [2, 3]) == (copies.calls, [event.copy for event in told if isinstance(event, events.Hedged)])


def test_a_failed_call_is_copied_at_once() -> None:
    """Nobody waits for the delay."""
    told: Told = []
    with FakeClock() as clock:
        copies = Copies(sleeps(0, OSError("first")), sleeps(0, "copy"))
        assert ("copy", 0.0) == (hedged(terms(60, told=told), copies), clock.now())
    assert [events.Hedged("hedge", 0.0, 2, 0.0)] == told


def test_the_first_error_is_raised_if_all_fail() -> None:
    """The call's own, its cause untouched; a failure that the others outlast ends nothing."""
    cause, first = KeyError("cause"), OSError("first")
    first.__cause__ = cause
    with FakeClock():
        copies = Copies(sleeps(5, first), sleeps(0, ValueError()), sleeps(0, TypeError()))
        with pytest.raises(OSError, match="first") as caught:
            hedged(terms(1, 2), copies)
    assert (3, True, cause) == (copies.calls, first is caught.value, caught.value.__cause__)


def test_a_copy_that_fails_leaves_the_call_alone() -> None:
    """Its result is the result, later."""
    with FakeClock() as clock:
        assert "slow" == hedged(terms(1), Copies(sleeps(5, "slow"), sleeps(0, ValueError())))
        assert 5.0 == clock.now()


def test_without_budget_no_copy_goes_out() -> None:
    """Not after silence, not after a failure; it is asked for once a call."""
    none = terms(1, 5, load=0)
    with FakeClock():
        assert "slow" == hedged(none, Copies(sleeps(9, "slow")))
        with pytest.raises(OSError):
            hedged(none, Copies(sleeps(0, OSError())))
    assert (2, 0, 2) == (none.hedges.metrics().calls, none.hedges.metrics().hedges, none.hedges.metrics().refused)


def test_real_time_hedges_too() -> None:
    """The copy ends what the call waits for: without it the test would hang."""
    copied = threading.Event()
    copies = Copies(copied.wait, lambda: copied.set() or "copy")
    assert "copy" == hedged(terms(0.001), copies)


def test_real_time_waits_for_the_call() -> None:
    """A copy may fail while the call goes on."""
    failed = threading.Event()

    def fail() -> None:
        failed.set()
        raise OSError

    assert True is hedged(terms(0.001), Copies(failed.wait, fail))


def test_losers_run_on_and_are_dropped() -> None:
    """Whatever they come to, in threads that keep no program alive."""
    go_on, ended = threading.Event(), threading.Semaphore(0)
    daemons: list[bool] = []

    def lose() -> None:
        go_on.wait()
        daemons.append(threading.current_thread().daemon)
        ended.release()
        raise OSError

    assert "copy" == hedged(terms(0, 2), Copies(lose, lose, lambda: "copy"))
    go_on.set()
    ended.acquire()
    ended.acquire()
    assert [True, True] == daemons


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_exits_in_a_copy_end_everything(leaving: type[BaseException]) -> None:
    """They are raised where the call was made, and no copy is launched for them."""
    copies = Copies(sleeps(0, leaving()))
    with FakeClock(), pytest.raises(leaving):
        hedged(terms(1, 3), copies)
    assert 1 == copies.calls


def test_copies_have_contexts_of_their_own() -> None:
    """Copied from the caller's: what one sets no other sees."""
    clock = FakeClock()

    def look() -> Any:
        seen = CLOCK.get()
        CLOCK.set(FakeClock())
        return seen

    def fail() -> None:
        look()
        raise OSError

    with clock:
        assert clock is hedged(terms(1), Copies(fail, look))
        assert clock is CLOCK.get()


def test_durations_give_the_delay() -> None:
    """Calls run in the caller's thread until enough are known."""
    by_durations = terms("p50", min_samples=2)
    idents: list[int] = []
    with FakeClock():
        for seconds in (2.0, 4.0):
            hedged(by_durations, lambda seconds=seconds: (idents.append(threading.get_ident()), sleeps(seconds, 0)()))
        assert [threading.get_ident()] * 2 == idents
        assert 2.0 == by_durations.hedges.metrics().delay
        assert "copy" == hedged(by_durations, Copies(sleeps(9, "slow"), sleeps(1, "copy")))
    assert 2.0 == by_durations.hedges.metrics().delay  # of 1, 2 and 4


def test_only_limits_of_time_are_durations_among_failures() -> None:
    """Quick failures would draw the percentile down."""
    by_durations = terms("p50", min_samples=2, load=0)
    with FakeClock():
        for error in (OSError(), DeadlineExceeded(3)):
            with pytest.raises(type(error)):
                hedged(by_durations, Copies(sleeps(3, error)))
        assert None is by_durations.hedges.metrics().delay
        hedged(by_durations, Copies(sleeps(3, "slow")))
        assert 3.0 == by_durations.hedges.metrics().delay
        for error in (OSError(), DeadlineExceeded(3)):
            with pytest.raises(type(error)):
                hedged(by_durations, Copies(sleeps(7, error)))
        assert 3.0 == by_durations.hedges.metrics().delay  # of 3, 3 and 7


def test_reset_forgets() -> None:
    """Counts and budget."""
    state = terms(1).hedges
    state.begin()
    state.launch()
    state.reset()
    assert (0, 0) == (state.metrics().calls, state.metrics().hedges)


def test_time_that_others_let_pass_hedges_and_holds_nobody() -> None:
    """The test's own thread may advance the clock: it is not a copy, and does not wait for one."""
    clock, running, copied = FakeClock(), threading.Event(), threading.Event()
    results: list[Any] = []

    def first() -> Any:
        running.set()
        copied.wait()
        return "first"

    def second() -> Any:
        copied.set()
        raise OSError

    def call() -> None:
        with clock:
            results.append(hedged(terms(5), Copies(first, second)))

    caller = threading.Thread(target=call)
    caller.start()
    running.wait()
    clock.advance(5)
    caller.join()
    assert ["first"] == results


def test_a_thread_that_cannot_start_is_a_failed_copy() -> None:
    """The error says so."""
    usual = threading.stack_size()
    threading.stack_size(1 << 46)  # more than there is
    try:
        with pytest.raises(RuntimeError, match="can't start new thread"):
            hedged(terms(1), Copies())
    finally:
        threading.stack_size(usual)


def test_threads_share_the_budget_exactly() -> None:
    """Hedges are what the budget allows, whoever asks."""
    of = terms(60, load=0.5)

    def work(n: int) -> None:
        for _ in range(50):
            with pytest.raises(OSError):
                hedged(of, Copies(*[sleeps(0, OSError())] * 2))

    assert [] == together(8, work)
    metrics = of.hedges.metrics()
    assert (400, 400) == (metrics.calls, metrics.hedges + metrics.refused)
    assert 100 <= metrics.hedges <= 100 + 200


def test_errors_leave_no_garbage() -> None:
    """Neither the one that is raised nor those that are dropped."""

    class Failed(Exception):
        pass

    kept: list[weakref.ref[Failed]] = []

    def fail() -> None:
        error = Failed()
        kept.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    def failing_call() -> None:
        with pytest.raises(Failed):
            hedged(terms(1, 2), fail)

    others_end()
    gc.collect()
    gc.disable()
    try:
        with FakeClock():
            failing_call()
        others_end()
        assert [None] * 3 == [error() for error in kept]
    finally:
        gc.enable()


def test_the_traceback_begins_in_the_users_code() -> None:
    """No frame of the thread that ran it."""

    def fail() -> None:
        raise OSError

    with pytest.raises(OSError) as caught:
        hedged(terms(1, load=0), fail)
    assert "_work" not in [entry.name for entry in caught.traceback]


async def answer(value: object) -> object:
    return value


def either(of: Terms, call: Callable[[], Any]) -> Any:
    return call_hedged(of, adopt, call, (), {})


def test_a_plain_result_of_something_unknown() -> None:
    """Hedged in threads, as blocking calls are."""
    with FakeClock():
        assert "copy" == either(terms(1), Copies(sleeps(10, "slow"), lambda: "copy"))


def test_a_coroutine_of_something_unknown() -> None:
    """Made outside an event loop, awaited in one; counted once."""
    of = terms(1)
    coroutine = either(of, lambda: answer(3))
    assert 3 == asyncio.run(coroutine)
    assert 1 == of.hedges.metrics().calls


def test_coroutines_that_lost_are_closed() -> None:
    """Whether they come before or after the caller has gone: nobody would await them, and no warning says so."""
    two, three = threading.Event(), threading.Event()

    def wait_for(event: threading.Event) -> Callable[[], Any]:
        return lambda: (event.wait(), answer(3))[1]

    def hear(event: events.Event) -> None:
        if isinstance(event, events.Hedged) and event.copy == 3:
            two.set()
            others_end()  # both have come while the caller is here

    of = terms(0, 2)._replace(listeners=(hear,))
    assert 3 == asyncio.run(either(of, Copies(wait_for(two), wait_for(two), wait_for(three))))
    three.set()
    others_end()


@pytest.mark.parametrize("loop", LOOPS)
def test_an_event_loop_keeps_its_thread(loop: str) -> None:
    """Something unknown is called where the loop runs; a plain result comes back as it is."""

    async def main() -> Any:
        either_way = either(terms("p95"), threading.get_ident), await either(terms(1), lambda: answer(4))
        return either_way, threading.get_ident()

    (ident, value), here = run(loop, main)
    assert (here, 4) == (ident, value)


def test_a_race_that_is_over_hears_nothing_more() -> None:
    """The first success stands, whatever the others come to."""
    race = Race(terms(1, 3), 1.0)
    assert race.silent(1)
    race.won("first")
    race.won("second")
    race.left(KeyboardInterrupt())
    assert not race.failed(1, OSError())
    assert not race.silent(2)
    assert "first" == race.result()


def test_late_silence_is_none() -> None:
    """A delay that began before the latest copy says nothing of it."""
    race = Race(terms(1, 3), 1.0)
    assert (True, False, True) == (race.failed(1, OSError()), race.silent(1), race.more)


def test_cancelled_copies_end_a_race() -> None:
    """When nobody else is left, with the call's own error."""
    race = Race(terms(1), 1.0)
    assert race.failed(1, OSError("first"))
    race.gone()
    with pytest.raises(OSError, match="first"):
        race.result()
    assert race.over


def test_the_attempt_is_known_in_every_copy() -> None:
    """It is the one that runs where the call was made."""
    numbers: list[int | None] = []

    def look() -> None:
        attempt = current_attempt()
        numbers.append(None if attempt is None else attempt.number)
        raise OSError

    retry = Retry(on=OSError, attempts=2, backoff=backoff.constant(0))
    with pytest.raises(OSError):
        retry.call(hedged, terms(60), look)
    assert [1, 1, 2, 2] == numbers
