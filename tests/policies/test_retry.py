"""Retry as users hold it: settings, copies, forms of decoration."""

import asyncio
import functools
import inspect
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from resilient import Classifier, Pipeline, Recovery, Retry, Rule, backoff, retry
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
policy = retry(on=OSError, attempts=3, backoff=AT_ONCE)


def reconnect() -> None: ...


def listener(event: object) -> None: ...


class Budget:
    available = 1.0

    def called(self, now: float) -> None: ...

    def failed(self, now: float) -> None: ...

    def acquire(self, now: float, timed_out: bool) -> float | None:
        return 1.0

    def succeeded(self, now: float, price: float | None) -> None: ...


def test_defaults_are_for_production() -> None:
    """Five calls, full jitter from 0.1 s to 300 s, hints honoured up to 300 s, no other limit."""
    made = Retry(on=OSError)
    assert (5, None, None, 300.0, None, None, "", False) == (
        made.attempts,
        made.timeout,
        made.attempt_timeout,
        made.max_wait,
        made.recovery,
        made.budget,
        made.name,
        made.streaming,
    )
    assert backoff.exponential(0.1, cap=300).jitter("full") == made.backoff


def test_durations_may_be_timedeltas() -> None:
    """They are kept as seconds."""
    made = Retry(on=OSError, timeout=timedelta(minutes=1), attempt_timeout=timedelta(seconds=2), max_wait=timedelta(0))
    assert (60.0, 2.0, 0.0) == (made.timeout, made.attempt_timeout, made.max_wait)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"on": None}, TypeError, "on must say which errors"),
    ({"on": int}, TypeError, "on must be error classes"),
    ({"on": KeyboardInterrupt}, ValueError, "on must be a kind of Exception"),
    ({"on": asyncio.CancelledError}, ValueError, "cancellation and exits are never classified"),
    ({"attempts": 0}, ValueError, "attempts must be >= 1, got 0"),
    ({"attempts": -1}, ValueError, "attempts must be >= 1, got -1"),
    ({"attempts": 1.5}, TypeError, "attempts must be a whole number >= 1, got 1.5"),
    ({"attempts": True}, TypeError, "attempts must be a whole number"),
    ({"attempts": "3"}, TypeError, "attempts must be a whole number"),
    ({"timeout": 0}, ValueError, "timeout must be > 0 s, got 0"),
    ({"timeout": -1}, ValueError, "timeout must be > 0 s, got -1"),
    ({"timeout": "1"}, TypeError, "timeout must be seconds"),
    ({"timeout": float("nan")}, ValueError, "timeout must be finite"),
    ({"attempt_timeout": 0}, ValueError, "attempt_timeout must be > 0 s, got 0"),
    ({"attempt_timeout": "1"}, TypeError, "attempt_timeout must be seconds"),
    ({"backoff": 1}, TypeError, "backoff must be a Backoff, such as"),
    ({"backoff": None}, TypeError, "backoff must be a Backoff"),
    ({"max_wait": -1}, ValueError, "max_wait must be >= 0 s, got -1"),
    ({"max_wait": None}, TypeError, "max_wait must be seconds"),
    ({"recovery": reconnect}, TypeError, "recovery must be a Recovery or None"),
    ({"budget": 3}, TypeError, "budget must be a retry budget or None, got 3"),
    ({"name": 3}, TypeError, "name must be a str, got 3"),
    ({"streaming": 1}, TypeError, "streaming must be True or False, got 1"),
    ({"resume": 3, "streaming": True}, ValueError, "resume must be a function, and goes with streaming=True, got 3"),
    ({"resume": reconnect}, ValueError, "resume must be a function, and goes with streaming=True"),
    ({"listeners": 3}, TypeError, "listeners must be functions of an event, got 3"),
    ({"listeners": (3,)}, TypeError, "listeners must be functions of an event"),
]


@pytest.mark.parametrize(
    ("settings", "error", "message"), BAD, ids=[f"{list(bad[0])[0]}-{n}" for n, bad in enumerate(BAD)]
)
def test_bad_settings_say_which(settings: dict[str, Any], error: type[Exception], message: str) -> None:
    """Each argument, of a wrong type and out of range, is named where the policy is made and where it is changed."""
    with pytest.raises(error, match=message):
        Retry(**{"on": OSError, **settings})
    with pytest.raises(error, match=message):
        policy.with_(**settings)


