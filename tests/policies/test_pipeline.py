"""Pipelines: any order works and means what it says, in every form, blocking and async."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import pickle
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from loops import LOOPS, run
from threads import together

from resilient import (
    AdaptiveLimiter,
    AttemptTimeout,
    BulkheadFull,
    CircuitBreaker,
    CircuitOpen,
    Classifier,
    DeadlineExceeded,
    Fallback,
    Hedge,
    Pipeline,
    Policy,
    Retry,
    Rule,
    Timeout,
    backoff,
    current_attempt,
    current_deadline,
    events,
)
from resilient.core.setting_errors import SettingError
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
ONE = backoff.constant(1)


def retrying(**settings: Any) -> Retry:
    return Retry(**{"on": OSError, "attempts": 3, "backoff": ONE, **settings})


def breaking(**settings: Any) -> CircuitBreaker:
    return CircuitBreaker(**{"window": 2, "open_for": 10, **settings})


class Slow:
    """An outcome that takes its time, seconds, before it comes."""

    def __init__(self, seconds: float, outcome: object = "done") -> None:
        self.seconds = seconds
        self.outcome = outcome


class Player:
    """A client whose methods play outcomes, some of them slow, and count."""

    def __init__(self, clock: FakeClock, *outcomes: object) -> None:
        self.clock = clock
        self.outcomes = outcomes
        self.calls = 0

    def _next(self) -> Slow:
        outcome = self.outcomes[min(self.calls, len(self.outcomes) - 1)]
        self.calls += 1
        return outcome if isinstance(outcome, Slow) else Slow(0, outcome)

    def _end(self, outcome: object) -> object:
        if outcome == "fail":
            raise ConnectionError("as told")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def fetch(self, key: str) -> object:
        slow = self._next()
        self.clock.advance(slow.seconds)
        return self._end(slow.outcome)

    async def afetch(self, key: str) -> object:
        slow = self._next()
        if slow.seconds:
            await self.clock.asleep(slow.seconds)
        return self._end(slow.outcome)


def by_function(policy: Policy, player: Player) -> Any:
    @policy
    def fetch(key: str) -> Any:
        return player.fetch(key)

    return fetch("k")


def by_method(policy: Policy, player: Player) -> Any:
    return policy(player.fetch)("k")


def by_call(policy: Policy, player: Player) -> Any:
    return policy.call(player.fetch, "k")


def by_execute(policy: Policy, player: Player) -> Any:
    return policy.execute(player.fetch, "k").unwrap()


def by_proxy(policy: Policy, player: Player) -> Any:
    return policy.proxy(player, methods=("fetch",)).fetch("k")


def by_block(policy: Policy, player: Player) -> Any:
    value = None
    for attempt in policy:
        with attempt:
            value = player.fetch("k")
            attempt.set_result(value)
    return value


async def by_async_function(policy: Policy, player: Player) -> Any:
    @policy
    async def fetch(key: str) -> Any:
        return await player.afetch(key)

    return await fetch("k")


async def by_async_lambda(policy: Policy, player: Player) -> Any:
    return await policy(lambda key: player.afetch(key))("k")


async def by_async_call(policy: Policy, player: Player) -> Any:
    return await policy.call(player.afetch, "k")


async def by_async_lambda_call(policy: Policy, player: Player) -> Any:
    return await policy.call(lambda key: player.afetch(key), "k")


async def by_async_execute(policy: Policy, player: Player) -> Any:
    return (await policy.execute(player.afetch, "k")).unwrap()


async def by_async_proxy(policy: Policy, player: Player) -> Any:
    return await policy.proxy(player).afetch("k")


async def by_async_block(policy: Policy, player: Player) -> Any:
    value = None
    async for attempt in policy:
        with attempt:
            value = await player.afetch("k")
            attempt.set_result(value)
    return value


SYNC: list[Callable[[Policy, Player], Any]] = [by_function, by_method, by_call, by_execute, by_proxy, by_block]
ASYNC: list[Callable[[Policy, Player], Awaitable[Any]]] = [
    by_async_function,
    by_async_lambda,
    by_async_call,
    by_async_lambda_call,
    by_async_execute,
    by_async_proxy,
    by_async_block,
]


@dataclass
class Scenario:
    """Layers, what the call does, and what must come of it.

    Attributes:
        layers: makes them, with fresh state.
        expected: the value returned, or the class of the error raised.
        waits: what the clock slept, seconds.
        ends: when it was over, seconds.
    """

    name: str
    layers: Callable[[], tuple[Policy, ...]]
    script: tuple[object, ...]
    expected: object
    calls: int
    waits: list[float] = field(default_factory=list)
    ends: float = 0.0


NONE = Classifier(Rule(OSError), Rule.result(lambda value: value is None))
BOTH = [
    Scenario("one layer", lambda: (retrying(),), ("fail", 7), 7, 2, [1], 1),
    Scenario("first success", lambda: (Timeout(9), breaking(), retrying(), Timeout(3)), (7,), 7, 1),
    Scenario("retry in breaker", lambda: (breaking(), retrying()), ("fail", "fail", 7), 7, 3, [1, 1], 2),
    Scenario("breaker in retry, closed", lambda: (retrying(), breaking()), ("fail", 7), 7, 2, [1], 1),
    Scenario(
        "breaker in retry, opened: waited until it lets a probe through",
        lambda: (retrying(attempts=9), breaking()), ("fail", "fail", 7), 7, 3, [1, 1, 9], 11,
    ),
    Scenario(
        "breaker in retry, of other errors: rejections are waited out all the same",
        lambda: (retrying(on=KeyError, attempts=9), breaking(consecutive=1)), (KeyError("k"), 7), 7, 2, [1, 9], 10,
    ),
    Scenario(
        "breaker in retry, open for longer than it may take",
        lambda: (retrying(attempts=9, timeout=8), breaking()), ("fail",), CircuitOpen, 2, [1, 1], 2,
    ),
    Scenario(
        "breaker in retry, open for longer than max_wait",
        lambda: (retrying(attempts=9, max_wait=5), breaking()), ("fail",), CircuitOpen, 2, [1, 1], 2,
    ),
    Scenario(
        "breaker in retry, open for longer than the limit outside",
        lambda: (Timeout(8), retrying(attempts=9), breaking()), ("fail",), CircuitOpen, 2, [1, 1], 2,
    ),
    Scenario(
        "rejections count as attempts",
        lambda: (retrying(), breaking(consecutive=1)), ("fail",), ConnectionError, 2, [1, 9], 10,
    ),
    Scenario("not ours", lambda: (Timeout(9), breaking(), retrying()), (KeyError("k"),), KeyError, 1),
    Scenario(
        "a retry sleeps not past a limit outside",
        lambda: (Timeout(10), retrying(attempts=9, backoff=backoff.constant(4))),
        ("fail",), ConnectionError, 3, [4, 4], 8,
    ),
    Scenario(
        "whatever lies between",
        lambda: (Timeout(10), breaking(), Pipeline(retrying(attempts=9, backoff=backoff.constant(4)))),
        ("fail",), ConnectionError, 3, [4, 4], 8,
    ),
    Scenario(
        "the nearer of two limits outside", lambda: (Timeout(3), Timeout(10), retrying(backoff=backoff.constant(2))),
        ("fail",), ConnectionError, 2, [2], 2,
    ),
    Scenario("a limit in time", lambda: (Timeout(10), retrying(), Timeout(4)), (Slow(3),), "done", 1, [], 3),
    Scenario(
        "a call's own TimeoutError", lambda: (retrying(on=KeyError), Timeout(4)), (TimeoutError("own"),),
        TimeoutError, 1,
    ),
    Scenario(
        "retries multiply", lambda: (retrying(attempts=2), retrying(attempts=2, backoff=backoff.constant(3))),
        ("fail",), ConnectionError, 4, [3, 1, 3], 7,
    ),
    Scenario(
        "retries that do not", lambda: (retrying(attempts=2), retrying(nested=False)),
        ("fail",), ConnectionError, 2, [1], 1,
    ),
    Scenario(
        "a rejected result", lambda: (breaking(), retrying(on=NONE), Timeout(9)), (None, "fail", 7), 7, 3, [1, 1], 2,
    ),
    Scenario("a result rejected to the end", lambda: (breaking(), retrying(on=NONE)), (None,), None, 3, [1, 1], 2),
    Scenario(
        "a breaker that judges results",
        lambda: (retrying(attempts=9, on=NONE), breaking(result=lambda value: value is None)),
        (None, None, 7), 7, 3, [1, 1, 9], 11,
    ),
    Scenario(
        "a limiter", lambda: (AdaptiveLimiter(), retrying(), AdaptiveLimiter("vegas")), ("fail", 7), 7, 2, [1], 1,
    ),
    Scenario(
        "a full limiter", lambda: (AdaptiveLimiter("aimd", initial=1, max_limit=1), retrying(), filled()),
        (7,), BulkheadFull, 0, [1, 1], 2,
    ),
    Scenario(
        "nested pipelines", lambda: (Pipeline(breaking(), Pipeline(retrying())), Timeout(9)), ("fail", 7), 7, 2, [1], 1,
    ),
]  # fmt: skip
CUT = [
    Scenario(
        "limit in retry: tried again, whatever its errors",
        lambda: (retrying(on=KeyError), Timeout(5)), (Slow(9), Slow(9), Slow(2)), "done", 3, [1, 1], 14,
    ),
    Scenario("limit in retry, to the end", lambda: (retrying(), Timeout(5)), (Slow(9),), AttemptTimeout, 3, [1, 1], 17),
    Scenario(
        "limit in a pipeline in retry", lambda: (retrying(on=KeyError), Pipeline(breaking(), Timeout(5))),
        (Slow(9), 7), 7, 2, [1], 6,
    ),
    Scenario("limit around retry: the end", lambda: (Timeout(5), retrying()), (Slow(9),), DeadlineExceeded, 1, [], 5),
    Scenario(
        "both", lambda: (Timeout(8), retrying(), Timeout(5)), (Slow(9),), DeadlineExceeded, 2, [1], 8,
    ),
    Scenario(
        "a limit outside that ends with an attempt's", lambda: (Timeout(5), retrying(), Timeout(5)), (Slow(9),),
        DeadlineExceeded, 1, [], 5,
    ),
    Scenario(
        "a limit in retry, and a rule about it",
        lambda: (retrying(on=Classifier(Rule(AttemptTimeout, "fail"), Rule(OSError))), Timeout(5)),
        (Slow(9),), AttemptTimeout, 1, [], 5,
    ),
    Scenario(
        "a limit opens a breaker", lambda: (retrying(attempts=9), breaking(), Timeout(5)), (Slow(9), Slow(9), 7), 7, 3,
        [1, 1, 9], 21,
    ),
    Scenario("no retry at all", lambda: (breaking(), Timeout(5)), (Slow(9),), DeadlineExceeded, 1, [], 5),
    Scenario(
        "limit outside a retry in a retry", lambda: (retrying(attempts=2), Timeout(4), retrying()), (Slow(9),),
        AttemptTimeout, 2, [1], 9,
    ),
]  # fmt: skip


def filled() -> AdaptiveLimiter:
    """A limiter that lets nobody through."""
    limiter = AdaptiveLimiter("aimd", initial=1, max_limit=1)
    limiter.gates[0].enter()
    return limiter


def check(scenario: Scenario, play: Callable[[Policy, Player], Any]) -> None:
    """The outcome, the calls and the waits are those of the table."""
    with FakeClock() as clock:
        player, pipeline = Player(clock, *scenario.script), Pipeline(*scenario.layers())
        if isinstance(scenario.expected, type):
            with pytest.raises(scenario.expected) as caught:
                play(pipeline, player)
            assert scenario.expected is type(caught.value)
        else:
            assert scenario.expected == play(pipeline, player)
        assert (scenario.calls, scenario.waits, scenario.ends) == (player.calls, clock.sleeps, clock.now())
        assert current_deadline() is None


@pytest.mark.parametrize("form", SYNC, ids=lambda form: form.__name__)
@pytest.mark.parametrize("scenario", BOTH, ids=lambda scenario: scenario.name)
def test_blocking(scenario: Scenario, form: Callable[[Policy, Player], Any]) -> None:
    """Every scenario through every blocking form."""
    check(scenario, form)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("form", ASYNC, ids=lambda form: form.__name__)
@pytest.mark.parametrize("scenario", [*BOTH, *CUT], ids=lambda scenario: scenario.name)
def test_async(scenario: Scenario, form: Callable[[Policy, Player], Awaitable[Any]], loop: str) -> None:
    """Every scenario through every async form, and those that are cut off."""
    check(scenario, lambda policy, player: run(loop, lambda: form(policy, player)))


def test_a_shorthand_is_the_same_pipeline() -> None:
    """``a >> b >> c``, outermost first."""
    a, b, c = Timeout(9), retrying(), Timeout(3)
    assert (a >> b >> c) == Pipeline(Pipeline(a, b), c)
    assert (a, b) == (a >> b).layers
    with FakeClock():
        script = Script("fail", 7)
        assert 7 == (a >> b >> c).call(script)
        assert 7 == (a >> (b >> c)).call(Script("fail", 7))


@pytest.mark.parametrize("other", [3, len, None])
def test_only_policies_can_be_composed(other: Any) -> None:
    """With anything else the operator says that it does not apply."""
    with pytest.raises(TypeError, match="unsupported operand"):
        retrying() >> other


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Pipeline(), ValueError, "layers must name at least one policy"),
        (lambda: Pipeline(retrying(), 3), TypeError, r"layers\[1\] must be a policy, .*, got 3"),
        (lambda: Pipeline(retrying(streaming=True)), TypeError, r"layers\[0\] guards generators"),
        (lambda: Pipeline(retrying(), name=3), TypeError, "name must be a str, got 3"),
        (lambda: Pipeline(retrying()).with_(layer=3), TypeError, "a Pipeline has layers and a name, got layer"),
    ],
)  # fmt: skip
def test_bad_settings_say_which(make: Any, error: type[Exception], message: str) -> None:
    """Each is named."""
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("layers", [(), (3,), (retrying(streaming=True),)])
def test_wrong_layers_are_found_by_the_arguments_name(layers: Any) -> None:
    """The error carries it, though its text speaks of one layer."""
    with pytest.raises(SettingError) as caught:
        Pipeline(*layers)
    assert "layers" == caught.value.setting


def test_a_pipeline_is_a_value() -> None:
    """Compared, hashed, shown, pickled, copied with changes."""
    one = Pipeline(Timeout(9), retrying(), name="db")
    assert one == pickle.loads(pickle.dumps(one)) == Pipeline(Timeout(9), retrying(), name="db")
    assert hash(one) == hash(Pipeline(Timeout(9), retrying(), name="db"))
    assert "Pipeline(Timeout(seconds=9.0), Timeout(seconds=3.0), name='db')" == repr(
        one.with_(layers=(Timeout(9), Timeout(3)))
    )
    assert "Pipeline(Timeout(seconds=9.0))" == repr(Pipeline(Timeout(9)))
    assert (one.layers, "other") == (one.with_(name="other").layers, one.with_(name="other").name)


def test_layers_keep_their_state_in_copies() -> None:
    """A pipeline has none of its own: a breaker in two of them is one breaker."""
    breaker = breaking(consecutive=1)
    one = Pipeline(breaker)
    one.execute(Script("fail"))
    assert isinstance(one.with_(name="other").execute(Script(7)).error, CircuitOpen)
    assert isinstance(Pipeline(retrying(attempts=1), breaker).execute(Script(7)).error, CircuitOpen)


def test_whether_it_tries_again() -> None:
    """If one of its layers does."""
    assert (True, False) == (Pipeline(Timeout(3), retrying()).tries_again, Pipeline(Timeout(3)).tries_again)


def test_a_nested_pipeline_keeps_its_name_inside_a_retry() -> None:
    """Its limits become those of attempts."""
    inner = Pipeline(Timeout(3), name="db").of_attempts()
    (limit,) = inner.layers
    assert isinstance(limit, Timeout)
    assert ("db", AttemptTimeout) == (inner.name, limit.error)


@pytest.mark.parametrize("is_async", [False, True])
def test_the_timeline_of_execute_names_every_layer(is_async: bool) -> None:
    """On every way in, and what each did."""
    with FakeClock() as clock:
        layers = Pipeline(
            Timeout(60, name="total"), breaking(name="outer"), retrying(name="again", attempts=9),
            breaking(name="inner", consecutive=1), AdaptiveLimiter(name="limit"), Timeout(5, name="each"),
        )  # fmt: skip
        player = Player(clock, "fail", 7)
        outcome: Any = (
            asyncio.run(layers.execute(player.afetch, "k")) if is_async else layers.execute(player.fetch, "k")
        )
    entered = [event.name for event in outcome.timeline if isinstance(event, events.Entered)]
    assert ["total", "outer", "again", "inner", "limit", "each", "inner", "limit", "each"] == entered
    assert (
        ["AttemptFailed", "Waiting", "CallRejected", "AttemptFailed", "Waiting", "Succeeded"]
        == [type(event).__name__ for event in outcome.timeline if not isinstance(event, events.Entered)]
    )  # fmt: skip
    assert (True, 2, 10.0) == (outcome.ok, outcome.attempts, outcome.elapsed)
    assert "inner: let through by CircuitBreaker" in [str(event) for event in outcome.timeline]


def test_unnamed_layers_go_by_their_kind() -> None:
    """In the timeline."""
    timeline = Pipeline(Timeout(9), retrying(), breaking()).execute(Script(7)).timeline
    assert ["Timeout", "Retry", "CircuitBreaker"] == [event.name for event in timeline]


def test_the_name_of_the_call_is_the_functions() -> None:
    """In whatever form it is guarded."""
    heard: list[str] = []
    listener = lambda event: heard.append(event.name)  # noqa: E731
    layers = Pipeline(Timeout(9), retrying(attempts=1, listeners=(listener,)), breaking(window=99))

    def fetch() -> None:
        raise OSError

    for form in (lambda: layers(fetch)(), lambda: layers.call(fetch), lambda: layers.execute(fetch).unwrap()):
        with pytest.raises(OSError):
            form()
    assert {fetch.__qualname__} == set(heard)


def test_an_outcome_says_who_ended_it() -> None:
    """The layer that spoke last."""
    with FakeClock() as clock:
        slow = asyncio.run(Pipeline(breaking(), Timeout(5)).execute(lambda: clock.asleep(9)))
        opened = breaking(consecutive=1)
        opened.execute(Script("fail"))
        rejected = Pipeline(Timeout(9), opened).execute(Script(7))
        given_up = Pipeline(Timeout(9), retrying(attempts=2)).execute(Script("fail"))
    assert ("timeout", "rejected", "attempts") == (slow.stopped_by, rejected.stopped_by, given_up.stopped_by)
    assert (1, 0, 2) == (slow.attempts, rejected.attempts, given_up.attempts)
    assert 15.0 == rejected.retry_at


@pytest.mark.parametrize("outer", [True, False])
def test_where_the_breaker_stands_matters(outer: bool) -> None:
    """Outside it sees whole calls, inside every attempt."""
    breaker = breaking(window=10)
    layers = Pipeline(breaker, retrying(backoff=AT_ONCE)) if outer else Pipeline(retrying(backoff=AT_ONCE), breaker)
    layers.execute(Script("fail", "fail", 7))
    assert ((1, 0) if outer else (3, 2)) == (breaker.metrics().calls, breaker.metrics().failures)


def test_a_rejection_outside_a_retry_is_not_tried_again() -> None:
    """There is nobody who would."""
    breaker = breaking()
    breaker.force_open()
    script = Script(7)
    with FakeClock() as clock, pytest.raises(CircuitOpen):
        Pipeline(breaker, retrying()).call(script)
    assert (0, []) == (script.calls, clock.sleeps)


def test_a_forced_open_breaker_is_not_hammered() -> None:
    """Nobody knows when it will close: the backoff decides."""
    breaker = breaking()
    breaker.force_open()
    with FakeClock() as clock, pytest.raises(CircuitOpen):
        Pipeline(retrying(attempts=4), breaker).call(Script(7))
    assert ([1, 1, 1], 4) == (clock.sleeps, breaker.metrics().rejected)


def test_generators_are_refused() -> None:
    """Calling one runs none of it."""

    def items() -> Iterator[int]:
        yield 1

    async def later() -> AsyncIterator[int]:
        yield 1

    layers = Pipeline(Timeout(9), retrying())
    for refuse in (layers, layers.call, layers.execute):
        for generator in (items, later):
            with pytest.raises(TypeError, match="is a generator function"):
                refuse(generator)  # type: ignore[operator]


def test_signature_and_kind_are_kept() -> None:
    """Through all layers."""
    layers = Pipeline(Timeout(9), retrying(timeout=9), breaking(), Timeout(3))

    def one(a: int, /, b: int = 2, *rest: int, c: int, **more: int) -> tuple[int, ...]:
        """One."""
        return a, b, *rest, c, *more.values()

    async def two(a: int, b: int = 2) -> int:
        return a + b

    assert inspect.signature(one) == inspect.signature(layers(one))
    assert ("One.", one.__qualname__) == (layers(one).__doc__, layers(one).__qualname__)
    assert (1, 5, 6, 7, 8) == layers(one)(1, 5, 6, c=7, d=8)
    assert inspect.iscoroutinefunction(layers(two))
    assert not inspect.iscoroutinefunction(layers(one))
    assert 3 == asyncio.run(layers(two)(1))


def test_methods_classmethods_and_staticmethods() -> None:
    """All are guarded."""
    layers = Pipeline(Timeout(9), retrying(backoff=AT_ONCE))

    class Client:
        script = Script("fail", 7)

        @layers
        def method(self) -> Any:
            return self.script()

        @layers
        @classmethod
        def of_class(cls) -> Any:
            return cls.script()

        @layers
        @staticmethod
        def of_none(value: int) -> int:
            return value

    assert [7, 7, 3] == [Client().method(), Client.of_class(), Client.of_none(3)]


def test_a_policy_without_a_block_form_says_so() -> None:
    """At the loop."""

    class Other(Policy):
        __slots__ = ()

    with pytest.raises(TypeError, match="Other cannot guard a block"):
        iter(Pipeline(Other(), retrying()))


@pytest.mark.parametrize("where", ["call", "wait"])
@pytest.mark.parametrize("form", ASYNC, ids=lambda form: form.__name__)
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_cancellation_leaves_no_ticket_open(loop: str, form: Callable[..., Any], where: str) -> None:
    """In every form, while it calls and while it waits: probes and permits come back."""
    with FakeClock() as clock:
        outside, inside = (AdaptiveLimiter("aimd", initial=1, max_limit=1) for _ in range(2))
        probed = breaking(consecutive=1)
        probed.execute(Script("fail"))
        clock.advance(10)
        player = Player(clock, Slow(99) if where == "call" else "fail")
        waits = backoff.constant(99)
        layers = Pipeline(Timeout(999), outside, retrying(backoff=waits), probed, Timeout(500), inside)

        async def under_asyncio() -> None:
            task = asyncio.ensure_future(form(layers, player))
            for _ in range(3):
                await asyncio.sleep(0)
            assert 1 == outside.metrics().inflight
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        async def under_trio() -> None:
            import trio

            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(form, layers, player)
                    for _ in range(3):
                        await trio.lowlevel.checkpoint()
                    assert 1 == outside.metrics().inflight
                    scope.cancel()

        run(loop, under_trio if loop == "trio" else under_asyncio)
        assert (0, 0) == (outside.metrics().inflight, inside.metrics().inflight)
        clock.advance(10)
        assert 7 == probed.call(Script(7))  # the probe is free again
        assert current_deadline() is None


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("form", SYNC, ids=lambda form: form.__name__)
def test_exits_leave_no_ticket_open(form: Callable[..., Any], leaving: type[BaseException]) -> None:
    """They pass at once, through all layers."""
    outside, inside = (AdaptiveLimiter("aimd", initial=1, max_limit=1) for _ in range(2))
    with FakeClock() as clock:
        player = Player(clock, leaving())
        with pytest.raises(leaving):
            form(Pipeline(Timeout(9), outside, retrying(on=Exception), breaking(), inside), player)
        assert (1, 0, 0) == (player.calls, outside.metrics().inflight, inside.metrics().inflight)
        assert current_deadline() is None


@pytest.mark.parametrize(
    "outcomes", [("fail", "fail", 7), ("fail",), ("other",)], ids=["rescued", "abandoned", "not ours"]
)
@pytest.mark.parametrize("form", [*SYNC, *ASYNC], ids=lambda form: form.__name__)
def test_nothing_is_left_for_the_cyclic_collector(form: Callable[..., Any], outcomes: tuple[str, ...]) -> None:
    """In every form, reference counting frees every error."""
    errors: list[weakref.ref[BaseException]] = []

    class Noted(ConnectionError):
        pass

    class Other(KeyError):
        pass

    class Raiser(Player):
        def _end(self, outcome: object) -> object:
            if outcome == 7:
                return outcome
            error = Noted() if outcome == "fail" else Other()
            errors.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

    layers = Pipeline(Timeout(60), breaking(window=99), retrying(), breaking(window=99), AdaptiveLimiter(), Timeout(5))

    async def main() -> None:
        for _ in range(2):
            with contextlib.suppress(Noted, Other):
                await form(layers, Raiser(clock, *outcomes))
            if not collected:
                gc.collect()
                collected.append(1)
                errors.clear()
        left.extend(error for error in (error() for error in errors) if error is not None)

    collected: list[int] = []
    left: list[BaseException] = []
    with FakeClock() as clock:
        gc.disable()
        try:
            if form in ASYNC:
                asyncio.run(main())
            else:
                for _ in range(2):
                    with contextlib.suppress(Noted, Other):
                        form(layers, Raiser(clock, *outcomes))
                left.extend(error for error in (error() for error in errors) if error is not None)
            assert [] == left
        finally:
            gc.enable()


@pytest.mark.parametrize("form", ASYNC, ids=lambda form: form.__name__)
def test_a_cut_off_call_leaves_nothing_behind(form: Callable[..., Any]) -> None:
    """The errors of limits are freed with whoever caught them."""
    refs: list[weakref.ref[BaseException]] = []

    def note(event: events.Event) -> None:
        if isinstance(event, events.TimedOut):
            refs.append(weakref.ref(event.error))

    limit = Timeout(5, listeners=(note,))
    layers = Pipeline(retrying(), breaking(window=99), limit)

    async def main() -> None:
        with contextlib.suppress(AttemptTimeout):
            await form(layers, Player(clock, Slow(99)))

    with FakeClock() as clock:
        asyncio.run(main())
        refs.clear()
        gc.collect()
        gc.disable()
        try:
            asyncio.run(main())
            assert [None] * 3 == [error() for error in refs]
        finally:
            gc.enable()


@pytest.mark.parametrize("crowd", ["threads", *LOOPS])
@pytest.mark.parametrize("form", ["function", "call", "execute"])
def test_a_crowd_shares_one_pipeline(crowd: str, form: str) -> None:
    """Each call has its own counts, and every ticket comes back."""
    limiter = AdaptiveLimiter("aimd", initial=100)
    layers = Pipeline(
        Timeout(60), limiter, retrying(attempts=4, backoff=AT_ONCE), breaking(failure_rate=1.0, window=99)
    )
    calls = [0] * 60

    def count(n: int) -> int:
        calls[n] += 1
        if calls[n] <= n % 4:
            raise OSError
        return n

    async def count_async(n: int) -> int:
        if crowd == "trio":
            import trio

            await trio.sleep(0)
        else:
            await asyncio.sleep(0)
        return count(n)

    guarded, guarded_async = layers(count), layers(count_async)

    def work(n: int) -> None:
        if form == "execute":
            assert n == layers.execute(count, n).unwrap()
        else:
            assert n == (guarded(n) if form == "function" else layers.call(count, n))

    async def work_async(n: int) -> None:
        if form == "execute":
            assert n == (await layers.execute(count_async, n)).unwrap()
        else:
            assert n == await (guarded_async(n) if form == "function" else layers.call(count_async, n))

    async def main() -> None:
        if crowd == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                for n in range(60):
                    nursery.start_soon(work_async, n)
        else:
            await asyncio.gather(*(work_async(n) for n in range(60)))

    assert [] == (together(60, work) if crowd == "threads" else run(crowd, main) or [])
    assert [n % 4 + 1 for n in range(60)] == calls
    assert 0 == limiter.metrics().inflight


def test_recursion() -> None:
    """A guarded function that calls itself: each call has its own attempts and deadline."""
    seen: list[tuple[int, int, float | None]] = []
    layers = Pipeline(Timeout(60), retrying(attempts=2), breaking(window=99), Timeout(20))

    @layers
    def descend(depth: int) -> None:
        attempt = current_attempt()
        assert attempt is not None
        seen.append((depth, attempt.number, current_deadline()))
        if attempt.number == 1:
            raise OSError
        if depth:
            descend(depth - 1)

    with FakeClock():
        descend(1)
    assert [(1, 1, 20), (1, 2, 21), (0, 1, 21), (0, 2, 21)] == seen


def test_a_retry_inside_reads_what_the_limits_outside_leave() -> None:
    """Deadlines are passed inward, attempt by attempt."""
    seen: list[float | None] = []

    def call() -> None:
        seen.append(current_deadline())
        raise OSError

    with FakeClock(), pytest.raises(OSError):
        Pipeline(Timeout(10), retrying(backoff=backoff.constant(4)), Timeout(3)).call(call)
    assert [3, 7, 10] == seen


def test_one_step_leads_to_what_is_guarded() -> None:
    """And not through every layer."""

    def plain() -> int:
        return 7

    async def later() -> int:
        return 7

    for layers in (Pipeline(Timeout(9)), Pipeline(Timeout(9), Pipeline(retrying(), breaking()))):
        for function in (plain, later):
            guarded: Any = layers(function)
            assert guarded.__wrapped__ is function


@pytest.mark.parametrize("nest", [lambda inner: inner, lambda inner: Pipeline(inner, name="db")])
def test_a_worker_is_refused_in_a_blocking_block(nest: Callable[..., Any]) -> None:
    """A block cannot move to a thread; in coroutines none is needed."""
    layers = Pipeline(retrying(), nest(Timeout(5, worker=True)))
    with pytest.raises(TypeError, match=r"Timeout\(5, worker=True\) cannot guard a blocking block"):
        iter(layers)

    async def main() -> list[float | None]:
        left: list[float | None] = []
        async for attempt in layers:
            with attempt:
                left.append(attempt.remaining)
        return left

    with FakeClock():
        assert [5.0] == asyncio.run(main())


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (Pipeline(Timeout(5)), "a Pipeline may make several attempts.*`{}for attempt in policy:`.*`with attempt"),
        (retrying(), "a Retry may make several attempts.*`{}for attempt in policy:`.*`with attempt"),
        (Hedge(5), "Hedge cannot guard a block, only a function"),
        (Fallback(1), "Fallback cannot guard a block, only a function"),
        (Pipeline(Hedge(5)), "Hedge cannot guard a block, only a function"),
    ],
)
def test_with_alone_says_what_to_write_instead(policy: Any, message: str) -> None:
    """The loop, or a function."""

    async def wrong() -> None:
        async with policy:
            raise AssertionError

    with pytest.raises(TypeError, match=message.format("")), policy:
        raise AssertionError
    with pytest.raises(TypeError, match=message.format("")), contextlib.ExitStack() as stack:
        stack.enter_context(policy)
    with pytest.raises(TypeError, match=message.format("async ")):
        asyncio.run(wrong())
