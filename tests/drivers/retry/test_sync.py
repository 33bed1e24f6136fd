"""The blocking driver beyond the scenario table: threads, recoveries, exits, memory."""

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from resilient import Action, Classifier, Recovery, Retry, Rule, Timeout, backoff, current_deadline, events, retry
from resilient.core.notes import MOST_NOTES
from resilient.drivers.retry import sync
from resilient.testing import FakeClock, Script

AT_ONCE = backoff.constant(0)
RECONNECT = Classifier(Rule(OSError, Action.RECONNECT))


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("where", ["call", "second call", "recovery"])
def test_exits_pass_at_once(leaving: type[BaseException], where: str) -> None:
    """Under "everything", an exit ends the call where it is, and leaves nothing behind."""
    script = Script(*{"call": (leaving,), "second call": ("fail", leaving), "recovery": ("fail", 7)}[where])
    handler = Script(leaving, None) if where == "recovery" else Script(None)
    recovery = Recovery(reconnect=handler)
    policy = Retry(on=Classifier(Rule(Exception, Action.RECONNECT)), backoff=AT_ONCE, recovery=recovery)
    with pytest.raises(leaving):
        policy.call(script)
    assert {"call": 1, "second call": 2, "recovery": 1}[where] == script.calls
    assert 7 == policy.call(Script("fail", 7))  # the single flight was released


def test_an_exit_during_a_wait_passes() -> None:
    """Ctrl-C while a policy sleeps: one attempt, and out."""

    class Interrupting(FakeClock):
        def sleep(self, seconds: float) -> None:
            raise KeyboardInterrupt

    script = Script("fail")
    with Interrupting(), pytest.raises(KeyboardInterrupt):
        Retry(on=Exception).call(script)
    assert 1 == script.calls


def test_fifty_threads_share_one_policy_and_keep_their_own_counts() -> None:
    """Nothing per call is stored on a policy: each thread makes exactly its own attempts."""
    policy = Retry(on=OSError, attempts=4, backoff=AT_ONCE)
    scripts = [Script(*["fail"] * (n % 4), n) for n in range(50)]
    results: dict[int, object] = {}
    start = threading.Barrier(50)

    def work(n: int) -> None:
        start.wait()
        results[n] = policy.call(scripts[n])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {n: n for n in range(50)} == results
    assert [n % 4 + 1 for n in range(50)] == [script.calls for script in scripts]


class Link:
    """A connection that many threads use and lose together."""

    def __init__(self, users: int) -> None:
        self.up = False
        self.reconnects = 0
        self.together = threading.Barrier(users)

    def reconnect(self) -> None:
        self.reconnects += 1
        self.up = True

    def use(self) -> str:
        if not self.up:
            self.together.wait()  # all fail on the same connection
            raise ConnectionResetError
        return "used"


def test_fifty_threads_that_lose_one_connection_reconnect_once() -> None:
    """Recovery is single-flight over threads."""
    link = Link(50)
    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=link.reconnect))
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(policy.call(link.use))) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (["used"] * 50, 1) == (results, link.reconnects)


def test_joining_waits_for_the_recovery_and_does_not_repeat_it() -> None:
    """A caller that fails while a recovery runs waits for its end, then only tries again."""
    running, finish, joined = threading.Event(), threading.Event(), threading.Event()
    performed: list[str] = []

    def reconnect() -> None:
        performed.append("reconnect")
        running.set()
        finish.wait()

    recovery = Recovery(reconnect=reconnect)
    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=recovery)
    first = threading.Thread(target=policy.call, args=(Script("fail", 1),))
    first.start()
    running.wait()
    second = threading.Thread(
        target=policy.with_(listeners=(lambda event: joined.set(),)).call, args=(Script("fail", 2),)
    )
    second.start()
    joined.wait()
    finish.set()
    first.join()
    second.join()
    assert ["reconnect"] == performed