def test_on_has_no_default_and_settings_go_by_name() -> None:
    """``@retry`` alone and ``retry(OSError)`` say what to write."""
    with pytest.raises(TypeError, match=r"Retry takes its settings by name, such as @retry\(on=ConnectionError\)"):
        retry(OSError)  # type: ignore[misc]
    with pytest.raises(TypeError, match="Retry takes its settings by name"):

        @retry  # type: ignore[misc]
        def bare() -> None: ...

    assert ["on", "attempts", "timeout"] == list(inspect.signature(Retry).parameters)[:3]
    with pytest.raises(TypeError, match="on"):
        retry()  # type: ignore[call-arg]


def test_with_changes_only_what_is_said() -> None:
    """Zero and None are honoured; the original stays as it was."""
    made = Retry(on=OSError, attempts=4, timeout=9, max_wait=7)
    changed = made.with_(attempts=None, timeout=None, max_wait=0)
    assert (None, None, 0.0) == (changed.attempts, changed.timeout, changed.max_wait)
    assert (4, 9.0, 7.0) == (made.attempts, made.timeout, made.max_wait)
    assert made == changed.with_(attempts=4, timeout=9, max_wait=7)
    with pytest.raises(TypeError, match="speed"):
        made.with_(speed=3)  # type: ignore[call-arg]


def test_policies_are_values() -> None:
    """They pickle, compare and hash by their settings, shared state excluded."""
    made = Retry(
        on=Classifier(Rule(OSError)),
        attempts=None,
        timeout=3,
        recovery=Recovery(reconnect=reconnect),
        listeners=listener,  # type: ignore[arg-type]
    )
    again = pickle.loads(pickle.dumps(made))
    assert (made, hash(made)) == (again, hash(again))
    assert made != made.with_(attempts=1)
    assert again.recovery.flight is not made.recovery.flight  # type: ignore[union-attr]
    assert Retry(on=OSError) == Retry(on=(OSError,)) == Retry(on=Classifier(Rule(OSError)))


def test_settings_cannot_change() -> None:
    """A policy is frozen."""
    with pytest.raises(AttributeError):
        policy.attempts = 9  # type: ignore[misc]


class Client:
    """One of each kind of method, all failing twice."""

    def __init__(self) -> None:
        self.script = Script("fail", "fail", 7)

    shared = Script("fail", "fail", 7, "fail", "fail", 7)

    @policy
    def method(self, key: str) -> Any:
        return self.script(key)

    @policy
    @classmethod
    def of_class(cls, key: str) -> Any:
        return cls.shared(key)

    @classmethod
    @policy
    def of_class_inside(cls, key: str) -> Any:
        return cls.shared(key)

    @policy
    @staticmethod
    def static(script: Script) -> Any:
        return script("s")

    @policy
    async def amethod(self, key: str) -> Any:
        return self.script(key)


class Fetcher:
    """A callable object with state of its own."""

    def __init__(self) -> None:
        self.script = Script("fail", "fail", 7)
        self.timeout = 3

    def __call__(self, key: str) -> Any:
        return self.script(key)


def test_methods_of_every_kind_are_guarded() -> None:
    """Plain, class and static methods, in either order of decorators, and async ones."""
    assert 7 == Client().method("k")
    assert 7 == Client.of_class("k")
    assert 7 == Client().of_class_inside(key="k")
    assert 7 == Client.static(Script("fail", 7))
    assert 7 == asyncio.run(Client().amethod("k"))
    assert isinstance(Client.__dict__["of_class"], classmethod)
    assert isinstance(Client.__dict__["static"], staticmethod)


async def collected(stream: AsyncIterator[int]) -> list[int]:
    return [item async for item in stream]


