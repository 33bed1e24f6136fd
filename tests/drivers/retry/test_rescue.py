"""What all drivers share: events, notes, names, switches."""

import asyncio
import functools
import logging
from typing import Any

import pytest

from resilient import Action, AttemptTimeout, Classifier, Recovery, Retry, Rule, backoff, events
from resilient.core.notes import MOST_NOTES
from resilient.drivers.deadline import DEADLINE
from resilient.drivers.retry.attempts import Attempt
from resilient.drivers.retry.rescue import Rescue, called, name_of, outer_cut
from resilient.drivers.wrapping.wrap import OF_FIRST
from resilient.testing import FakeClock, Script, fast_retries, no_retries

ONE = backoff.constant(1)


def heard_by(policy: Retry, script: Script) -> list[events.Event]:
    """The events of one call."""
    heard: list[events.Event] = []
    with FakeClock():
        policy.with_(listeners=(heard.append,)).execute(script)
    return heard


def test_a_rescued_call_tells_its_story() -> None:
    """Failed, waiting, recovering, recovered, failed, waiting, succeeded."""
    on = Classifier(Rule(ConnectionError, Action.RECONNECT, category="link"), Rule(ValueError))
    policy = Retry(on=on, backoff=ONE, name="send", recovery=Recovery(reconnect=Script(None)))
    heard = heard_by(policy, Script("fail", ValueError("odd"), 7))
    assert [
        "send: attempt 1 failed with ConnectionError: call 1 fails, as the script says: RECONNECT (link)",
        "send: waiting 1 s before attempt 2",
        "send: recovering by RECONNECT",
        "send: recovered by RECONNECT",
        "send: attempt 2 failed with ValueError: odd: RETRY",
        "send: waiting 1 s before attempt 3",
        "send: succeeded at attempt 3 after 2 s",
    ] == [str(event) for event in heard]


def test_a_lost_call_tells_why() -> None:
    """The last event is GaveUp, with attempts, time, reason and error."""
    error = OSError("gone")
    last = heard_by(Retry(on=OSError, attempts=2, backoff=ONE), Script(error))[-1]
    assert isinstance(last, events.GaveUp)
    assert (2, 1.0, "attempts", error, None) == (
        last.attempts,
        last.elapsed,
        last.stopped_by,
        last.error,
        last.retry_at,
    )
    assert "gave up after 2 attempts in 1.00 s: attempts exhausted" == last.reason


def test_a_first_success_tells_nothing() -> None:
    """Events are for trouble."""
    assert [] == heard_by(Retry(on=OSError), Script(7))


def test_when_to_come_back_is_an_instant() -> None:
    """A hint beyond max_wait is reported as an instant on the policy's clock."""
    with FakeClock(start=50):
        policy = Retry(on=Classifier(Rule(OSError, Action.WAIT, delay=900)))
        outcome = policy.execute(Script("fail"))
    assert ("max_wait", 950.0) == (outcome.stopped_by, outcome.retry_at)
    assert outcome.error is not None
    assert "told to wait 900 s, more than max_wait (300 s); come back after that" in outcome.error.__notes__[0]


@pytest.mark.parametrize(
    ("recovery", "why"),
    [
        (None, "no handler is set"),
        (Recovery(relogin=Script(None)), "no handler is set"),
        (Recovery(reconnect=Script(OSError("still down"))), "OSError: still down"),
    ],
)
def test_a_recovery_that_fails_is_an_event(recovery: Recovery | None, why: str) -> None:
    """And the call falls back to a plain retry."""
    policy = Retry(on=Classifier(Rule(OSError, Action.RECONNECT)), backoff=ONE, recovery=recovery, name="send")
    (failed,) = [event for event in heard_by(policy, Script("fail", 7)) if isinstance(event, events.RecoveryFailed)]
    assert f"send: recovery by RECONNECT failed, trying again without it: {why}" == str(failed)


def test_a_rejected_value_is_told_with_the_value() -> None:
    """No error, but what was returned."""
    policy = Retry(on=Classifier(Rule.result(lambda value: value == "bad")), backoff=ONE)
    failed = heard_by(policy, Script("bad", "good"))[0]
    assert isinstance(failed, events.AttemptFailed)
    assert (None, "bad") == (failed.error, failed.value)