def test_joining_gives_up_at_the_deadline() -> None:
    """A call with a timeout does not wait for ever for somebody else's recovery."""
    running, finish = threading.Event(), threading.Event()

    def reconnect() -> None:
        running.set()
        finish.wait()

    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=reconnect))
    first = threading.Thread(target=policy.call, args=(Script("fail", 1),))
    first.start()
    running.wait()
    outcome = policy.with_(timeout=0.01).execute(Script("fail", 2))
    finish.set()
    first.join()
    assert ("timeout", 1) == (outcome.stopped_by, outcome.attempts)


def test_a_failure_older_than_the_last_recovery_does_not_recover_again() -> None:
    """Generation-checked: who failed on the old connection just tries again."""
    recovery = Recovery(reconnect=Script(None))
    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=recovery)

    def fails_after_somebody_recovered() -> str:
        if recovery.flight.generation == 0:
            policy.call(Script("fail", "other"))
            raise ConnectionResetError
        return "fine"

    assert "fine" == policy(fails_after_somebody_recovered)()
    assert 1 == recovery.reconnect.calls  # type: ignore[union-attr]


def test_a_handler_may_use_the_guarded_client_itself() -> None:
    """A handler whose own calls fail under the same policy does not wait for itself."""
    ping = Script("fail", "pong")
    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=lambda: policy.call(ping)))
    assert 7 == policy.call(Script("fail", 7))
    assert 2 == ping.calls


def test_an_async_handler_cannot_serve_a_blocking_call() -> None:
    """It is a failed recovery that says what to do, and the call goes on."""
    heard: list[events.Event] = []

    async def reconnect() -> None:
        raise AssertionError("never run")

    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=reconnect), listeners=(heard.append,))
    assert 7 == policy.call(Script("fail", 7))
    (failed,) = [event for event in heard if isinstance(event, events.RecoveryFailed)]
    assert "is async, but the guarded call is not" in str(failed)


def test_an_awaitable_that_is_no_coroutine_cannot_serve_either() -> None:
    """Whatever has to be awaited is refused the same way."""

    class Promise:
        def __await__(self) -> Any:
            raise AssertionError("never awaited")

    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=Promise))
    assert "fail" not in policy.execute(Script("fail", 7)).timeline
    assert any(isinstance(event, events.RecoveryFailed) for event in policy.execute(Script("fail", 7)).timeline)


def test_a_recovery_that_outlasts_the_timeout_ends_the_call() -> None:
    """No attempt begins after the deadline, whatever took so long."""
    with FakeClock() as clock:
        policy = Retry(on=RECONNECT, backoff=AT_ONCE, timeout=5, recovery=Recovery(reconnect=lambda: clock.advance(6)))
        script = Script("fail")
        outcome = policy.execute(script)
    assert ("timeout", 1, 6.0) == (outcome.stopped_by, script.calls, outcome.elapsed)


def guarded_function(policy: Retry, call: Callable[[], object]) -> object:
    return policy(lambda: call())()


def guarded_call(policy: Retry, call: Callable[[], object]) -> object:
    return policy.call(call)


def guarded_outcome(policy: Retry, call: Callable[[], object]) -> object:
    return policy.execute(call).unwrap()


def guarded_block(policy: Retry, call: Callable[[], object]) -> object:
    for attempt in policy:
        with attempt:
            return call()
    raise AssertionError


@pytest.mark.parametrize("form", [guarded_function, guarded_call, guarded_outcome, guarded_block])
@pytest.mark.parametrize(
    "policy",
    [
        Retry(on=OSError, attempts=3, backoff=AT_ONCE),
        Retry(on=OSError, attempts=3, backoff=AT_ONCE, timeout=60),
        Retry(on=OSError, attempts=3, backoff=AT_ONCE, listeners=(lambda event: None,)),
    ],
    ids=["plain", "timed", "heard"],
)
@pytest.mark.parametrize(
    "outcomes", [("fail", "fail", 7), ("fail",), (KeyError("k"),)], ids=["rescued", "abandoned", "not ours"]
)
def test_nothing_is_left_for_the_cyclic_collector(
    form: Callable[..., object], policy: Retry, outcomes: tuple[object, ...]
) -> None:
    """After a rescued or an abandoned call, reference counting has freed every error."""
    errors: list[weakref.ref[BaseException]] = []

    class Noted(ConnectionError):
        pass

    class NotOurs(KeyError):
        pass

    calls = 0

    def call() -> object:
        nonlocal calls
        outcome = outcomes[min(calls, len(outcomes) - 1)]
        calls += 1
        if isinstance(outcome, int):
            return outcome
        error = Noted() if outcome == "fail" else NotOurs()
        errors.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error

    gc.collect()
    gc.disable()
    try:
        try:
            form(policy, call)
        except (ConnectionError, KeyError):
            pass
        alive = [error() for error in errors if error() is not None]
        assert [] == alive
        assert 0 == gc.collect()
    finally:
        gc.enable()


