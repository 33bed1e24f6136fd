"""RetryBudget inside Retry: three forms of accounting, shared, exact, and cheap while nothing fails."""

from __future__ import annotations

import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import Action, AttemptTimeout, Classifier, Retry, RetryBudget, Rule, backoff, current_attempt
from resilient.core.budget import Budget, Quota, Ratio, Tokens
from resilient.policies.retry_budget import BudgetMetrics
from resilient.policies.shared import ProcessHome
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)


class Boom(OSError):
    """One that can be watched as it goes."""


def retry(budget: Any, on: Any = OSError, **settings: Any) -> Retry:
    return Retry(**{"on": on, "attempts": 3, "backoff": AT_ONCE, "budget": budget, **settings})


def fails(count: int, error: type[Exception] = OSError) -> Script:
    return Script(*[error] * count, "done")


class Noted:
    """A budget of somebody's own, which notes what it is told."""

    def __init__(self) -> None:
        self.available = 1.0
        self.told: list[tuple[object, ...]] = []

    def called(self, now: float) -> None:
        self.told.append(("called", now))

    def acquire(self, now: float, timed_out: bool) -> float | None:
        self.told.append(("acquire", now, timed_out))
        return 7.0

    def succeeded(self, now: float, price: float | None) -> None:
        self.told.append(("succeeded", now, price))

    def failed(self, now: float) -> None:
        self.told.append(("failed", now))


# Settings


@pytest.mark.parametrize(
    ("budget", "numbers", "machine"),
    [
        (
            RetryBudget(),
            {"capacity": 500, "retry_cost": 5, "timeout_cost": 10, "first_try_refund": 1},
            Quota,
        ),
        (RetryBudget.ratio(), {"percent": 0.2, "min_per_second": 10, "ttl": 10}, Ratio),
        (RetryBudget.throttle(), {"max_tokens": 10, "token_ratio": 0.1}, Tokens),
    ],
)
def test_defaults_are_the_published_ones(budget: RetryBudget, numbers: dict[str, float], machine: type) -> None:
    """AWS, Finagle and tower, gRPC."""
    assert (numbers, machine) == (budget.numbers, type(budget._made()))
    assert isinstance(budget, Budget)


BAD: list[tuple[Callable[[], object], type[Exception], str]] = [
    (lambda: RetryBudget("bucket"), ValueError, "form must be one of 'quota', 'ratio', 'throttle', got 'bucket'"),  # type: ignore[arg-type]
    (lambda: RetryBudget("ratio", capacity=5), TypeError, "ratio has the settings percent, .*got capacity"),
    (lambda: RetryBudget(name=5), TypeError, "name must be a str, got 5"),  # type: ignore[arg-type]
    (lambda: RetryBudget.quota(capacity=-1), ValueError, "capacity must be >= 0, got -1"),
    (lambda: RetryBudget.quota(retry_cost=0), ValueError, "retry_cost must be > 0, got 0"),
    (lambda: RetryBudget.quota(timeout_cost="5"), TypeError, "timeout_cost must be a number"),  # type: ignore[arg-type]
    (lambda: RetryBudget.quota(first_try_refund=-1), ValueError, "first_try_refund must be >= 0, got -1"),
    (lambda: RetryBudget.ratio(percent=1001), ValueError, "percent must be .*1000, got 1001"),
    (lambda: RetryBudget.ratio(ttl=0.5), ValueError, "ttl must be .*got 0.5"),
    (lambda: RetryBudget.throttle(max_tokens=0), ValueError, "max_tokens must be .*got 0"),
    (lambda: RetryBudget.throttle(token_ratio=0), ValueError, "token_ratio must be .*got 0"),
]


@pytest.mark.parametrize(("make", "error", "text"), BAD)
def test_bad_settings_are_told_at_once(make: Callable[[], object], error: type[Exception], text: str) -> None:
    """The argument, the value, the limit."""
    with pytest.raises(error, match=text):
        make()


