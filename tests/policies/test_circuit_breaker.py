"""CircuitBreaker as users hold it: settings, states, orders, forms, cheap rejections."""

from __future__ import annotations

import asyncio
import gc
import itertools
import pickle
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import (
    Action,
    AttemptTimeout,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Classifier,
    Rejected,
    ResilientError,
    Retry,
    Rule,
    Timeout,
    backoff,
    events,
    listen,
)
from resilient.core.breaker import BreakerMetrics, State
from resilient.core.setting_errors import setting_of
from resilient.policies.circuit_breaker import MIN_CALLS
from resilient.policies.shared import ProcessHome
from resilient.testing import FakeClock


def listener(event: object) -> None: ...


def fail(error: BaseException | None = None) -> None:
    raise error or OSError("down")


def play(breaker: CircuitBreaker, results: str) -> str:
    """Calls that succeed (.) or fail (F); what came of them, - if rejected."""
    seen = ""
    for result in results:
        try:
            breaker.call(fail if result == "F" else int)
        except CircuitOpen:
            seen += "-"
        except OSError:
            seen += "F"
        else:
            seen += "."
    return seen


def opened(**settings: Any) -> CircuitBreaker:
    breaker = CircuitBreaker(consecutive=2, **settings)
    play(breaker, "FF")
    return breaker


def test_defaults_are_for_production() -> None:
    """Half of a hundred calls, thirty seconds, one probe."""
    made = CircuitBreaker()
    assert (0.5, 100, None, None, None, 1.0, 30.0, 1) == (
        made.failure_rate,
        made.window,
        made.min_calls,
        made.consecutive,
        made.slow_call,
        made.slow_rate,
        made.open_for,
        made.probes,
    )
    assert (100, False, 100) == (
        made.gate.breaker.plan.window,
        made.gate.breaker.plan.timed,
        made.gate.breaker.plan.min_calls,
    )


def test_a_window_may_be_a_time() -> None:
    """Then a few calls are enough."""
    plan = CircuitBreaker(window=timedelta(minutes=1)).gate.breaker.plan
    assert (60.0, True, MIN_CALLS) == (plan.window, plan.timed, plan.min_calls)
    assert 200 == CircuitBreaker(window=timedelta(seconds=1), min_calls=200).gate.breaker.plan.min_calls


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"failure_rate": 0}, ValueError, "failure_rate must be .*0"),
    ({"failure_rate": 1.5}, ValueError, "failure_rate must be .*1.5"),
    ({"failure_rate": "half"}, TypeError, "failure_rate"),
    ({"window": 0}, ValueError, "window must be >= 1, got 0"),
    ({"window": 1.5}, TypeError, "window must be a whole number"),
    ({"window": timedelta(0)}, ValueError, "window must be > 0"),
    ({"min_calls": 0}, ValueError, "min_calls must be >= 1, got 0"),
    ({"min_calls": 101}, ValueError, r"min_calls must be <= window \(100\), got 101"),
    ({"consecutive": 0}, ValueError, "consecutive must be >= 1, got 0"),
    ({"slow_call": 0}, ValueError, "slow_call must be > 0 s, got 0"),
    ({"slow_rate": 0}, ValueError, "slow_rate"),
    ({"open_for": 0}, ValueError, "open_for must be > 0 s, got 0"),
    ({"open_for": "soon"}, TypeError, "open_for must be seconds"),
    ({"probes": 0}, ValueError, "probes must be >= 1, got 0"),
    ({"on": None}, TypeError, "on must say which errors"),
    ({"ignore": KeyboardInterrupt}, ValueError, "^ignore must be a kind of Exception"),
    ({"ignore": 5}, TypeError, "^ignore must say which errors.*got 5"),
    ({"ignore": (OSError, 5)}, TypeError, "^ignore must be error classes"),
    ({"result": 5}, TypeError, "result must be a function of a returned value, got 5"),
    ({"name": 5}, TypeError, "name must be a str, got 5"),
    ({"listeners": 5}, TypeError, "listeners must be functions of an event, got 5"),
    ({"failure_rate": None}, ValueError, "failure_rate, consecutive and slow_call are all None"),
]


@pytest.mark.parametrize(("settings", "error", "text"), BAD)
def test_bad_settings_are_told_at_once(settings: dict[str, Any], error: type[Exception], text: str) -> None:
    """The argument, the value, the limit."""
    with pytest.raises(error, match=text) as caught:
        CircuitBreaker(**settings)
    assert setting_of(caught.value) in settings