def test_nothing_is_left_of_a_recovery_that_failed() -> None:
    """Nor of the handler's error, which the outcome's timeline holds."""

    def fail() -> None:
        raise ConnectionError

    policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=fail))
    policy.execute(fail)
    gc.collect()
    gc.disable()
    try:
        policy.execute(fail)
        assert 0 == gc.collect()
    finally:
        gc.enable()


def test_an_error_raised_again_and_again_takes_few_notes() -> None:
    """One object that many calls raise does not grow for ever."""
    script = Script(OSError("the same"))
    for _ in range(50):
        with pytest.raises(OSError, match="the same") as caught:
            retry(on=OSError, attempts=1)(script)()
    assert MOST_NOTES == len(caught.value.__notes__)


def test_the_callers_own_exception_comes_back() -> None:
    """The very object, its cause untouched, no context added, with one note."""
    cause = ValueError("why")
    last = OSError("last")

    def fail(state: list[int]) -> None:
        state.append(1)
        if len(state) < 3:
            raise OSError("earlier")
        raise last from cause

    with pytest.raises(OSError, match="last") as caught:
        retry(on=OSError, attempts=3, backoff=AT_ONCE)(fail)([])
    assert last is caught.value
    assert cause is caught.value.__cause__
    assert caught.value.__context__ is None
    assert 1 == len(caught.value.__notes__)


def test_an_error_that_takes_no_note_still_comes_back() -> None:
    """Errors with frozen attributes are returned as they are."""

    class Frozen(OSError):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError("frozen")

    with pytest.raises(Frozen):
        retry(on=OSError, attempts=2, backoff=AT_ONCE)(Script(Frozen()))()


def test_a_predicate_that_raises_is_not_hidden() -> None:
    """A bug in a predicate surfaces, with the error it was asked about as its cause."""
    with pytest.raises(AttributeError, match="nothing") as caught:
        retry(on=lambda error: error.nothing)(Script("fail"))()
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert "raised while deciding what to do about ConnectionError" in caught.value.__notes__[0]


def test_begin_watches_from_the_first_attempt_if_it_must() -> None:
    """With result rules even the first attempt is judged."""
    policy = Retry(on=Classifier(Rule.result(lambda value: value < 3)), backoff=AT_ONCE)
    assert 3 == sync.begin(policy, Script(1, 2, 3), (), {})


def test_attempts_read_when_they_must_be_over() -> None:
    """From the first on, decorated or called; the nearest of its own limits and those around."""
    for form in (guarded_function, guarded_call, guarded_outcome, guarded_block):
        seen: list[float | None] = []

        def call() -> None:
            seen.append(current_deadline())
            if len(seen) % 3:
                raise OSError

        with FakeClock():
            policy = Retry(on=OSError, timeout=10, attempt_timeout=5, backoff=backoff.constant(3))
            form(policy, call)
            assert current_deadline() is None
            assert [5, 8, 10] == seen
        seen.clear()
        with FakeClock(), Timeout(7):
            form(policy, call)
            assert [5, 7, 7] == seen


def test_an_outer_deadline_ends_the_retries() -> None:
    """No wait goes past it, whatever the policy's own limits."""
    for form in (guarded_function, guarded_call, guarded_outcome, guarded_block):
        with FakeClock() as clock, Timeout(10):
            script = Script("fail")
            with pytest.raises(ConnectionError) as caught:
                form(Retry(on=OSError, attempts=None, backoff=backoff.constant(4)), script)
            assert ([4, 4], 3) == (clock.sleeps, script.calls)
        assert "the deadline of a policy around this one" in caught.value.__notes__[0]