def test_no_retries_makes_the_first_failure_the_last() -> None:
    """And the note says that retries are off."""
    script = Script("fail", 7)
    with no_retries(), pytest.raises(ConnectionError) as caught:
        Retry(on=OSError, attempts=None)(script)()
    assert 1 == script.calls
    assert "attempts exhausted (retries are off: no_retries)" in caught.value.__notes__[0]
    assert 7 == Retry(on=OSError, backoff=backoff.constant(0)).call(Script("fail", 7))


def test_fast_retries_decide_the_same_and_wait_for_nothing() -> None:
    """Attempts as ever, sleeps of zero, throttle included."""
    policy = Retry(
        on=Classifier(Rule(OSError, Action.RECONNECT)),
        backoff=ONE,
        recovery=Recovery(reconnect=Script(None), throttle=60),
    )
    with FakeClock() as clock, fast_retries():
        assert 7 == policy.call(Script("fail", "fail", 7))
    assert [0.0, 0.0] == clock.sleeps


def test_without_listeners_only_the_end_reaches_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """At WARNING: calls given up after retries and handlers that raised; not the retries, not a plain FAIL."""
    on = Classifier(Rule(OSError, Action.RECONNECT))
    recovery = Recovery(reconnect=Script(ValueError("broken")))
    policy = Retry(on=on, attempts=2, backoff=backoff.constant(0), recovery=recovery, name="send")
    with caplog.at_level(logging.WARNING, "resilient"):
        policy.execute(Script("fail"))
        policy.execute(Script(KeyError("k")))
    assert ["recovery by RECONNECT failed", "gave up after 2 attempts"] == [
        record.message.removeprefix("send: ").partition("," if "recovery" in record.message else " in ")[0]
        for record in caplog.records
    ]


def test_the_log_at_warning_hears_a_decorated_call_give_up(caplog: pytest.LogCaptureFixture) -> None:
    """Also where nobody listens, and the call is rescued the short way."""
    with caplog.at_level(logging.WARNING, "resilient"), pytest.raises(ConnectionError):
        Retry(on=OSError, attempts=3, backoff=backoff.constant(0), name="send")(Script("fail"))()
    assert ["send: gave up after 3 attempts"] == [record.message.partition(" in ")[0] for record in caplog.records]


def test_a_hook_that_raises_ends_the_call_with_both_errors() -> None:
    """The hook's error, caused by the one it was asked about."""
    error = OSError("first")
    with pytest.raises(AttributeError) as caught:
        Rescue(Retry(on=lambda error: error.nothing), "call").attempt_failed(error)
    assert error is caught.value.__cause__


def test_a_judge_that_raises_ends_the_call_too() -> None:
    """With a note that says what it was asked about; nothing is tried again."""
    script = Script(7)
    judged = Retry(on=Classifier(Rule.result(lambda value: value.nothing)))
    outcome = judged.execute(script)
    assert (False, "fail", 1) == (outcome.ok, outcome.stopped_by, script.calls)
    assert outcome.error is not None
    assert ["raised while judging a result of type int"] == outcome.error.__notes__


def test_a_refusal_is_told_and_noted() -> None:
    """What the driver itself knows to be hopeless ends like any other call."""
    heard: list[events.Event] = []
    error = OSError("gone")
    Rescue(Retry(on=OSError, listeners=(heard.append,)), "call").refused(error, "items were delivered")
    assert ["GaveUp"] == [type(event).__name__ for event in heard]
    assert "items were delivered" in error.__notes__[0]


def test_an_attempt_cut_off_by_the_timeout_is_caused_by_the_one_before() -> None:
    """The policy's error names the call's own."""
    with FakeClock() as clock:
        rescue, previous = Rescue(Retry(on=OSError, timeout=5), "call"), OSError("first")
        limit = rescue.limited()
        assert limit is not None
        clock.advance(5)
        error = limit.passed()
        assert not rescue.attempt_failed(error, limit, previous)
    assert previous is error.__cause__


class Budget:
    available = 5.0

    def __init__(self) -> None:
        self.prices: list[float | None] = []
        self.calls = 0

    def called(self, now: float) -> None:
        self.calls += 1

    def failed(self, now: float) -> None: ...

    def acquire(self, now: float, timed_out: bool) -> float | None:
        return 5.0

    def succeeded(self, now: float, price: float | None) -> None:
        self.prices.append(price)