def test_settings_are_given_by_name() -> None:
    """By position they teach that."""
    with pytest.raises(TypeError, match="takes its settings by name"):
        CircuitBreaker(0.5)  # type: ignore[misc]


def test_it_compares_copies_and_pickles_by_its_settings() -> None:
    """The state is its own each time."""
    made = opened(name="db", listeners=listener)
    copy = made.with_(probes=3)
    again = pickle.loads(pickle.dumps(made))
    assert (made, hash(made)) == (again, hash(again))
    assert made != copy
    assert ("open", "closed", "closed") == (made.state, copy.state, again.state)
    assert repr(CircuitBreaker(consecutive=2, name="db")).startswith("CircuitBreaker(consecutive=2, ")


def test_the_states_in_turn() -> None:
    """As strings, as they are documented."""
    with FakeClock() as clock:
        breaker, seen = opened(), []
        for step in (0, 30):
            clock.advance(step)
            seen.append(breaker.state)
        play(breaker, ".")
        seen.append(breaker.state)
        for order in (breaker.force_open, breaker.disable, breaker.metrics_only, breaker.reset):
            order()
            seen.append(breaker.state)
    assert ["open", "half_open", "closed", "forced_open", "disabled", "metrics_only", "closed"] == seen
    assert all(isinstance(state, State) for state in seen)


def test_what_each_state_does_to_calls() -> None:
    """Forced open rejects all, disabled counts none, metrics only never opens."""
    breaker = CircuitBreaker(consecutive=2)
    breaker.force_open()
    assert "--" == play(breaker, "F.")
    breaker.disable()
    assert ("FFF.", 0) == (play(breaker, "FFF."), breaker.metrics().calls)
    breaker.metrics_only()
    assert ("FFF.", 4, 3) == (play(breaker, "FFF."), breaker.metrics().calls, breaker.metrics().failures)
    breaker.reset()
    assert ("FF-", 1) == (play(breaker, "FF."), breaker.metrics().rejected)


def test_its_metrics() -> None:
    """Rates are None below the smallest number of calls that is rated."""
    with FakeClock() as clock:
        breaker = CircuitBreaker(window=4, slow_call=5, failure_rate=0.9)
        breaker.call(clock.advance, 6)
        assert BreakerMetrics(State.CLOSED, 1, 0, None, 1, None, 0) == breaker.metrics()
        play(breaker, "..F")
        assert BreakerMetrics(State.CLOSED, 4, 1, 0.25, 1, 0.25, 0) == breaker.metrics()


def test_it_opens_at_its_rate() -> None:
    """At or above, of a whole window."""
    assert "FFF.-" == play(CircuitBreaker(window=4, failure_rate=0.75), "FFF.F")
    assert "FFF..F" == play(CircuitBreaker(window=5, failure_rate=0.75), "FFF..F")


def test_it_opens_for_slow_calls() -> None:
    """Even if none fails."""
    with FakeClock() as clock:
        breaker = CircuitBreaker(window=2, slow_call=timedelta(seconds=1), slow_rate=0.5)
        for _ in range(2):
            breaker.call(clock.advance, 2)
    assert "open" == breaker.gate.breaker.state


def test_which_errors_are_failures() -> None:
    """Those of ``on``; those of ``ignore`` count as nothing; others are successes."""
    breaker = CircuitBreaker(window=10, on=OSError, ignore=(FileNotFoundError, "builtins.PermissionError"))
    for error in (OSError(), FileNotFoundError(), PermissionError(), KeyError()):
        with pytest.raises(type(error)):
            breaker.call(fail, error)
    assert (2, 1) == (breaker.metrics().calls, breaker.metrics().failures)
    by_rule = CircuitBreaker(window=10, on=Classifier(Rule(KeyError, Action.FAIL), Rule(Exception)), ignore=[])  # type: ignore[arg-type]
    for error in (KeyError(), OSError()):
        with pytest.raises(type(error)):
            by_rule.call(fail, error)
    assert (2, 1) == (by_rule.metrics().calls, by_rule.metrics().failures)


def test_results_may_be_failures() -> None:
    """The caller gets them all the same."""
    breaker = CircuitBreaker(consecutive=2, result=lambda status: status >= 500)
    assert [200, 503, 503] == [breaker.call(int, status) for status in (200, 503, 503)]
    assert "open" == breaker.state


