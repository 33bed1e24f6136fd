"""The blocking driver beyond the scenario table: threads, recoveries, exits, memory."""

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from resilient import Action, Classifier, Recovery, Retry, Rule, backoff, events, retry
from resilient.drivers import sync
from resilient.drivers.episode import MOST_NOTES
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