def test_a_budget_hears_of_every_success() -> None:
    """Of a clean one without a price, of a rescued one with that of its last retry."""
    budget = Budget()
    guarded = Retry(on=OSError, backoff=backoff.constant(0), budget=budget)
    assert (1, 7) == (guarded(Script(1))(), guarded.call(Script("fail", 7)))
    assert ([None, 5.0], 2) == (budget.prices, budget.calls)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (heard_by, "heard_by"),
        (functools.partial(heard_by, 1), "heard_by"),
        (Script(1), "Script"),
        (Script(1).call_async, "Script.call_async"),
        ("block", "str"),
    ],
)
def test_a_call_has_a_name(call: Any, name: str) -> None:
    """For events: the function's, or its class's."""
    assert name == name_of(call)


def test_only_leading_frames_of_ours_are_cut() -> None:
    """An error without a traceback stays without one."""
    error = ValueError()
    assert error is outer_cut(error)
    assert error.__traceback__ is None


def test_an_attempt_with_its_own_limit_knows_when_it_began() -> None:
    """Each attempt's time counts from its own beginning."""
    with FakeClock() as clock:
        rescue = Rescue(Retry(on=OSError, attempt_timeout=5), "call")
        clock.advance(3)
        assert (0, 3.0) == (rescue.begins(), rescue.began)


def test_a_deadline_around_is_never_outlived() -> None:
    """Neither by the call nor by an attempt of it."""
    with FakeClock() as clock:
        DEADLINE.set(7.0)
        timed = Rescue(Retry(on=OSError, timeout=10, attempt_timeout=5), "call")
        assert (7.0, 5.0, 7.0) == (timed.deadline, timed.attempt_deadline(), timed.time_left())
        clock.advance(4)
        timed.begins()
        assert (7.0, 3.0) == (timed.attempt_deadline(), timed.time_left())
        clock.advance(9)
        assert 0.0 == timed.time_left()
        assert timed.too_late(OSError())
        untimed = Rescue(Retry(on=OSError), "call")
        assert (7.0, False, None) == (untimed.deadline, untimed.short, untimed.limited())
        DEADLINE.set(None)
        assert Rescue(Retry(on=OSError), "call").time_left() is None


def test_a_call_gives_up_where_the_deadline_around_comes_first() -> None:
    """And the note says whose it was."""
    with FakeClock():
        DEADLINE.set(7.0)
        outcome = Retry(on=OSError, timeout=60, backoff=backoff.constant(4)).execute(Script("fail"))
    assert ("timeout", 2) == (outcome.stopped_by, outcome.attempts)
    assert outcome.error is not None
    assert "the next attempt would come after the deadline of a policy around this one" in outcome.error.__notes__[0]


def test_a_retry_within_an_attempt_the_stack_does_not_show() -> None:
    """It is told of it, notes it, and makes one attempt if it should."""
    around = Attempt(Retry(on=OSError, name="outer"), 2, None, None, None)
    for nested, attempts, text in ((True, 5, ""), (False, 1, "nested=False, ")):
        rescue, error = Rescue(Retry(on=OSError, nested=nested), "call"), KeyError("k")
        rescue.lies_within(around)
        assert attempts == rescue.attempts
        rescue.attempt_failed(error)
        assert f"classified as FAIL ({text}within attempt 2 of outer)" in error.__notes__[0]


def test_an_attempt_timeout_of_a_layer_is_decided_once() -> None:
    """A Retry further out takes it for any other error."""
    error = AttemptTimeout(5)
    error.of_layer = True
    rescue = Rescue(Retry(on=KeyError, attempts=2), "call")
    assert [True, False] == [rescue.attempt_failed(error), rescue.attempt_failed(error)]
    assert not error.of_layer
    assert not Rescue(Retry(on=KeyError), "call").attempt_failed(error)


def test_a_recovery_is_throttled() -> None:
    """The leader waits, unless waits are off, or gives up where it is too late for that."""
    on = Classifier(Rule(OSError, Action.RECONNECT))
    with FakeClock() as clock:
        recovery = Recovery(reconnect=Script(None), throttle=20)
        policy = Retry(on=on, backoff=ONE, recovery=recovery)
        for play in (policy.call, lambda script: asyncio.run(policy.call(script.call_async))):
            assert 7 == play(Script("fail", 7))
        assert [1, 1, 19] == clock.sleeps
        hurried = policy.with_(timeout=9).execute(Script("fail", 7))
        assert "timeout" == hurried.stopped_by
        with fast_retries():
            assert 7 == policy.call(Script("fail", 7))
        assert 7 == policy.with_(backoff=backoff.constant(30)).call(Script("fail", 7))