@pytest.mark.parametrize("result", [None, lambda status: status == 404])
def test_rules_for_results_are_heard(result: Callable[[int], bool] | None) -> None:
    """A value is a failure if either says so; a rule may say that it is none."""
    rules = Classifier(Rule.result(lambda status: status == 501, Action.FAIL), Rule.result(lambda status: status > 500))
    breaker = CircuitBreaker(on=rules, result=result)
    for status in (200, 404, 501, 503):
        assert status == breaker.call(int, status)
    assert (4, 1 if result is None else 2) == (breaker.metrics().calls, breaker.metrics().failures)


def test_a_judge_that_breaks_gives_the_probe_back() -> None:
    """The next call may try."""
    with FakeClock() as clock:
        breaker = opened(on=Classifier(Rule.result(lambda value: 1 // value == 5), Rule(OSError)))
        clock.advance(30)
        with pytest.raises(ZeroDivisionError):
            breaker.call(int, 0)
        assert (1, "closed") == (breaker.call(int, 1), breaker.state)


def test_settings_agree_however_they_are_written() -> None:
    """By name they are one."""
    home = ProcessHome()
    made = CircuitBreaker.named("x", home=home, open_for=30, slow_call=2, on=[OSError], ignore=[KeyError])
    plain: dict[str, Any] = {"open_for": timedelta(seconds=30), "slow_call": timedelta(seconds=2), "ignore": KeyError}
    assert made is CircuitBreaker.named("x", home=home, on=OSError, **plain)
    assert (30.0, 2.0, Classifier(Rule(OSError)), Classifier(Rule(KeyError))) == (
        made.open_for,
        made.slow_call,
        made.on,
        made.ignore,
    )
    assert hash(made) == hash(CircuitBreaker(name="x", on=OSError, **plain))
    waits = backoff.exponential(10)
    assert (waits, ()) == (CircuitBreaker(open_for=waits).open_for, CircuitBreaker(ignore=[]).ignore)  # type: ignore[arg-type]


def test_inner_policies_are_not_the_other_side() -> None:
    """What one rejects counts as nothing; a limit of time that it sets is a failure."""
    breaker = CircuitBreaker(window=10, on=KeyError)
    for error in (BulkheadFull("db"), AttemptTimeout(1.0)):
        with pytest.raises(type(error)):
            breaker.call(fail, error)
    assert (1, 1) == (breaker.metrics().calls, breaker.metrics().failures)
    assert breaker.call(Timeout(5).call, int) == 0


def test_its_wait_grows_while_it_keeps_opening() -> None:
    """A Backoff; from the beginning again once it was closed."""
    waits = []
    with FakeClock() as clock:
        breaker = opened(open_for=backoff.exponential(10, cap=30))
        for result in "FFF.":
            with pytest.raises(CircuitOpen) as caught:
                breaker.call(int)
            waits.append(caught.value.retry_after)
            clock.advance(caught.value.retry_after)
            play(breaker, result)
        play(breaker, "FF")
        with pytest.raises(CircuitOpen) as caught:
            breaker.call(int)
        waits.append(caught.value.retry_after)
    assert [10.0, 20.0, 30.0, 30.0, 10.0] == waits


def test_a_rejection_is_an_error_of_ours() -> None:
    """With its name and when to come back; the function is not called."""
    called: list[int] = []
    with FakeClock(), pytest.raises(CircuitOpen, match=r"rejected by 'db'; another call makes sense in 30 s") as caught:
        opened(name="db").call(called.append, 1)
    assert (True, []) == (isinstance(caught.value, (Rejected, ResilientError)), called)


def test_a_retry_around_it_waits_until_it_makes_sense() -> None:
    """A rejection is not hammered."""
    with FakeClock() as clock:
        breaker = opened(on=OSError)
        assert 0 == Retry(on=OSError).call(breaker(len), "")
        assert [30.0] == clock.sleeps
        assert "closed" == breaker.state


def test_listeners_hear_it_and_harm_nothing() -> None:
    """Changes in order, and rejections; one raises, one uses the breaker."""
    heard: list[str] = []

    def raises(event: events.Event) -> None:
        raise ValueError

    def calls_back(event: events.Event) -> None:
        if isinstance(event, events.StateChanged):
            heard.append(f"{event.before} {event.after} {breaker.state}")
            play(breaker, ".")

    with FakeClock() as clock:
        breaker = CircuitBreaker(consecutive=2, listeners=(raises, calls_back))
        assert "FF-" == play(breaker, "FF.")
        clock.advance(30)
        assert "." == play(breaker, ".")  # the probe; the listener's call was rejected
    assert ["closed open open", "open half_open half_open", "half_open closed closed"] == heard[:3]


def test_everybody_may_listen() -> None:
    """Under the name, or what it is."""
    heard: list[events.Event] = []
    with listen(heard.append):
        opened()
        opened(name="db")
    assert ["CircuitBreaker", "db"] == [event.name for event in heard if isinstance(event, events.StateChanged)]


@pytest.mark.parametrize("loop", LOOPS)
def test_forms(loop: str) -> None:
    """Decorator, call, execute, blocks, both block forms: one state behind them all."""
    breaker = CircuitBreaker(window=100)

    @breaker
    async def double(n: int) -> int:
        return 2 * n

    async def main() -> list[object]:
        async with breaker:
            pass
        async for attempt in breaker:
            with attempt:
                pass
        outcome = await breaker.execute(double, 4)
        return [await double(1), await breaker.call(double, 2), await breaker.call(lambda: double(3)), outcome.value]

    assert [2, 4, 6, 8] == run(loop, main)
    assert 9 == breaker.metrics().calls  # of execute, call and the lambda two each: double is guarded itself
    with breaker:
        pass
    for attempt in breaker:
        with attempt:
            pass
    assert (3, 3) == (breaker(len)("abc"), breaker.execute(len, "abc").value)
    with pytest.raises(OSError), breaker:
        fail()
    assert (14, 1) == (breaker.metrics().calls, breaker.metrics().failures)


def test_blocks_are_rejected_too() -> None:
    """Before they begin."""
    breaker = opened()
    with pytest.raises(CircuitOpen), breaker:
        raise AssertionError
    with pytest.raises(CircuitOpen):
        asyncio.run(breaker.__aenter__())
    assert isinstance(breaker.execute(int).error, CircuitOpen)


@pytest.mark.parametrize("form", ["decorator", "call", "block", "async"])
def test_ten_thousand_rejections_leave_a_short_traceback(form: str) -> None:
    """Each is a fresh error, and nothing is left behind."""
    breaker, lengths = opened(), set()
    guarded = breaker(len)

    async def never() -> None: ...

    guarded_async = breaker(never)

    def block() -> None:
        with breaker:
            raise AssertionError

    def in_coroutine() -> None:
        guarded_async().send(None)

    call: Callable[[], object] = {
        "decorator": lambda: guarded(""),
        "call": lambda: breaker.call(int),
        "block": block,
        "async": in_coroutine,
    }[form]
    gc.collect()
    gc.disable()
    try:
        for _ in range(10_000):
            try:
                call()
            except CircuitOpen as error:
                entries = itertools.takewhile(bool, iterate(error.__traceback__))
                lengths.add(sum(1 for _ in entries))
        assert 0 == gc.collect()
    finally:
        gc.enable()
    assert 10_000 == breaker.metrics().rejected
    assert max(lengths) <= 6


def iterate(traceback: Any) -> Any:
    while True:
        yield traceback
        traceback = traceback.tb_next


def test_threads_lose_no_call() -> None:
    """8 x 10,000 calls through one decorated function, failures mixed in."""
    breaker = CircuitBreaker(window=100_000)

    @breaker
    def call(turn: int) -> None:
        if turn % 4 == 3:
            raise OSError

    def work(n: int) -> None:
        for turn in range(10_000):
            with suppress(OSError):
                call(turn)

    assert [] == together(8, work)
    assert (80_000, 20_000, 0) == (breaker.metrics().calls, breaker.metrics().failures, breaker.metrics().rejected)


def test_a_block_without_a_result_is_no_failure() -> None:
    """Rules about results are for those that there are."""
    breaker = CircuitBreaker(consecutive=1, result=lambda value: value is None)
    with breaker:
        pass
    for attempt in breaker:
        with attempt:
            pass
    assert ("closed", 2) == (breaker.state, breaker.metrics().calls)
    assert None is breaker.call(lambda: None)
    assert "open" == breaker.state