def test_every_form_there_is() -> None:
    """Decorator, call and execute of async functions, blocks, streams, proxies, patches."""
    streaming = policy.with_(streaming=True)

    async def block() -> int:
        async for attempt in policy:
            with attempt:
                return 7
        raise AssertionError

    def fails() -> None:
        for attempt in policy:
            with attempt:
                raise ConnectionError

    assert 7 == asyncio.run(policy(Script("fail", 7).call_async)())
    assert 7 == asyncio.run(policy.call(Script("fail", 7).call_async))
    assert 7 == asyncio.run(policy.with_(timeout=60)(Script("fail", 7).call_async)())
    assert 7 == asyncio.run(block())
    assert ([1], [1]) == (list(streaming(numbers)()), list(streaming.call(numbers)))
    assert [1] == asyncio.run(collected(streaming(async_numbers)()))
    assert 7 == policy.proxy(Client()).method("x")
    with pytest.raises(ConnectionError):
        fails()
    with policy.patch("json:dumps") as patch:
        assert patch.applied
    assert 7 == policy.with_(recovery=Recovery()).call(Script("fail", 7))
    assert 7 == policy.with_(recovery=Recovery())(Script("fail", 7))()
    assert 7 == policy.with_(on=Classifier(Rule.result(lambda value: value == 6)))(Script(6, 7))()


def test_a_callable_object_stays_what_it_is() -> None:
    """Its type, its attributes, and a guarded call."""
    guarded = policy(Fetcher())
    assert (7, 3, True) == (guarded("k"), guarded.timeout, isinstance(guarded, Fetcher))
    guarded.timeout = 5
    assert 5 == guarded.timeout


def test_partials_are_guarded() -> None:
    """With the arguments they carry."""
    script = Script("fail", 7)
    assert 7 == policy(functools.partial(script, "k"))()
    assert [(("k",), {})] * 2 == script.arguments


def numbers() -> Iterator[int]:
    yield 1


async def async_numbers() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (numbers, "numbers is a generator function: calling it runs none of it"),
        (async_numbers, r"Use Retry\(\.\.\., streaming=True\)"),
        (functools.partial(numbers), "is a generator function"),
        (Client, "cannot decorate the class Client: decorate its methods"),
        (3, "can decorate functions, methods and callable objects, got 3"),
        (property(numbers), "can decorate functions, methods and callable objects"),
    ],
)
def test_what_cannot_be_guarded_is_refused_at_decoration(target: Any, message: str) -> None:
    """With an error that says what to do instead."""
    with pytest.raises(TypeError, match=message):
        policy(target)


@pytest.mark.parametrize("form", [policy.call, policy.execute])
@pytest.mark.parametrize("target", [numbers, async_numbers])
def test_generators_are_refused_by_call_too(form: Callable[..., Any], target: Any) -> None:
    """They would run unprotected."""
    with pytest.raises(TypeError, match="is a generator function"):
        form(target)


def test_streaming_wants_generators() -> None:
    """A plain function has nothing to stream."""
    with pytest.raises(TypeError, match="is no generator function: leave streaming=True out"):
        policy.with_(streaming=True)(reconnect)


def test_streaming_ignores_result_rules() -> None:
    """A preset that judges responses may guard a stream."""
    judging = Classifier(Rule(OSError), Rule.result(bool))
    assert [1] == list(Retry(on=judging, streaming=True)(numbers)())


def test_call_passes_arguments_as_they_are() -> None:
    """Positional and by name, names of ours included."""
    script = Script(7)
    assert 7 == policy.call(script, 1, fn=2, self=3, error=4)
    assert [((1,), {"fn": 2, "self": 3, "error": 4})] == script.arguments


def test_call_of_a_class_constructs_it() -> None:
    """Guarding one construction."""
    assert isinstance(policy.call(Fetcher), Fetcher)


def test_call_without_trouble_reads_no_clock_unless_timed() -> None:
    """The success path never meets the machine."""

    class Untouchable(FakeClock):
        reads = 0

        def now(self) -> float:
            type(self).reads += 1
            return super().now()

    with Untouchable() as clock:
        assert (7, 7, 0) == (policy.call(lambda: 7), policy(lambda: 7)(), clock.reads)
        assert (7, 1) == (policy.with_(timeout=3)(lambda: 7)(), clock.reads)