def test_it_compares_and_pickles_by_its_settings() -> None:
    """The state is its own each time."""
    made = RetryBudget.ratio(0.5, ttl=timedelta(seconds=20), name="db")
    again = pickle.loads(pickle.dumps(made))
    assert (made, hash(made), 20.0) == (again, hash(again), made.numbers["ttl"])
    assert made != RetryBudget.ratio(0.5, name="db")
    assert made != 5
    assert "RetryBudget.ratio(percent=0.5, ttl=20.0, name='db')" == repr(made)
    assert "RetryBudget.quota()" == repr(RetryBudget())


# The end of a call


@pytest.mark.parametrize("budget", [RetryBudget.quota(4), RetryBudget.ratio(0, 0), RetryBudget.throttle(1)])
def test_an_empty_budget_ends_the_call_with_its_own_error(budget: RetryBudget) -> None:
    """And says so: in the note, and in the outcome."""
    with pytest.raises(OSError) as caught:
        retry(budget).call(fails(9))
    assert "the retry budget is empty" in caught.value.__notes__[0]
    outcome = retry(budget).execute(fails(9))
    assert ("budget", 1, OSError) == (outcome.stopped_by, outcome.attempts, type(outcome.error))
    assert (0, 2) == (budget.metrics().granted, budget.metrics().refused)


# AWS


def test_the_quota_is_accounted_for_as_by_the_sdks() -> None:
    """Cost before each retry, the last one back on success, one for a clean success, nothing on failure."""
    budget = RetryBudget()
    guarded, left = retry(budget), []
    for script in (fails(0), fails(1), fails(2), fails(9), fails(0), fails(1), fails(9)):
        with suppress(OSError):
            guarded.call(script)
        left.append(budget.available)
    # full; 5 taken and given back; 10 taken, 5 back; 10 taken; 1 back; 5 and back; 10
    assert [500, 500, 495, 485, 486, 486, 476] == left
    assert BudgetMetrics(476, 8, 0) == budget.metrics()


def test_a_retry_after_a_timeout_costs_more() -> None:
    """The policy's own timeouts and the call's."""
    budget = RetryBudget()
    for error, left in ((TimeoutError(), 490), (AttemptTimeout(1), 480)):
        with suppress(OSError):
            retry(budget, attempts=2).call(Script(error, OSError))
        assert left == budget.available


def test_the_cost_is_taken_before_the_retry() -> None:
    """Others see that it is gone while the retry runs."""
    budget, seen = RetryBudget(), []

    def call() -> None:
        seen.append(budget.available)
        if len(seen) < 3:
            raise OSError

    retry(budget).call(call)
    assert ([500, 495, 490], 495) == (seen, budget.available)


def test_what_is_not_tried_again_costs_nothing() -> None:
    """An error classified as FAIL, and an exit."""
    budget = RetryBudget()
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            retry(budget).call(Script(error))
    assert BudgetMetrics(500, 0, 0) == budget.metrics()


# gRPC


def test_tokens_allow_retries_above_half_only() -> None:
    """Each failed attempt takes one; at half of them there is no retry."""
    budget, made = RetryBudget.throttle(10, 0.5), []
    for _ in range(4):
        script = fails(9)
        with suppress(OSError):
            retry(budget).call(script)
        made.append((script.calls, budget.available))
    assert [(3, 7.0), (2, 5.0), (1, 4.0), (1, 3.0)] == made
    for _ in range(5):
        retry(budget).call(fails(0))
    assert 5.5 == budget.available
    assert 1 == retry(budget).execute(fails(9)).attempts  # its own failure takes it below half again


def test_a_servers_pushback_is_respected() -> None:
    """The delay that it names is slept, not the backoff's; "do not retry" costs a token as well."""

    class Pushback(Exception):
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

    rules = Classifier(Rule(Pushback, delay=lambda error: error.seconds))
    budget = RetryBudget.throttle()
    with FakeClock() as clock:
        assert "done" == retry(budget, rules, backoff=backoff.constant(99)).call(
            Script(Pushback(7), Pushback(3), "done")
        )
        assert ([7.0, 3.0], 8.1) == (clock.sleeps, budget.available)
        outcome = retry(budget, rules, max_wait=60).execute(Script(Pushback(61)))
    assert ("max_wait", 7.1) == (outcome.stopped_by, budget.available)