def test_a_recovery_is_throttled() -> None:
    """The leader waits, or gives up where that takes too long."""
    with FakeClock() as clock:
        policy = Retry(on=RECONNECT, backoff=AT_ONCE, recovery=Recovery(reconnect=Script(None), throttle=20))
        assert (7, 7) == (policy.call(Script("fail", 7)), policy.call(Script("fail", 7)))
        assert [0, 0, 20] == clock.sleeps
        assert "timeout" == policy.with_(timeout=9).execute(Script("fail", 7)).stopped_by


def test_a_nested_retry_makes_one_attempt_if_it_should() -> None:
    """And the note says so; otherwise it says within which attempt."""
    for nested, calls, text in ((True, 6, "(within"), (False, 2, "(nested=False, within")):
        script = Script("fail")
        inner = Retry(on=OSError, attempts=3, backoff=AT_ONCE, nested=nested)(script)
        with pytest.raises(ConnectionError) as caught:
            Retry(on=OSError, attempts=2, backoff=AT_ONCE, name="outer").call(inner)
        assert calls == script.calls
        assert f"attempts exhausted {text} attempt 2 of outer)" in "".join(caught.value.__notes__)


def test_a_step_may_be_of_the_calls_first_argument() -> None:
    """It is told of that, with the other arguments; also if there is an error."""
    told: list[object] = []

    def step(policy: object, call: Any, given: object, args: Any, kwargs: Any, *, started: float) -> object:
        told.append((policy, call.args, given, args, kwargs, started))
        return call(*args, **kwargs)

    error = OSError()
    assert 7 == sync.of_first(step)(POLICY, lambda fn, text: fn(text), error, (int, "7"), {}, started=3.0)
    assert [(POLICY, (int,), error, ("7",), {}, 3.0)] == told


POLICY: Any = Retry(on=OSError)


def test_a_coroutine_that_comes_from_a_plain_call_goes_on_under_the_async_driver() -> None:
    """At the first attempt, and at a later one."""
    import asyncio

    for outcomes in ((7,), ("fail", 7)):
        script = Script(*outcomes)
        assert 7 == asyncio.run(sync.begin(POLICY.with_(backoff=AT_ONCE), script.call_async, (), {}))
        assert len(outcomes) == script.calls


class Budget:
    """One that counts what it hears."""

    available = 5.0

    def __init__(self) -> None:
        self.heard: list[str] = []

    def called(self, now: float) -> None:
        self.heard.append("called")

    def failed(self, now: float) -> None:
        self.heard.append("failed")

    def acquire(self, now: float, timed_out: bool) -> float | None:
        self.heard.append("acquire")
        return 5.0

    def succeeded(self, now: float, price: float | None) -> None:
        self.heard.append(f"succeeded {price}")


@pytest.mark.parametrize(
    "settings", [{}, {"timeout": 60}, {"recovery": Recovery()}], ids=["plain", "timed", "recovers"]
)
@pytest.mark.parametrize("form", [guarded_function, guarded_call, guarded_outcome, guarded_block])
def test_a_budget_hears_of_each_call_once(form: Callable[..., object], settings: dict[str, Any]) -> None:
    """When it begins, and how it ends."""
    for script, expected in (
        (Script(7), ["called", "succeeded None"]),
        (Script("fail", 7), ["called", "failed", "acquire", "succeeded 5.0"]),
        (Script(KeyError("k")), ["called"]),
    ):
        budget = Budget()
        try:
            form(Retry(on=OSError, backoff=AT_ONCE, budget=budget, **settings), script)
        except KeyError:
            pass
        assert expected == budget.heard


def test_a_coroutine_that_comes_only_later_goes_on_too() -> None:
    """What failed before it even gave one."""
    import asyncio

    script, later = Script("fail", None), Script("fail", 7)

    def sometimes() -> Any:
        script()
        return later.call_async()

    assert 7 == asyncio.run(POLICY.with_(backoff=AT_ONCE).call(sometimes))
    assert (3, 2) == (script.calls, later.calls)