def test_execute_gives_an_outcome_instead_of_raising() -> None:
    """Value or error, attempts, elapsed, timeline."""
    with FakeClock():
        good = Retry(on=OSError, backoff=backoff.constant(2)).execute(Script("fail", 7))
        bad = Retry(on=OSError, attempts=2, backoff=backoff.constant(2)).execute(Script("fail"))
    assert (True, 7, None, 2, 2.0) == (good.ok, good.value, good.error, good.attempts, good.elapsed)
    assert ["AttemptFailed", "Waiting", "Succeeded"] == [type(event).__name__ for event in good.timeline]
    assert (False, None, ConnectionError, 2, "attempts") == (
        bad.ok,
        bad.value,
        type(bad.error),
        bad.attempts,
        bad.stopped_by,
    )


def test_execute_lets_exits_pass() -> None:
    """An outcome is for errors."""
    with pytest.raises(KeyboardInterrupt):
        policy.execute(Script(KeyboardInterrupt))


def test_execute_of_a_value_rejected_to_the_end_is_not_ok() -> None:
    """The value is there, and so is what stopped it."""
    judged = Retry(on=Classifier(Rule.result(lambda value: value == "bad")), attempts=2, backoff=AT_ONCE)
    outcome = judged.execute(Script("bad"))
    assert (False, "bad", None, "attempts") == (outcome.ok, outcome.value, outcome.error, outcome.stopped_by)


def test_execute_of_async_calls_is_awaited() -> None:
    """Coroutine functions, and functions that turn out to return coroutines."""
    direct, later = Script("fail", 7), Script("fail", "fail")

    async def main() -> tuple[Any, Any]:
        return await policy.execute(direct.call_async), await policy.execute(lambda: later.call_async())

    good, bad = asyncio.run(main())
    assert (True, 7, 2) == (good.ok, good.value, good.attempts)
    assert ("attempts", ConnectionError) == (bad.stopped_by, type(bad.error))


def test_a_listener_may_be_given_alone() -> None:
    """One function, or a tuple or list of them."""
    assert (listener,) == Retry(on=OSError, listeners=listener).listeners  # type: ignore[arg-type]
    assert (listener,) == Retry(on=OSError, listeners=[listener]).listeners  # type: ignore[arg-type]


def test_a_budget_makes_every_attempt_watched() -> None:
    """Settings that need to see a success are honoured from the first call."""
    assert Retry(on=OSError, budget=Budget()).plan.watched


def test_a_budget_that_heeds_everything_is_told_of_first_attempts() -> None:
    """By the wrapper itself: one call, one success, and no rescue."""
    told: list[str] = []

    class Telling(Budget):
        def called(self, now: float) -> None:
            told.append("called")

        def succeeded(self, now: float, price: float | None) -> None:
            told.append("succeeded")

    @Retry(on=OSError, budget=Telling())
    def call() -> int:
        return 7

    assert (7, ["called", "succeeded"]) == (call(), told)


def test_a_budget_is_told_only_what_it_heeds() -> None:
    """Nobody reads a clock for the rest."""

    class Deaf(Budget):
        heeds_calls = heeds_successes = False

        def called(self, now: float) -> None:
            raise AssertionError

        def succeeded(self, now: float, price: float | None) -> None:
            raise AssertionError

    assert 7 == Retry(on=OSError, budget=Deaf())(Script(7))()


def test_a_layer_is_named_in_the_timeline() -> None:
    """With the names of the others; its function by its own name."""

    def call() -> int:
        return 7

    timeline = Pipeline(Retry(on=OSError, name="steady"), Retry(on=OSError)).execute(call).timeline
    assert ["steady", "Retry"] == [event.name for event in timeline]


def test_within_a_pipeline_any_function_can_be_called() -> None:
    """The function is what retries are told of, not what calls it."""
    heard: list[str] = []
    script = Script("fail", 7)

    def fetch() -> object:
        return script()

    layer = Retry(on=OSError, backoff=backoff.constant(0), listeners=lambda event: heard.append(event.name))
    assert 7 == Pipeline(layer).call(fetch)
    assert {"test_within_a_pipeline_any_function_can_be_called.<locals>.fetch"} == set(heard)


def test_a_block_is_made_of_attempts() -> None:
    """As every policy says what its block form is made of."""
    script = Script("fail", 7)
    for attempt in Retry(on=OSError, backoff=backoff.constant(0)):
        with attempt:
            value = script()
    assert 7 == value