# Ratio


def test_a_ratio_of_the_calls_and_no_more() -> None:
    """A fifth of a hundred calls; what was deposited expires."""
    budget = RetryBudget.ratio(0.2, 0, 10)
    guarded = retry(budget, attempts=2)
    with FakeClock() as clock:
        for _ in range(100):
            guarded.call(int)
        assert 20 == budget.available
        failed = [guarded.execute(fails(9)).attempts for _ in range(30)]
        assert (26, [2] * 20) == (failed.count(2), failed[:20])  # a fifth of 130 calls
        for _ in range(100):
            guarded.call(int)
        clock.advance(11)
        assert 1 == guarded.execute(fails(9)).attempts


def test_a_reserve_for_whoever_calls_rarely() -> None:
    """So many a second, also without any call before."""
    with FakeClock():
        budget = RetryBudget.ratio(0, 1, 10)
        outcomes = [retry(budget, attempts=2).execute(fails(9)) for _ in range(12)]
    assert ["attempts"] * 10 + ["budget"] * 2 == [outcome.stopped_by for outcome in outcomes]


# Whatever budget


FORMS: dict[str, Callable[[Retry, Any], Any]] = {
    "decorator": lambda policy, call: policy(call)(),
    "decorated lambda": lambda policy, call: policy(lambda: call())(),
    "call": lambda policy, call: policy.call(call),
    "execute": lambda policy, call: policy.execute(call).value,
    "call of a callable": lambda policy, call: policy.call(type("C", (), {"__call__": lambda self: call()})()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_budget_is_told_each_step_once(form: str, timeout: float | None) -> None:
    """A clean call, and one that needs two retries; with the instants of the steps."""

    def call() -> str:
        clock.advance(1)
        return str(script())

    with FakeClock() as clock:
        budget, script = Noted(), fails(0)
        assert "done" == FORMS[form](retry(budget, timeout=timeout), call)
        assert [("called", 0.0), ("succeeded", 1.0, None)] == budget.told
        budget, script = Noted(), Script(OSError, TimeoutError, "done")
        assert "done" == FORMS[form](retry(budget, timeout=timeout), call)
    assert [
        ("called", 1.0),
        ("failed", 2.0),
        ("acquire", 2.0, False),
        ("failed", 3.0),
        ("acquire", 3.0, True),
        ("succeeded", 4.0, 7.0),
    ] == budget.told


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["decorator", "decorated lambda", "call", "call of a lambda", "block"])
@pytest.mark.parametrize("timeout", [None, 60])
def test_async_calls_tell_the_same(loop: str, kind: str, timeout: float | None) -> None:
    """However they turn out to be async."""

    async def call() -> str:
        return str(script())

    async def block() -> object:
        async for attempt in policy:
            with attempt:
                value = script()
        return value

    async def main() -> None:
        made = {
            "decorator": lambda: policy(call)(),
            "decorated lambda": lambda: policy(lambda: call())(),
            "call": lambda: policy.call(call),
            "call of a lambda": lambda: policy.call(lambda: call()),
            "block": block,
        }[kind]()
        assert "done" == await made

    for script, steps in (
        (fails(0), ["called", "succeeded"]),
        (fails(1), ["called", "failed", "acquire", "succeeded"]),
    ):
        budget = Noted()
        policy = retry(budget, timeout=timeout)
        run(loop, main)
        assert steps == [step for step, *_ in budget.told]


def test_result_rules_go_with_a_budget() -> None:
    """A rejected result is a failure like any other."""
    budget = Noted()
    policy = retry(budget, Classifier(Rule.result(lambda value: value == 503, Action.RETRY)))
    assert 200 == policy(Script(503, 200))()
    assert ["called", "failed", "acquire", "succeeded"] == [step for step, *_ in budget.told]


@pytest.mark.parametrize("budget", [RetryBudget(), RetryBudget.ratio(), Noted()])
def test_the_running_attempt_is_found(budget: Any) -> None:
    """The first one, which no driver makes, and the second."""
    numbers = []

    @retry(budget)
    def call() -> None:
        attempt = current_attempt()
        assert attempt is not None
        numbers.append((attempt.number, attempt.remaining))
        if len(numbers) < 2:
            raise OSError

    call()
    assert [(1, None), (2, None)] == numbers


def test_policies_and_threads_share_one() -> None:
    """8 threads x 10,000 calls of two policies: what was granted is what was taken."""
    budget = RetryBudget.quota(1e6, 5, 10, 1)
    policies = [retry(budget, attempts=2), retry(budget, on=KeyError, attempts=2)]

    def work(n: int) -> None:
        error = (OSError, KeyError)[n % 2]
        guarded = policies[n % 2]

        @guarded
        def fails_for_good() -> None:
            raise error

        @guarded
        def works() -> None: ...

        for turn in range(10_000):
            if turn % 10:
                works()
            else:
                with suppress(OSError, KeyError):
                    fails_for_good()

    assert [] == together(8, work)
    seen = budget.metrics()
    assert (8_000, 0) == (seen.granted, seen.refused)
    assert 1e6 - 5 * 8_000 < seen.available <= 1e6 - 5 * 8_000 + 72_000  # clean successes, when there was room


@pytest.mark.parametrize("form", ["quota", "ratio", "throttle"])
def test_threads_lose_no_step(form: Any) -> None:
    """8 threads x 10,000 calls of each form: exact totals."""
    numbers = {"quota": {"capacity": 20_000}, "ratio": {"percent": 1, "min_per_second": 0}, "throttle": {}}[form]
    with FakeClock() as clock:
        budget = RetryBudget(form, **numbers)

        def work(n: int) -> None:
            for _ in range(10_000):
                budget.called(clock.now())
                budget.acquire(clock.now(), False)
                budget.failed(clock.now())
                budget.succeeded(clock.now(), None if form == "throttle" else 5.0)

        assert [] == together(8, work)
        seen = budget.metrics()
    assert 80_000 == seen.granted + seen.refused
    if form != "throttle":
        assert ({"quota": 20_000, "ratio": 0}[form], 80_000) == (seen.available, seen.granted)


def test_a_name_is_one_budget_for_all() -> None:
    """And a reset one for all who share it."""
    home = ProcessHome()
    first, second = RetryBudget(name="db", home=home), RetryBudget(name="db", home=home)
    with suppress(OSError):
        retry(first).call(fails(9))
    assert BudgetMetrics(490, 2, 0) == second.metrics()
    second.reset()
    assert BudgetMetrics(500, 0, 0) == first.metrics()
    assert ("RetryBudget", "db") == (first.kind, first.name)
    assert RetryBudget.named("db", home=home) is RetryBudget.named("db", home=home)


def test_threads_of_two_budgets_with_one_state_lose_nothing() -> None:
    """They share its lock."""
    home, start = ProcessHome(), threading.Barrier(4)
    budgets = [RetryBudget(name="db", home=home, capacity=1e6) for _ in range(4)]

    def work(n: int) -> None:
        start.wait()
        for _ in range(5_000):
            budgets[n].acquire(0.0, False)

    assert [] == together(4, work)
    assert BudgetMetrics(900_000, 20_000, 0) == budgets[0].metrics()


@pytest.mark.parametrize("budget", [RetryBudget(), RetryBudget.ratio(), Noted()])
def test_errors_leave_no_cycles(budget: Any) -> None:
    """Neither those that are tried again nor the last."""
    errors: list[weakref.ref[BaseException]] = []

    @retry(budget)
    def call() -> None:
        error = Boom()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.collect()
    gc.disable()
    try:
        with suppress(Boom):
            call()
        assert [None] * 3 == [error() for error in errors]
    finally:
        gc.enable()