@pytest.mark.parametrize("join", [False, True])
def test_whoever_is_told_of_a_success_also_hears_of_the_first(join: bool) -> None:
    """Only a late one is an event."""
    heard: list[events.Event] = []
    rescue = Rescue(Retry(on=OSError, listeners=(heard.append,)), "call")
    if join:
        rescue.attempt_failed(OSError())
    rescue.attempt_succeeded()
    assert join is any(isinstance(event, events.Succeeded) for event in heard)


def test_a_short_rescue_learns_plain_errors() -> None:
    """Only where nobody listens and nothing limits it."""
    logging.disable(logging.CRITICAL)
    try:
        policy = Retry(on=OSError, backoff=backoff.constant(0))
        rescue = Rescue(policy, "call")
        assert rescue.short
        assert not rescue.repeats(BrokenPipeError())
        assert rescue.attempt_failed(BrokenPipeError())
        assert rescue.repeats(BrokenPipeError())
    finally:
        logging.disable(logging.NOTSET)


def test_a_call_of_its_first_argument_goes_by_that_ones_name() -> None:
    """Whatever calls it."""

    def invoke(fn: Any) -> Any:
        return fn()

    setattr(invoke, OF_FIRST, True)
    assert ("heard_by", "test_a_call_of_its_first_argument_goes_by_that_ones_name.<locals>.invoke") == (
        name_of(functools.partial(invoke, heard_by)), name_of(invoke)
    )  # fmt: skip


def test_no_frame_of_ours_is_left_on_an_error() -> None:
    """Neither where listeners keep it nor where the caller gets it."""
    heard: list[events.Event] = []

    def fail() -> None:
        raise OSError

    error = Retry(on=OSError, attempts=2, backoff=ONE, listeners=(heard.append,)).execute(fail).error
    assert error is not None
    assert error.__traceback__ is not None
    assert "fail" == error.__traceback__.tb_frame.f_code.co_name


def test_where_nobody_listens_nothing_is_told() -> None:
    """Neither of failures, nor of a recovery that failed, nor of the end."""
    logging.disable(logging.CRITICAL)
    try:
        on = Classifier(Rule(OSError, Action.RECONNECT))
        for settings in ({}, {"recovery": Recovery(reconnect=Script(KeyError("k")))}):
            policy = Retry(on=on, attempts=2, backoff=backoff.constant(0), **settings)  # type: ignore[arg-type]
            with pytest.raises(ConnectionError):
                policy.call(Script("fail"))
    finally:
        logging.disable(logging.NOTSET)


def test_a_call_that_begins_with_its_rescue_is_told_to_the_budget() -> None:
    """One that began before told it then."""
    budget = Budget()
    policy = Retry(on=OSError, budget=budget)
    Rescue(policy, "call")
    Rescue(policy, "call", 3.0)
    assert 1 == budget.calls


def test_a_rescue_within_another_makes_one_attempt_if_it_should() -> None:
    """As the stack shows it."""
    inner = Retry(on=OSError, nested=False)
    assert (1, 5) == (
        Retry(on=OSError).call(lambda: Rescue(inner, "call").attempts),
        Rescue(inner, "call").attempts,
    )


def test_what_a_call_calls() -> None:
    """Itself, or its first argument if that is what it is for."""

    def invoke(fn: Any) -> Any:
        return fn()

    setattr(invoke, OF_FIRST, True)
    assert (len, heard_by) == (called(len, (3,)), called(invoke, (heard_by,)))


def test_a_result_rejected_to_the_end_carries_no_note() -> None:
    """There is no error to carry it; an error that carries enough of them takes no more."""
    rejecting = Rescue(Retry(on=Classifier(Rule.result(lambda value: True)), attempts=1), "call")
    assert not rejecting.attempt_returned(7)
    error = OSError()
    for _ in range(2 * MOST_NOTES):
        Rescue(Retry(on=OSError, attempts=1), "call").attempt_failed(error)
    assert MOST_NOTES == len(error.__notes__)


def test_a_rescue_shows_the_attempt_under_way() -> None:
    """Its number, and the error before it."""
    rescue, error = Rescue(Retry(on=OSError, name="send"), "call"), OSError()
    rescue.attempt_failed(error)
    attempt = rescue.attempt(error)
    assert (2, "send", error) == (attempt.number, attempt.name, attempt.last_error)
