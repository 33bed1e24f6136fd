"""What all drivers share: events, notes, names, switches."""

import functools
import logging
from typing import Any

import pytest

from resilient import Action, Classifier, Recovery, Retry, Rule, backoff, events
from resilient.drivers.episode import Episode, name_of, outer_cut
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
        Episode(Retry(on=lambda error: error.nothing), "call").attempt_failed(error)
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
    Episode(Retry(on=OSError, listeners=(heard.append,)), "call").refused(error, "items were delivered")
    assert ["GaveUp"] == [type(event).__name__ for event in heard]
    assert "items were delivered" in error.__notes__[0]


def test_an_attempt_cut_off_by_the_timeout_is_caused_by_the_one_before() -> None:
    """The policy's error names the call's own."""
    with FakeClock() as clock:
        episode, previous = Episode(Retry(on=OSError, timeout=5), "call"), OSError("first")
        limit = episode.limited()
        assert limit is not None
        clock.advance(5)
        error = limit.passed()
        assert not episode.attempt_failed(error, limit, previous)
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
        episode = Episode(Retry(on=OSError, attempt_timeout=5), "call")
        clock.advance(3)
        assert (0, 3.0) == (episode.begins(), episode.began)
